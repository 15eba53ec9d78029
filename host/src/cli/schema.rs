//! `pillion schema`: the JSON Schema of the configuration file.

use super::say;
use std::process::ExitCode;

pub(super) fn main() -> anyhow::Result<ExitCode> {
    say(&format!("{:#}", crate::config::schema()))?;
    Ok(ExitCode::SUCCESS)
}
