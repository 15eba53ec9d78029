//! The kernel's counters of a process, and which processor a process runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::time::Duration;

/// The processor of the proxies; everything else uses the others.
pub(crate) const PROXY_CPU: usize = 0;

/// Time on a processor, of all threads that live, to the nanosecond.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_task = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(of_task).sum())
}

/// Resident memory.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// Runs `spawn` so that the process it starts has `PROXY_CPU` to itself, or all but it. Processes
/// inherit the processors of the thread that starts them.
pub(crate) fn placed<T>(on_proxy_cpu: bool, spawn: impl FnOnce() -> T) -> T {
    let Ok(all) = sched_getaffinity(None) else { return spawn() };
    let mut wanted = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        if (cpu == PROXY_CPU) == on_proxy_cpu {
            wanted.set(cpu);
        }
    }
    // With one processor there is nothing to separate.
    let separated = wanted.count() > 0 && sched_setaffinity(None, &wanted).is_ok();
    let output = spawn();
    if separated {
        let _ = sched_setaffinity(None, &all);
    }
    output
}

/// The middle one.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
