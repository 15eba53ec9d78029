//! The compiler's target for components: is it there, and adding it where it is not.

use std::{env, ffi::OsString, path::Path, process::Command};

use crate::Error;

/// The target that components are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// Makes sure that the compiler which is used in this directory can build components: adds the target
/// if it is missing. The compiler is that of the build script or, outside of one, that of the user.
///
/// # Errors
/// [`Error::Start`]: there is no compiler. [`Error::TargetMissing`]: the target could not be added.
pub fn ensure_target(directory: &Path) -> Result<(), Error> {
    if is_installed(directory)? { Ok(()) } else { add(directory) }
}

fn is_installed(directory: &Path) -> Result<bool, Error> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(&rustc)
        .current_dir(directory)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|source| start(&rustc.to_string_lossy(), source))?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(libraries.trim()).is_dir())
}

fn add(directory: &Path) -> Result<(), Error> {
    let mut command = Command::new("rustup");
    command.current_dir(directory).args(["target", "add", TARGET]);
    let mut shown = format!("rustup target add {TARGET}");
    if let Ok(toolchain) = env::var("RUSTUP_TOOLCHAIN") {
        command.args(["--toolchain", &toolchain]);
        shown.push_str(&format!(" --toolchain {toolchain}"));
    }
    let missing = |detail| Error::TargetMissing { command: shown.clone(), detail };
    let output = command.output().map_err(|error| missing(error.to_string()))?;
    if output.status.success() && is_installed(directory)? {
        return Ok(());
    }
    Err(missing(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn start(program: &str, source: std::io::Error) -> Error {
    Error::Start { program: program.to_owned(), source }
}
