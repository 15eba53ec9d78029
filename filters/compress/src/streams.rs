//! The responses that an instance is compressing: many at a time, chunk by chunk.
//!
//! Each has a number, which its exchange carries in a note. Knows nothing of what is compressed.

use alloc::vec::Vec;

use crate::gzip::Gzip;

/// Responses at once: each takes about 320 KiB of the 32 MiB that an instance has.
pub(crate) const STREAMS_MAX: usize = 64;

/// A response, before its first byte is compressed and after.
pub(crate) enum Stream {
    /// Its head waits until there are enough bytes.
    Waiting,
    Running(Gzip),
}

#[derive(Default)]
pub(crate) struct Streams {
    list: Vec<(u64, Stream)>,
}

impl Streams {
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= STREAMS_MAX
    }

    pub(crate) fn add(&mut self, id: u64, stream: Stream) {
        self.list.push((id, stream));
    }

    pub(crate) fn find(&mut self, id: u64) -> Option<&mut Stream> {
        self.list.iter_mut().find(|(own, _)| *own == id).map(|(_, stream)| stream)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Stream> {
        let place = self.list.iter().position(|(own, _)| *own == id)?;
        Some(self.list.swap_remove(place).1)
    }
}
