//! Cryptographically secure random bytes. Grant: `random`.

use alloc::vec::Vec;

use crate::host;

/// This many random bytes, at most 4 KiB; more is a failure of the filter.
pub fn bytes(length: u32) -> Vec<u8> {
    host::random::bytes(length)
}

/// A random number: eight random bytes.
pub fn number() -> u64 {
    host::random::number()
}
