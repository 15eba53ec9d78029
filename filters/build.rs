//! Builds the shipped filters, and tells the library where their components are.

use std::process::ExitCode;

use pillion_filter_builder::{Build, Effort};

/// Folders beside this file, and the variables that name their components to `src/lib.rs`.
const FILTERS: [(&str, &str); 7] = [
    ("trace", "PILLION_TRACE"),
    ("headers", "PILLION_HEADERS"),
    ("rate-limit", "PILLION_RATE_LIMIT"),
    ("cors", "PILLION_CORS"),
    ("jwt", "PILLION_JWT"),
    ("compress", "PILLION_COMPRESS"),
    ("validate-json", "PILLION_VALIDATE_JSON"),
];

/// What the components are made of, beside their folders.
const INPUTS: [&str; 5] =
    ["Cargo.lock", "filters/builder/src", "filters/build.rs", "sdk/rust", "wit"];

fn main() -> ExitCode {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut build = Build::new(root, Effort::Thorough);
    let mut inputs = INPUTS.map(str::to_owned).to_vec();
    for (name, _) in FILTERS {
        build = build.package(&format!("pillion-filter-{name}"));
        inputs.extend(["Cargo.toml", "src"].map(|part| format!("filters/{name}/{part}")));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    match build.run(&inputs) {
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
