//! One attempt to publish: from reading the file to a generation in force and remembered, or to
//! messages and no change.
//!
//! Who wins: the file, whenever it changes, and only then. What was promoted or returned to stays in
//! force over a file that is as it was.

use super::build::{self, Built, Staged};
use super::full::Wanted;
use super::problems::Problems;
use super::resolve::resolve;
use super::rollouts::TICK;
use super::thread::{RELEASE_PAUSES, Reload, Retired};
use super::{Attempt, Cause, OnLoadFailure, Outcome, Refused, lock};
use crate::config::{self, Loaded};
use crate::rollout::control::{
    GenerationStatus, Origin, Pinned, Progress, RolloutId, RolloutStatus,
};
use crate::rollout::store::{FullRecord, InProgress, State};
use crate::shutdown::Stage;
use crate::snapshot::Snapshot;
use crate::tls::Tls;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Instant, SystemTime};

/// What to do about a configuration file that is gone.
const HELP_UNREADABLE: &str = "put the file back where it was";

impl Reload {
    /// One attempt, from reading the file to publishing.
    pub(super) fn attempt(&mut self, cause: Cause, started: Instant) -> Outcome {
        if self.shared.shutdown.stage() != Stage::Running {
            return Err(Refused::Stopping);
        }
        let over_the_file = self.full.on_top.is_some() || self.full.returned;
        if self.seen.hash(&self.keys) == self.source && (over_the_file || self.rollout.is_some()) {
            return self.publish_again(cause, started);
        }
        let loaded = config::load(&self.path, HELP_UNREADABLE)
            .map_err(|problems| Refused::Problems(problems.into()))?;
        let (files, keys, warnings) = (loaded.files(), loaded.key_files(), loaded.warnings.clone());
        self.compile_ahead(&loaded);
        let wanted = Wanted::of(loaded, &mut self.loader, self.history.state());
        let running = self.shared.snapshot.load_full();
        let built = self.build(&wanted, &running);
        // A file that failed is watched too: saving it may be what is missing.
        (self.files, self.keys) = (files, keys);
        if built.is_err() {
            self.files.insert(running.config.source.clone());
            self.follow_keys();
        }
        self.seen.complete(&self.loader.take_files_read(), &self.files);
        let (built, _tried) = match built {
            Ok(built) => built,
            Err(problems) => {
                self.keep_watch(&running);
                self.loader.forget_unused(&running.config);
                return Err(Refused::Problems(problems));
            }
        };
        // As it was read, which may be later than it was looked at.
        self.seen.complete(built.snapshot.tls.files_read(), &self.files);
        for warning in &warnings {
            tracing::warn!(%warning, "the configuration has a doubtful part");
        }
        self.cut_short("the configuration file has changed");
        self.tell_dropped();
        let Wanted { full, trial, identity } = wanted;
        self.full = full;
        self.source = self.seen.hash(&self.keys);
        let snapshot = self.put_in_force(built, cause, started);
        self.remember_with(&snapshot, cause, |state| {
            // Another `next` than the one that was promoted.
            state.promoted_next.take_if(|it| Some(&it.identity) != identity.as_ref());
        });
        self.keep_watch(&snapshot);
        let generation = snapshot.generation;
        drop((running, snapshot));
        if let Some(trial) = trial {
            self.begin_from_file(trial);
        }
        Ok(generation)
    }

    /// While a rollout is in progress, what is missing is compiled beside this thread, so that a
    /// verdict does not wait for a compiler.
    fn compile_ahead(&mut self, loaded: &Loaded) {
        if self.rollout.is_none() {
            return;
        }
        // Without a thread it is compiled when it is loaded.
        let Ok(done) = self.loader.compile_beside(loaded) else { return };
        while let Err(RecvTimeoutError::Timeout) = done.recv_timeout(TICK) {
            self.tick();
        }
    }

    /// The generation that is wanted, and the filters of what is to be tried then: a file is used as
    /// a whole or not at all.
    fn build(
        &mut self,
        wanted: &Wanted,
        running: &Snapshot,
    ) -> Result<(Built, build::Filters), Problems> {
        let built = build::next(&mut self.loader, &wanted.full.loaded, running, &self.listening);
        let tried = match &wanted.trial {
            None => Ok(Vec::new()),
            Some(trial) => self.loader.load(&trial.candidate.loaded, OnLoadFailure::Refuse),
        };
        Problems::both(built, tried)
    }

    /// What is in force once more, since what the file says is as it was: with the names of endpoints
    /// looked up anew, and keys and certificates as they are now.
    fn publish_again(&mut self, cause: Cause, started: Instant) -> Outcome {
        let running = self.shared.snapshot.load_full();
        let mut staged = Staged::of(&running, running.candidate.clone());
        staged.addresses = resolve(&self.loader, &running.config, Some(&running));
        let loaded = &self.full.loaded;
        let tls = Tls::build(loaded, Some(&running.tls), self.loader.metrics());
        staged.tls = tls.map_err(|problems| Refused::Problems(problems.into()))?;
        let (now, workers) = ((&*running, &self.listening), self.loader.workers());
        let built = build::staged(now, staged, workers, &self.full.loaded);
        let built = built.map_err(Refused::Problems)?;
        self.seen.complete(built.snapshot.tls.files_read(), &self.files);
        let snapshot = self.put_in_force(built, cause, started);
        if snapshot.candidate.is_none() {
            self.remember(&snapshot, cause);
        }
        Ok(snapshot.generation)
    }

    /// The keys of what is in force are watched, whether the file in place names them or not.
    pub(super) fn follow_keys(&mut self) {
        let keys = self.full.loaded.key_files();
        self.files.extend(keys.iter().cloned());
        self.keys.extend(keys);
        self.seen.complete(&BTreeMap::new(), &self.files);
    }

    /// One pointer store; what was in force is freed when its last request ends.
    pub(super) fn put_in_force(
        &mut self,
        built: Built,
        cause: Cause,
        started: Instant,
    ) -> Arc<Snapshot> {
        let running = self.shared.snapshot.load_full();
        let stays = |name: &str| self.listening.get(name) == built.listening.get(name);
        built.snapshot.inherit(&running, stays);
        self.listening = built.listening;
        *lock(&self.state.listening) = self.listening.clone();
        let snapshot = Arc::new(built.snapshot);
        self.shared.snapshot.store(snapshot.clone());
        self.shared.generation.store(snapshot.generation, Ordering::Release);
        self.retired.push(Retired::new(&running));
        self.pause = RELEASE_PAUSES[0];
        self.stir();
        self.published(&snapshot, cause, started);
        snapshot
    }

    pub(super) fn published(&self, snapshot: &Snapshot, cause: Cause, started: Instant) {
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

    /// Keeps the full generation in force.
    pub(super) fn remember(&mut self, snapshot: &Snapshot, cause: Cause) {
        self.remember_with(snapshot, cause, |_| {});
    }

    /// The same, together with another change of what is kept.
    pub(super) fn remember_with(
        &mut self,
        snapshot: &Snapshot,
        cause: Cause,
        change: impl FnOnce(&mut State),
    ) {
        let config_path = self.file();
        let record = self.full.record(snapshot, cause.name(), config_path, self.source);
        // Before it is on disk, which takes a moment.
        lock(&self.state.shown).in_force = self.in_force(&record);
        self.history.keep(record, &self.full.loaded, change);
        self.show_history();
    }

    /// The configuration file, as an absolute path.
    fn file(&self) -> std::path::PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Says what a changed file takes the place of.
    fn tell_dropped(&self) {
        let what = match &self.full.on_top {
            Some(on_top) => on_top.changes.join("; "),
            None if self.full.returned => "an earlier generation".to_owned(),
            None => return,
        };
        tracing::warn!(what, "the configuration file has changed and takes the place of this");
    }

    /// Counts and reports how an attempt ended.
    pub(super) fn conclude(&mut self, cause: Cause, started: Instant, outcome: &Outcome) {
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

    /// Says that the process before this one ended in the middle of a rollout.
    pub(super) fn tell_cut_short(&mut self) {
        let Some(in_progress) = self.history.state().in_progress.clone() else { return };
        let InProgress { id, origin, changes, step, stage, began, step_began, .. } = in_progress;
        tracing::warn!(
            rollout = id,
            stage,
            changes = changes.join("; "),
            "the process ended in the middle of a rollout; the last full generation is served"
        );
        let reason = "the process ended".to_owned();
        lock(&self.state.shown).rollout = Some(RolloutStatus {
            id: RolloutId(id),
            origin,
            changes,
            plan: self.full.loaded.config.rollout.plan.clone(),
            step,
            step_began,
            began,
            progress: Progress::CutShort { reason },
            running: Default::default(),
            next: Default::default(),
            shadow: None,
            samples: Vec::new(),
            verdict: "the process ended before there was one".to_owned(),
        });
    }

    /// Shows what is remembered to those who ask.
    pub(super) fn show_history(&self) {
        let state = self.history.state();
        let latest = state.last_full().map(|last| last.generation);
        let generations = state.full.iter().rev();
        let shown = |record: &FullRecord| GenerationStatus {
            generation: record.generation,
            published: record.published,
            cause: record.cause.clone(),
            filters: record.filters.iter().map(|it| (it.name.clone(), version(it))).collect(),
            in_force: Some(record.generation) == latest,
        };
        let mut all = lock(&self.state.shown);
        all.generations = generations.map(shown).collect();
        all.pinned = state.pinned.iter().map(Pinned::from).collect();
        all.plan = self.full.loaded.config.rollout.plan.clone();
        all.state_dir = self.history.directory();
        all.unkept = self.history.fault();
    }

    /// Who is in force, in words; `last` is the full generation that is.
    fn in_force(&self, last: &FullRecord) -> String {
        let FullRecord { generation, cause, .. } = last;
        match &self.full.on_top {
            _ if self.full.returned && cause == Cause::Rollback.name() => {
                format!("rollback: generation {generation} over the file")
            }
            Some(on_top) if on_top.by == Origin::File => "file: its next is promoted".to_owned(),
            Some(_) => format!("admin: generation {generation} over the file"),
            None if self.full.returned => format!("kept: generation {generation} over the file"),
            None => "file".to_owned(),
        }
    }
}

/// As `/status` shows it: first digits of the hash, and what people call it.
fn version(filter: &crate::rollout::store::KeptFilter) -> String {
    let hash = &filter.component.to_hex()[..12];
    match &filter.version {
        Some(label) => format!("{hash}({label})"),
        None => hash.to_owned(),
    }
}
