//! `pillion schema`: the JSON Schema of the configuration file, or of case files.

use super::say;
use crate::config;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// That of the case files of `pillion test`
    #[arg(long)]
    cases: bool,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let schema = if arguments.cases { config::case::schema() } else { config::schema() };
    say(&format!("{schema:#}"))?;
    Ok(ExitCode::SUCCESS)
}
