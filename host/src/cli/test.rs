//! `pillion test`: plays case files, tells what differs, and rewrites them on demand.
//!
//! Exit codes: 0 every case passed, 1 a case failed, 2 a file or its filter cannot be used.

use super::say;
use crate::cases::report::{self, Detail};
use crate::cases::update::{self, Update};
use crate::cases::{self, Components, Counts, Options, Report};
use crate::config::FilterSource;
use crate::reload::watch::{Contents, Watch};
use crate::wasm::{CompileLimits, Compiler};
use anyhow::Context;
use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Where case files are unless they are named.
pub(super) const CASES_DEFAULT: &str = "cases";
/// After a saved file, how long it has to be quiet until the cases are played again.
const QUIET: Duration = Duration::from_millis(20);
/// What cannot be used.
const BROKEN: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Case files, or directories with case files in them
    #[arg(value_name = "FILES", default_value = CASES_DEFAULT)]
    files: Vec<PathBuf>,
    /// Play them with this component, or `builtin:NAME`, in place of the filters they name
    #[arg(long, value_name = "WASM")]
    filter: Option<String>,
    /// Play only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also tell what each case used: time, memory, calls of the host
    #[arg(long)]
    usage: bool,
    /// Write a JUnit report to this file, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Tell the results as JSON
    #[arg(long, conflicts_with_all = ["watch", "update"])]
    json: bool,
    /// Play them again whenever one of them, or its filter, is saved
    #[arg(long)]
    watch: bool,
    /// Rewrite expectations that are not met, after asking
    #[arg(long, conflicts_with = "watch")]
    update: bool,
    /// Rewrite without asking
    #[arg(long, requires = "update")]
    yes: bool,
    /// Cases played at the same time, if not one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=cases::THREADS_MAX as i64))]
    threads: Option<u16>,
    /// Where compiled filters are kept, if not in the user's cache directory
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let compiler = Compiler::new(arguments.cache_dir.clone(), CompileLimits::default())
        .context("failed to set up the cache of compiled filters")?;
    let instead = arguments.filter.as_deref().map(source);
    let components = Components::new(compiler, instead);
    if arguments.watch {
        return watch(&arguments, &components);
    }
    let report = match play(&arguments, &components) {
        Ok(report) => report,
        Err(nothing) => {
            writeln!(io::stderr().lock(), "{nothing}")?;
            return Ok(ExitCode::from(BROKEN));
        }
    };
    tell(&arguments, &report)?;
    if arguments.update {
        rewrite(&arguments, &report)?;
    }
    Ok(code(&report))
}

fn code(report: &Report) -> ExitCode {
    match report.counts() {
        Counts { broken: 0, failed: 0, .. } => ExitCode::SUCCESS,
        Counts { broken: 0, .. } => ExitCode::FAILURE,
        Counts { .. } => ExitCode::from(BROKEN),
    }
}

fn source(text: &str) -> FilterSource {
    match text.strip_prefix("builtin:") {
        Some(name) => FilterSource::Builtin(name.to_owned()),
        None => FilterSource::File(text.into()),
    }
}

/// Plays all; an error says why there was nothing to play.
fn play(arguments: &Arguments, components: &Components) -> Result<Report, String> {
    let files = files(&arguments.files)?;
    let threads = arguments.threads.map(usize::from);
    let options = Options { only: arguments.only.clone(), threads };
    let report = cases::run(&files, components, &options);
    let none = report.files.iter().all(|file| file.cases.is_empty() && file.file.is_some());
    match &arguments.only {
        Some(only) if none => Err(format!("no case has `{only}` in its name")),
        _ => Ok(report),
    }
}

/// The case files; of a directory those that are called `*.toml`, by name.
pub(super) fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("cannot read the directory `{}`: {error}", path.display()))?;
        let mut within: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        within.retain(|path| path.extension().is_some_and(|it| it == "toml") && path.is_file());
        within.sort();
        if within.is_empty() {
            let shown = path.display();
            return Err(format!("no case files in `{shown}`: their names end in `.toml`"));
        }
        files.extend(within);
    }
    Ok(files)
}

fn tell(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let detail = if arguments.usage { Detail::Usage } else { Detail::Results };
    if arguments.json {
        say(&format!("{:#}", report::json(report)))?;
    } else {
        say(&report::text(report, detail))?;
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, report::junit(report))
            .with_context(|| format!("failed to write the JUnit report `{}`", path.display()))?;
    }
    Ok(())
}

/// Shows what would be rewritten, asks, and writes.
fn rewrite(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let updates = update::updates(report);
    if updates.is_empty() {
        say("\nnothing to rewrite")?;
        return Ok(());
    }
    let mut count = 0;
    for Update { path, changes, left, .. } in &updates {
        say(&format!("\n{}", changes.join("\n")))?;
        if *left > 0 {
            say(&format!("{}: {left} more have to be changed by hand", path.display()))?;
        }
        count += changes.len();
    }
    if !arguments.yes && !agreed(count)? {
        say("nothing is rewritten")?;
        return Ok(());
    }
    for update in &updates {
        let path = update.path.display();
        update::write(update).with_context(|| format!("failed to rewrite `{path}`"))?;
    }
    let expectations = if count == 1 { "expectation is" } else { "expectations are" };
    say(&format!("{count} {expectations} rewritten; read the difference before you keep it"))?;
    Ok(())
}

fn agreed(count: usize) -> anyhow::Result<bool> {
    let input = io::stdin();
    if !input.is_terminal() {
        anyhow::bail!("`--update` asks before it writes: run it on a terminal, or add `--yes`");
    }
    write!(io::stdout(), "\nrewrite {count}? [y/N] ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Plays, waits for a change, and plays again; ends with the process.
fn watch(arguments: &Arguments, components: &Components) -> anyhow::Result<ExitCode> {
    let (sender, touched) = sync_channel(1);
    let mut watch = Watch::new(move || {
        // Full: the change is known already.
        let _ = sender.try_send(());
    })
    .context("failed to watch files")?;
    loop {
        let mut follows = BTreeSet::new();
        let mut seen = Contents::default();
        match play(arguments, components) {
            Ok(report) => {
                follows = named(&arguments.files);
                follows.extend(report.depends_on());
                follows.extend(arguments.filter.as_deref().and_then(component));
                // Before telling: what changes from here on is another event.
                watch.follow(&follows);
                seen = Contents::of(&follows);
                tell(arguments, &report)?;
            }
            Err(nothing) => {
                follows.extend(named(&arguments.files));
                watch.follow(&follows);
                say(&nothing)?;
            }
        }
        say("\nwaiting for a change; end with Ctrl-C\n")?;
        wait(&touched, &follows, &seen);
    }
}

/// Waits until one of the files has other contents, or a directory other files.
fn wait(touched: &Receiver<()>, follows: &BTreeSet<PathBuf>, seen: &Contents) {
    loop {
        // The sender lives as long as the watch, which outlives this.
        let Ok(()) = touched.recv() else { return };
        while touched.recv_timeout(QUIET).is_ok() {}
        if Contents::of(follows) != *seen {
            return;
        }
    }
}

/// The files that the arguments name, those within directories included.
fn named(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let listed = files(paths).unwrap_or_else(|_| paths.to_vec());
    listed.iter().filter_map(|path| std::path::absolute(path).ok()).collect()
}

fn component(text: &str) -> Option<PathBuf> {
    match source(text) {
        FilterSource::Builtin(_) | FilterSource::Uploaded(_) => None,
        FilterSource::File(path) => std::path::absolute(Path::new(&path)).ok(),
    }
}
