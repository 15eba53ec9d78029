//! Finds the end of a head or a trailer section as its bytes arrive, looking at each byte once.
//!
//! It refuses what no later byte can mend: a line feed without its carriage return, too many lines,
//! too many bytes. What the lines mean is the matter of `head`.

use crate::http::fields;
use memchr::memchr;

/// How far a section has been looked at. Starts anew for each section.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Where the section starts: behind an empty line, if one came before a request line.
    pub(super) start: usize,
    /// Complete lines before the empty one.
    pub(super) lines: usize,
    /// Bytes looked at.
    at: usize,
    line_start: usize,
}

/// What is wrong with a section as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanError {
    LineEnd,
    TooManyBytes,
    TooManyLines,
}

impl Scan {
    /// Steps over one empty line before a request line (RFC 9112 section 2.2). True once it is known
    /// whether there is one.
    pub(super) fn skip_empty_line(&mut self, bytes: &[u8]) -> bool {
        if self.at > 0 {
            return true;
        }
        match bytes {
            [] | [b'\r'] => false,
            [b'\r', b'\n', ..] => {
                *self = Scan { start: 2, lines: 0, at: 2, line_start: 2 };
                true
            }
            _ => true,
        }
    }

    /// The position behind the empty line that ends the section, once it is there. `bytes` are those
    /// of the last call and possibly more. Limits count from `start` and include the empty line.
    pub(super) fn end(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        lines_max: usize,
    ) -> Result<Option<usize>, ScanError> {
        let limit = self.start.saturating_add(bytes_max);
        while let Some(offset) = memchr(b'\n', &bytes[self.at..]) {
            let feed = self.at + offset;
            if feed >= limit {
                return Err(ScanError::TooManyBytes);
            }
            if feed == self.line_start || bytes[feed - 1] != b'\r' {
                return Err(ScanError::LineEnd);
            }
            let empty = feed - 1 == self.line_start;
            if !empty && self.lines == lines_max {
                return Err(ScanError::TooManyLines);
            }
            self.at = feed + 1;
            self.line_start = feed + 1;
            if empty {
                return Ok(Some(feed + 1));
            }
            self.lines += 1;
        }
        self.at = bytes.len();
        if bytes.len() > limit { Err(ScanError::TooManyBytes) } else { Ok(None) }
    }
}

/// A byte that no section may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteError {
    BareReturn,
    Control,
}

/// Checks every byte of a section that [`Scan::end`] delimited: no control byte but tab, and no
/// carriage return but those of its line ends, of which there are `ends`. Written for the vector
/// unit: no branch a byte.
pub(super) fn check_bytes(section: &[u8], ends: usize) -> Result<(), ByteError> {
    let mut controls = false;
    let mut returns = 0;
    for piece in section.chunks(128) {
        let mut bad = 0_u8;
        let mut here = 0_u8;
        for byte in piece {
            let control = (*byte < 0x20) | (*byte == 0x7f);
            let known = (*byte == b'\t') | (*byte == b'\r') | (*byte == b'\n');
            bad |= u8::from(control & !known);
            here += u8::from(*byte == b'\r');
        }
        controls |= bad != 0;
        returns += usize::from(here);
    }
    match (controls, returns == ends) {
        (true, _) => Err(ByteError::Control),
        (false, false) => Err(ByteError::BareReturn),
        (false, true) => Ok(()),
    }
}

/// The lines of a checked section, without their ends and without the empty line.
pub(super) fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = section;
    std::iter::from_fn(move || {
        let end = memchr(b'\r', rest)?;
        let line = &rest[..end];
        rest = rest.get(end + 2..)?;
        (!line.is_empty()).then_some(line)
    })
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    Folded,
    Name,
    BlankBeforeColon,
}

/// Name and value of a field line (RFC 9112 section 5).
pub(super) fn field(line: &[u8]) -> Result<(fields::Name<'_>, &[u8]), LineError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(LineError::Folded);
    }
    match fields::Name::split(line) {
        Ok((name, [b':', value @ ..])) => Ok((name, fields::trim(value))),
        _ => Err(name_error(line)),
    }
}

/// What is wrong with the name of a line.
#[cold]
fn name_error(line: &[u8]) -> LineError {
    let colon = line.iter().position(|byte| *byte == b':');
    match colon.and_then(|colon| line[..colon].last()) {
        Some(b' ' | b'\t') => LineError::BlankBeforeColon,
        _ => LineError::Name,
    }
}
