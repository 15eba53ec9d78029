//! How large a head and a trailer section may be. The defaults are those of the documentation; the
//! values in force come from the configuration.

use crate::http::edit;

/// Limits of one message. A message at a limit is accepted, one above it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a head, from its first line to the empty line. Default 32 KiB.
    pub bytes: usize,
    /// Field lines of a head; options of `connection` count against the same number. Default 100.
    pub fields: usize,
    /// Bytes of a request target, in whichever form. Default 8 KiB.
    pub target: usize,
    /// Bytes of a trailer section with its empty line. Default 8 KiB.
    pub trailer_bytes: usize,
    /// Field lines of a trailer section. Default 32.
    pub trailer_fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits {
            bytes: edit::HEAD_BYTES_MAX,
            fields: edit::HEAD_FIELDS_MAX,
            target: edit::TARGET_BYTES_MAX,
            trailer_bytes: edit::TRAILER_BYTES_MAX,
            trailer_fields: edit::TRAILER_FIELDS_MAX,
        }
    }
}
