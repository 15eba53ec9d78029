//! What one worker knows of an endpoint's load: requests under way, and how long answers take.
//!
//! The expected time is the peak EWMA of Finagle
//! (<https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded>):
//! it follows a slower answer at once and a faster one with a decay time of ten seconds, and decays
//! towards nothing while nothing is heard, so that an endpoint that was slow is tried again.

use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// In which the weight of what was observed falls to 1/e.
pub(super) const DECAY: Duration = Duration::from_secs(10);

/// More than any time that is expected: an endpoint that has not answered yet and is busy.
const UNKNOWN_AND_BUSY: f64 = (u64::MAX >> 16) as f64;

/// The load that one worker puts on an endpoint.
pub(super) struct Load {
    outstanding: Cell<usize>,
    /// Nanoseconds, at `observed`.
    expected: Cell<f64>,
    observed: Cell<Instant>,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            outstanding: Cell::new(0),
            expected: Cell::new(0.0),
            observed: Cell::new(Instant::now()),
        }
    }
}

impl Load {
    /// A request is under way; `end` follows in every case.
    pub(super) fn begin(&self) {
        self.outstanding.set(self.outstanding.get() + 1);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.outstanding.set(self.outstanding.get().saturating_sub(1));
    }

    /// Requests under way.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.get()
    }

    /// An answer took so long.
    pub(super) fn observe(&self, time: Duration, now: Instant) {
        let time = time.as_nanos() as f64;
        let kept = self.expected_at(now);
        let since = now.saturating_duration_since(self.observed.get());
        let weight = (-since.as_secs_f64() / DECAY.as_secs_f64()).exp();
        // `kept` holds the old value's share already; a peak replaces it all.
        let expected = if time > self.expected.get() { time } else { kept + time * (1.0 - weight) };
        self.expected.set(expected);
        self.observed.set(now);
    }

    /// An answer takes so long at least.
    pub(super) fn observe_at_least(&self, time: Duration, now: Instant) {
        if time.as_nanos() as f64 > self.expected_at(now) {
            self.observe(time, now);
        }
    }

    /// What one more request is expected to cost.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let expected = self.expected_at(now);
        let outstanding = self.outstanding.get() as f64;
        if expected < 1.0 && outstanding > 0.0 {
            UNKNOWN_AND_BUSY + outstanding
        } else {
            expected * (outstanding + 1.0)
        }
    }

    fn expected_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.observed.get());
        self.expected.get() * (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_not_waited_for_counts_only_where_it_is_slower_than_expected() {
        let (load, start) = (Load::default(), Instant::now());
        load.observe(Duration::from_millis(10), start);
        load.observe_at_least(Duration::from_millis(9), start);
        assert_eq!(load.cost(start), 1e7);
        load.observe_at_least(Duration::from_millis(10), start);
        assert_eq!(load.cost(start), 1e7);
        load.observe_at_least(Duration::from_millis(11), start);
        assert_eq!(load.cost(start), 1.1e7);
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_by_and_by() {
        let (load, start) = (Load::default(), Instant::now());
        load.observe(Duration::from_millis(1), start);
        load.observe(Duration::from_millis(100), start);
        assert_eq!(load.cost(start), 1e8);
        load.observe(Duration::from_millis(1), start);
        assert_eq!(load.cost(start), 1e8, "no time has passed");
        let later = start + DECAY;
        load.observe(Duration::from_millis(1), later);
        let expected = 1e8 / std::f64::consts::E + 1e6 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((load.cost(later) - expected).abs() < 1.0);
    }

    #[test]
    fn cost_grows_with_requests_and_fades_with_time() {
        let (load, start) = (Load::default(), Instant::now());
        load.observe(Duration::from_millis(10), start);
        load.begin();
        load.begin();
        assert_eq!((load.cost(start), load.outstanding()), (3e7, 2));
        load.end();
        assert_eq!(load.cost(start), 2e7);
        assert!((load.cost(start + DECAY) - 2e7 / std::f64::consts::E).abs() < 1.0);
    }

    #[test]
    fn an_endpoint_nothing_is_known_of_is_tried_first_and_not_flooded() {
        let (fresh, known, now) = (Load::default(), Load::default(), Instant::now());
        known.observe(Duration::from_secs(60), now);
        assert!(fresh.cost(now) < known.cost(now));
        fresh.begin();
        assert!(fresh.cost(now) > known.cost(now));
    }
}
