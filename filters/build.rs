//! Builds the shipped filters, and tells the library where their components are.

use std::process::ExitCode;

use pillion_filter_builder::{Build, Effort};

/// Packages and the variables that name their components to `src/lib.rs`.
const FILTERS: [(&str, &str); 3] = [
    ("pillion-filter-trace", "PILLION_TRACE"),
    ("pillion-filter-headers", "PILLION_HEADERS"),
    ("pillion-filter-rate-limit", "PILLION_RATE_LIMIT"),
];

/// What the components are made of.
const INPUTS: [&str; 11] = [
    "Cargo.lock",
    "filters/trace/Cargo.toml",
    "filters/trace/src",
    "filters/headers/Cargo.toml",
    "filters/headers/src",
    "filters/rate-limit/Cargo.toml",
    "filters/rate-limit/src",
    "filters/builder/src",
    "filters/build.rs",
    "sdk/rust",
    "wit",
];

fn main() -> ExitCode {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let build = FILTERS
        .iter()
        .fold(Build::new(root, Effort::Thorough), |build, (package, _)| build.package(package));
    match build.run(&INPUTS) {
        Ok(components) => {
            for ((_, variable), component) in FILTERS.iter().zip(components) {
                println!("cargo::rustc-env={variable}={}", component.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
