//! The reload thread: waits for requests and saved files, makes one attempt after the other, publishes,
//! and frees what the generations before left behind.

use super::filters::Loader;
use super::memory;
use super::watch::{Contents, Watch};
use super::{Attempt, Cause, First, Listening, Outcome, Refused, Request, State, build, lock};
use crate::config;
use crate::shutdown::Stage;
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
/// What to do about a configuration file that is gone.
const HELP_UNREADABLE: &str = "put the file back where it was";
/// Second looks in a row.
const SECOND_LOOKS_MAX: usize = 20;
/// Pauses between looking whether generations before are gone; they double.
const RELEASE_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(10)];

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
    let First { path, loader, loaded, listening, seen, started } = first;
    let mut reload = Reload {
        path,
        files: loaded.files(),
        loader,
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
        expiry: Expiry::default(),
    };
    let snapshot = reload.shared.snapshot.load_full();
    reload.published(&snapshot, Cause::Start, started);
    reload.keep_watch(&snapshot);
    // What was saved while the first generation was being built is seen here.
    if reload.watch.is_some() {
        reload.waiting.push_back(Request::Touched);
    }
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || reload.run())?;
    Ok(())
}

/// A generation that another one has replaced; workers may have its filters a little longer.
struct Retired {
    snapshot: Weak<Snapshot>,
    filters: Vec<Weak<Prepared>>,
}

impl Retired {
    fn new(snapshot: &Arc<Snapshot>) -> Self {
        let filters = snapshot.filters.iter().flatten().map(Arc::downgrade).collect();
        Retired { snapshot: Arc::downgrade(snapshot), filters }
    }

    fn in_use(&self) -> bool {
        self.snapshot.strong_count() > 0
            || self.filters.iter().any(|filter| filter.strong_count() > 0)
    }
}

struct Reload {
    /// As the user named it, for messages.
    path: PathBuf,
    loader: Loader,
    shared: Arc<Shared>,
    state: Arc<State>,
    requests: SyncSender<Request>,
    receiver: Receiver<Request>,
    /// Requests that came while files settled.
    waiting: VecDeque<Request>,
    listening: Listening,
    watch: Option<Watch>,
    /// What was in the files at the latest attempt.
    seen: Contents,
    files: BTreeSet<PathBuf>,
    /// Generations that may still be in use.
    retired: Vec<Retired>,
    pause: Duration,
    /// Memory was given back since the latest attempt.
    settled: bool,
    /// What was told of the ends of certificates.
    expiry: Expiry,
}

impl Reload {
    fn run(mut self) {
        while let Some(request) = self.next() {
            self.settled = false;
            match request {
                Request::End => return,
                Request::Touched => self.look(),
                Request::Reload { cause, reply } => {
                    let started = Instant::now();
                    self.seen = Contents::of(&self.files);
                    let outcome = self.attempt(cause, started);
                    self.conclude(cause, started, &outcome);
                    if let Some(reply) = reply {
                        // Nobody may wait for it.
                        let _ = reply.send(outcome);
                    }
                }
            }
        }
    }

    /// The next request; frees generations in the meantime.
    fn next(&mut self) -> Option<Request> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            self.expiry.look(&self.shared.snapshot.load().tls, SystemTime::now());
            let pause = match (self.settled, self.retired.is_empty()) {
                (false, _) => SETTLE_PAUSE,
                (true, false) => self.pause,
                (true, true) => Expiry::INTERVAL,
            };
            match self.receiver.recv_timeout(pause) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.settled => self.release(),
                Err(RecvTimeoutError::Timeout) => {
                    self.settled = true;
                    memory::give_back();
                }
            }
        }
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

    /// One attempt, from reading the file to publishing.
    fn attempt(&mut self, cause: Cause, started: Instant) -> Outcome {
        if self.shared.shutdown.stage() != Stage::Running {
            return Err(Refused::Stopping);
        }
        let refused = |problems: super::Problems| Refused::Problems(problems);
        let loaded = config::load(&self.path, HELP_UNREADABLE)
            .map_err(|problems| refused(problems.into()))?;
        let running = self.shared.snapshot.load_full();
        let built = build::next(&mut self.loader, &loaded, &running, &self.listening);
        // A file that failed is watched too: saving it may be what is missing.
        self.files = loaded.files();
        if built.is_err() {
            self.files.insert(running.config.source.clone());
        }
        self.seen.complete(self.loader.files_read(), &self.files);
        let built = match built {
            Ok(built) => built,
            Err(problems) => {
                self.keep_watch(&running);
                self.loader.forget_unused(&running.config);
                return Err(refused(problems));
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "the configuration has a doubtful part");
        }
        let stays = |name: &str| self.listening.get(name) == built.listening.get(name);
        built.snapshot.inherit_sockets(&running, stays);
        self.listening = built.listening;
        *lock(&self.state.listening) = self.listening.clone();
        let snapshot = Arc::new(built.snapshot);
        self.shared.snapshot.store(snapshot.clone());
        self.retired.push(Retired::new(&running));
        drop(running);
        self.pause = RELEASE_PAUSES[0];
        self.published(&snapshot, cause, started);
        self.keep_watch(&snapshot);
        Ok(snapshot.generation)
    }

    fn published(&self, snapshot: &Snapshot, cause: Cause, started: Instant) {
        let generation = snapshot.generation;
        snapshot.filters.iter().flatten().for_each(|filter| filter.put_in_force());
        self.shared.metrics.process().set_generation(generation);
        snapshot.tls.published();
        self.shared.published.send_replace(generation);
        tracing::info!(
            generation,
            cause = cause.name(),
            duration_ms = started.elapsed().as_millis() as u64,
            "generation published"
        );
    }

    /// Counts and reports how an attempt ended.
    fn conclude(&mut self, cause: Cause, started: Instant, outcome: &Outcome) {
        let process = self.shared.metrics.process();
        match outcome {
            Ok(_) => process.reload_succeeded(),
            Err(refused) => {
                process.reload_failed();
                tracing::error!(
                    cause = cause.name(),
                    generation = self.shared.snapshot.load().generation,
                    problems = %refused,
                    "reload failed"
                );
            }
        }
        let (at, duration) = (SystemTime::now(), started.elapsed());
        *lock(&self.state.last) = Some(Attempt { cause, at, duration, outcome: outcome.clone() });
    }

    /// Watches the files of the latest attempt, if the configuration in force wants that.
    fn keep_watch(&mut self, snapshot: &Snapshot) {
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
        self.retired.retain(Retired::in_use);
        if self.retired.len() < before {
            self.loader.forget_unused(&self.shared.snapshot.load().config);
            memory::give_back();
            self.pause = RELEASE_PAUSES[0];
        } else {
            self.pause = (self.pause * 2).min(RELEASE_PAUSES[1]);
        }
    }
}
