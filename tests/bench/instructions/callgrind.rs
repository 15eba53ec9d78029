//! Runs this program under callgrind, and reads how many instructions it took. Threads that tick by
//! the wall clock are in it, and take less than a part in a hundred.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// callgrind, with a directory for its profiles.
pub(crate) struct Callgrind {
    valgrind: PathBuf,
    place: PathBuf,
}

impl Callgrind {
    pub(crate) fn new(valgrind: &Path, place: &Path) -> Result<Callgrind, String> {
        std::fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(Callgrind { valgrind: valgrind.to_owned(), place: place.to_owned() })
    }

    /// The directory for files of a run.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// This program with `arguments`, its profile to be called `profile`.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        profile: &str,
        arguments: &[A],
    ) -> Result<Command, String> {
        let output = self.profile(profile);
        if let Err(error) = std::fs::remove_file(&output)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(format!("{}: {error}", output.display()));
        }
        let mut command = Command::new(&self.valgrind);
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", output.display()));
        command.arg(this_program()?).args(arguments);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Instructions of a run that has ended.
    pub(crate) fn total(&self, profile: &str) -> Result<u64, String> {
        let output = self.profile(profile);
        let fail = |why: &dyn std::fmt::Display| format!("{}: {why}", output.display());
        let text = std::fs::read_to_string(&output).map_err(|error| fail(&error))?;
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
        total.and_then(|total| total.trim().parse().ok()).ok_or_else(|| fail(&"there is no total"))
    }

    fn profile(&self, name: &str) -> PathBuf {
        self.place.join(format!("{name}.out"))
    }
}

/// Instructions of one round, from the totals of a short and a long run: what is done once cancels.
pub(crate) fn of_one_round(short: (u64, u64), long: (u64, u64)) -> u64 {
    long.0.saturating_sub(short.0) / (long.1 - short.1)
}

pub(crate) fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))
}
