//! Time in filters: which exchanges are slow, from a histogram whose buckets are powers of two.
//!
//! "The candidate's p99 is more than twice the running version's" becomes a share of exchanges, those
//! that took longer than twice the running version's p99: of the candidate more than 1 % did. So
//! `rate` tests it, and the slack of a factor of two is what the coarse buckets cost.

use crate::telemetry::histogram::{BOUNDS, Distribution, Histogram};
use std::time::Duration;

use super::rate::Trials;

/// Where a part of the running version's exchanges ends, and what is slow beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    /// Index of the first bucket of slow exchanges.
    bucket: usize,
    /// At most this long is that part of the running version's exchanges.
    pub(super) usual: Duration,
    /// Longer than this is slow.
    pub(super) limit: Duration,
}

/// What is slow for a candidate, if `part` of the running version's exchanges are the usual: longer
/// than twice the bound of those, and `slack` longer. None: nothing could be told to be.
pub(super) fn slow(running: &Distribution, part: f64, slack: Duration) -> Option<Slow> {
    let wanted = (running.count() as f64 * part).ceil().max(1.0);
    let mut sum = 0.0;
    let at = running.buckets.iter().position(|bucket| {
        sum += *bucket as f64;
        sum >= wanted
    })?;
    let bounds = Histogram::<0>::bounds_seconds().map(Duration::from_secs_f64);
    let usual = *bounds.get(at)?;
    let least = usual.saturating_mul(2).max(usual.saturating_add(slack));
    let limit = bounds.iter().position(|bound| *bound >= least)?;
    Some(Slow { bucket: limit + 1, usual, limit: bounds[limit] })
}

impl Slow {
    /// The exchanges in `times`, and the slow ones of them.
    pub(super) fn of(&self, times: &Distribution) -> Trials {
        let slow = &times.buckets[self.bucket.min(BOUNDS)..];
        let bad = slow.iter().fold(0u64, |sum, bucket| sum.wrapping_add(*bucket));
        Trials { exchanges: times.count(), bad }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(buckets: &[(usize, u64)]) -> Distribution {
        let mut distribution = Distribution::default();
        buckets.iter().for_each(|(at, count)| distribution.buckets[*at] += count);
        distribution
    }

    #[test]
    fn slow_is_twice_the_usual_and_the_slack_more() {
        let none = Duration::ZERO;
        let slack = Duration::from_micros(100);
        // 990 exchanges up to 8 µs, 10 up to 1,024 µs.
        let running = distribution(&[(3, 990), (10, 10)]);
        let limit = |part, slack| slow(&running, part, slack).map(|slow| slow.limit.as_micros());
        assert_eq!((limit(0.5, none), limit(0.5, slack)), (Some(16), Some(128)));
        assert_eq!((limit(0.99, none), limit(0.991, none)), (Some(16), Some(2_048)));
        assert_eq!(limit(0.991, slack), Some(2_048));
        // One more at 8 + 120 µs would be a bound, too.
        assert_eq!(limit(0.5, Duration::from_micros(120)), Some(128));
        assert_eq!(limit(0.5, Duration::from_micros(121)), Some(256));
    }

    #[test]
    fn nothing_is_slow_beside_nothing_or_beside_the_slowest_bucket() {
        assert_eq!(slow(&Distribution::default(), 0.5, Duration::ZERO), None);
        for (bucket, known) in [(BOUNDS - 2, true), (BOUNDS - 1, false), (BOUNDS, false)] {
            let running = distribution(&[(bucket, 5)]);
            assert_eq!(slow(&running, 0.5, Duration::ZERO).is_some(), known, "{bucket}");
        }
        assert_eq!(slow(&distribution(&[(0, 5)]), 0.5, Duration::MAX), None);
    }

    #[test]
    fn slow_exchanges_are_those_above_the_limit() {
        let running = distribution(&[(3, 100)]);
        let slow = slow(&running, 0.99, Duration::ZERO).unwrap();
        let next = distribution(&[(3, 5), (4, 7), (5, 11), (BOUNDS, 13)]);
        assert_eq!(slow.of(&next), Trials { exchanges: 36, bad: 24 });
    }
}
