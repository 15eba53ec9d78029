//! Lists the sources of the SDK for Rust, which the binary carries along: `pillion filter new` puts
//! them into a project, so that it builds wherever it is. The paths are kept as they are here, since
//! the sources name the contract's files by a relative path.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Files and folders below the root of the repository.
const CARRIED: [&str; 8] = [
    "LICENSE",
    "sdk/rust/Cargo.toml",
    "sdk/rust/src",
    "sdk/rust/wit",
    "sdk/rust/macros/Cargo.toml",
    "sdk/rust/macros/src",
    "wit/README.md",
    "wit/v0.1.0",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    println!("cargo::rerun-if-changed=build.rs");
    let mut list = "pub(super) const FILES: &[(&str, &str)] = &[\n".to_owned();
    for carried in CARRIED {
        let place = root.join(carried);
        println!("cargo::rerun-if-changed={}", place.display());
        let mut files = Vec::new();
        collect(place, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(&root)?;
            writeln!(list, "    ({name:?}, include_str!({file:?})),")?;
        }
    }
    list.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or("`OUT_DIR` is not set")?;
    fs::write(Path::new(&out).join("sdk.rs"), list)?;
    Ok(())
}

/// The file at `place`, or all files below it.
fn collect(place: PathBuf, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !place.is_dir() {
        files.push(place);
        return Ok(());
    }
    for entry in fs::read_dir(place)? {
        collect(entry?.path(), files)?;
    }
    Ok(())
}
