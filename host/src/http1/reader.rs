//! Reads messages off a stream, one after the other: head, body frames, and what is left over when
//! the connection turns into something else.
//!
//! It owns the read buffer and no other memory of a message. It sets no time limits and decides
//! nothing about errors: both are for the caller, who knows which side of the proxy it is on.

use super::chunked::{Chunked, Step, as_length};
use super::error::HeadError;
use super::head::{self, RequestFraming, ResponseFraming};
use super::limits::HeadLimits;
use super::scan::Scan;
use crate::http::{BodyError, BodyLength, Frame, RequestHead, ResponseHead};
use crate::io::{Stream, buffers};
use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use std::io;
use std::task::{Context, Poll, ready};

/// Bytes of a data frame, at most.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Bytes asked of one read, at most: where a large body keeps filling smaller ones.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Frames below this are copied out of the read buffer, so that a held byte pins no buffer.
const COPIED_BELOW: usize = 4 * 1024;

/// What opens an HTTP/2 connection (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a new connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Anything but the preface, also the start of one that was cut off.
    Http1,
    /// The preface of HTTP/2; it is still there to be read.
    Http2,
    /// The peer closed without a byte.
    Closed,
}

/// Why no head could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The head breaks a rule.
    #[error("the head is malformed")]
    Head(#[from] HeadError),
    /// The connection ended or was reset before the first byte of an answer: a request that may be
    /// repeated may be sent again on another one.
    #[error("the peer closed the connection before it answered")]
    Closed,
    /// The connection ended or was reset within a head.
    #[error("the peer closed the connection within a head")]
    Truncated,
    /// The body of the message before was not read to its end, so the next head cannot be found.
    #[error("the message before was not read to its end")]
    BodyUnread,
    /// The connection failed.
    #[error("failed to read a head")]
    Io(#[from] io::Error),
}

/// The reading half of a connection.
///
/// # Cancel safety
///
/// Every `poll_` function may be given up and called again: what was read stays in the reader.
pub struct Reader {
    stream: Stream,
    buffer: BytesMut,
    /// Room to make for the next read.
    read_bytes: usize,
    /// The peer has sent its last byte.
    ended: bool,
    scan: Scan,
    body: Body,
}

enum Body {
    Done,
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Reader {
    /// A reader at the start of a connection or of a message.
    pub fn new(stream: Stream) -> Self {
        Reader {
            stream,
            buffer: BytesMut::new(),
            read_bytes: buffers::BUFFER_BYTES,
            ended: false,
            scan: Scan::default(),
            body: Body::Done,
        }
    }

    /// The stream this reads.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The next request head, written over `head`. `None`: the client closed or reset
    /// the connection between two messages.
    /// After an error the connection is of no more use.
    pub fn poll_request_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
        limits: &HeadLimits,
    ) -> Poll<Result<Option<RequestFraming>, ReadError>> {
        if !self.body_done() {
            return Poll::Ready(Err(ReadError::BodyUnread));
        }
        loop {
            if let Some(end) = head::request_end(&mut self.scan, &self.buffer, limits)? {
                let scan = std::mem::take(&mut self.scan);
                let section = &self.buffer[scan.start..end];
                let framing = head::request(section, scan.lines, head, limits)?;
                self.begin_body(end, framing.body, false, limits);
                return Poll::Ready(Ok(Some(framing)));
            }
            if !ready!(self.poll_fill_or_reset(cx))? {
                let nothing = matches!(&self.buffer[..], b"" | b"\r" | b"\r\n");
                return Poll::Ready(if nothing { Ok(None) } else { Err(ReadError::Truncated) });
            }
        }
    }

    /// The next response head, written over `head`: of the answer to a request of `method`, or of an
    /// interim response before it. After 101 go on with [`tunnel`](Self::tunnel). After an error the
    /// connection is of no more use.
    pub fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        head: &mut ResponseHead,
        limits: &HeadLimits,
    ) -> Poll<Result<ResponseFraming, ReadError>> {
        if !self.body_done() {
            return Poll::Ready(Err(ReadError::BodyUnread));
        }
        loop {
            if let Some(end) = head::response_end(&mut self.scan, &self.buffer, limits)? {
                let scan = std::mem::take(&mut self.scan);
                let section = &self.buffer[..end];
                let framing = head::response(section, scan.lines, method, head, limits)?;
                self.begin_body(end, framing.body, framing.until_close, limits);
                return Poll::Ready(Ok(framing));
            }
            let more = ready!(self.poll_fill_or_reset(cx))?;
            if !more {
                let began = self.began();
                return Poll::Ready(Err(if began {
                    ReadError::Truncated
                } else {
                    ReadError::Closed
                }));
            }
        }
    }

    fn begin_body(
        &mut self,
        head_bytes: usize,
        length: BodyLength,
        until_close: bool,
        limits: &HeadLimits,
    ) {
        self.buffer.advance(head_bytes);
        self.body = match length {
            BodyLength::None | BodyLength::Exact(0) => Body::Done,
            BodyLength::Exact(length) => Body::Exact(length),
            BodyLength::Unknown if until_close => Body::UntilClose,
            BodyLength::Unknown => Body::Chunked(Chunked::new(limits)),
        };
        self.release_if_empty();
    }

    /// The next piece of the body of the message whose head was read last. After the end it answers
    /// [`Frame::End`] again; after an error the connection is of no more use.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        loop {
            if let Some(frame) = self.frame_at_hand()? {
                return Poll::Ready(Ok(frame));
            }
            let more = match ready!(self.poll_fill(cx)) {
                Err(error) if is_reset(&error) => return Poll::Ready(Err(BodyError::Truncated)),
                other => other?,
            };
            match &self.body {
                _ if more => {}
                Body::UntilClose => self.body = Body::Done,
                Body::Done | Body::Exact(_) | Body::Chunked(_) => {
                    return Poll::Ready(Err(BodyError::Truncated));
                }
            }
        }
    }

    /// The next piece, out of what has arrived.
    pub fn frame_at_hand(&mut self) -> Result<Option<Frame>, BodyError> {
        let here = self.buffer.len().min(FRAME_BYTES_MAX);
        let frame = match &mut self.body {
            Body::Done => Some(Frame::End),
            Body::Exact(_) | Body::UntilClose if here == 0 => None,
            Body::Exact(left) => {
                let here = here.min(as_length(*left));
                *left -= here as u64;
                if *left == 0 {
                    self.body = Body::Done;
                }
                Some(Frame::Data(take_frame(&mut self.buffer, here)))
            }
            Body::UntilClose => Some(Frame::Data(take_frame(&mut self.buffer, here))),
            Body::Chunked(chunked) => match chunked.step(&mut self.buffer)? {
                Step::Starved => None,
                Step::Data(bytes) => Some(Frame::Data(bytes)),
                Step::Trailers(fields) => {
                    self.body = Body::Done;
                    Some(Frame::Trailers(fields))
                }
                Step::End => {
                    self.body = Body::Done;
                    Some(Frame::End)
                }
            },
        };
        if self.body_done() {
            self.release_if_empty();
        }
        Ok(frame)
    }

    /// Waits for the next message without holding a buffer. True: its first byte is here. False: the
    /// peer closed instead.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.began() {
            return Poll::Ready(Ok(true));
        }
        self.poll_fill(cx)
    }

    /// Waits until the connection shows what it speaks.
    pub fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Opening>> {
        loop {
            let here = self.buffer.len().min(PREFACE.len());
            if self.buffer[..here] != PREFACE[..here] {
                return Poll::Ready(Ok(Opening::Http1));
            }
            if here == PREFACE.len() {
                return Poll::Ready(Ok(Opening::Http2));
            }
            if !ready!(self.poll_fill(cx))? {
                let opening = if here == 0 { Opening::Closed } else { Opening::Http1 };
                return Poll::Ready(Ok(opening));
            }
        }
    }

    /// Have bytes arrived that no head or body has taken: of the next message, if the body is done?
    /// On a connection to an upstream that is owed nothing, this is a reason to close it.
    pub fn began(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Is the message whose head was read last complete?
    pub fn body_done(&self) -> bool {
        matches!(self.body, Body::Done)
    }

    /// Everything from here on is one body, up to the end of the connection: after 101.
    pub fn tunnel(&mut self) {
        self.body = Body::UntilClose;
    }

    /// Takes what was read too far, for another reader of the stream: give it to
    /// [`Stream::unread`]. The frames to come lack it.
    pub fn take_buffered(&mut self) -> Bytes {
        self.scan = Scan::default();
        let bytes = self.buffer.split().freeze();
        self.release_if_empty();
        bytes
    }

    /// The same as [`poll_fill`](Self::poll_fill) between and within heads, where a reset says no more
    /// than an end does.
    fn poll_fill_or_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match ready!(self.poll_fill(cx)) {
            Err(error) if is_reset(&error) => Poll::Ready(Ok(false)),
            other => Poll::Ready(other),
        }
    }

    /// Reads more into the buffer. False: the peer has sent its last byte. While nothing is there
    /// and nothing comes, no buffer is held.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if self.buffer.is_empty() && self.stream.poll_read_ready(cx)?.is_pending() {
            self.release_if_empty();
            return Poll::Pending;
        }
        if self.buffer.capacity() == 0 && self.read_bytes == buffers::BUFFER_BYTES {
            self.buffer = buffers::take();
        }
        if self.buffer.capacity() - self.buffer.len() < self.read_bytes / 4 {
            self.buffer.reserve(self.read_bytes);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        match self.stream.poll_read(cx, &mut self.buffer)? {
            Poll::Ready(0) => {
                self.ended = true;
                self.release_if_empty();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(read) => {
                if read >= room && !self.body_done() {
                    self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
                }
                Poll::Ready(Ok(true))
            }
            Poll::Pending => {
                self.release_if_empty();
                Poll::Pending
            }
        }
    }

    fn release_if_empty(&mut self) {
        if self.buffer.is_empty() {
            buffers::give(std::mem::take(&mut self.buffer));
            self.read_bytes = buffers::BUFFER_BYTES;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        buffers::give(std::mem::take(&mut self.buffer));
    }
}

/// Takes `count` bytes out of the read buffer: large frames share its memory.
pub(super) fn take_frame(buffer: &mut BytesMut, count: usize) -> Bytes {
    if count >= COPIED_BELOW {
        return buffer.split_to(count).freeze();
    }
    let frame = Bytes::copy_from_slice(&buffer[..count]);
    buffer.advance(count);
    frame
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Waker;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut reader = Reader::new(Stream::over(near));
        let (mut head, limits) = (RequestHead::default(), HeadLimits::default());
        for _ in 0..2 {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(reader.poll_idle(&mut cx).is_pending());
            assert_eq!(reader.buffer.capacity(), 0);
            far.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            let next = poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await;
            assert!(next.unwrap().is_some());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(reader.poll_frame(&mut cx).is_pending());
            assert_eq!(reader.buffer.capacity(), 0, "nor does one that waits for a body");
            far.write_all(b"hi").await.unwrap();
            let frame = poll_fn(|cx| reader.poll_frame(cx)).await;
            assert!(matches!(frame, Ok(Frame::Data(bytes)) if bytes == "hi"));
            assert!(reader.body_done());
            assert_eq!(reader.buffer.capacity(), 0);
        }
    }

    #[test]
    fn a_small_frame_is_a_copy() {
        for (count, copied) in
            [(COPIED_BELOW - 1, true), (COPIED_BELOW, false), (COPIED_BELOW + 1, false)]
        {
            let mut buffer = BytesMut::from(&vec![7; 2 * COPIED_BELOW][..]);
            let start = buffer.as_ptr();
            let frame = take_frame(&mut buffer, count);
            assert_eq!(frame.as_ptr() != start, copied, "{count}");
            assert_eq!((frame.len(), buffer.len()), (count, 2 * COPIED_BELOW - count));
        }
    }
}
