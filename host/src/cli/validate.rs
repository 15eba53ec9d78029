//! `pillion validate`: everything that would keep a file from being used, without serving it.

use super::{CONFIG_DEFAULT, say};
use crate::config::{self, Candidate, Loaded};
use crate::reload::{Loader, OnLoadFailure, Problems};
use crate::telemetry::Metrics;
use crate::tls::Tls;
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(value_name = "FILE", default_value = CONFIG_DEFAULT)]
    file: PathBuf,
    /// Do not compile, load and configure the filters, nor read keys and certificates
    #[arg(long)]
    config_only: bool,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(&arguments.file, "name the file as in `pillion validate FILE`")
    {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(&problems.to_string())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if !loaded.warnings.is_empty() {
        say(&format!("{}\n", loaded.warnings))?;
    }
    let candidate = loaded.candidate();
    if !arguments.config_only {
        let problems = load(&loaded, candidate.as_ref())?;
        if !problems.is_empty() {
            say(&problems.join("\n\n"))?;
            return Ok(ExitCode::FAILURE);
        }
    }
    let (listeners, filters) = (loaded.config.listeners.len(), loaded.config.filters.len());
    let what = if arguments.config_only { "configured" } else { "loaded and configured" };
    say(&format!(
        "{}: fine ({}, {} {what})",
        arguments.file.display(),
        counted(listeners, "listener"),
        counted(filters, "filter"),
    ))?;
    for difference in candidate.iter().flat_map(|candidate| &candidate.differences) {
        say(&format!("to be tried: {difference}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What keeps filters, keys and certificates from being loaded, those of the candidate included; each
/// problem once.
fn load(loaded: &Loaded, candidate: Option<&Candidate>) -> anyhow::Result<Vec<String>> {
    let mut loader = Loader::new(&loaded.config, Metrics::new(1, SystemTime::now()))?;
    let mut found = Vec::new();
    // What both have is in use until both are loaded, so that it is prepared once.
    let mut in_use = Vec::new();
    for loaded in iter::once(loaded).chain(candidate.map(|candidate| &candidate.loaded)) {
        // What the fail policy would let pass is a finding here.
        let filters = loader.load(loaded, OnLoadFailure::Refuse);
        let tls = Tls::build(loaded, None, loader.metrics()).map_err(Problems::from);
        match Problems::both(filters, tls) {
            Ok((filters, _)) => in_use.push(filters),
            Err(problems) => {
                for problem in problems.iter().map(ToString::to_string) {
                    if !found.contains(&problem) {
                        found.push(problem);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
