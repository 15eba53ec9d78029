//! One rollout in progress, as the reload thread has it: the candidate, both sides' counters, the step.
//!
//! Says how it stands and what there is to publish; what becomes of it is the matter of `rollouts`.

use super::build::Filters;
use crate::config::{Candidate, Difference, Loaded};
use crate::rollout::arm::since;
use crate::rollout::control::{Origin, Progress, RolloutId, RolloutStatus};
use crate::rollout::judge::{Counts, Differences, Judge, Window};
use crate::rollout::store::{InProgress, OnTop};
use crate::rollout::{Arm, Driver, Stage};
use crate::shadow::Shadow;
use crate::snapshot::{self, Snapshot};
use crate::telemetry::{RolloutNumbers, SideNumbers};
use crate::wasm::Prepared;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A rollout in progress.
pub(super) struct Rollout {
    pub(super) id: RolloutId,
    pub(super) origin: Origin,
    pub(super) identity: String,
    pub(super) differences: Vec<Difference>,
    /// Each of them in words.
    pub(super) changes: Vec<String>,
    pub(super) driver: Driver,
    pub(super) judge: Judge,
    /// The candidate: its configuration, its filters, and what it is over the file.
    pub(super) loaded: Loaded,
    pub(super) filters: Filters,
    pub(super) on_top: OnTop,
    pub(super) salt: RandomState,
    pub(super) running: Arc<Arm>,
    pub(super) next: Arc<Arm>,
    /// In a shadow step.
    pub(super) shadow: Option<Arc<Shadow>>,
    /// The last exchanges that differed, of the latest shadow step.
    pub(super) samples: Vec<String>,
    /// What both sides had counted when the step began.
    pub(super) before: (Counts, Counts),
    pub(super) began: SystemTime,
    pub(super) step_began: SystemTime,
}

impl Rollout {
    /// Is the filter of this name one of what it changes?
    pub(super) fn changes_filter(&self, filter: &str) -> bool {
        self.differences.iter().any(
            |difference| matches!(difference, Difference::Filter { name, .. } if &**name == filter),
        )
    }

    pub(super) fn candidate(&self, stage: Stage) -> snapshot::Candidate {
        snapshot::Candidate {
            config: Arc::new(self.loaded.config.clone()),
            filters: self.filters.clone(),
            stage,
            sticky: self.driver.plan().sticky.clone(),
            salt: self.salt.clone(),
            running: self.running.clone(),
            next: self.next.clone(),
            shadow: self.shadow.clone(),
        }
    }

    pub(super) fn begin_step(&mut self) {
        self.judge = Judge::new(self.driver.plan().thresholds.clone());
        self.before = (self.running.counts(0), self.next.counts(0));
        self.step_began = SystemTime::now();
    }

    /// What tells the next process that this one did not come to the end of the rollout, which began
    /// over the generation `running`.
    pub(super) fn in_progress(&self, stage: Stage, running: u64) -> InProgress {
        InProgress {
            id: self.id.0,
            origin: self.origin,
            changes: self.changes.clone(),
            running,
            step: self.driver.step(),
            stage: stage.to_string(),
            began: self.began,
            step_began: self.step_began,
        }
    }

    /// Both sides since the step began.
    pub(super) fn window(&self, now: Instant, running: &Snapshot) -> Window {
        let (running_only, next_only) = memory(&running.filters, &self.filters);
        let (next, shadow) = match &self.shadow {
            None => (since(&self.before.1, &self.next.counts(next_only)), None),
            Some(shadow) => {
                let (next, differences) = shadow.counts();
                (next, Some(differences))
            }
        };
        Window {
            elapsed: now.saturating_duration_since(self.driver.began()),
            running: since(&self.before.0, &self.running.counts(running_only)),
            next,
            shadow,
        }
    }

    /// What both sides did since it began.
    pub(super) fn numbers(&self) -> RolloutNumbers {
        let share = match self.driver.stage() {
            Stage::Shadow => 0,
            Stage::Canary(share) => share.millionths(),
            Stage::Full => 1_000_000,
        };
        RolloutNumbers {
            step: self.driver.step() as u64 + 1,
            share: f64::from(share) / 1e6,
            running: numbers(&self.running.counts(0)),
            next: numbers(&self.next.counts(0)),
            shadow: self.shadow.as_ref().map(|it| results(it.counts().1)).unwrap_or_default(),
        }
    }

    pub(super) fn status(&self, window: &Window, progress: Progress) -> RolloutStatus {
        RolloutStatus {
            id: self.id,
            origin: self.origin,
            changes: self.changes.clone(),
            plan: self.driver.plan().clone(),
            step: self.driver.step(),
            step_began: self.step_began,
            began: self.began,
            progress,
            running: window.running.clone(),
            next: window.next.clone(),
            shadow: window.shadow,
            samples: self.samples.clone(),
            verdict: self.driver.said().to_owned(),
        }
    }
}

fn results(differences: Differences) -> Vec<(&'static str, u64)> {
    let Differences { compared: _, skipped, same, status, headers, body, failed, slower } =
        differences;
    vec![
        ("same", same),
        ("status", status),
        ("headers", headers),
        ("body", body),
        ("failed", failed),
        ("slower", slower),
        ("skipped", skipped),
    ]
}

fn numbers(counts: &Counts) -> SideNumbers {
    let Counts { exchanges, failures, local_replies, errors, .. } = *counts;
    SideNumbers { exchanges, failures, local_replies, errors }
}

/// Bytes of memory of the filters that only one of the two has.
fn memory(running: &Filters, next: &Filters) -> (u64, u64) {
    let has = |all: &Filters, it: &Arc<Prepared>| {
        all.iter().flatten().any(|known| Arc::ptr_eq(known, it))
    };
    let only = |these: &Filters, those: &Filters| -> u64 {
        these.iter().flatten().filter(|it| !has(those, it)).map(|it| it.memory_bytes()).sum()
    };
    (only(running, next), only(next, running))
}

/// Each change in words, with the versions of filters.
pub(super) fn changes(candidate: &Candidate, running: &Filters, next: &Filters) -> Vec<String> {
    let version = |filters: &Filters, index: usize| match filters.get(index) {
        Some(Some(prepared)) => prepared.version().to_string(),
        _ => "none".to_owned(),
    };
    let one = |difference: &Difference| match difference {
        Difference::Filter { index, name, keys, .. } => {
            let (from, to) = (version(running, *index), version(next, *index));
            format!("filter {name}: {from} -> {to} ({})", keys.join(", "))
        }
        Difference::Chain { .. } => difference.to_string(),
    };
    candidate.differences.iter().map(one).collect()
}
