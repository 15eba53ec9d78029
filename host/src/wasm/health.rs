//! Quarantine: a filter that fails most of what it sees is kept from running for a while.
//!
//! One judgement per filter version, shared by the workers, over a sliding window of hook calls.
//! Calls are counted on each worker's own cache line; the lock is taken on failures, once a second
//! and worker, and while the filter is in quarantine. What a refused call does to its exchange is the fail
//! policy's matter, not this file's.

use super::engine::lock;
use super::prepared::Shared;
use crate::telemetry::Sharded;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Calls older than this do not count.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Fewer calls than this within the window are no ground for quarantine, whatever came of them.
pub const CALLS_MIN: u64 = 50;
/// Length of the first quarantine. Each failed probe doubles it.
pub const QUARANTINE_FIRST: Duration = Duration::from_secs(1);
/// Length of the longest.
pub const QUARANTINE_MAX: Duration = Duration::from_secs(60);
/// How exactly the window slides.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// May a call run?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Run,
    /// Yes, and what comes of it decides on the quarantine. Must be reported.
    Probe,
    /// No.
    Refused,
}

/// The judgement over one filter version.
pub(super) struct Health {
    shared: Arc<Shared>,
    counts: Sharded<Counts>,
    quarantined: AtomicBool,
    judge: Mutex<Judge>,
}

#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Health {
    pub(super) fn new(shared: Arc<Shared>, workers: usize) -> Self {
        // The numbers may be those of another generation of this version, which is judged anew.
        shared.stats.set_quarantined(false);
        Health {
            shared,
            counts: Sharded::new(workers),
            quarantined: AtomicBool::new(false),
            judge: Mutex::default(),
        }
    }

    /// Asked before every call.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        if !self.quarantined.load(Ordering::Relaxed) {
            return Admission::Run;
        }
        lock(&self.judge).admit(self.since_start(now))
    }

    /// Told after a call that was admitted and succeeded, and is no probe.
    pub(super) fn count(&self, worker: usize) {
        add_own(&self.counts.of(worker).calls);
    }

    /// Told in place of `count` after a call that was admitted: where it failed or was a probe, and
    /// by each worker's first call of every [`SAMPLE_EVERY`].
    pub(super) fn report(&self, worker: usize, now: Instant, admission: Admission, failed: bool) {
        let counts = self.counts.of(worker);
        add_own(&counts.calls);
        let now = self.since_start(now);
        if admission == Admission::Probe {
            return self.probed(now, failed);
        }
        if failed {
            add_own(&counts.failures);
            let judged = lock(&self.judge).failed(now, self.totals());
            if let Some(length) = judged {
                self.quarantine(length, "most of its calls fail");
            }
        } else {
            lock(&self.judge).sample(now, self.totals());
        }
    }

    fn probed(&self, now: Duration, failed: bool) {
        let renewed = lock(&self.judge).probed(now, failed, self.totals());
        match renewed {
            Some(length) => self.quarantine(length, "its probe failed"),
            None => {
                self.quarantined.store(false, Ordering::Relaxed);
                self.shared.stats.set_quarantined(false);
                tracing::info!(
                    filter = %self.shared.name, version = %self.shared.version,
                    shadow = self.shared.shadow.then_some(true),
                    "the filter's probe succeeded; it is out of quarantine"
                );
            }
        }
    }

    fn quarantine(&self, length: Duration, why: &'static str) {
        self.quarantined.store(true, Ordering::Relaxed);
        self.shared.stats.set_quarantined(true);
        tracing::warn!(
            filter = %self.shared.name, version = %self.shared.version, why,
            shadow = self.shared.shadow.then_some(true),
            seconds = length.as_secs(),
            "the filter is in quarantine; its fail policy applies to every exchange"
        );
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.shared.start)
    }

    fn totals(&self) -> Totals {
        Totals {
            calls: self.counts.sum(|counts| counts.calls.load(Ordering::Relaxed)),
            failures: self.counts.sum(|counts| counts.failures.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if self.quarantined.load(Ordering::Relaxed) {
            self.shared.stats.set_quarantined(false);
        }
    }
}

/// Adds one to a counter that no other thread writes.
fn add_own(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    calls: u64,
    failures: u64,
}

/// The rule, over times and totals that are given.
#[derive(Debug)]
struct Judge {
    /// Totals at points in time, the oldest first: at most one a second, and one before the window.
    /// Never empty.
    samples: VecDeque<(Duration, Totals)>,
    quarantine: Option<Quarantine>,
}

#[derive(Clone, Copy, Debug)]
struct Quarantine {
    length: Duration,
    until: Duration,
    probing: bool,
}

impl Default for Judge {
    fn default() -> Self {
        let beginning = (Duration::ZERO, Totals::default());
        Judge { samples: VecDeque::from([beginning]), quarantine: None }
    }
}

impl Judge {
    fn sample(&mut self, now: Duration, totals: Totals) {
        let recent =
            self.samples.back().is_some_and(|(at, _)| now < at.saturating_add(SAMPLE_EVERY));
        if !recent {
            self.samples.push_back((now, totals));
        }
        // The first sample is the last one before the window.
        while self.samples.get(1).is_some_and(|(at, _)| at.saturating_add(WINDOW) <= now) {
            self.samples.pop_front();
        }
    }

    /// After a failure, which `totals` hold: the length of the quarantine, if it begins.
    fn failed(&mut self, now: Duration, totals: Totals) -> Option<Duration> {
        self.sample(now, totals);
        let before = self.samples.front().map_or(Totals::default(), |(_, totals)| *totals);
        let calls = totals.calls.saturating_sub(before.calls);
        let failures = totals.failures.saturating_sub(before.failures);
        if self.quarantine.is_some() || calls < CALLS_MIN || failures.saturating_mul(2) <= calls {
            return None;
        }
        Some(self.begin(now, QUARANTINE_FIRST))
    }

    fn admit(&mut self, now: Duration) -> Admission {
        match &mut self.quarantine {
            None => Admission::Run,
            Some(quarantine) if quarantine.probing || now < quarantine.until => Admission::Refused,
            Some(quarantine) => {
                quarantine.probing = true;
                Admission::Probe
            }
        }
    }

    /// After a probe: the length of the renewed quarantine, if it failed.
    fn probed(&mut self, now: Duration, failed: bool, totals: Totals) -> Option<Duration> {
        let length = self.quarantine.map_or(QUARANTINE_FIRST, |quarantine| quarantine.length);
        if failed {
            return Some(self.begin(now, length.saturating_mul(2).min(QUARANTINE_MAX)));
        }
        self.quarantine = None;
        // A fresh start: what led to the quarantine is no longer held against it.
        self.samples.clear();
        self.samples.push_back((now, totals));
        None
    }

    fn begin(&mut self, now: Duration, length: Duration) -> Duration {
        let until = now.saturating_add(length);
        self.quarantine = Some(Quarantine { length, until, probing: false });
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge and the totals it is told, in milliseconds.
    #[derive(Default)]
    struct Court {
        judge: Judge,
        totals: Totals,
    }

    impl Court {
        fn call(&mut self, at: u64, failed: bool) -> Option<Duration> {
            self.totals.calls += 1;
            if failed {
                self.totals.failures += 1;
                return self.judge.failed(ms(at), self.totals);
            }
            self.judge.sample(ms(at), self.totals);
            None
        }

        fn calls(&mut self, at: u64, count: u64, failed: bool) -> Option<Duration> {
            (0..count).fold(None, |judged, _| judged.or(self.call(at, failed)))
        }
    }

    fn ms(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    #[test]
    fn too_few_calls_are_no_ground() {
        let mut court = Court::default();
        assert_eq!(court.calls(0, CALLS_MIN - 1, true), None);
        assert_eq!(court.call(0, true), Some(QUARANTINE_FIRST));
    }

    #[test]
    fn half_is_not_most() {
        let mut court = Court::default();
        court.calls(0, 50, false);
        assert_eq!(court.calls(0, 50, true), None);
        assert_eq!(court.call(0, true), Some(QUARANTINE_FIRST));
    }

    #[test]
    fn sixteen_poisoned_requests_among_many_are_no_ground() {
        let mut court = Court::default();
        court.calls(0, 60, false);
        assert_eq!(court.calls(100, 16, true), None);
    }

    #[test]
    fn old_calls_slide_out_of_the_window() {
        let mut court = Court::default();
        for second in 0..30 {
            court.calls(second * 1000, 100, false);
        }
        // 900 good calls are in the window of these.
        assert_eq!(court.calls(29_500, 900, true), None);
        let mut late = Court::default();
        late.calls(0, 10_000, false);
        assert_eq!(late.calls(1_000, 1, false), None);
        assert_eq!(late.calls(20_000, 1, false), None);
        assert_eq!(late.calls(20_500, CALLS_MIN, true), Some(QUARANTINE_FIRST));
    }

    #[test]
    fn the_samples_are_bounded() {
        let mut court = Court::default();
        for at in 0..1_000 {
            court.call(at * 100, at % 7 == 0);
        }
        assert!(court.judge.samples.len() <= 12, "{}", court.judge.samples.len());
    }

    #[test]
    fn one_probe_at_a_time_brings_it_back_or_doubles_the_wait() {
        let mut court = Court::default();
        court.calls(0, CALLS_MIN, true);
        let judge = &mut court.judge;
        assert_eq!(judge.admit(ms(999)), Admission::Refused);
        assert_eq!(judge.admit(ms(1000)), Admission::Probe);
        assert_eq!(judge.admit(ms(1000)), Admission::Refused);
        assert_eq!(judge.probed(ms(1001), true, court.totals), Some(ms(2000)));
        assert_eq!(judge.admit(ms(3000)), Admission::Refused);
        assert_eq!(judge.admit(ms(3001)), Admission::Probe);
        assert_eq!(judge.probed(ms(3001), false, court.totals), None);
        assert_eq!(judge.admit(ms(3001)), Admission::Run);
        assert_eq!(court.calls(3002, CALLS_MIN - 1, true), None);
    }

    #[test]
    fn the_wait_is_bounded() {
        let mut court = Court::default();
        court.calls(0, CALLS_MIN, true);
        let mut now = ms(0);
        let mut last = ms(0);
        for _ in 0..10 {
            now += QUARANTINE_MAX;
            assert_eq!(court.judge.admit(now), Admission::Probe);
            last = court.judge.probed(now, true, court.totals).unwrap();
        }
        assert_eq!(last, QUARANTINE_MAX);
    }
}
