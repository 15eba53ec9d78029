//! `pillion filter …`: what authors of filters do before a sidecar sees their work.
//!
//! One file for each verb; this one has what they say alike.

mod build;
mod files;
mod inspect;
mod new;
mod sdk;

pub(super) use self::build::{build, find as project_of, put, shown};
pub(super) use self::inspect::{Inspected, hooks, stanza};

use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a project for a filter, with tests and a workflow for CI
    New(new::Arguments),
    /// Build the component of a project
    Build(build::Arguments),
    /// Say what a component is: its hooks, what it imports, and the table that lets it run
    Inspect(inspect::Arguments),
    /// Put the SDK of this Pillion in place of the one that a project has
    Vendor(sdk::Arguments),
}

pub(super) fn main(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::New(arguments) => new::main(&arguments),
        Verb::Build(arguments) => build::main(&arguments),
        Verb::Inspect(arguments) => inspect::main(&arguments),
        Verb::Vendor(arguments) => sdk::main(&arguments),
    }
}

/// A size as people read it.
pub(super) fn size(bytes: usize) -> String {
    const KIB: usize = 1024;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        _ if bytes < KIB * KIB => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        _ => format!("{:.1} MiB", bytes as f64 / (KIB * KIB) as f64),
    }
}

/// The name that a component's file suggests for its filter.
pub(super) fn name_of(component: &Path) -> String {
    let stem = component.file_stem().unwrap_or_default().to_string_lossy();
    let fits = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = stem.chars().map(fits).take(NAME_CHARS_MAX).collect();
    match name.trim_matches('-') {
        "" => "filter".to_owned(),
        name => name.to_owned(),
    }
}

/// Characters of a suggested name; a configuration file allows more.
const NAME_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_reads_best() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (15_565, "15.2 KiB"),
            (1024 * 1024, "1.0 MiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn a_file_suggests_a_name_that_a_configuration_takes() {
        for (file, name) in [
            ("target/rate_guard.wasm", "rate-guard"),
            ("a.b c.wasm", "a-b-c"),
            ("_.wasm", "filter"),
            ("", "filter"),
        ] {
            assert_eq!(name_of(Path::new(file)), name);
        }
        assert_eq!(name_of(Path::new(&"x".repeat(41))).len(), NAME_CHARS_MAX);
    }
}
