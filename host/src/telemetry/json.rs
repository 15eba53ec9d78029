//! Pieces of JSON written straight into a buffer: strings from any bytes, and times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A quoted string (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD; control characters
/// and the separators that JavaScript takes for line ends are escaped.
pub(crate) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        push_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Valid UTF-8, of which everything that needs an escape is ASCII.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain_from = 0;
    for (at, byte) in text.iter().copied().enumerate() {
        let is_plain = byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f;
        if is_plain {
            continue;
        }
        out.extend_from_slice(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text[plain_from..]);
}

/// `2026-01-02T03:04:05.678Z` (RFC 3339, UTC). Times before 1970 count as its start, times after
/// 9999 as its end.
pub(crate) fn push_time(out: &mut Vec<u8>, time: SystemTime) {
    /// 9999-12-31T23:59:59.
    const SECONDS_MAX: u64 = 253_402_300_799;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs().min(SECONDS_MAX);
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    push_digits::<4>(out, year);
    out.push(b'-');
    push_digits::<2>(out, month);
    out.push(b'-');
    push_digits::<2>(out, day);
    out.push(b'T');
    push_digits::<2>(out, of_day / 3_600);
    out.push(b':');
    push_digits::<2>(out, of_day / 60 % 60);
    out.push(b':');
    push_digits::<2>(out, of_day % 60);
    out.push(b'.');
    push_digits::<3>(out, since.subsec_millis().into());
    out.push(b'Z');
}

/// Year, month and day of a day counted from 1970-01-01. Years are counted from March, so that the
/// leap day comes last, and in eras of 400 years, which all have as many days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn push_digits<const N: usize>(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_gives_a_string_that_reads_back() {
        for byte in 0..=255u8 {
            let bytes = [b'a', byte, b'b'];
            let text = string(&bytes);
            let read: String = serde_json::from_str(&text).unwrap();
            assert_eq!(read, String::from_utf8_lossy(&bytes), "{text}");
            assert!(!text.bytes().any(|byte| byte.is_ascii_control()));
        }
    }

    #[test]
    fn text_reads_back() {
        for text in ["", "plain", "\"\\\n\r\t\0", "ä€😀\u{2028}", "ends in \\"] {
            let read: String = serde_json::from_str(&string(text.as_bytes())).unwrap();
            assert_eq!(read, text);
        }
        assert_eq!(string(b"a\xe2\x82"), "\"a\u{fffd}\"");
    }

    #[test]
    fn times_are_rfc_3339() {
        let at = |seconds, milliseconds| {
            let mut out = Vec::new();
            let since = Duration::from_secs(seconds) + Duration::from_millis(milliseconds);
            push_time(&mut out, UNIX_EPOCH + since);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(951_868_799, 999), "2000-02-29T23:59:59.999Z");
        assert_eq!(at(1_709_251_199, 0), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(1_735_689_600, 0), "2025-01-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(253_402_300_799, 0), "9999-12-31T23:59:59.000Z");
        assert_eq!(at(253_402_300_800, 0), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn dates_follow_each_other() {
        let mut previous = civil_date(0);
        for day in 1..200_000 {
            let date = civil_date(day);
            let (year, month, of_month) = previous;
            let next = [(year, month, of_month + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(next.contains(&date), "{previous:?} {date:?}");
            previous = date;
        }
        assert_eq!(civil_date(20_000), (2024, 10, 4));
    }
}
