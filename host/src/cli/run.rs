//! `pillion run`: serves until it is told to stop.

use super::CONFIG_DEFAULT;
use crate::app::{self, Options};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// What to log: a level, or targets and levels as in `info,pillion::filter=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { config, log } = arguments;
    Ok(app::run(Options { config, log, on_ready: None })?)
}
