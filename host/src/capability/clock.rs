//! The `clock` capability: wall time of the exchange and a monotonic clock.
//!
//! Which wall time an exchange has is the exchange's business (`Exchange::now`); this file only
//! puts times into the shape of the contract.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: u64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl From<SystemTime> for Timestamp {
    /// A system clock set before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
    }
}

/// Nanoseconds from `start`, the filter's own arbitrary one, to `now`; never goes back.
pub fn monotonic(start: Instant, now: Instant) -> u64 {
    super::nanoseconds_since(start, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_seconds_and_nanoseconds_since_1970() {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let expected = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
        assert_eq!(Timestamp::from(time), expected);
    }

    #[test]
    fn a_clock_before_1970_counts_as_1970() {
        let time = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(time), Timestamp { seconds: 0, nanoseconds: 0 });
    }

    #[test]
    fn monotonic_time_does_not_go_below_its_start() {
        let start = Instant::now() + Duration::from_secs(1);
        assert_eq!(monotonic(start, start - Duration::from_nanos(1)), 0);
        assert_eq!(monotonic(start, start + Duration::from_nanos(7)), 7);
    }
}
