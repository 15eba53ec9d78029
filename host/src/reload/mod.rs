//! From saved files to a published generation, or to messages and no change: the only writer of the
//! active `Snapshot`.
//!
//! One thread, one attempt at a time: read, check, compile, link, configure, probe, publish. `build`
//! makes a generation, `filters` and `sockets` its parts, `watch` notices that a file was saved;
//! `rollouts` tries one beside the other, `back` returns to one that `history` has kept. Knows nothing
//! of requests and connections.

mod attempt;
mod back;
mod build;
mod control;
mod filters;
mod fixed;
mod full;
mod history;
mod memory;
mod problems;
mod resolve;
mod rollout;
mod rollouts;
mod shadowing;
mod sockets;
mod thread;
pub(crate) mod watch;

#[cfg(test)]
mod tests;

pub(crate) use control::Shown;
pub(crate) use filters::spec;
pub use filters::{Loader, OnLoadFailure, read_component};
pub use history::History;
pub use problems::{Problems, chain};
pub use resolve::RESOLVE_TIME;
pub use rollouts::TICK;
pub use sockets::{BACKLOG, Bound, Listening, open_admin, refusal};
pub use thread::{DEBOUNCE, DEBOUNCE_MAX, SECOND_LOOK};

use self::build::Built;
use self::full::{Full, Trial, Wanted};
use crate::config::Loaded;
use crate::rollout::Plan;
use crate::rollout::control::{Back, Change, Refusal, RolloutId, RolloutStatus};
use crate::rollout::store::FullRecord;
use crate::snapshot::{Shared, Snapshot};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Requests that wait for the reload thread; more are refused.
pub const WAITING_MAX: usize = 16;

/// What a reload was asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The start of the process.
    Start,
    /// A saved file.
    File,
    /// SIGHUP.
    Signal,
    /// The admin interface.
    Admin,
    /// A step of a rollout, or its end.
    Rollout,
    /// The judge or a person went back.
    Rollback,
}

impl Cause {
    /// The word in logs and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::File => "file",
            Cause::Signal => "signal",
            Cause::Admin => "admin",
            Cause::Rollout => "rollout",
            Cause::Rollback => "rollback",
        }
    }
}

/// Why a reload has changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The configuration or a filter of it.
    #[error(transparent)]
    Problems(Problems),
    /// [`WAITING_MAX`] of them wait already.
    #[error("too many reloads are waiting; try again when they are done")]
    TooMany,
    /// The process drains.
    #[error("the process is stopping and publishes no further generation")]
    Stopping,
}

/// How an attempt ended: with the generation in force, or without a change.
pub type Outcome = Result<u64, Refused>;

/// The latest attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Who asked.
    pub cause: Cause,
    /// When it ended.
    pub at: SystemTime,
    /// From reading the file to the end.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// What can be seen from outside.
#[derive(Debug, Default)]
pub(crate) struct State {
    last: Mutex<Option<Attempt>>,
    listening: Mutex<Listening>,
    shown: Mutex<Shown>,
}

enum Request {
    Reload { cause: Cause, reply: oneshot::Sender<Outcome> },
    Touched,
    Start { change: Change, plan: Box<Plan>, reply: Reply<RolloutId> },
    Promote { id: RolloutId, reply: Reply<RolloutStatus> },
    Back { back: Back, reply: Reply<u64> },
    Unpin { identity: String, reply: Reply<()> },
    End,
}

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A first generation that is not published yet, with what later ones need.
pub struct First {
    path: PathBuf,
    files: BTreeSet<PathBuf>,
    keys: BTreeSet<PathBuf>,
    loader: Loader,
    full: Full,
    trial: Option<Trial>,
    history: History,
    listening: Listening,
    seen: watch::Contents,
    started: Instant,
}

impl First {
    /// Builds the first generation from `loaded`, which was read from `path`; or, if the files are as
    /// they were then, the last full generation that `history` has.
    ///
    /// # Errors
    /// Everything that keeps it from being published.
    pub fn build(
        path: PathBuf,
        mut loader: Loader,
        loaded: Loaded,
        history: History,
    ) -> Result<(Self, Snapshot), Problems> {
        let started = Instant::now();
        let (mut files, mut keys) = (loaded.files(), loaded.key_files());
        let mut seen = watch::Contents::of(&files);
        let last = history.state().last_full();
        let generation = last.map_or(1, |last| last.generation.saturating_add(1));
        let kept = last.filter(|last| {
            let over = last.on_top.is_some() || last.config_text.0 != *loaded.text();
            over && last.source_hash == seen.hash(&keys)
        });
        let kept = kept.cloned().and_then(|it| last_full(&it, generation, &mut loader, &history));
        let (full, trial, built) = match kept {
            Some((full, built)) => (full, None, built),
            None => {
                let wanted = Wanted::of(loaded, &mut loader, history.state());
                let built = build::first(&mut loader, &wanted.full.loaded, generation)?;
                (wanted.full, wanted.trial, built)
            }
        };
        keys.extend(full.loaded.key_files());
        files.extend(keys.iter().cloned());
        seen.complete(&loader.take_files_read(), &files);
        seen.complete(built.snapshot.tls.files_read(), &files);
        let listening = built.listening;
        let first =
            First { path, files, keys, loader, full, trial, history, listening, seen, started };
        Ok((first, built.snapshot))
    }
}

/// The last full generation of the process before this one, if it can be made again.
fn last_full(
    record: &FullRecord,
    generation: u64,
    loader: &mut Loader,
    history: &History,
) -> Option<(Full, Built)> {
    let made = Full::again(record, history).and_then(|full| {
        let built = build::first(loader, &full.loaded, generation);
        built.map(|built| (full, built)).map_err(|problems| problems.to_string())
    });
    match made {
        Ok(made) => {
            tracing::info!(
                generation = record.generation,
                "the file is as it was: the last full generation is served"
            );
            Some(made)
        }
        Err(why) => {
            tracing::error!(
                generation = record.generation,
                why,
                "the last full generation cannot be made again; the configuration file is served"
            );
            None
        }
    }
}

/// The reload thread. Dropping the handle ends it after the attempt in progress.
#[derive(Debug)]
pub struct Reloader {
    requests: SyncSender<Request>,
    state: Arc<State>,
}

impl Reloader {
    /// Tells that the first generation is in force in `shared`, and takes care of all that follow.
    ///
    /// # Errors
    /// The thread does not start.
    pub fn start(first: First, shared: Arc<Shared>) -> io::Result<Self> {
        let (requests, receiver) = sync_channel(WAITING_MAX);
        let listening = Mutex::new(first.listening.clone());
        let state = Arc::new(State { listening, ..State::default() });
        thread::start(first, shared, state.clone(), requests.clone(), receiver)?;
        Ok(Reloader { requests, state })
    }

    /// Asks for a reload, which goes on to its end whether it is waited for or not.
    pub fn reload(&self, cause: Cause) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        if let Err(refused) = self.requests.try_send(Request::Reload { cause, reply })
            && let std::sync::mpsc::TrySendError::Full(Request::Reload { reply, .. }) = refused
        {
            // Nobody may wait for it.
            let _ = reply.send(Err(Refused::TooMany));
        }
        outcome
    }

    /// The latest attempt after the start.
    pub fn last(&self) -> Option<Attempt> {
        lock(&self.state.last).clone()
    }

    /// Where the generation in force listens.
    pub fn listening(&self) -> Listening {
        lock(&self.state.listening).clone()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // Full: the thread has work to do, and ends with the process.
        let _ = self.requests.try_send(Request::End);
    }
}

/// The lock in spite of a panic elsewhere: what these locks guard is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
