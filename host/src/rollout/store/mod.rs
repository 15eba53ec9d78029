//! What is kept on disk, so that a process which starts again serves what it last served in full.
//!
//! One directory with one state file, replaced whole, and the components it names. `state` is the
//! data, `format` its bytes, `components` and `lock` what is beside it. Knows nothing of how a
//! generation is made: `reload` records, and reads once at the start. See `ROLLOUTS.md`.

mod components;
mod format;
mod lock;
mod state;

#[cfg(test)]
mod tests;

pub use components::{COMPONENT_BYTES_MAX, ComponentError};
pub use format::{FORMAT, STATE_BYTES_MAX, Unusable};
pub use state::{
    FilterOnTop, FullRecord, InProgress, KEPT_MAX, Kept, KeptFilter, OnTop, PINNED_MAX,
    PinnedRecord, PromotedNext, State,
};

use crate::private::{self, TEMPORARY_SUFFIX, base_directory, failed};
use crate::telemetry::Metrics;
use components::Components;
use lock::Lock;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the state file.
const STATE_FILE: &str = "state";
/// What faults are counted as among the swallowed errors.
const COUNTED_AS: &str = "rollout_state";

/// Why nothing can be kept, nor anything that was kept be used. The process serves without.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file of it cannot be used.
    #[error(
        "failed to open the state directory `{}`; `rollout.state_dir` names another one",
        directory.display()
    )]
    Directory {
        /// Which one.
        directory: PathBuf,
        /// What failed.
        #[source]
        source: private::Error,
    },
    /// Another process has it.
    #[error(
        "the state directory `{}` is in use by {}; stop that one, or give this one a directory of \
         its own with `rollout.state_dir`",
        directory.display(),
        process.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// Which one.
        directory: PathBuf,
        /// Its process id, if it has said so.
        process: Option<u32>,
    },
    /// What was kept is not whole, or not ours. It is left as it is.
    #[error(
        "the state file `{}` cannot be used: {why}; nothing of it is used or changed, and nothing \
         is kept on disk meanwhile; {}",
        path.display(),
        match why {
            Unusable::Newer(_) => "start the version that wrote it, or move the directory away",
            _ => "move the directory away, and start again",
        }
    )]
    Unusable {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        why: Unusable,
    },
}

/// Why the latest state is not on disk, or more than it names is.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Files(#[from] private::Error),
    #[error("a component has {0} bytes, and {COMPONENT_BYTES_MAX} is the most that is kept")]
    ComponentTooLarge(usize),
    #[error("the components of generation {0} are not all there")]
    ComponentsMissing(u64),
    #[error("the state has {0} bytes, and {STATE_BYTES_MAX} is the most that is kept")]
    StateTooLarge(usize),
    #[error("the state cannot be written as JSON")]
    Encoding(#[from] serde_json::Error),
}

/// The state directory, and what it holds. One for each process, used by one thread; it writes and
/// waits for the disk: never on a worker.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    components: Components,
    state: State,
    /// Components that the file on disk names.
    named: HashSet<blake3::Hash>,
    fault: Option<(Cause, String)>,
    persisted: bool,
    metrics: Arc<Metrics>,
    /// Last, so that it is given back last.
    _lock: Lock,
}

/// What tells one cause of faults from another: the attempt and the kind of its error.
type Cause = (&'static str, Option<ErrorKind>);

/// Where the state goes that belongs to a configuration file, if `rollout.state_dir` does not say:
/// `pillion/<hash of its path>` in `$XDG_STATE_HOME`, else `~/.local/state`. None: there is no home.
///
/// The path is the one that was given, links and all: in a mounted ConfigMap what it leads to has
/// another path with each change.
pub fn default_directory(config_path: &Path) -> Option<PathBuf> {
    default_directory_with(config_path, |name| std::env::var_os(name))
}

fn default_directory_with(
    config_path: &Path,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let path = std::path::absolute(config_path).ok()?;
    let hash = blake3::hash(path.as_os_str().as_bytes()).to_hex();
    let base = base_directory(lookup, "XDG_STATE_HOME", ".local/state")?;
    Some(base.join("pillion").join(&hash[..16]))
}

impl Store {
    /// Opens the state directory, which is made if it is not there, and reads its state; an empty
    /// one if there is none. What a killed process left unfinished is removed.
    ///
    /// # Errors
    /// Another user could write to the directory, another process uses it, or its state file is
    /// torn, foreign or of a later version. Then nothing in it has changed.
    pub fn open(directory: &Path, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Directory { directory: directory.to_owned(), source };
        private::make_directory(directory).map_err(cannot)?;
        let lock = Lock::take(directory)?;
        let path = directory.join(STATE_FILE);
        let state = match private::read(&path, STATE_BYTES_MAX).map_err(cannot)? {
            Some(file) => {
                format::decode(&file).map_err(|why| StoreError::Unusable { path, why })?
            }
            None => State::default(),
        };
        let components = Components::open(directory).map_err(cannot)?;
        let mut store = Store {
            directory: directory.to_owned(),
            components,
            named: state.components(),
            state,
            fault: None,
            persisted: true,
            metrics,
            _lock: lock,
        };
        let cleaned = remove_unfinished(directory).and_then(|()| store.remove_unnamed());
        store.note(cleaned.map_err(Fault::from));
        Ok(store)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The latest state, also where it could not be written.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Is the latest state on disk?
    pub fn persisted(&self) -> bool {
        self.persisted
    }

    /// What goes wrong with keeping it, in words, for as long as it does.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|(_, words)| words.as_str())
    }

    /// Changes the state and writes it: when this returns `true`, all of it outlives a loss of power,
    /// `components` with it. They are what a full generation names that `change` keeps: all of its
    /// components, since those that are there already are only looked at.
    ///
    /// `false`: it is not on disk, or not all of it, and what was there before may still be. The
    /// reason is logged and counted as a swallowed error, once for each cause, and [`Self::fault`]
    /// tells it; each change tries again. A generation whose components are not all there is left
    /// out of the file.
    pub fn update(&mut self, components: &[&[u8]], change: impl FnOnce(&mut State)) -> bool {
        change(&mut self.state);
        self.state.bound();
        let written = self.write(components);
        self.persisted = written.is_ok();
        let cleaned = self.remove_unnamed().map_err(Fault::from);
        self.note(written.and(cleaned));
        self.persisted
    }

    /// The component of a kept generation, checked.
    pub fn component(&self, hash: &blake3::Hash) -> Result<Vec<u8>, ComponentError> {
        self.components.read(hash)
    }

    fn write(&mut self, components: &[&[u8]]) -> Result<(), Fault> {
        let put = components.iter().try_for_each(|content| self.components.put(content));
        let mut whole = self.state.clone();
        whole.full.retain(|record| record.components().all(|hash| self.components.has(&hash)));
        let file = encode_bounded(&mut whole)?;
        // Until it is certain which of the two files is there.
        self.named.extend(whole.components());
        private::replace(&self.directory.join(STATE_FILE), &file)?;
        self.named = whole.components();
        put?;
        match self.state.last_full() {
            Some(last) if whole.last_full() != Some(last) => {
                Err(Fault::ComponentsMissing(last.generation))
            }
            _ => {
                // Nor are older ones shown that cannot be returned to.
                self.state = whole;
                Ok(())
            }
        }
    }

    fn remove_unnamed(&self) -> Result<(), private::Error> {
        self.components.remove_others(&(&self.named | &self.state.components()))
    }

    fn note(&mut self, outcome: Result<(), Fault>) {
        match outcome {
            Ok(()) => {
                if self.fault.take().is_some() {
                    tracing::info!("what is to outlive this process is kept on disk again");
                }
            }
            Err(fault) => {
                let cause = fault.cause();
                let words = fault.words();
                let is_new = self.fault.as_ref().is_none_or(|(known, _)| *known != cause);
                if is_new {
                    self.metrics.process().swallowed(COUNTED_AS);
                    tracing::warn!(
                        directory = %self.directory.display(),
                        reason = words,
                        persisted = self.persisted,
                        "keeping on disk what is to outlive this process has failed; it serves on, \
                         and the next change tries again"
                    );
                }
                self.fault = Some((cause, words));
            }
        }
    }
}

impl Fault {
    fn cause(&self) -> Cause {
        match self {
            Fault::Files(private::Error::Io { attempt, source, .. }) => {
                (attempt, Some(source.kind()))
            }
            Fault::Files(private::Error::Untrusted { why, .. }) => (why, None),
            Fault::Files(private::Error::TooLarge { .. }) => ("file too large", None),
            Fault::ComponentTooLarge(_) => ("component too large", None),
            Fault::ComponentsMissing(_) => ("components missing", None),
            Fault::StateTooLarge(_) => ("state too large", None),
            Fault::Encoding(_) => ("encoding", None),
        }
    }

    fn words(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// The file's bytes; the oldest generations go for as long as they are too many.
fn encode_bounded(state: &mut State) -> Result<Vec<u8>, Fault> {
    loop {
        let file = format::encode(state)?;
        if file.len() <= STATE_BYTES_MAX {
            return Ok(file);
        }
        if state.full.len() <= 1 {
            return Err(Fault::StateTooLarge(file.len()));
        }
        state.full.remove(0);
    }
}

/// Removes state files that a killed process has not finished.
fn remove_unfinished(directory: &Path) -> Result<(), private::Error> {
    let cannot_list = || failed("list the directory", directory);
    for item in std::fs::read_dir(directory).map_err(cannot_list())? {
        let name = item.map_err(cannot_list())?.file_name();
        let unfinished = name
            .to_str()
            .and_then(|name| name.strip_prefix(STATE_FILE)?.strip_prefix('.'))
            .is_some_and(|rest| rest.ends_with(TEMPORARY_SUFFIX));
        if unfinished {
            let path = directory.join(name);
            std::fs::remove_file(&path).map_err(failed("remove the file", &path))?;
        }
    }
    Ok(())
}
