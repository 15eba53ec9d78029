//! The counts to hold on to, in a file of the repository.

use pillion_tests::process::repository;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Relative to the repository.
pub(crate) const FILE: &str = "tests/bench/instructions.toml";

/// What the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// How far a count may be off: what compilers of one version and C libraries differ by.
    tolerance_percent: f64,
    instructions: BTreeMap<String, u64>,
}

/// A count beside the stored one.
pub(crate) enum Verdict {
    Unknown,
    Within(f64),
    Better(f64),
    Worse(f64),
}

impl Verdict {
    /// A count without a stored one fails too: it would never be held to anything.
    pub(crate) fn fails(&self) -> bool {
        matches!(self, Verdict::Worse(_) | Verdict::Unknown)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Unknown => f.write_str("not stored yet"),
            Verdict::Within(percent) => write!(f, "{percent:+.1} %"),
            Verdict::Better(percent) => write!(f, "{percent:+.1} %, better: store it"),
            Verdict::Worse(percent) => write!(f, "{percent:+.1} %, worse"),
        }
    }
}

impl Stored {
    pub(crate) fn read() -> Result<Stored, String> {
        let text = std::fs::read_to_string(path()).map_err(|error| format!("{FILE}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))
    }

    pub(crate) fn compare(&self, name: &str, count: u64) -> Verdict {
        let Some(stored) = self.instructions.get(name).filter(|stored| **stored > 0) else {
            return Verdict::Unknown;
        };
        let percent = (count as f64 / *stored as f64 - 1.0) * 100.0;
        match percent {
            _ if percent > self.tolerance_percent => Verdict::Worse(percent),
            _ if percent < -self.tolerance_percent => Verdict::Better(percent),
            _ => Verdict::Within(percent),
        }
    }

    pub(crate) fn set(&mut self, name: &str, count: u64) {
        self.instructions.insert(name.to_owned(), count);
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let mut text = format!(
            "# Instructions of the hot path, counted by callgrind. `.ci/run` fails when one grows by \
             more than\n# the tolerance; tests/README.md says how to store new ones.\n\
             tolerance_percent = {:?}\n\n[instructions]\n",
            self.tolerance_percent
        );
        for (name, count) in &self.instructions {
            text.push_str(&format!("{name:?} = {count}\n"));
        }
        std::fs::write(path(), text).map_err(|error| format!("{FILE}: {error}"))
    }
}

fn path() -> PathBuf {
    repository().join(FILE)
}
