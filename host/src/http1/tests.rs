//! Tests of the wire format as a whole, and what they share: a seeded generator and a transport that
//! hands out bytes in the pieces a test chose.

mod bodies;
mod heads;
mod pieces;
mod writing;

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;

/// xorshift64*: the same numbers on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Cuts `bytes` at random places; `piece_max` 1 is byte by byte.
pub(super) fn cut(bytes: &[u8], piece_max: usize, random: &mut Random) -> Vec<Bytes> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(piece_max)).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

/// A peer that sends chosen pieces and then closes, and keeps what it gets.
pub(super) struct Script {
    pieces: VecDeque<Bytes>,
    /// Answers "not yet" before each piece and each write, so that every wait is taken.
    not_yet: bool,
    reset: bool,
    /// Bytes it takes of each write.
    write_max: usize,
    written: Rc<RefCell<BytesMut>>,
    writes: Rc<RefCell<usize>>,
}

impl Script {
    pub(super) fn sending(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Script {
            pieces: pieces.into_iter().collect(),
            not_yet: false,
            reset: false,
            write_max: usize::MAX,
            written: Rc::default(),
            writes: Rc::default(),
        }
    }

    pub(super) fn taking(write_max: usize) -> Self {
        Script { write_max, ..Script::sending([]) }
    }

    /// Resets the connection where it would have closed.
    pub(super) fn then_resetting(mut self) -> Self {
        self.reset = true;
        self
    }

    /// The stream, what is written to it, and in how many writes.
    pub(super) fn stream(self) -> (Stream, Rc<RefCell<BytesMut>>, Rc<RefCell<usize>>) {
        let (written, writes) = (Rc::clone(&self.written), Rc::clone(&self.writes));
        (Stream::over(self), written, writes)
    }

    fn not_yet(&mut self, cx: &mut Context<'_>) -> bool {
        self.not_yet = !self.not_yet;
        if self.not_yet {
            cx.waker().wake_by_ref();
        }
        self.not_yet
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.not_yet(cx) {
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.front_mut() else {
            let reset = io::Error::from(io::ErrorKind::ConnectionReset);
            return Poll::Ready(if self.reset { Err(reset) } else { Ok(()) });
        };
        let count = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece.split_to(count));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.not_yet(cx) {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.write_max);
        self.written.borrow_mut().extend_from_slice(&bytes[..count]);
        *self.writes.borrow_mut() += 1;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.not_yet(cx) {
            return Poll::Pending;
        }
        let mut left = self.write_max;
        let mut written = self.written.borrow_mut();
        for slice in slices {
            let count = slice.len().min(left);
            written.extend_from_slice(&slice[..count]);
            left -= count;
        }
        *self.writes.borrow_mut() += 1;
        Poll::Ready(Ok(self.write_max - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
