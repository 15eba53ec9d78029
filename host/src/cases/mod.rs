//! `pillion test`: plays case files against the components they name, and tells what differs.
//!
//! `config::case` reads the files, `play` and `exchange` carry a case out with the chain and the
//! runtime of service, `check` compares, `report` tells, `update` rewrites. This file takes files to
//! verdicts, cases side by side. Opens no sockets and prints nothing.

pub mod check;
pub mod play;
pub mod report;
pub mod update;

mod capture;
mod diff;
mod exchange;
mod load;
mod shown;

#[cfg(test)]
mod tests;

pub use self::capture::{FailureSeen, LogLine};
pub use self::load::Components;

use self::check::Mismatch;
use self::load::Loading;
use self::play::Player;
use crate::config::Diagnostic;
use crate::config::case::{self, Case, CaseFile, Step, Wanted};
use crate::wasm::Usage;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Times that a case is played at most when it is over its budget of time: noise only adds to a
/// measurement, so the cheapest is the truest.
pub const PLAYS_MAX: usize = 10;
/// Threads that play cases at the same time.
pub const THREADS_MAX: usize = 64;
/// Stack of such a thread: that of a guest, and room for the host above it.
const STACK_BYTES: usize = 4 * crate::wasm::engine::GUEST_STACK_BYTES;

/// What a run is to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Cases whose name contains this, and no others.
    pub only: Option<String>,
    /// Cases played at the same time; none: one for each core.
    pub threads: Option<usize>,
}

/// What came of the files of a run, in their order.
#[derive(Debug, Default)]
pub struct Report {
    /// Each file.
    pub files: Vec<FileReport>,
}

/// What came of one file.
#[derive(Debug)]
pub struct FileReport {
    /// As the user named it.
    pub name: Arc<str>,
    /// Why the file, or the filter of a case, could not be used.
    pub problems: Vec<Diagnostic>,
    /// Each case that was chosen; none where the file could not be read.
    pub cases: Vec<CaseReport>,
    /// The file, where it could be read.
    pub file: Option<Arc<CaseFile>>,
}

/// What came of one case.
#[derive(Debug)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line it begins at.
    pub line: usize,
    /// How it ended.
    pub verdict: Verdict,
    /// Requests that were sent.
    pub exchanges: u64,
    /// What its dearest exchange used.
    pub usage: Usage,
}

/// How a case ended.
#[derive(Debug)]
pub enum Verdict {
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed(Vec<Finding>),
    /// It could not be played; the problems of its file say why.
    Broken,
}

/// Something that was not as expected.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Place and message.
    pub diagnostic: Diagnostic,
    /// Both sides.
    pub mismatch: Mismatch,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As expected.
    pub passed: usize,
    /// Not as expected.
    pub failed: usize,
    /// Not played, or files that could not be read.
    pub broken: usize,
}

impl Report {
    /// Over all files.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for file in &self.files {
            if file.file.is_none() {
                counts.broken += 1;
            }
            for case in &file.cases {
                match case.verdict {
                    Verdict::Passed => counts.passed += 1,
                    Verdict::Failed(_) => counts.failed += 1,
                    Verdict::Broken => counts.broken += 1,
                }
            }
        }
        counts
    }

    /// Every file whose change may change the outcome.
    pub fn depends_on(&self) -> BTreeSet<PathBuf> {
        let files = self.files.iter().filter_map(|report| report.file.as_ref());
        files
            .flat_map(|file| {
                let component = load::component_path(file).into_iter();
                component.chain(file.files.iter().cloned()).chain([file.path.clone()])
            })
            .collect()
    }
}

/// Plays the case files at `paths` with the filters they name, or with that of `components`.
pub fn run(paths: &[PathBuf], components: &Components, options: &Options) -> Report {
    let mut files: Vec<FileReport> = Vec::new();
    let mut work: Vec<(usize, usize, Loading)> = Vec::new();
    for path in paths {
        let at = files.len();
        let mut report = FileReport {
            name: path.display().to_string().into(),
            problems: Vec::new(),
            cases: Vec::new(),
            file: None,
        };
        match case::load(path) {
            Ok(file) => {
                let file = Arc::new(file);
                let chosen = |case: &Case| {
                    options.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()))
                };
                let indices = (0..file.cases.len()).filter(|index| chosen(&file.cases[*index]));
                let loading = components.code_of(&file);
                work.extend(indices.map(|index| (at, index, loading.clone())));
                report.file = Some(file);
            }
            Err(problems) => report.problems.extend(problems.iter().cloned()),
        }
        files.push(report);
    }
    for (at, played) in play_all(&files, &work, options) {
        let report = &mut files[at];
        for problem in played.problems {
            // What is wrong with the filter is wrong in every case, and told once.
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
        report.cases.push(played.case);
    }
    Report { files }
}

/// Does `work` with log lines and failures of filters on this thread kept for [`play::Player`].
pub fn recording<T>(work: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&capture::dispatch(), work)
}

/// A case that was played.
struct Played {
    case: CaseReport,
    problems: Vec<Diagnostic>,
}

/// Plays every piece of work, in any order; the results are in the order of `work`.
fn play_all(
    files: &[FileReport],
    work: &[(usize, usize, Loading)],
    options: &Options,
) -> Vec<(usize, Played)> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or_else(cores).clamp(1, THREADS_MAX).min(work.len());
    let (next, dispatch) = (AtomicUsize::new(0), capture::dispatch());
    let player = || {
        tracing::dispatcher::with_default(&dispatch, || {
            let mut done = Vec::new();
            while let at = next.fetch_add(1, Ordering::Relaxed)
                && let Some((file, case, loading)) = work.get(at)
                && let Some(read) = &files[*file].file
            {
                done.push((at, *file, play_case(read, &read.cases[*case], loading)));
            }
            done
        })
    };
    let mut all = std::thread::scope(|scope| {
        let player = &player;
        let spawned: Vec<_> = (1..threads)
            .filter_map(|_| {
                let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
                // Fewer threads do the same work.
                builder.name("cases".to_owned()).spawn_scoped(scope, player).ok()
            })
            .collect();
        let mut all = player();
        for thread in spawned {
            all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter().map(|(_, file, played)| (file, played)).collect()
}

/// What one play came to.
struct Once {
    findings: Vec<Finding>,
    exchanges: u64,
    usage: Usage,
}

fn play_case(file: &CaseFile, case: &Case, loading: &Loading) -> Played {
    let report = |verdict, exchanges, usage| {
        let line = file.at(case.span.clone(), "").place.map_or(0, |place| place.line);
        CaseReport { name: case.name.clone(), line, verdict, exchanges, usage }
    };
    let judged = |findings: Vec<Finding>| {
        if findings.is_empty() { Verdict::Passed } else { Verdict::Failed(findings) }
    };
    if let Some(problem) = loading.unreadable(file) {
        let case = report(Verdict::Broken, 0, Usage::default());
        return Played { case, problems: vec![problem] };
    }
    if let Some(wanted) = &case.load_error {
        let found = loading.check_refusal(file, case, wanted);
        let findings = found.into_iter().map(|mismatch| finding(file, "", mismatch)).collect();
        let case = report(judged(findings), 0, Usage::default());
        return Played { case, problems: Vec::new() };
    }
    let mut once = match play_once(file, case, loading) {
        Ok(once) => once,
        Err(problem) => {
            let case = report(Verdict::Broken, 0, Usage::default());
            return Played { case, problems: vec![*problem] };
        }
    };
    let over = |time: Duration| case.budget.time.as_ref().is_some_and(|it| time > it.value);
    for _ in 1..PLAYS_MAX {
        if !over(once.usage.time) {
            break;
        }
        if let Ok(again) = play_once(file, case, loading) {
            once.usage.time = once.usage.time.min(again.usage.time);
        }
    }
    once.findings.extend(over_budget(file, case, once.usage));
    let case = report(judged(once.findings), once.exchanges, once.usage);
    Played { case, problems: Vec::new() }
}

fn play_once(file: &CaseFile, case: &Case, loading: &Loading) -> Result<Once, Box<Diagnostic>> {
    let player = loading.player(file, case)?;
    let mut once = Once { findings: Vec::new(), exchanges: 0, usage: Usage::default() };
    for (index, step) in case.steps.iter().enumerate() {
        let at = match case.steps.len() {
            1 => String::new(),
            _ => format!("step {}: ", index + 1),
        };
        play_step(file, &player, step, &at, &mut once);
    }
    Ok(once)
}

fn play_step(file: &CaseFile, player: &Player, step: &Step, at: &str, once: &mut Once) {
    player.advance(step.advance);
    for nth in 1..=step.repeat {
        let (observed, usage) = player.exchange(step);
        once.exchanges += 1;
        once.usage = dearest(once.usage, usage);
        let (mismatches, at) = if nth == step.repeat {
            (check::check(&step.expect, &observed), at.to_owned())
        } else {
            let at = format!("{at}request {nth} of {}: ", step.repeat);
            (check::unexpected_failures(&step.expect, &observed), at)
        };
        let failed = nth < step.repeat && !mismatches.is_empty();
        once.findings.extend(mismatches.into_iter().map(|it| finding(file, &at, it)));
        if failed {
            // What comes after a failure that nobody expects says nothing.
            return;
        }
    }
}

fn dearest(one: Usage, other: Usage) -> Usage {
    Usage {
        time: one.time.max(other.time),
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        host_calls: one.host_calls.max(other.host_calls),
    }
}

fn finding(file: &CaseFile, at: &str, mismatch: Mismatch) -> Finding {
    let Mismatch { span, what, expected, got, .. } = &mismatch;
    let message = match diff::is_short(expected) && diff::is_short(got) {
        true => format!("{at}{what}: expected {expected}, got {got}"),
        false => format!("{at}{what} differs"),
    };
    Finding { diagnostic: file.at(span.clone(), message), mismatch }
}

fn over_budget(file: &CaseFile, case: &Case, usage: Usage) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut over = |what: &str, span: std::ops::Range<usize>, expected: String, got: String| {
        let (what, rewrite) = (format!("budget.{what}"), None);
        let expected = format!("at most {expected}");
        findings.push(finding(file, "", Mismatch { span, what, expected, got, rewrite }));
    };
    if let Some(Wanted { value, span }) = &case.budget.time
        && usage.time > *value
    {
        let [expected, got] = [*value, usage.time].map(report::shown_time);
        over("time", span.clone(), expected, got);
    }
    let memory = usage.memory_bytes as u64;
    if let Some(Wanted { value, span }) = &case.budget.memory
        && memory > *value
    {
        let [expected, got] = [*value, memory].map(report::shown_size);
        over("memory", span.clone(), expected, got);
    }
    if let Some(Wanted { value, span }) = &case.budget.host_calls
        && usage.host_calls > *value
    {
        over("host_calls", span.clone(), value.to_string(), usage.host_calls.to_string());
    }
    findings
}
