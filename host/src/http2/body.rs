//! Bodies of HTTP/2 streams, under flow control.
//!
//! A reader gives the peer new window only for what it has handed out, so whoever reads slowly makes
//! the peer send slowly. A writer hands on what the peer's window and the send buffer take and keeps
//! the rest; its owner reads no further from the other side while [`BodyWriter::queued`] is high.

use super::client::ActiveStream;
use super::error::body_error;
use super::head::{self, TrailerLimits};
use crate::http::{BodyError, BodyLength, Fields, Frame};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Reads the body of a stream. Dropped before the end, it stops the peer; once the other handles of
/// the stream are gone too, the stream is reset.
pub struct BodyReader {
    stream: RecvStream,
    state: ReadState,
    limits: TrailerLimits,
    _active: Option<Rc<ActiveStream>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Data,
    Trailers,
    End,
    Failed,
}

impl BodyReader {
    pub(super) fn new(
        stream: RecvStream,
        limits: TrailerLimits,
        active: Option<Rc<ActiveStream>>,
    ) -> Self {
        BodyReader { stream, state: ReadState::Data, limits, _active: active }
    }

    /// The next piece of the body. What is returned counts as consumed: the peer may send as much
    /// again. `h2` checks the length against `content-length`; a difference is an error here.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        loop {
            match self.state {
                ReadState::Data => match ready!(self.stream.poll_data(cx)) {
                    Some(Ok(data)) if data.is_empty() => {}
                    Some(Ok(data)) => {
                        // It fails only when more is released than was received.
                        let _ = self.stream.flow_control().release_capacity(data.len());
                        return Poll::Ready(Ok(Frame::Data(data)));
                    }
                    Some(Err(error)) => return Poll::Ready(Err(self.fail(body_error(error)))),
                    None => self.state = ReadState::Trailers,
                },
                ReadState::Trailers => {
                    let map = match ready!(self.stream.poll_trailers(cx)) {
                        Ok(map) => map,
                        Err(error) => return Poll::Ready(Err(self.fail(body_error(error)))),
                    };
                    self.state = ReadState::End;
                    let Some(map) = map else { continue };
                    return Poll::Ready(match head::read_trailers(&map, self.limits) {
                        Ok(fields) => Ok(Frame::Trailers(fields)),
                        Err(limit) => Err(self.fail(BodyError::TrailersTooLarge(limit))),
                    });
                }
                ReadState::End => return Poll::Ready(Ok(Frame::End)),
                ReadState::Failed => return Poll::Ready(Err(BodyError::Truncated)),
            }
        }
    }

    /// Is it known that nothing more comes?
    pub fn is_end(&self) -> bool {
        match self.state {
            ReadState::Data | ReadState::Trailers => self.stream.is_end_stream(),
            ReadState::End => true,
            ReadState::Failed => false,
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.state = ReadState::Failed;
        error
    }
}

/// More or fewer bytes than the `content-length` that was sent. The stream was reset, so that the
/// peer takes nothing for a complete message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body does not have the length its head promised")]
pub struct LengthMismatch;

/// Writes the body of a stream. Dropped before the end, it resets the stream (once the other
/// handles of the stream are gone too), so that the peer sees a truncated message as such.
pub struct BodyWriter {
    stream: SendStream<Bytes>,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Bytes still owed; none where the length was not promised.
    owed: Option<u64>,
    end: End,
    _active: Option<Rc<ActiveStream>>,
}

enum End {
    /// `end` was not called.
    Open,
    Plain,
    Trailers(HeaderMap),
    /// The end is with `h2`.
    Sent,
}

impl BodyWriter {
    pub(super) fn new(
        stream: SendStream<Bytes>,
        length: BodyLength,
        active: Option<Rc<ActiveStream>>,
    ) -> Self {
        let owed = match length {
            BodyLength::Exact(length) => Some(length),
            BodyLength::None => Some(0),
            BodyLength::Unknown => None,
        };
        BodyWriter {
            stream,
            queue: VecDeque::new(),
            queued: 0,
            owed,
            end: End::Open,
            _active: active,
        }
    }

    /// Queues bytes; `poll_flush` sends them.
    pub fn data(&mut self, bytes: Bytes) -> Result<(), LengthMismatch> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(owed) = &mut self.owed {
            match owed.checked_sub(bytes.len() as u64) {
                Some(rest) => *owed = rest,
                None => return Err(self.mismatch()),
            }
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes);
        Ok(())
    }

    /// Ends the body after what is queued; `poll_flush` sends the end. Trailers that HTTP/2 cannot
    /// carry (an invalid name or value) are left out as a whole.
    pub fn end(&mut self, trailers: Option<&Fields>) -> Result<(), LengthMismatch> {
        if self.owed.is_some_and(|owed| owed > 0) {
            return Err(self.mismatch());
        }
        if matches!(self.end, End::Open) {
            let map = trailers
                .filter(|fields| !fields.is_empty())
                .and_then(|fields| head::write_trailers(fields).ok());
            self.end = map.map_or(End::Plain, End::Trailers);
        }
        Ok(())
    }

    /// Bytes not yet passed on. Queue no more while they exceed the buffer limit.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Passes on what the peer's window and the send buffer take. Ready: everything queued, and the
    /// end if there was one, is on its way. Fails when the stream is closed; on a client that does
    /// not spoil the response (RFC 9113 section 8.1).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while let Some(chunk) = self.queue.front_mut() {
            self.stream.reserve_capacity(self.queued);
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                capacity = match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(error)) => return Poll::Ready(Err(body_error(error))),
                    None => return Poll::Ready(Err(BodyError::Truncated)),
                };
                // It may tell of a change that leaves nothing: an empty frame would help nobody.
                if capacity == 0 {
                    continue;
                }
            }
            let piece = chunk.split_to(capacity.min(chunk.len()));
            self.queued -= piece.len();
            if chunk.is_empty() {
                self.queue.pop_front();
            }
            let last = self.queue.is_empty() && matches!(self.end, End::Plain);
            if last {
                self.end = End::Sent;
            }
            if let Err(error) = self.stream.send_data(piece, last) {
                return Poll::Ready(Err(body_error(error)));
            }
        }
        let sent = match std::mem::replace(&mut self.end, End::Sent) {
            End::Open => {
                self.end = End::Open;
                Ok(())
            }
            End::Plain => self.stream.send_data(Bytes::new(), true),
            End::Trailers(map) => self.stream.send_trailers(map),
            End::Sent => Ok(()),
        };
        Poll::Ready(sent.map_err(body_error))
    }

    /// Ready when the peer has reset the stream, with its reason, or the connection is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, BodyError>> {
        self.stream.poll_reset(cx).map_err(body_error)
    }

    /// Resets the stream now; what is queued is dropped.
    pub fn reset(&mut self, reason: Reason) {
        self.queue.clear();
        self.queued = 0;
        self.end = End::Sent;
        self.stream.send_reset(reason);
    }

    fn mismatch(&mut self) -> LengthMismatch {
        self.reset(Reason::INTERNAL_ERROR);
        LengthMismatch
    }
}
