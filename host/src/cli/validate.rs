//! `pillion validate`: everything that would keep a file from being used, without serving it.

use super::{CONFIG_DEFAULT, say};
use crate::config;
use crate::reload::{Loader, OnLoadFailure, Problems};
use crate::telemetry::Metrics;
use crate::tls::Tls;
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
    if !arguments.config_only {
        let mut loader = Loader::new(&loaded.config, Metrics::new(1, SystemTime::now()))?;
        // What the fail policy would let pass is a finding here.
        let filters = loader.load(&loaded, OnLoadFailure::Refuse);
        let tls = Tls::build(&loaded, None, loader.metrics()).map_err(Problems::from);
        if let Err(problems) = Problems::both(filters, tls) {
            say(&problems.to_string())?;
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
    Ok(ExitCode::SUCCESS)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
