//! `pillion schema`: the JSON Schema of the configuration file.

use std::io::Write;
use std::process::ExitCode;

pub(super) fn main() -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout().lock(), "{:#}", crate::config::schema())?;
    Ok(ExitCode::SUCCESS)
}
