//! The `x-request-id` field: an id of one request for logs and support.
//!
//! Decides whether an id that came with a request is fit to be kept, and makes new ones: UUIDs of
//! version 7 (RFC 9562 section 5.7), which sort by time. Knows neither clock nor random source.

use alloc::string::String;

use crate::hex;

/// Characters of an id that is kept.
const LENGTH_MAX: usize = 128;

/// Random bytes in a new id.
pub(crate) const RANDOM_BYTES: usize = 10;

/// The one id that came with the request, if it is fit to be kept: 1 to 128 letters, digits and
/// `- _ . ~ : / + = @`, in a single field line. So it can stand in a log line or a URL as it is.
pub(crate) fn kept(lines: &[String]) -> Option<&str> {
    match lines {
        [line] if is_fit(line.as_bytes()) => Some(line),
        _ => None,
    }
}

fn is_fit(id: &[u8]) -> bool {
    let belongs = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b'+' | b'=' | b'@')
    };
    !id.is_empty() && id.len() <= LENGTH_MAX && id.iter().all(belongs)
}

/// A new id, as the text of a UUID.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uuid([u8; 36]);

impl Uuid {
    /// A UUID of version 7 from Unix time in milliseconds (of which 48 bits are used) and random
    /// bytes.
    pub(crate) fn v7(unix_ms: u64, random: [u8; RANDOM_BYTES]) -> Self {
        let [version, sequence, random @ ..] = random;
        let version = u64::from(0x70 | version & 0x0f) << 8 | u64::from(sequence);
        let high = hex::digits(unix_ms << 16 | version);
        let low = hex::digits(u64::from_be_bytes(random) & (!0 >> 2) | 1 << 63);
        let mut text = [b'-'; 36];
        text[..8].copy_from_slice(&high[..8]);
        text[9..13].copy_from_slice(&high[8..12]);
        text[14..18].copy_from_slice(&high[12..]);
        text[19..23].copy_from_slice(&low[..4]);
        text[24..].copy_from_slice(&low[4..]);
        Self(text)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("digits and dashes are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_time_version_variant_and_random_bits() {
        // The example of RFC 9562 appendix A.6.
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let id = Uuid::v7(0x017f_22e2_79b0, random);
        assert_eq!(id.as_str(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        let ones = Uuid::v7(u64::MAX, [0xff; RANDOM_BYTES]);
        assert_eq!(ones.as_str(), "ffffffff-ffff-7fff-bfff-ffffffffffff");
        let zeros = Uuid::v7(0, [0; RANDOM_BYTES]);
        assert_eq!(zeros.as_str(), "00000000-0000-7000-8000-000000000000");
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        assert!(Uuid::v7(1_000, [0xff; RANDOM_BYTES]) < Uuid::v7(1_001, [0; RANDOM_BYTES]));
    }

    #[test]
    fn a_fit_id_is_kept() {
        for id in ["1", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "Root=1-67891233-ab:/cd+ef_~@x."] {
            assert_eq!(kept(&[id.to_owned()]), Some(id));
        }
    }

    #[test]
    fn an_id_has_1_to_128_characters() {
        for (length, fit) in [(0, false), (1, true), (127, true), (128, true), (129, false)] {
            assert_eq!(kept(&["a".repeat(length)]).is_some(), fit, "{length}");
        }
    }

    #[test]
    fn an_unfit_id_is_not_kept() {
        for id in ["a b", "a,b", "a;b", "a\"b", "<a>", "a\tb", "\u{e9}", "\u{fffd}"] {
            assert_eq!(kept(&[id.to_owned()]), None, "{id}");
        }
        assert_eq!(kept(&[]), None);
        assert_eq!(kept(&["a".to_owned(), "a".to_owned()]), None);
    }
}
