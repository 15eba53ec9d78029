//! What one version of one filter did: calls, decisions, failures, instances, lost log lines.
//!
//! The filter runtime writes, a scrape reads. One shard a worker; the numbers go with the version.

use super::histogram::{Distribution, Histogram};
use super::sharded::{Sharded, add};
use crate::chain::{BodyDecision, FailureKind, HeadDecision, Hook};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a hook answered, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Decision {
    /// Head: go on.
    Proceed,
    /// Head: go on without the body hook.
    SkipBody,
    /// Head: keep the head back.
    WaitForBody,
    /// Body: forward.
    Pass,
    /// Body: forward something else.
    Replace,
    /// Body: keep the chunk.
    Hold,
    /// Head or body: a local response.
    Respond,
}

impl Decision {
    /// Every decision.
    pub const ALL: [Decision; 7] = [
        Decision::Proceed,
        Decision::SkipBody,
        Decision::WaitForBody,
        Decision::Pass,
        Decision::Replace,
        Decision::Hold,
        Decision::Respond,
    ];

    /// The label value in metrics: the name in the contract with `_` for `-`.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Proceed => "proceed",
            Decision::SkipBody => "skip_body",
            Decision::WaitForBody => "wait_for_body",
            Decision::Pass => "pass",
            Decision::Replace => "replace",
            Decision::Hold => "hold",
            Decision::Respond => "respond",
        }
    }
}

impl From<&HeadDecision> for Decision {
    fn from(decision: &HeadDecision) -> Self {
        match decision {
            HeadDecision::Proceed => Decision::Proceed,
            HeadDecision::SkipBody => Decision::SkipBody,
            HeadDecision::WaitForBody => Decision::WaitForBody,
            HeadDecision::Respond(_) => Decision::Respond,
        }
    }
}

impl From<&BodyDecision> for Decision {
    fn from(decision: &BodyDecision) -> Self {
        match decision {
            BodyDecision::Pass => Decision::Pass,
            BodyDecision::Replace(_) => Decision::Replace,
            BodyDecision::Hold => Decision::Hold,
            BodyDecision::Respond(_) => Decision::Respond,
        }
    }
}

/// Numbers of one filter version. `worker` is the number of the calling worker; threads that are no
/// worker give `usize::MAX`.
#[derive(Debug)]
pub struct FilterStats {
    filter: Arc<str>,
    version: Arc<str>,
    quarantined: AtomicBool,
    shards: Sharded<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    /// By hook; the number of calls is the number of observations.
    durations: [Histogram<0>; Hook::ALL.len()],
    decisions: [AtomicU64; Decision::ALL.len()],
    failures: [AtomicU64; FailureKind::ALL.len()],
    instances_created: AtomicU64,
    instances_retired: AtomicU64,
    log_lines_dropped: AtomicU64,
}

impl FilterStats {
    /// Of a version that has done nothing yet.
    pub fn new(filter: Arc<str>, version: Arc<str>, workers: usize) -> Self {
        FilterStats {
            filter,
            version,
            quarantined: AtomicBool::new(false),
            shards: Sharded::new(workers),
        }
    }

    /// Name of the filter.
    pub fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// Its version.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// A hook was called, whatever came of it.
    pub fn record_call(&self, worker: usize, hook: Hook, duration: Duration) {
        let is_own = self.shards.is_own(worker);
        self.shards.of(worker).durations[hook as usize].observe(duration, is_own);
    }

    /// A hook answered.
    pub fn record_decision(&self, worker: usize, decision: Decision) {
        let is_own = self.shards.is_own(worker);
        add(&self.shards.of(worker).decisions[decision as usize], 1, is_own);
    }

    /// A hook did not answer.
    pub fn record_failure(&self, worker: usize, kind: FailureKind) {
        count(&self.shards.of(worker).failures[kind as usize]);
    }

    /// An instance was made.
    pub fn instance_created(&self, worker: usize) {
        count(&self.shards.of(worker).instances_created);
    }

    /// An instance was given up, after a failure or with its generation.
    pub fn instance_retired(&self, worker: usize) {
        count(&self.shards.of(worker).instances_retired);
    }

    /// A log line was over the budget of its exchange.
    pub fn log_line_dropped(&self, worker: usize) {
        count(&self.shards.of(worker).log_lines_dropped);
    }

    /// The filter is, or is no longer, kept from running.
    pub fn set_quarantined(&self, quarantined: bool) {
        self.quarantined.store(quarantined, Ordering::Relaxed);
    }

    /// Is it kept from running?
    pub fn quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Durations of the calls of a hook.
    pub fn durations(&self, hook: Hook) -> Distribution {
        let mut sum = Distribution::default();
        for shard in self.shards.iter() {
            shard.durations[hook as usize].add_to(&mut sum);
        }
        sum
    }

    /// How often a decision was made.
    pub fn decisions(&self, decision: Decision) -> u64 {
        self.shards.sum(|shard| read(&shard.decisions[decision as usize]))
    }

    /// How often a hook failed in this way.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.shards.sum(|shard| read(&shard.failures[kind as usize]))
    }

    /// Instances made so far.
    pub fn instances_created(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.instances_created))
    }

    /// Instances given up so far.
    pub fn instances_retired(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.instances_retired))
    }

    /// Instances there are.
    pub fn instances(&self) -> u64 {
        // Read in this order, so that one retired in between does not make the difference negative.
        let retired = self.instances_retired();
        self.instances_created().saturating_sub(retired)
    }

    /// Log lines over the budget so far.
    pub fn log_lines_dropped(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.log_lines_dropped))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_others_add_up() {
        let stats = FilterStats::new("auth".into(), "0123456789ab".into(), 2);
        for worker in [0, 1, usize::MAX] {
            stats.record_call(worker, Hook::OnRequest, Duration::from_micros(3));
            stats.record_decision(worker, Decision::from(&HeadDecision::Proceed));
            stats.record_failure(worker, FailureKind::Trap);
            stats.instance_created(worker);
            stats.log_line_dropped(worker);
        }
        stats.instance_retired(0);
        stats.record_decision(1, Decision::from(&BodyDecision::Replace(Vec::new())));
        assert_eq!(stats.durations(Hook::OnRequest).count(), 3);
        assert_eq!(stats.durations(Hook::OnResponse).count(), 0);
        assert_eq!(stats.decisions(Decision::Proceed), 3);
        assert_eq!(stats.decisions(Decision::Replace), 1);
        assert_eq!(stats.failures(FailureKind::Trap), 3);
        assert_eq!(stats.failures(FailureKind::Deadline), 0);
        assert_eq!((stats.instances_created(), stats.instances()), (3, 2));
        assert_eq!(stats.log_lines_dropped(), 3);
    }

    #[test]
    fn quarantine_is_a_state() {
        let stats = FilterStats::new("auth".into(), "0123456789ab".into(), 1);
        assert!(!stats.quarantined());
        stats.set_quarantined(true);
        assert!(stats.quarantined());
    }

    #[test]
    fn every_hook_decision_and_kind_has_its_place() {
        assert!(Hook::ALL.iter().enumerate().all(|(at, hook)| *hook as usize == at));
        assert!(Decision::ALL.iter().enumerate().all(|(at, one)| *one as usize == at));
        assert!(FailureKind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
    }
}
