//! Trace and span ids, as the text they travel in.
//!
//! An id that exists is valid: lower-case hexadecimal digits of the right number, not all zero.
//! Knows no header formats (see `traceparent` and `b3`) and draws no random bytes itself.

use crate::hex;

/// The id of a whole trace: 32 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId([u8; 32]);

/// The id of one operation in a trace: 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId([u8; 16]);

impl TraceId {
    /// The id these digits spell; none unless there are 32 that are valid.
    pub(crate) fn parse(digits: &[u8]) -> Option<Self> {
        checked(digits).map(Self)
    }

    /// The id these digits spell, 16 of them (as older B3 senders have it) filled up with zeros on
    /// the left.
    pub(crate) fn parse_padded(digits: &[u8]) -> Option<Self> {
        let short: [u8; 16] = match checked(digits) {
            Some(short) => short,
            None => return Self::parse(digits),
        };
        let mut id = [b'0'; 32];
        id[16..].copy_from_slice(&short);
        Some(Self(id))
    }

    /// An id from random bytes. All zero, which is no id, becomes the id 1.
    pub(crate) fn from_random(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes).max(1);
        let mut id = [0; 32];
        id[..16].copy_from_slice(&hex::digits((number >> 64) as u64));
        id[16..].copy_from_slice(&hex::digits(number as u64));
        Self(id)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("digits are ASCII")
    }

    /// The rightmost seven bytes as a number: the part that level 2 of Trace Context expects to be
    /// random, and that sampling decisions are made of.
    pub(crate) fn low_56_bits(&self) -> u64 {
        hex::number(&self.0[18..]).expect("an id holds lower-case digits only")
    }
}

impl SpanId {
    /// The id these digits spell; none unless there are 16 that are valid.
    pub(crate) fn parse(digits: &[u8]) -> Option<Self> {
        checked(digits).map(Self)
    }

    /// An id from random bytes. All zero, which is no id, becomes the id 1.
    pub(crate) fn from_random(bytes: [u8; 8]) -> Self {
        Self(hex::digits(u64::from_be_bytes(bytes).max(1)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

fn checked<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let id: [u8; N] = digits.try_into().ok()?;
    (hex::is_lower(&id) && !is_zero(&id)).then_some(id)
}

fn is_zero(digits: &[u8]) -> bool {
    digits.iter().all(|&digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_zero_is_no_id() {
        assert_eq!(TraceId::parse(&[b'0'; 32]), None);
        assert_eq!(SpanId::parse(&[b'0'; 16]), None);
        assert_eq!(TraceId::parse_padded(&[b'0'; 16]), None);
        assert_eq!(TraceId::parse_padded(&[b'0'; 32]), None);
    }

    #[test]
    fn ids_have_their_length_and_lower_case_digits() {
        for (digits, valid) in [(31, false), (32, true), (33, false), (16, false)] {
            assert_eq!(TraceId::parse(&vec![b'a'; digits]).is_some(), valid, "{digits}");
        }
        for (digits, valid) in [(15, false), (16, true), (17, false)] {
            assert_eq!(SpanId::parse(&vec![b'a'; digits]).is_some(), valid, "{digits}");
        }
        assert_eq!(SpanId::parse(b"000000000000000A"), None);
    }

    #[test]
    fn short_trace_ids_are_filled_with_zeros() {
        let id = TraceId::parse_padded(b"48485a3953bb6124").unwrap();
        assert_eq!(id.as_str(), "000000000000000048485a3953bb6124");
        assert!(TraceId::parse_padded(&[b'a'; 24]).is_none());
    }

    #[test]
    fn random_bytes_always_make_a_valid_id() {
        assert_eq!(TraceId::from_random([0; 16]).as_str(), "00000000000000000000000000000001");
        assert_eq!(SpanId::from_random([0; 8]).as_str(), "0000000000000001");
        assert_eq!(SpanId::from_random([0xab; 8]).as_str(), "abababababababab");
    }

    #[test]
    fn the_low_seven_bytes_are_the_last_fourteen_digits() {
        let id = TraceId::parse(b"ffffffffffffffffff00000000000102").unwrap();
        assert_eq!(id.low_56_bits(), 0x0102);
    }
}
