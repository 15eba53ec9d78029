//! Writes messages to a stream: queues text and data, and sends them in as few system calls as the
//! transport allows.
//!
//! It frames bodies and notices when they are not what the head promised. It queues whatever it is
//! given: callers look at `queued` and wait for `poll_flush` before they give more.

use super::text::{put_decimal, put_hexadecimal, reason};
use crate::http::{BodyLength, Fields, Protocol, RequestHead, ResponseHead};
use crate::io::{Stream, buffers};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

/// Data up to this many bytes is copied behind the head or the chunk before it: cheaper than a
/// slice of its own.
const COPIED_UP_TO: usize = 4 * 1024;

/// Slices of one vectored write.
const SLICES_MAX: usize = 32;

/// The body is not the one its head promised. The message cannot be saved: reset the connection, so
/// that the peer does not take it for complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// More bytes than `content-length`, or a body where there can be none. They were not queued.
    #[error("the body is longer than its head promised")]
    TooLong,
    /// Fewer bytes than `content-length`.
    #[error("the body is shorter than its head promised")]
    TooShort,
}

/// How a response is to be written.
#[derive(Clone, Copy, Debug)]
pub struct ResponseKind {
    /// `response_has_body` of the request's method and the status.
    pub has_body: bool,
    /// The connection is to carry another exchange.
    pub keep_alive: bool,
    /// What the client speaks: HTTP/1.0 does not know the chunked coding.
    pub protocol: Protocol,
}

/// The writing half of a connection.
///
/// # Cancel safety
///
/// `poll_flush` may be given up and called again: what is unsent stays queued.
pub struct Writer {
    stream: Stream,
    /// Before `text`, in order.
    segments: VecDeque<Bytes>,
    /// The end of the queue, still growing.
    text: BytesMut,
    /// Bytes in `segments`.
    segment_bytes: usize,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Nothing is promised, or what was is done.
    None,
    Exact(u64),
    Chunked,
    /// Ends with the connection.
    UntilClose,
}

impl Writer {
    /// A writer at the start of a connection or of a message.
    pub fn new(stream: Stream) -> Self {
        Writer {
            stream,
            segments: VecDeque::new(),
            text: BytesMut::new(),
            segment_bytes: 0,
            body: Body::None,
        }
    }

    /// The stream this writes.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Queues a request head in HTTP/1.1. `Unknown` is sent chunked.
    pub fn request_head(&mut self, head: &RequestHead, body: BodyLength) {
        let fixed = 256 + head.target.len() + head.authority.len();
        self.make_room(fixed + head.fields.wire_bytes());
        self.put(head.method.as_str());
        self.put(" ");
        self.put(&head.target);
        self.put(" HTTP/1.1\r\nhost: ");
        self.put(&head.authority);
        self.put("\r\n");
        self.put_fields(&head.fields);
        self.begin_request_body(body);
        if head.expects_continue {
            self.put("expect: 100-continue\r\n");
        }
        if head.accepts_trailers {
            self.put("te: trailers\r\n");
        }
        if let Some(protocol) = &head.upgrade {
            self.put_line("upgrade", protocol);
        }
        match (head.accepts_trailers, &head.upgrade) {
            (true, Some(_)) => self.put("connection: te, upgrade\r\n"),
            (true, None) => self.put("connection: te\r\n"),
            (false, Some(_)) => self.put("connection: upgrade\r\n"),
            (false, None) => {}
        }
        self.put("\r\n");
    }

    fn begin_request_body(&mut self, body: BodyLength) {
        self.body = match body {
            BodyLength::None => Body::None,
            BodyLength::Exact(length) => {
                self.put_length(length);
                Body::Exact(length)
            }
            BodyLength::Unknown => {
                self.put("transfer-encoding: chunked\r\n");
                Body::Chunked
            }
        };
    }

    /// Queues a final response head, or that of 101, after which [`tunnel`](Self::tunnel) opens the
    /// way. A body of `Unknown` length goes out chunked, or to HTTP/1.0 up to the end of the
    /// connection. Of a response without a body only `content-length` is told, and where the status
    /// forbids one not even that.
    ///
    /// True: the connection carries another exchange. Otherwise the head says that it does not, and
    /// the caller shuts it down after the last byte.
    pub fn response_head(
        &mut self,
        head: &ResponseHead,
        body: BodyLength,
        kind: ResponseKind,
    ) -> bool {
        self.make_room(256 + head.fields.wire_bytes());
        self.put_status_line(head.status);
        self.put_fields(&head.fields);
        let framed = !matches!(head.status, 100..=199 | 204 | 304);
        self.body = match body {
            _ if !framed => Body::None,
            BodyLength::Exact(length) => {
                self.put_length(length);
                if kind.has_body { Body::Exact(length) } else { Body::None }
            }
            _ if !kind.has_body => Body::None,
            // Without it the client would wait for the connection to close.
            BodyLength::None => {
                self.put_length(0);
                Body::Exact(0)
            }
            BodyLength::Unknown if kind.protocol == Protocol::Http10 => Body::UntilClose,
            BodyLength::Unknown => {
                self.put("transfer-encoding: chunked\r\n");
                Body::Chunked
            }
        };
        let keep_alive = kind.keep_alive && self.body != Body::UntilClose;
        if let Some(protocol) = head.upgrade.as_deref().filter(|_| head.status == 101) {
            self.put_line("upgrade", protocol);
            self.put("connection: upgrade\r\n");
        } else if !keep_alive {
            self.put("connection: close\r\n");
        } else if kind.protocol == Protocol::Http10 {
            self.put("connection: keep-alive\r\n");
        }
        self.put("\r\n");
        keep_alive
    }

    /// Queues an interim response (100, 103). Not for HTTP/1.0 clients, who do not know them (RFC
    /// 9110 section 15.2).
    pub fn interim(&mut self, status: u16, fields: &Fields) {
        self.make_room(64 + fields.wire_bytes());
        self.put_status_line(status);
        self.put_fields(fields);
        self.put("\r\n");
    }

    /// Queues a piece of the body. Empty pieces are nothing.
    pub fn data(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut self.body {
            Body::None => return Err(WriteError::TooLong),
            Body::Exact(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(WriteError::TooLong)?;
                self.put_data(bytes);
            }
            Body::UntilClose => self.put_data(bytes),
            Body::Chunked => {
                self.make_room(32);
                put_hexadecimal(&mut self.text, bytes.len() as u64);
                self.put("\r\n");
                self.put_data(bytes);
                self.put("\r\n");
            }
        }
        Ok(())
    }

    /// Queues the end of the message. Trailers go out with the chunked coding and are dropped
    /// otherwise: there is no place for them.
    pub fn end(&mut self, trailers: Option<&Fields>) -> Result<(), WriteError> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None | Body::Exact(0) | Body::UntilClose => Ok(()),
            unfinished @ Body::Exact(_) => {
                self.body = unfinished;
                Err(WriteError::TooShort)
            }
            Body::Chunked => {
                self.make_room(16 + trailers.map_or(0, Fields::wire_bytes));
                self.put("0\r\n");
                if let Some(trailers) = trailers {
                    self.put_fields(trailers);
                }
                self.put("\r\n");
                Ok(())
            }
        }
    }

    /// Is a message under way: a body was begun and not ended? Then closing the connection in good
    /// order would be wrong.
    pub fn unfinished(&self) -> bool {
        !matches!(self.body, Body::None | Body::Exact(0))
    }

    /// What is given to [`data`](Self::data) from here on is sent as it is: after 101.
    pub fn tunnel(&mut self) {
        self.body = Body::UntilClose;
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.segment_bytes + self.text.len()
    }

    /// Sends what is queued. Once all of it is sent, no memory is held.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waited = self.queued() > 0;
        while self.queued() > 0 {
            let written = ready!(self.poll_write_some(cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if waited {
            buffers::give(std::mem::take(&mut self.text));
        }
        self.stream.poll_flush(cx)
    }

    fn poll_write_some(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.segments.is_empty() {
            return self.stream.poll_write_vectored(cx, &[IoSlice::new(&self.text)]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let queued = self.segments.iter().map(|segment| &segment[..]);
        for bytes in queued.chain([&self.text[..]]).filter(|bytes| !bytes.is_empty()) {
            if count == SLICES_MAX {
                break;
            }
            slices[count] = IoSlice::new(bytes);
            count += 1;
        }
        self.stream.poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(segment) = self.segments.front_mut() {
            let here = written.min(segment.len());
            segment.advance(here);
            self.segment_bytes -= here;
            written -= here;
            if !segment.is_empty() {
                return;
            }
            self.segments.pop_front();
        }
        let here = written.min(self.text.len());
        self.text.advance(here);
    }

    fn put_data(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_UP_TO {
            self.make_room(bytes.len());
            self.text.extend_from_slice(&bytes);
            return;
        }
        self.push_segment(bytes);
    }

    fn push_segment(&mut self, bytes: Bytes) {
        if !self.text.is_empty() {
            let text = self.text.split().freeze();
            self.segment_bytes += text.len();
            self.segments.push_back(text);
        }
        self.segment_bytes += bytes.len();
        self.segments.push_back(bytes);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.text.capacity() == 0 {
            self.text = buffers::take();
        }
        self.text.reserve(bytes);
    }

    fn put_status_line(&mut self, status: u16) {
        self.put("HTTP/1.1 ");
        put_decimal(&mut self.text, status.into());
        self.put(" ");
        self.put(reason(status));
        self.put("\r\n");
    }

    fn put_fields(&mut self, fields: &Fields) {
        for lines in fields.wire() {
            self.text.extend_from_slice(lines);
        }
    }

    fn put_length(&mut self, length: u64) {
        self.put("content-length: ");
        put_decimal(&mut self.text, length);
        self.put("\r\n");
    }

    fn put_line(&mut self, name: &str, value: &str) {
        self.put(name);
        self.put(": ");
        self.put(value);
        self.put("\r\n");
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        buffers::give(std::mem::take(&mut self.text));
    }
}
