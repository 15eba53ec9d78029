//! Token buckets with exact arithmetic, driven by the fake clock.

use std::{collections::BTreeMap, time::Duration};

use crate::rate_limit::{Policy, Taken};

/// All buckets of a filter; each is `policy.burst` tokens large.
#[derive(Debug)]
pub(super) struct Buckets {
    policy: Policy,
    /// For each key: its level at a point in time, in tokens times nanoseconds of the window, the
    /// unit in which refilling is a multiplication.
    levels: BTreeMap<String, (u128, Duration)>,
}

impl Buckets {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, levels: BTreeMap::new() }
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn take(&mut self, key: &str, tokens: u32, now: Duration) -> Taken {
        let token = self.policy.per.as_nanos();
        let rate = u128::from(self.policy.requests);
        let full = u128::from(self.policy.burst) * token;
        let (level, since) = self.levels.entry(key.to_owned()).or_insert((full, now));
        *level = full.min(*level + now.saturating_sub(*since).as_nanos() * rate);
        *since = now;
        let wanted = u128::from(tokens) * token;
        let allowed = *level >= wanted;
        if allowed {
            *level -= wanted;
        }
        let retry_after = if allowed {
            Duration::ZERO
        } else if wanted > full {
            Duration::from_millis(u64::MAX)
        } else {
            wait(wanted - *level, rate)
        };
        let remaining = u64::try_from(*level / token).expect("at most `burst`, which is 64 bits");
        Taken { allowed, remaining, retry_after, full_after: wait(full - *level, rate) }
    }
}

/// Whole milliseconds until `missing` has flown in.
fn wait(missing: u128, rate: u128) -> Duration {
    let milliseconds = missing.div_ceil(rate).div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets() -> Buckets {
        Buckets::new(Policy { requests: 3, per: Duration::from_secs(1), burst: 2 })
    }

    #[test]
    fn a_bucket_gives_its_burst_and_refills_evenly() {
        let mut buckets = buckets();
        let at = Duration::from_millis;
        assert_eq!(buckets.take("a", 1, at(0)).remaining, 1);
        assert!(buckets.take("a", 1, at(0)).allowed);
        let refused = buckets.take("a", 1, at(0));
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after, at(334));
        assert_eq!(refused.full_after, at(667));
        assert!(!buckets.take("a", 1, at(333)).allowed);
        assert!(buckets.take("a", 1, at(334)).allowed);
        assert!(buckets.take("b", 2, at(334)).allowed);
    }

    #[test]
    fn more_than_the_burst_never_comes() {
        let taken = buckets().take("a", 3, Duration::ZERO);
        assert_eq!((taken.allowed, taken.remaining), (false, 2));
        assert_eq!(taken.retry_after, Duration::from_millis(u64::MAX));
    }
}
