//! Bytes that are wanted as text.

use std::str::Utf8Error;

/// The bytes as text, if they are UTF-8. They are nearly always ASCII here, which is quicker to see.
pub fn utf8(bytes: &[u8]) -> Result<&str, Utf8Error> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_utf8_is_text_and_nothing_else() {
        for text in ["", "a", "/path?query=1&and=more", "\u{7f}", "\u{80}", "ä", "plain, then ü"]
        {
            assert_eq!(utf8(text.as_bytes()), Ok(text));
        }
        for bytes in [&b"\x80"[..], b"a long enough text, then \xff", b"\xc3", b"\xe2\x82"] {
            assert!(utf8(bytes).is_err(), "{bytes:?}");
        }
    }
}
