//! The proxy-wasm filters for Envoy, which do what Pillion's three do. They are a workspace of their
//! own (`tests/bench/proxy-wasm`), built only when asked for.

use pillion_tests::process::{repository, target};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip1";
const THREE: [&str; 3] = ["trace", "headers", "rate_limit"];
const NOOP: &str = "noop";
const VERSION: &str = "version";

/// Where the compiled filters are.
pub(super) struct Modules(PathBuf);

impl Modules {
    pub(super) fn noop(&self) -> Vec<(&'static str, PathBuf)> {
        self.named(&[NOOP])
    }

    pub(super) fn three(&self) -> Vec<(&'static str, PathBuf)> {
        self.named(&THREE)
    }

    pub(super) fn three_and_noop(&self) -> Vec<(&'static str, PathBuf)> {
        [self.three(), self.noop()].concat()
    }

    pub(super) fn version(&self) -> PathBuf {
        self.0.join(format!("{VERSION}.wasm"))
    }

    fn named(&self, names: &[&'static str]) -> Vec<(&'static str, PathBuf)> {
        names.iter().map(|name| (*name, self.0.join(format!("{name}.wasm")))).collect()
    }
}

/// The compiled filters; `Err` says why there are none.
pub(super) fn modules(build: bool) -> Result<Modules, String> {
    let directory = target().join("bench").join("proxy-wasm");
    if build {
        compile(&directory)?;
    }
    let modules = Modules(directory.join(TARGET).join("release").join("examples"));
    let mut all = modules.three_and_noop();
    all.push((VERSION, modules.version()));
    match all.into_iter().find(|(_, path)| !path.is_file()) {
        None => Ok(modules),
        Some((name, _)) => Err(format!("`{name}` is not built; run once with --proxy-wasm")),
    }
}

fn compile(directory: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--examples", "--target", TARGET]);
    command.arg("--target-dir").arg(directory);
    command.current_dir(repository().join("tests/bench/proxy-wasm"));
    let status = command.status().map_err(|error| format!("cargo could not be run: {error}"))?;
    let reason = format!("they do not build; is there `rustup target add {TARGET}`?");
    status.success().then_some(()).ok_or(reason)
}
