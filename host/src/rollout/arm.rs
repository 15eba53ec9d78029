//! What one side of a rollout does, counted by the workers as exchanges end: the running version, or
//! the candidate.
//!
//! Sharded by worker like every other counter. Decides nothing; `judge` reads the sums.

use super::judge::Counts;
use crate::telemetry::histogram::{Distribution, Histogram};
use crate::telemetry::sharded::{Sharded, add};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of one side, over all workers and routes of a rollout.
#[derive(Debug)]
pub struct Arm {
    shards: Sharded<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    exchanges: AtomicU64,
    failures: AtomicU64,
    local_replies: AtomicU64,
    errors: AtomicU64,
    added_time: Histogram<0>,
}

/// What an exchange came to, as far as it says something about its chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// A filter that the other side does not have failed, whatever its policy.
    pub failed: bool,
    /// A filter answered.
    pub local_reply: bool,
    /// The status that was sent.
    pub status: Option<u16>,
    /// Time that the filters of the chain took.
    pub added_time: Duration,
}

impl Arm {
    /// Of a rollout that has just begun.
    pub fn new(workers: usize) -> Self {
        Arm { shards: Sharded::new(workers) }
    }

    /// Counts an exchange that is over.
    pub fn record(&self, worker: usize, ended: &Ended) {
        let (shard, is_own) = (self.shards.of(worker), self.shards.is_own(worker));
        let is_error = ended.status.is_some_and(|status| (500..=599).contains(&status));
        // In this order: whoever reads meanwhile never sees more of the parts than of the whole.
        add(&shard.exchanges, 1, is_own);
        add(&shard.failures, ended.failed.into(), is_own);
        add(&shard.local_replies, ended.local_reply.into(), is_own);
        add(&shard.errors, is_error.into(), is_own);
        shard.added_time.observe(ended.added_time, is_own);
    }

    /// The sums since the rollout began; `memory_bytes` is put in.
    pub fn counts(&self, memory_bytes: u64) -> Counts {
        let sum = |of: fn(&Shard) -> &AtomicU64| {
            self.shards.sum(|shard| of(shard).load(Ordering::Relaxed))
        };
        let mut added_time = Distribution::default();
        self.shards.iter().for_each(|shard| shard.added_time.add_to(&mut added_time));
        // What is part of the exchanges is read before them, so that it is never more than they.
        let failures = sum(|shard| &shard.failures);
        let local_replies = sum(|shard| &shard.local_replies);
        let errors = sum(|shard| &shard.errors);
        let exchanges = sum(|shard| &shard.exchanges);
        Counts { exchanges, failures, local_replies, errors, added_time, memory_bytes }
    }
}

/// What was counted between `earlier` and `now`, both of one arm. Memory is that of `now`.
pub fn since(earlier: &Counts, now: &Counts) -> Counts {
    let buckets = std::array::from_fn(|at| {
        now.added_time.buckets[at].wrapping_sub(earlier.added_time.buckets[at])
    });
    let nanoseconds = now.added_time.nanoseconds.wrapping_sub(earlier.added_time.nanoseconds);
    Counts {
        exchanges: now.exchanges.wrapping_sub(earlier.exchanges),
        failures: now.failures.wrapping_sub(earlier.failures),
        local_replies: now.local_replies.wrapping_sub(earlier.local_replies),
        errors: now.errors.wrapping_sub(earlier.errors),
        added_time: Distribution { buckets, nanoseconds },
        memory_bytes: now.memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Ended = Ended {
        failed: false,
        local_reply: false,
        status: Some(200),
        added_time: Duration::from_micros(3),
    };

    #[test]
    fn exchanges_of_all_workers_add_up() {
        let arm = Arm::new(2);
        arm.record(0, &GOOD);
        arm.record(1, &Ended { failed: true, status: Some(500), ..GOOD });
        arm.record(usize::MAX, &Ended { local_reply: true, status: Some(429), ..GOOD });
        arm.record(0, &Ended { status: None, ..GOOD });
        let counts = arm.counts(7);
        assert_eq!((counts.exchanges, counts.failures, counts.local_replies), (4, 1, 1));
        assert_eq!((counts.errors, counts.memory_bytes), (1, 7));
        assert_eq!((counts.added_time.count(), counts.added_time.nanoseconds), (4, 12_000));
    }

    #[test]
    fn errors_are_the_statuses_from_500_to_599() {
        for (status, errors) in [(499, 0), (500, 1), (599, 1), (600, 0)] {
            let arm = Arm::new(1);
            arm.record(0, &Ended { status: Some(status), ..GOOD });
            assert_eq!(arm.counts(0).errors, errors, "{status}");
        }
    }

    #[test]
    fn a_step_sees_what_happened_since_it_began() {
        let arm = Arm::new(1);
        arm.record(0, &Ended { failed: true, ..GOOD });
        let begun = arm.counts(1);
        arm.record(0, &Ended { local_reply: true, ..GOOD });
        let counts = since(&begun, &arm.counts(2));
        assert_eq!((counts.exchanges, counts.failures, counts.local_replies), (1, 0, 1));
        assert_eq!((counts.added_time.count(), counts.memory_bytes), (1, 2));
    }
}
