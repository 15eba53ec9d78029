//! Lower-case hexadecimal digits: the spelling of every id in trace headers.
//!
//! Owns the two directions that the filter needs and nothing else. Ids stay text from the header
//! they came in to the header they leave in; only random bytes are ever encoded.

/// The sixteen digits of a number.
pub(crate) fn digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&eight_digits(number >> 32));
    digits[8..].copy_from_slice(&eight_digits(number & 0xffff_ffff));
    digits
}

/// The digits of a number of 32 bits, all at once: every byte of a word becomes one digit.
fn eight_digits(number: u64) -> [u8; 8] {
    const EVERY_BYTE: u64 = u64::from_ne_bytes([1; 8]);
    // Spread the nibbles: halves, quarters and eighths move apart until each has a byte. The upper one
    // of two goes to the lower place, so that the first digit is the first byte of the word in memory:
    // WebAssembly has no instruction to turn a word around.
    let word = number >> 16 | (number & 0xffff) << 32;
    let word = word >> 8 & 0x0000_00ff_0000_00ff | (word & 0x0000_00ff_0000_00ff) << 16;
    let word = word >> 4 & 0x000f_000f_000f_000f | (word & 0x000f_000f_000f_000f) << 8;
    // Six more than 9 sets the fifth bit: such a digit is a letter, 39 places behind `0` and its value.
    let letters = (word + 6 * EVERY_BYTE) >> 4 & EVERY_BYTE;
    (word + u64::from(b'0') * EVERY_BYTE + letters * 39).to_le_bytes()
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
    fn a_number_has_sixteen_digits() {
        assert_eq!(&digits(0x0123_4567_89ab_cdef), b"0123456789abcdef");
        for number in [0, 1, 9, 10, 0xa9, u64::MAX, u64::MAX << 4, 0x9a9a_9a9a_a9a9_a9a9] {
            assert_eq!(digits(number), format!("{number:016x}").as_bytes(), "{number}");
        }
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
