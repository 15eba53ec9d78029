//! Lower-case hexadecimal digits: the spelling of every id in trace headers.
//!
//! Owns the two directions that the filter needs and nothing else. Ids stay text from the header
//! they came in to the header they leave in; only random bytes are ever encoded.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Write the digits of `bytes` into `out`, which is exactly twice as long.
pub(crate) fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), bytes.len() * 2, "two digits a byte");
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Are these lower-case hexadecimal digits, every one of them?
pub(crate) fn is_lower(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The number that at most sixteen lower-case digits spell; none for anything else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !is_lower(text) {
        return None;
    }
    let digit = |byte: u8| u64::from(if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 });
    Some(text.iter().fold(0, |sum, &byte| (sum << 4) | digit(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_two_digits_each() {
        let mut out = [0; 6];
        encode(&[0x00, 0xaf, 0x19], &mut out);
        assert_eq!(&out, b"00af19");
    }

    #[test]
    fn only_lower_case_digits_count() {
        assert!(is_lower(b"0123456789abcdef"));
        for text in [&b"A"[..], b"g", b" 1", b"-", &[0xff]] {
            assert!(!is_lower(text), "{text:?}");
        }
    }

    #[test]
    fn numbers_hold_up_to_sixteen_digits() {
        assert_eq!(number(b"ff"), Some(255));
        assert_eq!(number(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(number(b"0fffffffffffffffe"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"0A"), None);
    }
}
