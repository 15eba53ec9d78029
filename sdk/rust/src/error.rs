//! Why the host refused a call, and the one error type that hooks return.
//!
//! The kinds mirror the error types of the WIT interfaces. Mistakes in the configuration have a type
//! of their own: `config.rs`.

use alloc::{format, string::String};
use core::fmt;

/// What a hook returns.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a hook gave up. The host takes it as a failure of the filter: the request follows the filter's
/// fail policy, and the text stands in the host's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An edit of a message was refused.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A note was refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A write to the key-value map was refused.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A metric was refused.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The filter's own words.
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// An error in the filter's own words: a lower-case fragment such as `` failed to parse `x-id` ``.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }
}

/// An edit of a message that the host refused. The message is unchanged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditError {
    kind: EditErrorKind,
    attempt: String,
}

impl EditError {
    #[cold]
    pub(crate) fn new(kind: EditErrorKind, message: &str, what: &str, name: &str) -> Self {
        let attempt = if name.is_empty() {
            format!("failed to {what} of the {message}")
        } else {
            format!("failed to {what} `{name}` of the {message}")
        };
        Self { kind, attempt }
    }

    /// Why it was refused.
    pub fn kind(&self) -> EditErrorKind {
        self.kind
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attempt, self.kind)
    }
}

impl core::error::Error for EditError {}

/// Why the host refused an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditErrorKind {
    /// The field name is not a token (RFC 9110 section 5.6.2).
    #[error("the name is not a token")]
    InvalidName,
    /// The value holds a control byte, or a method, scheme, authority, path or status is not one.
    #[error("the value is not a valid one")]
    InvalidValue,
    /// The field frames or routes the message on its connection and belongs to the host.
    #[error("the field belongs to the host")]
    HostOwned,
    /// The edit would exceed a limit: 100 fields or 32 KiB a head, 32 fields or 8 KiB a trailer
    /// section, 8 KiB a target, or 256 edits an exchange.
    #[error("a limit would be exceeded")]
    LimitExceeded,
    /// The message is not editable now.
    #[error("the message cannot be edited in this phase")]
    WrongPhase,
}

/// Why a note was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// 64 notes an exchange, or 1 KiB of key and value, would be exceeded.
    #[error("failed to set a note: 64 notes, or 1 KiB of key and value, would be exceeded")]
    LimitExceeded,
    /// There is no exchange: the call came from `new`.
    #[error("failed to set a note: there is no exchange in progress")]
    WrongPhase,
}

/// Why a write to the key-value map was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The namespace is full. Nothing is evicted that has not expired.
    #[error("failed to write to `kv`: the namespace is full")]
    Full,
    /// Key over 256 bytes or empty, or value over the granted size.
    #[error("failed to write to `kv`: the key or the value is too large, or the key is empty")]
    TooLarge,
    /// `increment` of something that `increment` did not make, or beyond 64 bits.
    #[error("failed to increment in `kv`: the value is not a number, or the sum is out of range")]
    NotANumber,
}

/// Why a metric was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Name or label is not `[a-zA-Z_][a-zA-Z0-9_]*`, or longer than 64 bytes.
    #[error("failed to define a metric: the name or a label is not valid")]
    InvalidName,
    /// 32 metrics, 8 labels a metric or 1,000 series a filter would be exceeded.
    #[error("metrics: 32 metrics, 8 labels a metric or 1,000 series would be exceeded")]
    LimitExceeded,
    /// The name was registered with another kind or with other labels.
    #[error("failed to define a metric: the name is in use with another kind or other labels")]
    Conflict,
    /// A wrong number of label values, a value that is not finite, or a counter that would fall.
    #[error("failed to report a metric: wrong number of label values, or not a valid value")]
    InvalidValue,
}
