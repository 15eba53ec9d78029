//! A histogram of durations with buckets that are powers of two, so that observing one is two
//! additions.

use super::sharded::add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets with an upper bound; one more takes the rest.
pub const BOUNDS: usize = 21;

/// Durations up to `2^FIRST` µs, up to `2^(FIRST + 1)` µs, and so on for [`BOUNDS`] buckets, and
/// longer ones. With `FIRST` 0 that is 1 µs to 1.05 s, with 6 it is 64 µs to 67 s.
///
/// The sum stands beside the buckets of short durations: mostly one line of the cache is written.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram<const FIRST: u32> {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BOUNDS + 1],
}

/// The sum of some histograms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Observations a bucket, not cumulated; the last is the one without an upper bound.
    pub buckets: [u64; BOUNDS + 1],
    /// Sum of all durations, in nanoseconds; wraps after 584 years.
    pub nanoseconds: u64,
}

impl<const FIRST: u32> Histogram<FIRST> {
    /// Counts one duration. `is_own`: no other thread writes this histogram.
    pub fn observe(&self, duration: Duration, is_own: bool) {
        // In 64 bits: enough for 584 years, and a few instructions with every hook.
        let whole = duration.as_secs().saturating_mul(1_000_000_000);
        let nanoseconds = whole.saturating_add(duration.subsec_nanos().into());
        add(&self.buckets[Self::bucket(nanoseconds)], 1, is_own);
        add(&self.nanoseconds, nanoseconds, is_own);
    }

    /// Adds what was counted to `sum`.
    pub fn add_to(&self, sum: &mut Distribution) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total = total.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        sum.nanoseconds = sum.nanoseconds.wrapping_add(nanoseconds);
    }

    /// The upper bounds in seconds; each is exact.
    pub fn bounds_seconds() -> [f64; BOUNDS] {
        std::array::from_fn(|at| (1u64 << (FIRST as usize + at)) as f64 / 1e6)
    }

    fn bucket(nanoseconds: u64) -> usize {
        let microseconds = nanoseconds.div_ceil(1_000).max(1);
        // The least n with microseconds <= 2^n.
        let exponent = u64::BITS - (microseconds - 1).leading_zeros();
        (exponent.saturating_sub(FIRST) as usize).min(BOUNDS)
    }
}

impl Distribution {
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let cases = [
            (0, 0),
            (1, 0),
            (1_000, 0),
            (1_001, 1),
            (2_000, 1),
            (2_001, 2),
            (4_000, 2),
            (1_048_576_000, 20),
            (1_048_576_001, 21),
            (u64::MAX, 21),
        ];
        for (nanoseconds, bucket) in cases {
            assert_eq!(Histogram::<0>::bucket(nanoseconds), bucket, "{nanoseconds} ns");
        }
        for (nanoseconds, bucket) in [(64_000, 0), (64_001, 1), (67_108_864_001, 21)] {
            assert_eq!(Histogram::<6>::bucket(nanoseconds), bucket, "{nanoseconds} ns");
        }
    }

    #[test]
    fn bounds_are_the_documented_ones() {
        let bounds = Histogram::<0>::bounds_seconds();
        assert_eq!((bounds[0], bounds[10], bounds[20]), (0.000_001, 0.001_024, 1.048_576));
        let bounds = Histogram::<6>::bounds_seconds();
        assert_eq!((bounds[0], bounds[20]), (0.000_064, 67.108_864));
    }

    #[test]
    fn histograms_add_up() {
        let (one, other) = (Histogram::<0>::default(), Histogram::<0>::default());
        one.observe(Duration::from_nanos(500), true);
        other.observe(Duration::from_nanos(700), false);
        other.observe(Duration::from_secs(2), true);
        let mut sum = Distribution::default();
        one.add_to(&mut sum);
        other.add_to(&mut sum);
        assert_eq!(sum.count(), 3);
        assert_eq!((sum.buckets[0], sum.buckets[BOUNDS]), (2, 1));
        assert_eq!(sum.nanoseconds, 2_000_001_200);
    }
}
