//! `pillion compile`: fills the cache of compiled filters, as when an image is built.

use super::{CONFIG_DEFAULT, say};
use crate::app;
use crate::config::{self, FilterSource};
use crate::reload::{chain, read_component};
use crate::wasm::{CompileLimits, Compiler};
use anyhow::Context;
use bytes::Bytes;
use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compile the filters of this configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "wasm")]
    config: Option<PathBuf>,
    /// Where compiled filters are kept, if not in the user's cache directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    cache_dir: Option<PathBuf>,
    /// Components to compile, in place of those of a configuration file
    #[arg(value_name = "WASM")]
    wasm: Vec<PathBuf>,
}

/// One component to compile.
struct Work {
    name: String,
    source: Source,
}

enum Source {
    Shipped(&'static [u8]),
    Held(Bytes),
    File(PathBuf),
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { config, cache_dir, wasm } = arguments;
    let (all, compiler) = if wasm.is_empty() {
        let file = config.unwrap_or_else(|| CONFIG_DEFAULT.into());
        let loaded = match config::load(&file, app::HELP_UNREADABLE) {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&problems.to_string())?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let config::CompileLimits { time, memory } = loaded.config.runtime.compile;
        let limits = CompileLimits { time, memory_bytes: memory as u64 };
        let directory = cache_dir.or(loaded.config.runtime.cache_dir);
        let mut works = Vec::new();
        for filter in &loaded.config.filters {
            works.push(Work { name: filter.name.to_string(), source: source(&filter.source) });
            // A version that only differs otherwise has the same component.
            if let Some(next) = filter.next.as_ref().filter(|next| next.source != filter.source) {
                let name = format!("{}, next version", filter.name);
                works.push(Work { name, source: source(&next.source) });
            }
        }
        (works, Compiler::new(directory, limits))
    } else {
        let works = wasm
            .into_iter()
            .map(|path| Work { name: path.display().to_string(), source: Source::File(path) });
        (works.collect(), Compiler::new(cache_dir, CompileLimits::default()))
    };
    let compiler = compiler.context("failed to set up the cache of compiled filters")?;
    if let Some(directory) = compiler.directory() {
        say(&format!("cache: {}", directory.display()))?;
    }
    let mut code = ExitCode::SUCCESS;
    for (index, work) in all.iter().enumerate() {
        let place = format!("[{}/{}] {}", index + 1, all.len(), work.name);
        match compile(&compiler, work) {
            Ok(line) => say(&format!("{place}: {line}"))?,
            Err(error) => {
                say(&format!("{place}: error: {}", chain(error.as_ref())))?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn source(source: &FilterSource) -> Source {
    match source {
        FilterSource::File(path) => Source::File(path.clone()),
        FilterSource::Builtin(name) => {
            // A name that is not shipped does not get past the check of the file.
            Source::Shipped(pillion_filters::shipped(name).map_or(&[], |it| it.component))
        }
        FilterSource::Uploaded(upload) => Source::Held(upload.bytes().clone()),
    }
}

fn compile(compiler: &Compiler, work: &Work) -> anyhow::Result<String> {
    let bytes = match &work.source {
        Source::Shipped(bytes) => Cow::Borrowed(*bytes),
        Source::Held(bytes) => Cow::Borrowed(&**bytes),
        Source::File(path) => Cow::Owned(
            read_component(path)
                .with_context(|| format!("failed to read component `{}`", path.display()))?,
        ),
    };
    let before = compiler.counters().hits.load(Ordering::Relaxed);
    let started = Instant::now();
    let filter = compiler.load(&work.name, &bytes)?;
    let was_there = compiler.counters().hits.load(Ordering::Relaxed) > before;
    let code_kib = filter.code_bytes().div_ceil(1024);
    let version = filter.version();
    Ok(if was_there {
        format!("version {version} is compiled already, {code_kib} KiB of code")
    } else {
        let milliseconds = started.elapsed().as_millis();
        format!("version {version} compiled in {milliseconds} ms, {code_kib} KiB of code")
    })
}
