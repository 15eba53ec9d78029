//! When a name is looked up again.

use crate::config::DnsLimits;
use std::time::Duration;

/// How long an answer with this TTL is used.
pub(super) fn clamped(ttl: Duration, limits: &DnsLimits) -> Duration {
    ttl.max(limits.ttl_min).min(limits.ttl_max)
}

/// The pause after so many failures in a row: a random time between half of a bound and the bound,
/// which doubles, so that sidecars that lost their name server together do not ask it together.
pub(super) fn pause(failures: u32, limits: &DnsLimits) -> Duration {
    bound(failures, limits).mul_f64(rand::random_range(0.5..=1.0))
}

fn bound(failures: u32, limits: &DnsLimits) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    limits.retry_min.saturating_mul(doubled).min(limits.retry_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_used_for_its_ttl_within_bounds() {
        let limits = DnsLimits::default();
        for (ttl, used) in
            [(0, 1_000), (999, 1_000), (1_000, 1_000), (1_001, 1_001), (299_999, 299_999)]
                .into_iter()
                .chain([(300_000, 300_000), (300_001, 300_000), (u64::MAX, 300_000)])
        {
            let used = Duration::from_millis(used);
            assert_eq!(clamped(Duration::from_millis(ttl), &limits), used, "{ttl}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let limits = DnsLimits::default();
        for (failures, seconds) in
            [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (7, 30), (u32::MAX, 30)]
        {
            let whole = Duration::from_secs(seconds);
            assert_eq!(bound(failures, &limits), whole, "{failures}");
            for _ in 0..100 {
                assert!((whole / 2..=whole).contains(&pause(failures, &limits)), "{failures}");
            }
        }
    }
}
