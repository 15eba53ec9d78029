//! Builds the test guests, and tells the library where their components are.

use std::{env, error::Error, fs, path::Path};

use pillion_filter_builder::{Build, Effort};

/// What the guests are made of.
const INPUTS: [&str; 6] =
    ["Cargo.lock", "tests/guests", "tests/build.rs", "filters/builder/src", "sdk/rust", "wit"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let names = names(&Path::new(root).join("tests/guests"))?;
    let examples: Vec<&str> = names.iter().map(String::as_str).collect();
    let build = Build::new(root, Effort::Quick).examples("pillion-guests", &examples);
    let paths = match build.run(&INPUTS) {
        Ok(paths) => paths,
        Err(error) => {
            // The text has several lines, which `Debug` would fold into one.
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    let list = format!(
        "/// Every guest.\n\
         pub const NAMES: [&str; {count}] = {names:?};\n\
         const PATHS: [&str; {count}] = {paths:?};\n",
        count = names.len(),
    );
    let out = env::var_os("OUT_DIR").ok_or("`OUT_DIR` is not set")?;
    fs::write(Path::new(&out).join("guests.rs"), list)?;
    Ok(())
}

/// The guests by the names of their files.
fn names(directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "lib" {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
