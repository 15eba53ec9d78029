//! A map kept by the host: shared by the workers, kept over a swap, gone with the process. Grant:
//! `kv`, with `entries` (10,000) and `value` (64 KiB). One namespace a filter name and
//! [state version](crate::Filter::STATE_VERSION).

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::{KvError, host};

/// The value of a key; `None` where there is none or it has expired.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::kv::get(key)
}

/// Writes a value. `ttl`: its time to live, in whole milliseconds; `None`: no end.
///
/// # Errors
/// [`KvError::Full`] or [`KvError::TooLarge`].
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
    host::kv::set(key, value, ttl.map(milliseconds))
}

/// Removes a key. `true`: there was one.
pub fn delete(key: &str) -> bool {
    host::kv::delete(key)
}

/// Adds to a number and returns the sum; absent counts as 0. `ttl` applies when it is created.
///
/// # Errors
/// See [`KvError`].
pub fn increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
    host::kv::increment(key, by, ttl.map(milliseconds))
}

/// Writes only if the present value is `expected` (`None`: absent). `false`: it was not.
///
/// # Errors
/// [`KvError::Full`] or [`KvError::TooLarge`].
pub fn compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<bool, KvError> {
    host::kv::compare_and_set(key, expected, value, ttl.map(milliseconds))
}

/// Keys in the order of their bytes: the first 1,000, or the first 1,000 beyond `after`. None at all:
/// there are no more. Only in [`migrate`](crate::Filter::migrate); anywhere else the call traps.
pub fn keys(after: Option<&str>) -> Vec<String> {
    host::kv::keys(after)
}

/// Whole milliseconds, rounded up so that a short time to live is not zero.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
