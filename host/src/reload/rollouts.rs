//! The rollout in progress, on the reload thread: begins it, looks at it ten times a second, and
//! carries out what its driver says.
//!
//! Every change of stage is a publication like any other. The running version keeps what it has, so
//! that going back to it is one pointer store.

use super::build::{self, Staged};
use super::full::{self, Full, Trial};
use super::rollout::{Rollout, changes};
use super::thread::Reload;
use super::{Cause, lock, shadowing};
use crate::config;
use crate::rollout::control::{Change, Origin, Progress, Refusal, RolloutId, RolloutStatus};
use crate::rollout::judge::{Judge, Window};
use crate::rollout::store::{OnTop, PinnedRecord, PromotedNext, State};
use crate::rollout::{Arm, Driver, Effect, Plan, Stage};
use crate::shutdown;
use crate::telemetry::RolloutEnd;
use std::fmt::Display;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often a rollout is looked at.
pub const TICK: Duration = Duration::from_millis(100);

/// How a rollout ends without being promoted.
enum Ending {
    /// In words and numbers; the version is pinned.
    Judged(String),
    /// Somebody said so.
    Asked,
    /// Another change passes it over.
    CutShort(String),
}

impl Reload {
    /// Starts a rollout of a change that was asked for.
    pub(super) fn start(&mut self, change: &Change, plan: Plan) -> Result<RolloutId, Refusal> {
        self.check_idle()?;
        let candidate =
            config::apply(change, &self.full.loaded.config).map_err(Refusal::Unusable)?;
        let identity = full::identity(&mut self.loader, &candidate);
        if let Some(pinned) = self.history.state().pinned(&identity) {
            return Err(Refusal::Conflict(format!(
                "this was found bad: {}; change it, or try it again after `pillion unpin {identity}`",
                pinned.reason
            )));
        }
        let words = full::words(&candidate);
        let on_top = full::over(self.full.on_top.as_ref(), change, words);
        self.begin(Trial { candidate, identity }, Origin::Admin, plan, on_top)
    }

    fn check_idle(&self) -> Result<(), Refusal> {
        if self.shared.shutdown.stage() != shutdown::Stage::Running {
            return Err(Refusal::Conflict("the process is stopping".to_owned()));
        }
        match &self.rollout {
            None => Ok(()),
            Some(rollout) => Err(Refusal::Conflict(format!(
                "rollout {} is in progress; promote it or roll it back first",
                rollout.id.0
            ))),
        }
    }

    /// Starts the rollout of what the file has as `next`.
    pub(super) fn begin_from_file(&mut self, trial: Trial) {
        let on_top = OnTop {
            by: Origin::File,
            changes: full::words(&trial.candidate),
            next_promoted: true,
            filters: Vec::new(),
            chains: Vec::new(),
        };
        let plan = self.full.loaded.config.rollout.plan.clone();
        if let Err(refusal) = self.begin(trial, Origin::File, plan, on_top) {
            tracing::error!(problems = %refusal, "`next` of the configuration file cannot be tried");
        }
    }

    fn begin(
        &mut self,
        trial: Trial,
        origin: Origin,
        plan: Plan,
        on_top: OnTop,
    ) -> Result<RolloutId, Refusal> {
        let Trial { candidate, identity } = trial;
        let filters = self.loader.load(&candidate.loaded, super::OnLoadFailure::Refuse);
        let filters = filters.map_err(|problems| {
            Refusal::Unusable(problems.iter().map(ToString::to_string).collect())
        })?;
        let running = self.shared.snapshot.load_full();
        let changes = changes(&candidate, &running.filters, &filters);
        let mut id = RolloutId(0);
        self.history.update(|state| id = state.next_rollout_id());
        let workers = self.loader.workers();
        let judge = Judge::new(plan.thresholds.clone());
        let (driver, effect) = Driver::begin(plan, Instant::now());
        let now = SystemTime::now();
        let rollout = Rollout {
            id,
            origin,
            identity,
            differences: candidate.differences,
            changes,
            driver,
            judge,
            loaded: candidate.loaded,
            filters,
            on_top,
            salt: RandomState::new(),
            running: Arc::new(Arm::new(workers)),
            next: Arc::new(Arm::new(workers)),
            shadow: None,
            samples: Vec::new(),
            before: Default::default(),
            began: now,
            step_began: now,
        };
        tracing::info!(rollout = id.0, changes = rollout.changes.join("; "), "rollout started");
        self.rollout = Some(rollout);
        self.carry_out(effect);
        Ok(id)
    }

    /// Looks at the rollout in progress.
    pub(super) fn tick(&mut self) {
        if self.shared.shutdown.stage() != shutdown::Stage::Running {
            return;
        }
        let now = Instant::now();
        let running = self.shared.snapshot.load_full();
        let Some(rollout) = &mut self.rollout else { return };
        let window = rollout.window(now, &running);
        if let Some(shadow) = &rollout.shadow {
            rollout.samples = shadow.samples();
        }
        let verdict = rollout.judge.look(&window);
        let effect = rollout.driver.tick(now, verdict);
        self.show(&window);
        self.carry_out(effect);
    }

    /// Goes to the next step, unless the judge is against it.
    pub(super) fn promote(&mut self, id: RolloutId) -> Result<RolloutStatus, Refusal> {
        self.tick();
        match &mut self.rollout {
            Some(rollout) if rollout.id == id => {
                let effect = rollout.driver.promote(Instant::now());
                self.carry_out(effect);
            }
            Some(rollout) => {
                let message = format!("rollout {} is in progress, not {}", rollout.id.0, id.0);
                return Err(Refusal::Unknown(message));
            }
            None => return Err(Refusal::Conflict("no rollout is in progress".to_owned())),
        }
        let status = lock(&self.state.shown).rollout.clone();
        status.ok_or_else(|| Refusal::Conflict("no rollout is in progress".to_owned()))
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Wait => {}
            Effect::Publish(stage) => self.publish_stage(stage),
            Effect::PublishFull => self.publish_candidate(),
            Effect::RollBack(reason) => self.end_rollout(Ending::Judged(reason)),
        }
    }

    fn publish_stage(&mut self, stage: Stage) {
        let Some(rollout) = &mut self.rollout else { return };
        rollout.begin_step();
        let started = Instant::now();
        let running = self.shared.snapshot.load_full();
        rollout.shadow = None;
        if stage == Stage::Shadow {
            let (loaded, filters) = (&rollout.loaded, &rollout.filters);
            let ignored = &rollout.driver.plan().ignored_headers;
            match shadowing::start(&mut self.loader, &running, loaded, filters, ignored) {
                Ok(shadow) => rollout.shadow = Some(shadow),
                Err(why) => return self.cannot_start(&why),
            }
        }
        // Before it is in force: a process that is killed from here on was in this step.
        let full = self.history.state().last_full().map_or(0, |full| full.generation);
        let in_progress = rollout.in_progress(stage, full);
        self.history.update(|state| state.in_progress = Some(in_progress));
        let staged = Staged::of(&running, Some(rollout.candidate(stage)));
        let (now, workers) = ((&*running, &self.listening), self.loader.workers());
        let snapshot = match build::staged(now, staged, workers, &rollout.loaded) {
            Ok(built) => self.put_in_force(built, Cause::Rollout, started),
            Err(problems) => return self.cannot_start(&problems),
        };
        let window = self.window();
        self.show(&window);
        let Some(rollout) = &self.rollout else { return };
        tracing::info!(
            rollout = rollout.id.0,
            step = rollout.driver.step() + 1,
            of = rollout.driver.plan().steps.len(),
            stage = %stage,
            generation = snapshot.generation,
            "rollout step"
        );
    }

    /// The candidate becomes the running version.
    fn publish_candidate(&mut self) {
        let window = self.window();
        let Some(rollout) = &self.rollout else { return };
        let started = Instant::now();
        let running = self.shared.snapshot.load_full();
        let staged = Staged {
            config: Arc::new(rollout.loaded.config.clone()),
            filters: rollout.filters.clone(),
            addresses: running.addresses.clone(),
            tls: running.tls.clone(),
            candidate: None,
        };
        let (now, workers) = ((&*running, &self.listening), self.loader.workers());
        let snapshot = match build::staged(now, staged, workers, &rollout.loaded) {
            Ok(built) => self.put_in_force(built, Cause::Rollout, started),
            Err(problems) => return self.cannot_start(&problems),
        };
        let Some(rollout) = self.rollout.take() else { return };
        let generation = snapshot.generation;
        let status = rollout.status(&window, Progress::Promoted { generation });
        let (text, returned) = (self.full.text.clone(), self.full.returned);
        let on_top = Some(rollout.on_top);
        self.full = Full { loaded: rollout.loaded, text, on_top, returned };
        let (identity, at) = (rollout.identity, SystemTime::now());
        let promoted = PromotedNext { identity, generation, at };
        let of_file = (rollout.origin == Origin::File).then_some(promoted);
        self.remember_with(&snapshot, Cause::Rollout, |state| {
            if of_file.is_some() {
                state.promoted_next = of_file;
            }
        });
        tracing::info!(
            rollout = rollout.id.0,
            generation,
            changes = rollout.changes.join("; "),
            verdict = rollout.driver.said(),
            "rollout promoted: the candidate is the running version"
        );
        self.tell_end(RolloutEnd::Promoted, status);
    }

    fn cannot_start(&mut self, problems: &dyn Display) {
        self.end_rollout(Ending::Judged(format!("the candidate cannot be started: {problems}")));
    }

    /// Shows how a rollout ended.
    fn tell_end(&self, end: RolloutEnd, status: RolloutStatus) {
        self.shared.metrics.process().rollout_ended(end);
        self.shared.metrics.set_rollout(None);
        lock(&self.state.shown).rollout = Some(status);
    }

    /// Ends the rollout because another change is to be published, which the caller does then.
    pub(super) fn cut_short(&mut self, reason: &str) {
        if self.rollout.is_some() {
            self.end_rollout(Ending::CutShort(reason.to_owned()));
        }
    }

    /// Ends the rollout because somebody says so. The generation in force then.
    pub(super) fn roll_back(&mut self) -> u64 {
        self.end_rollout(Ending::Asked);
        self.shared.snapshot.load().generation
    }

    /// The running version gets everything again.
    fn end_rollout(&mut self, ending: Ending) {
        let started = Instant::now();
        let window = self.window();
        let Some(rollout) = self.rollout.take() else { return };
        let running = self.shared.snapshot.load_full();
        let mut published = None;
        if running.candidate.is_some() && !matches!(ending, Ending::CutShort(_)) {
            let staged = Staged::of(&running, None);
            let (now, workers) = ((&*running, &self.listening), self.loader.workers());
            // No filter of it is new, so that nothing can fail.
            if let Ok(built) = build::staged(now, staged, workers, &self.full.loaded) {
                published = Some(self.put_in_force(built, Cause::Rollback, started));
            }
        }
        let generation = published.as_ref().unwrap_or(&running).generation;
        let (by_judge, reason, end) = match ending {
            Ending::Judged(reason) => (true, reason, RolloutEnd::RolledBack),
            Ending::Asked => (false, "somebody rolled it back".to_owned(), RolloutEnd::RolledBack),
            Ending::CutShort(reason) => (false, reason, RolloutEnd::CutShort),
        };
        // A `next` that stays in the file would begin again with the next start.
        let pins = by_judge || end == RolloutEnd::RolledBack && rollout.origin == Origin::File;
        let pinned = PinnedRecord {
            identity: rollout.identity.clone(),
            what: rollout.changes.join("; "),
            reason: reason.clone(),
            at: SystemTime::now(),
        };
        let ended = |state: &mut State| {
            state.in_progress = None;
            if pins {
                state.pin(pinned);
            }
        };
        match &published {
            Some(snapshot) => self.remember_with(snapshot, Cause::Rollback, ended),
            None => self.history.update(ended),
        }
        // Told when it is on disk: what is told holds, whenever the process ends.
        tracing::warn!(
            rollout = rollout.id.0,
            end = end.name(),
            by_judge,
            reason,
            stage = %rollout.driver.stage(),
            generation,
            changes = rollout.changes.join("; "),
            "rollout ended without being promoted"
        );
        let progress = match end {
            RolloutEnd::CutShort => Progress::CutShort { reason },
            _ => Progress::RolledBack { generation, reason, by_judge },
        };
        self.show_history();
        self.tell_end(end, rollout.status(&window, progress));
    }

    fn window(&self) -> Window {
        let running = self.shared.snapshot.load();
        self.rollout.as_ref().map(|it| it.window(Instant::now(), &running)).unwrap_or_default()
    }

    fn show(&self, window: &Window) {
        let Some(rollout) = &self.rollout else { return };
        self.shared.metrics.set_rollout(Some(rollout.numbers()));
        lock(&self.state.shown).rollout = Some(rollout.status(window, Progress::Stepping));
    }
}
