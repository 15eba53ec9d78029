//! The kernel's accounting of a process, and which processor a process runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::time::Duration;

/// The processor of the proxies; everything else uses the others.
pub(crate) const PROXY_CPU: usize = 0;

/// Time on a processor of all threads that live, to the nanosecond.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_task = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(of_task).sum())
}

/// Time that the process spent in the kernel and outside it, in ticks of the kernel's clock: good
/// for their proportion only.
pub(crate) fn ticks(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program stands in parentheses and may hold blanks.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |index: usize| rest.split_whitespace().nth(index)?.parse::<u64>().ok();
    (field(12).unwrap_or_default(), field(11).unwrap_or_default())
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// Resident, pages shared with other processes counted whole.
    pub(crate) resident: f64,
    /// Resident, shared pages divided among those who share them.
    pub(crate) proportional: f64,
    /// The part of the resident that no file backs.
    pub(crate) anonymous: f64,
}

/// What `pid` uses now.
pub(crate) fn memory(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    Memory { resident: kib("Rss"), proportional: kib("Pss"), anonymous: kib("Anonymous") }
}

/// Processors that this program may use.
pub(crate) fn processors() -> usize {
    sched_getaffinity(None).map_or(1, |set| set.count() as usize)
}

/// Descriptors that a process started from here may open.
pub(crate) fn descriptors_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Runs `spawn` so that the process it starts has `PROXY_CPU` to itself, or all but it. Processes
/// inherit the processors of the thread that starts them.
pub(crate) fn placed<T>(on_proxy_cpu: bool, spawn: impl FnOnce() -> T) -> T {
    on(|cpu| (cpu == PROXY_CPU) == on_proxy_cpu, spawn)
}

/// Runs `work` on the processors that are wanted; on all where none of them is there.
pub(crate) fn on<T>(wanted: impl Fn(usize) -> bool, work: impl FnOnce() -> T) -> T {
    let Ok(all) = sched_getaffinity(None) else { return work() };
    let mut set = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu) && wanted(*cpu)) {
        set.set(cpu);
    }
    let restricted = set.count() > 0 && sched_setaffinity(None, &set).is_ok();
    let output = work();
    if restricted {
        let _ = sched_setaffinity(None, &all);
    }
    output
}
