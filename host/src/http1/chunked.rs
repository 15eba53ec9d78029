//! The chunked coding (RFC 9112 section 7.1), decoded from the read buffer.
//!
//! Strict: a size of 1 to 16 hexadecimal digits, extensions skipped within bounds, CR LF at every
//! line end. Knows nothing of where the bytes come from.

use super::framing::is_kept_from_trailers;
use super::limits::HeadLimits;
use super::reader::{FRAME_BYTES_MAX, take_frame};
use super::scan::{self, ByteError, LineError, Scan, ScanError};
use crate::http::{BodyError, Fields, fields};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// Bytes of extensions of one chunk, from the end of the size to the end of the line.
pub(super) const EXTENSION_BYTES_MAX: usize = 256;

/// Bytes of extensions of one body.
pub(super) const EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

/// Digits of a size: as many as 64 bits have.
const SIZE_DIGITS_MAX: usize = 16;

/// Chunks smaller than this are gathered into frames of about this size, as far as they have
/// arrived: a body of one-byte chunks must not cost a frame, and a filter call, a byte.
const GATHER_BYTES: usize = 4 * 1024;

/// What the decoder found in the buffer.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing more without more bytes.
    Starved,
    Data(Bytes),
    Trailers(Fields),
    End,
}

/// The decoder of one body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
    /// Small chunks on their way into one frame.
    gathered: BytesMut,
    trailer_bytes_max: usize,
    trailer_fields_max: usize,
}

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers(Scan),
    End,
}

impl Chunked {
    pub(super) fn new(limits: &HeadLimits) -> Self {
        Chunked {
            state: State::Size,
            extensions: 0,
            gathered: BytesMut::new(),
            trailer_bytes_max: limits.trailer_bytes,
            trailer_fields_max: limits.trailer_fields,
        }
    }

    /// Takes the next piece out of `buffer`. What was gathered before an error or the end is handed
    /// out first; the next call meets the same error or end again.
    pub(super) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, BodyError> {
        loop {
            if self.gathered.len() >= GATHER_BYTES {
                return Ok(self.hand_out());
            }
            match self.state {
                State::Data(left) => {
                    let here = buffer.len().min(FRAME_BYTES_MAX).min(as_length(left));
                    if here == 0 {
                        return Ok(self.hand_out_or(Step::Starved));
                    }
                    let small = here < GATHER_BYTES;
                    if !small && !self.gathered.is_empty() {
                        return Ok(self.hand_out());
                    }
                    let left = left - here as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    if !small {
                        return Ok(Step::Data(take_frame(buffer, here)));
                    }
                    self.gathered.extend_from_slice(&buffer[..here]);
                    buffer.advance(here);
                }
                State::Size | State::DataEnd => match self.between_chunks(buffer) {
                    Ok(true) => {}
                    Ok(false) => return Ok(self.hand_out_or(Step::Starved)),
                    Err(error) => return self.hand_out_or_fail(error),
                },
                State::Trailers(_) | State::End if !self.gathered.is_empty() => {
                    return Ok(self.hand_out());
                }
                State::Trailers(_) => return self.trailers(buffer),
                State::End => return Ok(Step::End),
            }
        }
    }

    /// Reads a size line, or the line end behind a chunk. False: it has not arrived whole.
    fn between_chunks(&mut self, buffer: &mut BytesMut) -> Result<bool, BodyError> {
        if let State::DataEnd = self.state {
            match &buffer[..] {
                [b'\r', b'\n', ..] => {}
                [] | [b'\r'] => return Ok(false),
                _ => return Err(BodyError::Malformed("a chunk does not end in CR LF")),
            }
            buffer.advance(2);
            self.state = State::Size;
            return Ok(true);
        }
        let longest = SIZE_DIGITS_MAX + EXTENSION_BYTES_MAX + 2;
        let window = &buffer[..buffer.len().min(longest)];
        let digits = size_digits(window)?;
        let Some(feed) = memchr(b'\n', window) else {
            return if window.len() == longest {
                Err(BodyError::Malformed("a chunk extension is too long"))
            } else {
                Ok(false)
            };
        };
        let line = window[..feed]
            .strip_suffix(b"\r")
            .ok_or(BodyError::Malformed("a chunk size does not end in CR LF"))?;
        check_extension(&line[digits..])?;
        let (size, extension) = (hexadecimal(&line[..digits]), line.len() - digits);
        if extension > EXTENSION_BYTES_MAX {
            return Err(BodyError::Malformed("a chunk extension is too long"));
        }
        if self.extensions + extension > EXTENSIONS_BYTES_MAX {
            return Err(BodyError::Malformed("the chunk extensions are too long"));
        }
        self.extensions += extension;
        buffer.advance(feed + 1);
        self.state = if size == 0 { State::Trailers(Scan::default()) } else { State::Data(size) };
        Ok(true)
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, BodyError> {
        let State::Trailers(scan) = &mut self.state else { return Ok(Step::End) };
        let end = scan.end(buffer, self.trailer_bytes_max, self.trailer_fields_max);
        let Some(end) = end.map_err(|error| match error {
            ScanError::LineEnd => BodyError::Malformed("a trailer line does not end in CR LF"),
            ScanError::TooManyBytes => BodyError::TrailersTooLarge("trailer_bytes"),
            ScanError::TooManyLines => BodyError::TrailersTooLarge("trailer_fields"),
        })?
        else {
            return Ok(Step::Starved);
        };
        let fields = trailer_section(&buffer[..end], scan.lines);
        if fields.is_err() {
            // Asked again, it finds the same error.
            *scan = Scan::default();
        }
        let fields = fields?;
        buffer.advance(end);
        self.state = State::End;
        Ok(if fields.is_empty() { Step::End } else { Step::Trailers(fields) })
    }

    fn hand_out(&mut self) -> Step {
        Step::Data(std::mem::take(&mut self.gathered).freeze())
    }

    fn hand_out_or(&mut self, otherwise: Step) -> Step {
        if self.gathered.is_empty() { otherwise } else { self.hand_out() }
    }

    fn hand_out_or_fail(&mut self, error: BodyError) -> Result<Step, BodyError> {
        if self.gathered.is_empty() { Err(error) } else { Ok(self.hand_out()) }
    }
}

/// The number of digits of a size that may not have arrived whole. What no later byte can mend is
/// refused at once, so that noise does not wait for a timeout.
fn size_digits(window: &[u8]) -> Result<usize, BodyError> {
    let digits = window.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match window.get(digits) {
        _ if digits > SIZE_DIGITS_MAX => {
            Err(BodyError::Malformed("a chunk size has more than 16 digits"))
        }
        Some(_) if digits == 0 => Err(BodyError::Malformed("a chunk has no size")),
        None | Some(b'\r' | b';' | b' ' | b'\t') => Ok(digits),
        Some(_) => Err(BodyError::Malformed("a chunk size is not a number")),
    }
}

/// The value of at most 16 digits.
fn hexadecimal(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        value << 4 | u64::from(digit)
    })
}

/// RFC 9112 section 7.1.1: blanks may stand before the semicolon; nothing else may.
fn check_extension(extension: &[u8]) -> Result<(), BodyError> {
    match fields::trim(extension).first() {
        None if extension.is_empty() => {}
        Some(b';') => {}
        None | Some(_) => return Err(BodyError::Malformed("a chunk size is not a number")),
    }
    if !fields::is_value(extension) {
        return Err(BodyError::Malformed("a chunk extension holds a control byte"));
    }
    Ok(())
}

fn trailer_section(section: &[u8], lines: usize) -> Result<Fields, BodyError> {
    scan::check_bytes(section, lines + 1).map_err(|error| match error {
        ByteError::BareReturn => BodyError::Malformed("a trailer holds a bare CR"),
        ByteError::Control => BodyError::Malformed("a trailer holds a control byte"),
    })?;
    let mut fields = Fields::default();
    for line in scan::lines(section) {
        let (name, value) = scan::field(line).map_err(|error| match error {
            LineError::Folded => BodyError::Malformed("a trailer is folded"),
            LineError::Name => BodyError::Malformed("a trailer has no valid name"),
            LineError::BlankBeforeColon => {
                BodyError::Malformed("a trailer's name is followed by a blank")
            }
        })?;
        if !is_kept_from_trailers(name) {
            fields.append(name, value);
        }
    }
    Ok(fields)
}

/// `count`, as far as memory can have it.
pub(super) fn as_length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
