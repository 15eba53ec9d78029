//! Why HTTP/2 connections and exchanges fail: what the peer did, told apart far enough to choose
//! the words of RFC 9209 and to know what may be sent again.

use super::head::HeadError;
use crate::http::BodyError;
use h2::Reason;
use std::io;

/// What `guard` ends a connection for: a peer that costs more than it should, or one that does not
/// begin as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More than `resets` streams reset within `reset_window`.
    #[error("too many streams were reset")]
    Resets,
    /// More than half of over `reset_ratio_streams` streams reset within `reset_window`.
    #[error("too large a part of the streams was reset")]
    ResetRatio,
    /// More than `control_frames` beyond what the messages account for.
    #[error("too many control frames")]
    ControlFrames,
    /// A header block was not complete within `header_block_timeout`.
    #[error("a header block was not completed in time")]
    HeaderBlock,
    /// The first frame was not the settings (RFC 9113 section 3.4).
    #[error("the peer did not begin with its settings")]
    Preface,
}

impl Violation {
    /// What the peer is told.
    pub(super) fn reason(self) -> Reason {
        match self {
            Violation::Resets
            | Violation::ResetRatio
            | Violation::ControlFrames
            | Violation::HeaderBlock => Reason::ENHANCE_YOUR_CALM,
            Violation::Preface => Reason::PROTOCOL_ERROR,
        }
    }
}

/// Why a connection ended other than cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The transport failed or closed within a frame (`connection_terminated`).
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer broke the protocol, and was told so (`http_protocol_error`).
    #[error("the peer broke the HTTP/2 protocol: {0}")]
    Protocol(Reason),
    /// The peer ended the connection with this error (`connection_terminated`).
    #[error("the peer ended the connection: {0}")]
    Ended(Reason),
    /// The peer passed a limit on its behaviour (`http_protocol_error`).
    #[error("the peer passed a limit")]
    Violation(#[source] Violation),
    /// The connection preface, the client's settings included, was not complete within
    /// `preface_timeout`.
    #[error("the connection preface was not completed in time")]
    PrefaceTimeout,
    /// Nothing came for `ping_timeout` after a PING (`connection_timeout`).
    #[error("the peer did not answer a ping")]
    PingTimeout,
}

impl From<h2::Error> for ConnectionError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_remote() => ConnectionError::Ended(reason),
            Some(reason) => ConnectionError::Protocol(reason),
            None => ConnectionError::Io(into_io(error)),
        }
    }
}

/// What went wrong in `accept`.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// A request was refused and answered; the connection goes on.
    #[error("a request was refused")]
    Request(#[from] HeadError),
    /// The connection is over.
    #[error("the connection is over")]
    Connection(#[from] ConnectionError),
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The peer did not process the request (`REFUSED_STREAM`, or a GOAWAY that leaves it out), or
    /// it was never sent. It may be sent again on another connection (RFC 9113 section 8.7).
    #[error("the request was not processed")]
    Unprocessed,
    /// The peer reset the stream (`connection_terminated`).
    #[error("the peer reset the stream: {0}")]
    Reset(Reason),
    /// The peer broke the protocol or a limit of header lists (`http_protocol_error`).
    #[error("the peer broke the HTTP/2 protocol: {0}")]
    Protocol(Reason),
    /// The response head breaks a rule (`http_protocol_error`) or a limit
    /// (`http_response_header_section_size`).
    #[error("the response head was refused")]
    Head(#[from] HeadError),
    /// The connection failed (`connection_terminated`).
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

impl From<h2::Error> for RequestError {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(Reason::REFUSED_STREAM) if error.is_remote() => RequestError::Unprocessed,
            // Below, a stream gets a GOAWAY of the peer as its error only when it is beyond the
            // last one that the peer takes.
            Some(_) if error.is_remote() && error.is_go_away() => RequestError::Unprocessed,
            Some(reason) if error.is_remote() => RequestError::Reset(reason),
            Some(reason) => RequestError::Protocol(reason),
            None => RequestError::Io(into_io(error)),
        }
    }
}

/// Why a head could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The stream or its connection is gone.
    #[error("the stream is closed")]
    Closed,
    /// The head cannot be written as HTTP/2; what is wrong with it.
    #[error("the head cannot be sent: {0}")]
    Head(&'static str),
}

impl From<h2::Error> for SendError {
    fn from(_: h2::Error) -> Self {
        SendError::Closed
    }
}

pub(super) fn body_error(error: h2::Error) -> BodyError {
    match error.reason() {
        Some(_) if error.is_remote() => BodyError::Truncated,
        Some(_) if error.is_library() => BodyError::Malformed("it broke the HTTP/2 protocol"),
        // Reset or shut down by ourselves.
        Some(_) => BodyError::Truncated,
        None => BodyError::Io(into_io(error)),
    }
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into())
    } else {
        // A call that the state of the stream no longer allows: it was closed under us.
        io::Error::new(io::ErrorKind::NotConnected, error)
    }
}
