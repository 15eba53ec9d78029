//! From the sources of a project to a version that may run: built, looked at, its cases passed.
//!
//! Only then is the component put where the sidecar has it from. The build has a profile of its own,
//! so that it is quick and leaves the component of `pillion filter build` alone.

use super::super::filter::{Inspected, build, hooks, name_of, put, shown, size, stanza};
use super::super::{say, test};
use crate::cases::{self, Components, Counts, Options, report};
use crate::config::FilterSource;
use crate::wasm::{CompileLimits, Compiler};
use anyhow::{Context, anyhow, bail};
use std::fmt;
use std::path::{Path, PathBuf};

/// The release profile, but incremental and not optimised as a whole.
const PROFILE: [&str; 10] = [
    "--profile",
    "pillion-dev",
    "--config",
    "profile.pillion-dev.inherits=\"release\"",
    "--config",
    "profile.pillion-dev.lto=\"off\"",
    "--config",
    "profile.pillion-dev.codegen-units=16",
    "--config",
    "profile.pillion-dev.incremental=true",
];
/// Where the component is put, in the project.
const PLACE: &str = "target/pillion-dev";

/// Makes versions of the filter of a project.
pub(super) struct Workshop {
    project: PathBuf,
}

/// How an attempt ended.
pub(super) enum Made {
    /// A version, at its place.
    Version(Version),
    /// No version, and why in short; the details were told.
    Nothing(&'static str),
}

/// A version of the filter that may run.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) version: String,
    /// Its table in a configuration file.
    pub(super) table: String,
    size: String,
    hooks: String,
    capabilities: String,
}

impl Workshop {
    pub(super) fn new(project: PathBuf) -> Self {
        Workshop { project }
    }

    /// # Errors
    /// What keeps a version from being made, other than the sources.
    pub(super) fn make(&self) -> anyhow::Result<Made> {
        let Some(components) = build(&self.project, &PROFILE)? else {
            return Ok(Made::Nothing("the build failed"));
        };
        let [component] = &components[..] else {
            let all: Vec<String> = components.iter().map(|path| shown(path)).collect();
            bail!(
                "the project has {} components: {}\nhelp: name the folder of one filter",
                all.len(),
                all.join(", ")
            );
        };
        let inspected = Inspected::of(component)?;
        match self.play_cases(component)? {
            Counts { broken: 0, failed: 0, .. } => {}
            Counts { broken: 0, .. } => return Ok(Made::Nothing("a case failed")),
            Counts { .. } => return Ok(Made::Nothing("the cases cannot be played")),
        }
        let file = Path::new(PLACE).join(component.file_name().unwrap_or_default());
        let version = Version::of(&file, &inspected);
        put(component, &self.project.join(&file))?;
        Ok(Made::Version(version))
    }
}

impl Workshop {
    /// Plays the cases of the project, if it has any, and tells what came of them.
    fn play_cases(&self, component: &Path) -> anyhow::Result<Counts> {
        let folder = self.project.join(test::CASES_DEFAULT);
        if !folder.is_dir() {
            return Ok(Counts::default());
        }
        let files = test::files(&[shown(&folder).into()]).map_err(|nothing| anyhow!(nothing))?;
        let compiler = Compiler::new(None, CompileLimits::default());
        let compiler = compiler.context("failed to set up the cache of compiled filters")?;
        let instead = FilterSource::File(component.to_owned());
        let played =
            cases::run(&files, &Components::new(compiler, Some(instead)), &Options::default());
        say(&report::text(&played, report::Detail::Results))?;
        Ok(played.counts())
    }
}

impl Version {
    fn of(file: &Path, inspected: &Inspected) -> Self {
        let Inspected { code, bytes } = inspected;
        let name = name_of(file);
        let capabilities: Vec<&str> = code.imports().iter().map(|one| one.name()).collect();
        Version {
            version: code.version().to_string(),
            table: stanza(&name, file, code),
            size: size(bytes.len()),
            hooks: hooks(code),
            capabilities: match &capabilities[..] {
                [] => "none".to_owned(),
                some => some.join(", "),
            },
            name,
        }
    }

    /// What is new, seen from the version before.
    pub(super) fn after(&self, before: &Version) -> String {
        let mut told = format!("{} {} (before: {})", self.name, self.version, before.version);
        for (what, was, is) in [
            ("size", &before.size, &self.size),
            ("hooks", &before.hooks, &self.hooks),
            ("capabilities", &before.capabilities, &self.capabilities),
        ] {
            if was != is {
                told.push_str(&format!("\n  {what}: {is} (before: {was})"));
            }
        }
        told
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { name, version, size, hooks, capabilities, table: _ } = self;
        write!(f, "{name} {version}: {size}, hooks: {hooks}, capabilities: {capabilities}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_told_and_nothing_else() {
        let text = str::to_owned;
        let before = Version {
            name: text("x"),
            version: text("1"),
            table: text(""),
            size: text("10 KiB"),
            hooks: text("on-request"),
            capabilities: text("none"),
        };
        let other = Version { version: text("2"), ..before.clone() };
        assert_eq!(other.after(&before), "x 2 (before: 1)");
        let more = Version { capabilities: text("log"), size: text("11 KiB"), ..other };
        assert_eq!(
            more.after(&before),
            "x 2 (before: 1)\n  size: 11 KiB (before: 10 KiB)\n  capabilities: log (before: none)"
        );
    }
}
