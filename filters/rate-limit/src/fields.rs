//! The `RateLimit` and `RateLimit-Policy` fields of draft-ietf-httpapi-ratelimit-headers-11, and
//! `Retry-After` (RFC 9110 section 10.2.3).
//!
//! Turns the host's numbers into field values. Both fields are lists of structured fields (RFC
//! 9651) with one item each: the policy's name with parameters.

use alloc::format;
use alloc::string::String;

use pillion_sdk::rate_limit::{Policy, Taken};

/// Integers of structured fields have at most 15 digits.
const INTEGER_MAX: u128 = 999_999_999_999_999;

/// The value of `RateLimit-Policy`: `"default";q=100;w=1`. Where a bucket holds another number of
/// tokens than a window adds, `pillion-burst` tells it.
///
/// The field has no fractions of a second: a window is rounded up to whole seconds, and the quota
/// is what that many seconds add.
pub(crate) fn policy(name: &str, policy: &Policy) -> String {
    let per_ms = policy.per.as_millis().max(1);
    let window = per_ms.div_ceil(1_000);
    let quota = u128::from(policy.requests).saturating_mul(window * 1_000) / per_ms;
    let mut value = format!("\"{name}\";q={};w={}", integer(quota), integer(window));
    if policy.burst != policy.requests {
        value.push_str(&format!(";pillion-burst={}", integer(policy.burst.into())));
    }
    value
}

/// The value of `RateLimit`: `"default";r=12;t=1`.
pub(crate) fn limit(name: &str, remaining: u64, window_seconds: u64) -> String {
    format!("\"{name}\";r={};t={window_seconds}", integer(remaining.into()))
}

/// Seconds for which the client can use no more than what remains, at least 1: until the next token
/// is added.
pub(crate) fn window_seconds(policy: &Policy, taken: &Taken) -> u64 {
    // Of the time to a full bucket the last tokens take all but that of the next one.
    let later_tokens = policy.burst.saturating_sub(taken.remaining).saturating_sub(1);
    let per_ms = policy.per.as_millis().max(1);
    let requests = u128::from(policy.requests.max(1));
    let next = taken
        .full_after
        .as_millis()
        .saturating_sub(u128::from(later_tokens).saturating_mul(per_ms) / requests);
    // The host rounds up to milliseconds; the next token is never further away than a whole one.
    seconds(next.min(per_ms.div_ceil(requests)))
}

/// Seconds after which a refused client may try again, at least 1.
pub(crate) fn retry_after_seconds(taken: &Taken) -> u64 {
    seconds(taken.retry_after.as_millis())
}

fn seconds(milliseconds: u128) -> u64 {
    integer(milliseconds.div_ceil(1_000).max(1))
}

fn integer(number: u128) -> u64 {
    u64::try_from(number.min(INTEGER_MAX)).expect("fifteen digits fit into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn sized(requests: u64, per_ms: u64, burst: u64) -> Policy {
        Policy { requests, per: Duration::from_millis(per_ms), burst }
    }

    fn taken(remaining: u64, retry_after_ms: u64, full_after_ms: u64) -> Taken {
        Taken {
            allowed: retry_after_ms == 0,
            remaining,
            retry_after: Duration::from_millis(retry_after_ms),
            full_after: Duration::from_millis(full_after_ms),
        }
    }

    #[test]
    fn a_policy_tells_quota_window_and_burst() {
        for (size, expected) in [
            (sized(100, 1_000, 100), "\"default\";q=100;w=1"),
            (sized(100, 1_000, 20), "\"default\";q=100;w=1;pillion-burst=20"),
            (sized(5, 60_000, 5), "\"default\";q=5;w=60"),
            (sized(10, 100, 10), "\"default\";q=100;w=1"),
            (sized(3, 1_500, 3), "\"default\";q=4;w=2"),
            (sized(1, 1_001, 1), "\"default\";q=1;w=2"),
        ] {
            assert_eq!(policy("default", &size), expected, "{size:?}");
        }
    }

    #[test]
    fn integers_have_at_most_15_digits() {
        let below = limit("p", 999_999_999_999_998, 1);
        assert_eq!(below, "\"p\";r=999999999999998;t=1");
        assert_eq!(limit("p", 999_999_999_999_999, 1), "\"p\";r=999999999999999;t=1");
        assert_eq!(limit("p", 1_000_000_000_000_000, 1), "\"p\";r=999999999999999;t=1");
        let huge = policy("p", &sized(u64::MAX, u64::MAX, 1));
        assert_eq!(huge, "\"p\";q=999999999999999;w=999999999999999;pillion-burst=1");
    }

    #[test]
    fn retry_after_is_rounded_up_to_seconds() {
        for (ms, seconds) in [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
            assert_eq!(retry_after_seconds(&taken(0, ms, ms)), seconds, "{ms}");
        }
        assert_eq!(retry_after_seconds(&taken(0, 0, 0)), 1);
        assert_eq!(retry_after_seconds(&taken(0, u64::MAX, 0)), 999_999_999_999_999);
    }

    #[test]
    fn the_window_ends_with_the_next_token() {
        // One token a minute, ten in the bucket.
        let slow = sized(1, 60_000, 10);
        for (remaining, full_after_ms, seconds) in [
            (9, 60_000, 60),
            (9, 59_000, 59),
            (9, 1, 1),
            (5, 300_000, 60),
            (5, 240_001, 1),
            (0, 541_500, 2),
            // Rounded up by the host.
            (9, 60_001, 60),
        ] {
            let taken = taken(remaining, 0, full_after_ms);
            assert_eq!(window_seconds(&slow, &taken), seconds, "{remaining} {full_after_ms}");
        }
        // A hundred a second: always within the next second.
        assert_eq!(window_seconds(&sized(100, 1_000, 20), &taken(19, 0, 10)), 1);
    }

    #[test]
    fn odd_numbers_of_the_host_do_no_harm() {
        let zero = sized(0, 0, 0);
        assert_eq!(window_seconds(&zero, &taken(7, 0, 0)), 1);
        assert_eq!(policy("p", &zero), "\"p\";q=0;w=1");
        let huge = sized(u64::MAX, u64::MAX, u64::MAX);
        assert!(window_seconds(&huge, &taken(0, 0, u64::MAX)) >= 1);
    }
}
