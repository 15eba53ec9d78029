//! A transport that watches the frames passing through it, below the `h2` crate.
//!
//! It reads frame headers only, counts what the crate does not count (streams reset, control frames,
//! time within a header block) and, once a limit is passed, reads no more: it leaves the reason in
//! its [`Watch`], whose owner ends the connection. It holds no bytes back and changes none.

mod tally;

use self::tally::Tally;
use super::error::Violation;
use super::limits::Http2Limits;
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// What the guard saw, shared with the owner of the connection.
#[derive(Debug)]
pub(super) struct Watch {
    violation: Cell<Option<Violation>>,
    last_read: Cell<Instant>,
    greeted: Cell<bool>,
    rejected: Cell<u64>,
}

impl Watch {
    /// The limit that was passed. Nothing is read from then on.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    /// When bytes last came.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read.get()
    }

    /// The peer has sent its first settings, and with them the whole of its connection preface.
    pub(super) fn greeted(&self) -> bool {
        self.greeted.get()
    }

    /// Streams that we reset because the peer broke the protocol on them.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.get()
    }
}

/// The transport.
pub(super) struct Guard<T> {
    io: T,
    inbound: Scanner,
    outbound: Scanner,
    tally: Tally,
    watch: Rc<Watch>,
    block_timeout: Duration,
    /// Runs while a header block is open and its rest has not come.
    block_timer: Option<Pin<Box<Sleep>>>,
}

/// Bytes of the client's connection preface before its settings (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;

impl<T> Guard<T> {
    pub(super) fn new(io: T, side: Side, limits: &Http2Limits) -> Self {
        let now = Instant::now();
        let (inbound, outbound) = match side {
            Side::Server => (PREFACE_BYTES, 0),
            Side::Client => (0, PREFACE_BYTES),
        };
        Guard {
            io,
            inbound: Scanner::after(inbound),
            outbound: Scanner::after(outbound),
            tally: Tally::new(side, limits, now),
            watch: Rc::new(Watch {
                violation: Cell::new(None),
                last_read: Cell::new(now),
                greeted: Cell::new(false),
                rejected: Cell::new(0),
            }),
            block_timeout: limits.header_block_timeout,
            block_timer: None,
        }
    }

    pub(super) fn watch(&self) -> Rc<Watch> {
        self.watch.clone()
    }

    fn scan_read(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let now = Instant::now();
        self.watch.last_read.set(now);
        let blocks_before = self.inbound.blocks;
        let Guard { inbound, tally, watch, .. } = self;
        inbound.scan(bytes, |frame| {
            if !watch.greeted() {
                if !frame.is_settings() {
                    return Err(Violation::Preface);
                }
                watch.greeted.set(true);
            }
            tally.inbound(frame, now)
        })?;
        if !self.inbound.block_open || self.inbound.blocks != blocks_before {
            self.block_timer = None;
        }
        Ok(())
    }

    fn scan_written(&mut self, bytes: &[u8]) {
        let Guard { outbound, tally, watch, .. } = self;
        let result = outbound.scan(bytes, |frame| {
            let rejects = frame.rejects();
            if rejects {
                watch.rejected.set(watch.rejected.get() + 1);
            }
            tally.outbound(frame, rejects)
        });
        if let Err(violation) = result {
            watch.violation.set(Some(violation));
        }
    }

    fn poll_block_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inbound.block_open {
            return Poll::Pending;
        }
        let timeout = self.block_timeout;
        let timer = self.block_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        timer.as_mut().poll(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.violation().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let violation = match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => match this.scan_read(&buf.filled()[before..]) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(violation) => violation,
            },
            Poll::Pending => match this.poll_block_timer(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => Violation::HeaderBlock,
            },
        };
        buf.set_filled(before);
        this.watch.violation.set(Some(violation));
        // Nothing will wake this read: the owner looks at the watch after every poll.
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = result {
            self.scan_written(&bytes[..written.min(bytes.len())]);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut written)) = result {
            for slice in slices {
                let part = written.min(slice.len());
                self.scan_written(&slice[..part]);
                written -= part;
                if written == 0 {
                    break;
                }
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

const HEADER_BYTES: usize = 9;

/// A frame that has passed completely.
#[derive(Clone, Copy, Debug)]
struct FrameSeen {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Error code of a RST_STREAM.
    code: u32,
}

impl FrameSeen {
    /// Does it tell the settings of the peer?
    fn is_settings(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }

    /// Does it reset a stream for a fault of the one who gets it?
    fn rejects(self) -> bool {
        // PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR.
        self.kind == RST_STREAM && matches!(self.code, 1 | 3 | 5 | 6)
    }
}

/// Finds the frames in a sequence of bytes, however it is cut.
#[derive(Debug)]
struct Scanner {
    /// Bytes to pass over before the first frame.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_have: usize,
    payload_left: usize,
    /// The last four payload bytes of a RST_STREAM.
    code: u32,
    /// Within a HEADERS or PUSH_PROMISE frame, or between it and the last of its CONTINUATIONs.
    block_open: bool,
    /// Header blocks begun.
    blocks: u64,
}

impl Scanner {
    fn after(skip: usize) -> Self {
        Scanner {
            skip,
            header: [0; HEADER_BYTES],
            header_have: 0,
            payload_left: 0,
            code: 0,
            block_open: false,
            blocks: 0,
        }
    }

    /// Calls `seen` for every frame that ends within `bytes`, until it returns an error.
    fn scan<E>(
        &mut self,
        mut bytes: &[u8],
        mut seen: impl FnMut(FrameSeen) -> Result<(), E>,
    ) -> Result<(), E> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.header_have < HEADER_BYTES {
                let part = bytes.len().min(HEADER_BYTES - self.header_have);
                self.header[self.header_have..self.header_have + part]
                    .copy_from_slice(&bytes[..part]);
                self.header_have += part;
                bytes = &bytes[part..];
                if self.header_have < HEADER_BYTES {
                    return Ok(());
                }
                self.begin_frame();
            }
            let part = bytes.len().min(self.payload_left);
            if self.kind() == RST_STREAM {
                for byte in &bytes[..part] {
                    self.code = self.code << 8 | u32::from(*byte);
                }
            }
            self.payload_left -= part;
            bytes = &bytes[part..];
            if self.payload_left == 0 {
                seen(self.end_frame())?;
            }
        }
        Ok(())
    }

    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, ..] = self.header;
        self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.code = 0;
        if matches!(self.kind(), HEADERS | PUSH_PROMISE) {
            self.block_open = true;
            self.blocks += 1;
        }
    }

    fn end_frame(&mut self) -> FrameSeen {
        let kind = self.kind();
        let [_, _, _, _, flags, id @ ..] = self.header;
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS != 0 {
            self.block_open = false;
        }
        self.header_have = 0;
        // The highest bit is reserved.
        let stream = u32::from_be_bytes(id) & (u32::MAX >> 1);
        FrameSeen { kind, flags, stream, code: self.code }
    }
}

#[cfg(test)]
mod tests;
