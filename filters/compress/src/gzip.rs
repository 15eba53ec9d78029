//! A gzip stream (RFC 1952) that is written chunk by chunk.
//!
//! Everything of a chunk can be read by the client as soon as it has what came out for it: nothing
//! waits for more. From a number of bytes on the rest is stored as it is, which costs next to nothing
//! and keeps the stream valid. Knows nothing of messages.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crc32fast::Hasher;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};

/// Magic, DEFLATE, no flags, no time, no hint, unknown system (RFC 1952 section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// DEFLATE without a wrapper of its own.
const RAW: i32 = -15;
/// Bytes of a stored block (RFC 1951 section 3.2.4).
const STORED_BYTES_MAX: usize = 0xffff;

/// The compressor broke its word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

pub(crate) struct Gzip {
    /// None: what comes is stored.
    compressor: Option<Box<CompressorOxide>>,
    begun: bool,
    checksum: Hasher,
    /// Bytes taken in; the format has their number modulo 2^32.
    taken: u64,
    /// Bytes that are compressed at most.
    most: u64,
}

impl Gzip {
    pub(crate) fn new(level: u8, most: u64) -> Self {
        let flags = create_comp_flags_from_zip_params(level.into(), RAW, 0);
        Self {
            compressor: Some(Box::new(CompressorOxide::new(flags))),
            begun: false,
            checksum: Hasher::new(),
            taken: 0,
            most,
        }
    }

    /// Bytes taken in.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// What comes out for this chunk, which may be empty; `last` is given once.
    pub(crate) fn push(&mut self, chunk: &[u8], last: bool) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::with_capacity(chunk.len() / 2 + 64);
        if !self.begun {
            self.begun = true;
            out.extend_from_slice(&HEADER);
        }
        self.checksum.update(chunk);
        let room = usize::try_from(self.most.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        self.taken = self.taken.saturating_add(chunk.len() as u64);
        let (compressed, stored) = chunk.split_at(room.min(chunk.len()));
        if let Some(compressor) = &mut self.compressor {
            let ends = last && stored.is_empty();
            deflate(compressor, compressed, ends, &mut out)?;
            if !stored.is_empty() {
                self.compressor = None;
            }
        }
        if self.compressor.is_none() {
            store(stored, last, &mut out);
        }
        if last {
            out.extend_from_slice(&self.checksum.clone().finalize().to_le_bytes());
            // The low half is the number modulo 2^32.
            out.extend_from_slice(&(self.taken as u32).to_le_bytes());
        }
        Ok(out)
    }
}

/// Compresses all of it, to the end of a byte.
fn deflate(
    compressor: &mut CompressorOxide,
    bytes: &[u8],
    last: bool,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let flush = if last { TDEFLFlush::Finish } else { TDEFLFlush::Sync };
    if bytes.is_empty() && !last {
        return Ok(());
    }
    let (status, taken) = compress_to_output(compressor, bytes, flush, |piece| {
        out.extend_from_slice(piece);
        true
    });
    let expected = if last { TDEFLStatus::Done } else { TDEFLStatus::Okay };
    if status == expected && taken == bytes.len() { Ok(()) } else { Err(Broken) }
}

/// Stored blocks, the last of them marked as such.
fn store(bytes: &[u8], last: bool, out: &mut Vec<u8>) {
    let mut block = |bytes: &[u8], last: bool| {
        let length = u16::try_from(bytes.len()).expect("a block is cut to its length");
        out.push(last.into());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    for piece in bytes.chunks(STORED_BYTES_MAX) {
        block(piece, false);
    }
    if last {
        block(&[], true);
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::decompress_to_vec;

    use super::*;

    /// What a client makes of a stream; panics where that is not valid.
    fn read(stream: &[u8]) -> Vec<u8> {
        assert_eq!(stream[..10], HEADER);
        let (rest, trailer) = stream.split_at(stream.len() - 8);
        let bytes = decompress_to_vec(&rest[10..]).expect("it is valid DEFLATE");
        assert_eq!(trailer[..4], crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(trailer[4..], (bytes.len() as u32).to_le_bytes());
        bytes
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| b'a' + ((at * at / 7) % 23) as u8).collect()
    }

    #[test]
    fn what_goes_in_comes_out_whatever_the_chunks() {
        let whole = text(200_000);
        for level in [1, 2, 4] {
            for size in [1_000, 65_536, 200_000] {
                let mut gzip = Gzip::new(level, u64::MAX);
                let mut stream = Vec::new();
                for chunk in whole.chunks(size) {
                    stream.extend(gzip.push(chunk, false).unwrap());
                }
                stream.extend(gzip.push(&[], true).unwrap());
                assert!(stream.len() < whole.len(), "level {level}, chunks of {size}");
                assert!(read(&stream) == whole, "level {level}, chunks of {size}");
                assert_eq!(gzip.taken(), 200_000);
            }
        }
    }

    #[test]
    fn nothing_at_all_is_a_stream_too() {
        assert_eq!(read(&Gzip::new(4, u64::MAX).push(&[], true).unwrap()), b"");
        assert_eq!(read(&Gzip::new(4, 0).push(&[], true).unwrap()), b"");
    }

    #[test]
    fn a_chunk_can_be_read_before_the_next_one_comes() {
        let mut gzip = Gzip::new(4, u64::MAX);
        let mut stream = gzip.push(b"event: one\n\n", false).unwrap();
        // What is there, ended by hand.
        let mut so_far = stream[10..].to_vec();
        store(&[], true, &mut so_far);
        assert_eq!(decompress_to_vec(&so_far).unwrap(), b"event: one\n\n");
        stream.extend(gzip.push(b"event: two\n\n", true).unwrap());
        assert_eq!(read(&stream), b"event: one\n\nevent: two\n\n");
    }

    #[test]
    fn beyond_the_bound_bytes_are_stored() {
        let whole = text(300_000);
        for most in [0, 1, 99_999, 100_000, 100_001, 299_999, 300_000, 300_001] {
            let mut gzip = Gzip::new(4, most);
            let mut stream = Vec::new();
            for chunk in whole.chunks(100_000) {
                stream.extend(gzip.push(chunk, false).unwrap());
            }
            stream.extend(gzip.push(&[], true).unwrap());
            assert!(read(&stream) == whole, "{most}");
            // Where nothing is compressed, all is there as it was.
            let seen = |bytes: &[u8]| stream.windows(bytes.len()).any(|window| window == bytes);
            assert_eq!(seen(&whole[299_900..]), most < 299_900, "{most}");
        }
    }
}
