//! Builds filter crates to components, from a build script.
//!
//! A cargo of its own runs inside the build script, in a target directory of its own: sharing the
//! outer one would wait for ever for its lock, and one in `OUT_DIR` would build everything again for
//! each profile. Knows nothing of what the filters do.

mod environment;
mod toolchain;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub use toolchain::{TARGET, ensure_target};

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The builder runs only where cargo has set the environment of a build script.
    #[error("environment variable `{0}` is not set: call this from a build script run by cargo")]
    NotABuildScript(&'static str),
    /// A program could not be started.
    #[error("failed to start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The compiler cannot build components, and adding what is missing failed.
    #[error(
        "the target `{TARGET}` is not installed and could not be added: run `{command}`\n{detail}"
    )]
    TargetMissing {
        /// The command that adds it.
        command: String,
        /// What the attempt said.
        detail: String,
    },
    /// The nested build failed.
    #[error("failed to build the filters: `{command}`\n{detail}")]
    Build {
        /// The command, to repeat by hand.
        command: String,
        /// What cargo said.
        detail: String,
    },
    /// The build went well and left no component where it was expected.
    #[error("the build left no component at `{0}`")]
    NoComponent(PathBuf),
}

/// How much time the compiler takes for how small a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Optimised as a whole: for filters that are shipped.
    Thorough,
    /// Optimised crate by crate: for many small guests of tests.
    Quick,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Build {
    root: PathBuf,
    arguments: Vec<String>,
    components: Vec<String>,
    effort: Effort,
}

impl Build {
    /// A build of nothing yet, in the workspace whose root is this directory.
    pub fn new(workspace_root: impl Into<PathBuf>, effort: Effort) -> Self {
        Self { root: workspace_root.into(), arguments: Vec::new(), components: Vec::new(), effort }
    }

    /// Adds a package that is a filter: a library and nothing else.
    #[must_use]
    pub fn package(mut self, package: &str) -> Self {
        self.arguments.extend(["--package".to_owned(), package.to_owned()]);
        self.components.push(file(package));
        self
    }

    /// Adds the examples of a package, each of them a filter.
    #[must_use]
    pub fn examples(mut self, package: &str, examples: &[&str]) -> Self {
        self.arguments.extend(["--package".to_owned(), package.to_owned()]);
        for example in examples {
            self.arguments.extend(["--example".to_owned(), (*example).to_owned()]);
            self.components.push(format!("examples/{}", file(example)));
        }
        self
    }

    /// Builds, and returns the paths of the components in the order in which they were added. Cargo is
    /// told to run the build script again when one of `inputs` changes: files, or directories with all
    /// they contain, below the workspace's root.
    ///
    /// # Errors
    /// Any of [`Error`]; the texts say what to do.
    pub fn run(&self, inputs: &[&str]) -> Result<Vec<PathBuf>, Error> {
        for input in inputs {
            println!("cargo::rerun-if-changed={}", self.root.join(input).display());
        }
        ensure_target(&self.root)?;
        let out = env::var_os("OUT_DIR").ok_or(Error::NotABuildScript("OUT_DIR"))?;
        let target = target_directory(Path::new(&out)).join("filters");
        self.cargo(&target)?;
        let built = target.join(TARGET).join("release");
        self.components
            .iter()
            .map(|component| {
                let path = built.join(component);
                if path.is_file() { Ok(path) } else { Err(Error::NoComponent(path)) }
            })
            .collect()
    }

    fn cargo(&self, target: &Path) -> Result<(), Error> {
        let cargo = env::var_os("CARGO").ok_or(Error::NotABuildScript("CARGO"))?;
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.root)
            .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
            .arg(target)
            .args(&self.arguments);
        let words = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>();
        let shown = format!("cargo {}", words.join(" "));
        environment::clean(&mut command);
        command.envs(self.profile());
        let output = command
            .output()
            .map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let detail = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Build { command: shown, detail })
    }

    /// The release profile of components; the one in the workspace's manifest is the host's. A panic
    /// is a trap, so unwinding tables would be dead weight; optimising for size saves 5 % of it.
    /// One unit for each crate lets the compiler see that an error cannot happen, and leave out what prints it.
    fn profile(&self) -> [(&'static str, &'static str); 5] {
        let lto = match self.effort {
            Effort::Thorough => "true",
            Effort::Quick => "off",
        };
        [
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
            ("CARGO_PROFILE_RELEASE_LTO", lto),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
            ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
            ("CARGO_PROFILE_RELEASE_STRIP", "true"),
        ]
    }
}

/// The file that cargo makes of a crate.
fn file(name: &str) -> String {
    format!("{}.wasm", name.replace('-', "_"))
}

/// The target directory that a build script's `OUT_DIR` is in: cargo marks it as a cache. Without the
/// mark it is where cargo's layout `<target>/<profile>/build/<package>/out` says.
fn target_directory(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .or_else(|| out.ancestors().nth(4))
        .unwrap_or(out)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_directory_is_the_one_marked_as_a_cache() {
        let root = env::temp_dir().join(format!("pillion-builder-{}", std::process::id()));
        let out = root.join("triple/debug/build/package-0/out");
        std::fs::create_dir_all(&out).unwrap();
        assert_eq!(target_directory(&out), root.join("triple"));
        std::fs::write(root.join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(target_directory(&out), root);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn components_are_named_as_cargo_names_their_files() {
        let build = Build::new("/", Effort::Quick).package("a-b").examples("c", &["d-e", "f"]);
        assert_eq!(build.components, ["a_b.wasm", "examples/d_e.wasm", "examples/f.wasm"]);
    }

    #[test]
    fn outside_of_a_build_script_the_error_says_so() {
        let error = Error::NotABuildScript("OUT_DIR").to_string();
        assert!(error.contains("`OUT_DIR`") && error.contains("build script"), "{error}");
    }
}
