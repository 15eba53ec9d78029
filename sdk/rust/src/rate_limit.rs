//! Token buckets kept by the host: exact across workers and kept over a swap. Grant: `rate-limit`,
//! with `requests`, `per` and `burst`, which size every bucket of this filter.

use core::time::Duration;

use crate::host;

/// Size of the buckets, as granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Tokens added in each window.
    pub requests: u64,
    /// Length of the window.
    pub per: Duration,
    /// Tokens a full bucket holds.
    pub burst: u64,
}

/// State of a bucket after [`take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The tokens were there and are taken. `false`: none was taken.
    pub allowed: bool,
    /// Whole tokens left.
    pub remaining: u64,
    /// Time until the tokens asked for will be there; zero when allowed. Tokens over `burst` never
    /// will be: `u64::MAX` milliseconds.
    pub retry_after: Duration,
    /// Time until the bucket is full.
    pub full_after: Duration,
}

/// Size of the buckets.
pub fn policy() -> Policy {
    host::rate_limit::policy()
}

/// Takes `tokens` from the bucket named `key`; a new key has a full bucket.
pub fn take(key: &str, tokens: u32) -> Taken {
    host::rate_limit::take(key, tokens)
}
