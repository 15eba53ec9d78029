//! Bodies in motion: what a reader yields and why it may stop.

use super::fields::Fields;
use bytes::Bytes;

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Bytes, never empty.
    Data(Bytes),
    /// The trailer section; the body is complete.
    Trailers(Fields),
    /// The body is complete and has no trailers. Asked again, a reader answers the same.
    End,
}

/// Why a body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer closed or reset the connection or the stream.
    #[error("the peer stopped before the end of the body")]
    Truncated,
    /// The connection failed.
    #[error("failed to read the body")]
    Io(#[from] std::io::Error),
    /// The chunked coding or a trailer is malformed (RFC 9112 section 7.1), or an HTTP/2 stream
    /// broke the protocol.
    #[error("the body is malformed: {0}")]
    Malformed(&'static str),
    /// The trailer section exceeds its limit.
    #[error("the trailer section exceeds `{0}`")]
    TrailersTooLarge(&'static str),
}
