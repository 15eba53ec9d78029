//! The two ends of a body, whatever protocol is spoken there: a [`Source`] is read, a [`Sink`] is
//! written, a [`Responder`] begins an answer.
//!
//! One place where HTTP/1 and HTTP/2 meet; everything above it knows messages only.

use super::reply::Fault;
use crate::http::head::response_has_body;
use crate::http::{BodyError, BodyLength, Fields, Frame, Protocol, ResponseHead};
use crate::http1::{self, ResponseKind};
use crate::http2::{self, Reason};
use crate::worker::Gate;
use bytes::Bytes;
use http::Method;
use std::task::{Context, Poll};

/// Where a body comes from.
pub enum Source<'c> {
    /// There is none, or what there was has been taken.
    None,
    /// The body of a local reply.
    Local(Bytes),
    /// An HTTP/1 message.
    Http1(&'c mut http1::Reader),
    /// An HTTP/2 stream.
    Http2(http2::BodyReader),
    /// The same, whose first piece was looked at.
    Begun(Box<Begun>),
}

/// A body whose first piece was looked at.
pub struct Begun {
    /// None once it was taken.
    pub first: Option<Frame>,
    /// What comes behind it.
    pub rest: http2::BodyReader,
}

impl Source<'_> {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        match self {
            Source::None => Poll::Ready(Ok(Frame::End)),
            Source::Local(bytes) if bytes.is_empty() => Poll::Ready(Ok(Frame::End)),
            Source::Local(bytes) => Poll::Ready(Ok(Frame::Data(std::mem::take(bytes)))),
            Source::Http1(reader) => reader.poll_frame(cx),
            Source::Http2(reader) => reader.poll_frame(cx),
            Source::Begun(begun) => match begun.first.take() {
                Some(first) => Poll::Ready(Ok(first)),
                None => begun.rest.poll_frame(cx),
            },
        }
    }

    /// The next piece, if it has arrived by now. None also where only a poll can tell.
    pub fn frame_at_hand(&mut self) -> Option<Result<Frame, BodyError>> {
        match self {
            Source::Http1(reader) => reader.frame_at_hand().transpose(),
            Source::None | Source::Local(_) | Source::Http2(_) | Source::Begun(_) => None,
        }
    }

    /// Is it known that nothing more comes, trailers included?
    pub fn is_over(&self) -> bool {
        match self {
            Source::None => true,
            Source::Local(bytes) => bytes.is_empty(),
            Source::Http1(reader) => reader.body_done(),
            Source::Http2(reader) => reader.is_end(),
            Source::Begun(begun) => begun.first.is_none() && begun.rest.is_end(),
        }
    }

    /// Is there more to come before the connection can carry another message? Never in HTTP/2.
    pub fn is_unread(&self) -> bool {
        match self {
            Source::Http1(reader) => !reader.body_done(),
            Source::None | Source::Local(_) | Source::Http2(_) | Source::Begun(_) => false,
        }
    }

    /// HTTP/1: ready when the peer has closed its side, once the body is read. Never ready once the
    /// peer has sent more instead, or in HTTP/2, where the writing end hears of it.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Source::Http1(reader) => match reader.poll_idle(cx) {
                Poll::Ready(Ok(true)) | Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(false) | Err(_)) => Poll::Ready(()),
            },
            Source::None | Source::Local(_) | Source::Http2(_) | Source::Begun(_) => Poll::Pending,
        }
    }
}

/// Where a body goes.
pub enum Sink<'c> {
    /// There is none to be sent: what is put in is dropped.
    None,
    /// The same, behind an HTTP/1 head that still has to be flushed.
    HeadOnly(&'c mut http1::Writer),
    /// An HTTP/1 message.
    Http1(&'c mut http1::Writer),
    /// An HTTP/2 stream.
    Http2(http2::BodyWriter),
}

/// The other side takes no more.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The connection or stream is closed, or failed.
    #[error("the peer takes no more")]
    Closed,
    /// The body does not have the length its head promised.
    #[error("the body does not have the promised length")]
    Length,
}

impl Sink<'_> {
    /// Queues a piece.
    pub fn data(&mut self, bytes: Bytes) -> Result<(), SinkError> {
        match self {
            Sink::None | Sink::HeadOnly(_) => Ok(()),
            Sink::Http1(writer) => writer.data(bytes).map_err(|_| SinkError::Length),
            Sink::Http2(writer) => writer.data(bytes).map_err(|_| SinkError::Length),
        }
    }

    /// Queues the end.
    pub fn end(&mut self, trailers: Option<&Fields>) -> Result<(), SinkError> {
        match self {
            Sink::None | Sink::HeadOnly(_) => Ok(()),
            Sink::Http1(writer) => writer.end(trailers).map_err(|_| SinkError::Length),
            Sink::Http2(writer) => writer.end(trailers).map_err(|_| SinkError::Length),
        }
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        match self {
            Sink::None => 0,
            Sink::HeadOnly(writer) | Sink::Http1(writer) => writer.queued(),
            Sink::Http2(writer) => writer.queued(),
        }
    }

    /// Sends what is queued.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        match self {
            Sink::None => Poll::Ready(Ok(())),
            Sink::HeadOnly(writer) | Sink::Http1(writer) => {
                writer.poll_flush(cx).map_err(|_| SinkError::Closed)
            }
            Sink::Http2(writer) => writer.poll_flush(cx).map_err(|_| SinkError::Closed),
        }
    }

    /// HTTP/2: ready when the peer has reset the stream. In HTTP/1 the reading end hears of it.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Sink::None | Sink::HeadOnly(_) | Sink::Http1(_) => Poll::Pending,
            Sink::Http2(writer) => writer.poll_reset(cx).map(|_| ()),
        }
    }

    /// Breaks the message off, so that the peer does not take a part for the whole.
    pub fn abort(&mut self, fault: Fault) {
        match self {
            Sink::None => {}
            Sink::HeadOnly(writer) | Sink::Http1(writer) => writer.stream().abort(),
            Sink::Http2(writer) => writer.reset(reset_reason(fault)),
        }
    }
}

/// Begins the answer to a request.
pub enum Responder<'c> {
    /// On an HTTP/1 connection.
    Http1 {
        /// Of the downstream connection.
        writer: &'c mut http1::Writer,
        /// The connection is to carry another exchange; afterwards: it can.
        keep_alive: &'c mut bool,
        /// Closed: it is to carry no other, after all.
        gate: &'c Gate,
    },
    /// On an HTTP/2 stream.
    Http2(http2::Responder),
}

impl Responder<'_> {
    /// Passes an interim response on. One that cannot be sent is dropped: nobody waits for it.
    pub fn interim(&mut self, status: u16, fields: &Fields) {
        match self {
            Responder::Http1 { writer, .. } => writer.interim(status, fields),
            Responder::Http2(responder) => {
                let _ = responder.interim(status, fields);
            }
        }
    }

    /// Sends what interim responses there are.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        match self {
            Responder::Http1 { writer, .. } => writer.poll_flush(cx).map_err(|_| SinkError::Closed),
            Responder::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ready when the client has reset the stream. In HTTP/1 the reading end hears of it.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Responder::Http1 { .. } => Poll::Pending,
            Responder::Http2(responder) => responder.poll_reset(cx).map(|_| ()),
        }
    }

    /// Queues the head; the body goes into the sink.
    pub fn begin(
        &mut self,
        method: &Method,
        protocol: Protocol,
        head: &ResponseHead,
        length: BodyLength,
    ) -> Result<Sink<'_>, Fault> {
        let has_body = response_has_body(method, head.status);
        match self {
            Responder::Http1 { writer, keep_alive, gate } => {
                **keep_alive &= !gate.is_closed();
                let kind = ResponseKind { has_body, keep_alive: **keep_alive, protocol };
                **keep_alive = writer.response_head(head, length, kind);
                Ok(if has_body { Sink::Http1(writer) } else { Sink::HeadOnly(writer) })
            }
            Responder::Http2(responder) => {
                let end = !has_body || matches!(length, BodyLength::None | BodyLength::Exact(0));
                match responder.response_head(head, length, end) {
                    Ok(Some(writer)) => Ok(Sink::Http2(writer)),
                    Ok(None) => Ok(Sink::None),
                    Err(http2::SendError::Closed) => Err(Fault::ClientGone),
                    Err(http2::SendError::Head(_)) => Err(Fault::UpstreamMalformed),
                }
            }
        }
    }

    /// HTTP/1: whether the connection closes behind the answer that follows.
    pub fn closes(&mut self, closes: bool) {
        if let Responder::Http1 { keep_alive, .. } = self {
            **keep_alive &= !closes;
        }
    }

    /// Breaks an exchange off that has no answer to give any more.
    pub fn abort(&mut self, fault: Fault) {
        match self {
            Responder::Http1 { writer, keep_alive, .. } => {
                **keep_alive = false;
                writer.stream().abort();
            }
            Responder::Http2(responder) => responder.reset(reset_reason(fault)),
        }
    }
}

/// What a client is told of a stream that is broken off: nothing is wrong on our side when it is the
/// client who does not take its answer.
fn reset_reason(fault: Fault) -> Reason {
    match fault {
        // Clients of gRPC take it for DEADLINE_EXCEEDED when their own clock says the same.
        Fault::ResponseWriteTimeout | Fault::ClientGone | Fault::DeadlineExceeded => Reason::CANCEL,
        _ => Reason::INTERNAL_ERROR,
    }
}
