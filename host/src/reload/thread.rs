//! The reload thread: waits for requests and saved files, does one after the other, looks at the
//! rollout in progress, and frees what the generations before left behind.
//!
//! What it does is in files of its own: `attempt` publishes, `rollouts` tries, `back` returns.

use super::filters::Loader;
use super::full::{Full, Trial};
use super::history::History;
use super::memory;
use super::rollout::Rollout;
use super::rollouts::TICK;
use super::watch::{Contents, Watch};
use super::{Cause, First, Listening, Request, State};
use crate::snapshot::{Shared, Snapshot};
use crate::tls::Expiry;
use crate::wasm::Prepared;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Files are looked at when they were quiet for so long: one save is a burst of events.
pub const DEBOUNCE: Duration = Duration::from_millis(5);
/// They are looked at after so long, quiet or not.
pub const DEBOUNCE_MAX: Duration = Duration::from_millis(200);
/// A file that cannot be used may be half written: it is reported when nothing more came in this time.
pub const SECOND_LOOK: Duration = Duration::from_millis(50);
/// Second looks in a row.
const SECOND_LOOKS_MAX: usize = 20;
/// Pauses between looking whether generations before are gone; they double.
pub(super) const RELEASE_PAUSES: [Duration; 2] =
    [Duration::from_millis(50), Duration::from_secs(10)];

/// Quiet time after a start or an attempt, before memory that it needed is given back.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// Starts the thread.
pub(super) fn start(
    first: First,
    shared: Arc<Shared>,
    state: Arc<State>,
    requests: SyncSender<Request>,
    receiver: Receiver<Request>,
) -> io::Result<()> {
    let First { path, files, keys, loader, full, trial, history, listening, seen, started } = first;
    let mut reload = Reload {
        path,
        source: seen.hash(&keys),
        files,
        keys,
        loader,
        full,
        history,
        rollout: None,
        next_look: started,
        shared,
        state,
        requests,
        receiver,
        waiting: VecDeque::new(),
        listening,
        watch: None,
        seen,
        retired: Vec::new(),
        pause: RELEASE_PAUSES[0],
        settled: false,
        next_idle: Instant::now() + SETTLE_PAUSE,
        expiry: Expiry::default(),
    };
    let snapshot = reload.shared.snapshot.load_full();
    reload.published(&snapshot, Cause::Start, started);
    reload.tell_cut_short();
    reload.remember(&snapshot, Cause::Start);
    reload.keep_watch(&snapshot);
    // What was saved while the first generation was being built is seen here.
    if reload.watch.is_some() {
        reload.waiting.push_back(Request::Touched);
    }
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || reload.run(trial))?;
    Ok(())
}

/// A generation that another one has replaced; workers may have its filters a little longer.
pub(super) struct Retired {
    snapshot: Weak<Snapshot>,
    filters: Vec<Weak<Prepared>>,
}

impl Retired {
    pub(super) fn new(snapshot: &Arc<Snapshot>) -> Self {
        let filters = snapshot.serving().iter().map(Arc::downgrade).collect();
        Retired { snapshot: Arc::downgrade(snapshot), filters }
    }

    /// Does it hold anything that the generation in force does not?
    fn in_use(&self, current: &Snapshot) -> bool {
        let passed_on = |filter: &Arc<Prepared>| current.serves(filter);
        self.snapshot.strong_count() > 0
            || self.filters.iter().filter_map(Weak::upgrade).any(|filter| !passed_on(&filter))
    }
}

pub(super) struct Reload {
    /// As the user named it, for messages.
    pub(super) path: PathBuf,
    pub(super) loader: Loader,
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<State>,
    requests: SyncSender<Request>,
    receiver: Receiver<Request>,
    /// Requests that came while files settled.
    waiting: VecDeque<Request>,
    pub(super) listening: Listening,
    watch: Option<Watch>,
    /// What was in the files at the latest attempt.
    pub(super) seen: Contents,
    pub(super) files: BTreeSet<PathBuf>,
    /// Those of them that are keys and certificates.
    pub(super) keys: BTreeSet<PathBuf>,
    /// Of what was in the files when they were last published.
    pub(super) source: blake3::Hash,
    /// The full generation in force.
    pub(super) full: Full,
    pub(super) history: History,
    pub(super) rollout: Option<Rollout>,
    /// When the rollout is looked at next.
    next_look: Instant,
    /// Generations that may still be in use.
    pub(super) retired: Vec<Retired>,
    pub(super) pause: Duration,
    /// Memory was given back since the latest attempt.
    settled: bool,
    /// When memory is given back, or generations are looked for, next.
    next_idle: Instant,
    /// What was told of the ends of certificates.
    expiry: Expiry,
}

impl Reload {
    fn run(mut self, trial: Option<Trial>) {
        if let Some(trial) = trial {
            self.begin_from_file(trial);
        }
        while let Some(request) = self.next() {
            self.stir();
            match request {
                Request::End => return,
                Request::Touched => self.look(),
                // Nobody may wait for any of the answers.
                Request::Reload { cause, reply } => {
                    let started = Instant::now();
                    self.seen = Contents::of(&self.files);
                    let outcome = self.attempt(cause, started);
                    self.conclude(cause, started, &outcome);
                    let _ = reply.send(outcome);
                }
                Request::Start { change, plan, reply } => {
                    let _ = reply.send(self.start(&change, *plan));
                }
                Request::Promote { id, reply } => drop(reply.send(self.promote(id))),
                Request::Back { back, reply } => drop(reply.send(self.back(&back))),
                Request::Unpin { identity, reply } => drop(reply.send(self.unpin(&identity))),
            }
        }
    }

    /// The next request; looks at the rollout and frees generations in the meantime.
    fn next(&mut self) -> Option<Request> {
        loop {
            if self.rollout.is_some() && Instant::now() >= self.next_look {
                self.next_look = Instant::now() + TICK;
                self.tick();
            }
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            self.expiry.look(&self.shared.snapshot.load().tls, SystemTime::now());
            let idles = !self.settled || !self.retired.is_empty();
            let look = self.rollout.as_ref().map(|_| self.next_look);
            let due = look.into_iter().chain(idles.then_some(self.next_idle)).min();
            let pause =
                due.map_or(Expiry::INTERVAL, |due| due.saturating_duration_since(Instant::now()));
            match self.receiver.recv_timeout(pause.min(Expiry::INTERVAL)) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if idles && Instant::now() >= self.next_idle => {
                    self.idle();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Something was done: what it needed is given back when it is quiet.
    pub(super) fn stir(&mut self) {
        self.settled = false;
        self.next_idle = Instant::now() + SETTLE_PAUSE;
    }

    /// Gives back what is not needed any more.
    fn idle(&mut self) {
        if self.settled {
            self.release();
        } else {
            self.settled = true;
            memory::give_back();
        }
        self.next_idle = Instant::now() + self.pause;
    }

    /// After a file was touched: publishes what is in the files now, if it is something else.
    fn look(&mut self) {
        self.settle(DEBOUNCE);
        let started = Instant::now();
        let mut failed = None;
        for _ in 0..SECOND_LOOKS_MAX {
            if let Some(watch) = &mut self.watch {
                // Before reading: what changes from here on is another event.
                watch.follow(&self.files);
            }
            let contents = Contents::of(&self.files);
            if contents == self.seen {
                break;
            }
            self.seen = contents;
            let outcome = self.attempt(Cause::File, started);
            let done = outcome.is_ok();
            failed = Some(outcome);
            if done || !self.settle(SECOND_LOOK) {
                break;
            }
        }
        if let Some(outcome) = failed {
            self.conclude(Cause::File, started, &outcome);
        }
    }

    /// Waits for `quiet` without an event. `false`: there was none from the beginning.
    fn settle(&mut self, quiet: Duration) -> bool {
        let end = Instant::now() + DEBOUNCE_MAX.max(quiet);
        let mut wait = quiet;
        let mut touched = false;
        while let Ok(request) = self.receiver.recv_timeout(wait) {
            match request {
                Request::Touched => {
                    touched = true;
                    wait = DEBOUNCE.min(end.saturating_duration_since(Instant::now()));
                }
                other => {
                    self.waiting.push_back(other);
                    break;
                }
            }
        }
        touched
    }

    /// Watches the files of the latest attempt, if the configuration in force wants that.
    pub(super) fn keep_watch(&mut self, snapshot: &Snapshot) {
        if !snapshot.config.runtime.watch {
            self.watch = None;
            return;
        }
        if self.watch.is_none() {
            let requests = self.requests.clone();
            // Full: what waits is done after this event, and sees what it is about.
            let touched = move || drop(requests.try_send(Request::Touched));
            match Watch::new(touched) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::warn!(
                    %error,
                    "failed to watch files; send SIGHUP to publish what was saved"
                ),
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.follow(&self.files);
        }
    }

    /// Looks whether generations before are gone, and gives back what they held.
    fn release(&mut self) {
        let before = self.retired.len();
        let current = self.shared.snapshot.load_full();
        self.retired.retain(|retired| retired.in_use(&current));
        if self.retired.len() < before {
            self.loader.forget_unused(&current.config);
            memory::give_back();
            self.pause = RELEASE_PAUSES[0];
        } else {
            self.pause = (self.pause * 2).min(RELEASE_PAUSES[1]);
        }
    }
}
