//! Memory for reading and writing, lent to connections while bytes are in motion.
//!
//! Each thread keeps a few buffers of one size. An idle connection holds none, so that thousands of
//! them cost no more than their sockets.

use bytes::BytesMut;
use std::cell::RefCell;

/// Capacity of a lent buffer, in bytes.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers a thread keeps for later.
pub const KEPT_MAX: usize = 16;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer of at least [`BUFFER_BYTES`].
pub fn take() -> BytesMut {
    KEPT.try_with(|kept| kept.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
}

/// Gives a buffer back. Its content is dropped. One that has grown, or parts of which are still in
/// use elsewhere, is not kept.
pub fn give(mut buffer: BytesMut) {
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    if buffer.try_reclaim(BUFFER_BYTES) && buffer.capacity() < 2 * BUFFER_BYTES {
        // A thread that is ending keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        KEPT.with(|kept| kept.borrow().len())
    }

    #[test]
    fn a_buffer_comes_back_whole() {
        let mut buffer = take();
        buffer.extend_from_slice(&[1; 100]);
        let frame = buffer.split_to(50).freeze();
        drop(frame);
        give(buffer);
        assert_eq!(kept(), 1);
        let buffer = take();
        assert!(buffer.is_empty() && buffer.capacity() >= BUFFER_BYTES);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn a_buffer_in_use_elsewhere_or_grown_is_not_kept() {
        let mut buffer = take();
        buffer.extend_from_slice(&[1; 100]);
        let frame = buffer.split_to(50).freeze();
        give(buffer);
        assert_eq!(kept(), 0);
        assert_eq!(frame, [1; 50][..]);
        give(BytesMut::with_capacity(2 * BUFFER_BYTES));
        give(BytesMut::new());
        assert_eq!(kept(), 0);
    }

    #[test]
    fn a_thread_keeps_so_many_and_no_more() {
        let lent: Vec<_> = (0..KEPT_MAX + 1).map(|_| take()).collect();
        for (index, buffer) in lent.into_iter().enumerate() {
            give(buffer);
            assert_eq!(kept(), (index + 1).min(KEPT_MAX));
        }
    }
}
