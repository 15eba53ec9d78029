//! How a request says how much time it has: `grpc-timeout`, and a plain field of the operator's
//! choice.
//!
//! Nothing is rounded down on the way out, so that what is left never reads as nothing.

use super::fields::{Fields, Name};
use std::time::Duration;

/// The field of gRPC, as its HTTP/2 protocol defines it
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub const GRPC_TIMEOUT: Name<'static> = Name::known("grpc-timeout");

/// Digits of a `grpc-timeout` at most.
pub const GRPC_TIMEOUT_DIGITS: usize = 8;

/// Digits of a plain timeout at most: what fits into 64 bits.
pub const TIMEOUT_DIGITS: usize = 19;

/// Units of `grpc-timeout` with their nanoseconds, finest first.
const GRPC_UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// Units of a plain timeout with their nanoseconds.
const UNITS: [(&[u8], u64); 5] = [
    (b"us", 1_000),
    (b"ms", 1_000_000),
    (b"s", 1_000_000_000),
    (b"m", 60_000_000_000),
    (b"h", 3_600_000_000_000),
];

/// How a plain timeout was written, and is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `250ms`
    Unit,
    /// `250`, in milliseconds.
    Milliseconds,
}

/// Does the head of a request say that it is a call of gRPC, or of gRPC-Web?
pub fn is_grpc(fields: &Fields) -> bool {
    const CONTENT_TYPE: Name<'static> = Name::known("content-type");
    fields.get(CONTENT_TYPE).unwrap_or_default().starts_with(b"application/grpc")
}

/// Reads the value of `grpc-timeout`: one to eight digits and a unit.
pub fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let (_, nanos) = GRPC_UNITS.iter().find(|(known, _)| known == unit)?;
    Some(nanoseconds(u128::from(number(digits, GRPC_TIMEOUT_DIGITS)?) * nanos))
}

/// Writes a value of `grpc-timeout`, in the finest unit that has room for it.
pub fn write_grpc(time: Duration) -> String {
    const ROOM: u128 = 10_u128.pow(GRPC_TIMEOUT_DIGITS as u32) - 1;
    let nanos = time.as_nanos();
    let (unit, scale) = GRPC_UNITS
        .into_iter()
        .find(|(_, scale)| nanos.div_ceil(*scale) <= ROOM)
        .unwrap_or(GRPC_UNITS[GRPC_UNITS.len() - 1]);
    format!("{}{}", nanos.div_ceil(scale).min(ROOM), char::from(unit))
}

/// Reads a plain timeout: digits, with one of the units `us`, `ms`, `s`, `m` and `h` or without, which
/// is milliseconds.
pub fn parse(value: &[u8]) -> Option<(Duration, Form)> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = value.split_at(digits);
    let number = number(digits, TIMEOUT_DIGITS)?;
    let (scale, form) = match unit {
        b"" => (1_000_000, Form::Milliseconds),
        unit => (UNITS.iter().find(|(known, _)| *known == unit)?.1, Form::Unit),
    };
    Some((nanoseconds(u128::from(number) * u128::from(scale)), form))
}

/// Writes a plain timeout, in whole milliseconds.
pub fn write(time: Duration, form: Form) -> String {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    match form {
        Form::Unit => format!("{milliseconds}ms"),
        Form::Milliseconds => milliseconds.to_string(),
    }
}

fn number(digits: &[u8], digits_max: usize) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    if digits.is_empty() || digits.len() > digits_max || !is_number {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn nanoseconds(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    // The rest of a division by a billion fits into 32 bits.
    Duration::new(u64::try_from(nanos / SECOND).unwrap_or(u64::MAX), (nanos % SECOND) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_grpc_has_one_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1n", Some(Duration::from_nanos(1))),
            ("1u", Some(Duration::from_micros(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("0S", Some(Duration::ZERO)),
            ("9999999S", Some(Duration::from_secs(9_999_999))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100000000S", None),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("5 S", None),
            ("-5S", None),
            ("+5S", None),
            ("5.5S", None),
            ("5SS", None),
            ("\u{661}S", None),
        ] {
            assert_eq!(parse_grpc(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse_grpc(b"\xff\xffS"), None);
    }

    #[test]
    fn a_timeout_of_grpc_is_written_in_the_finest_unit_that_has_room() {
        for (time, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_000), "100000u"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(86_400), "86400000m"),
            (Duration::from_secs(7 * 86_400), "604800S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(write_grpc(time), text);
        }
    }

    #[test]
    fn a_plain_timeout_has_a_unit_or_is_in_milliseconds() {
        let (unit, milliseconds) = (Form::Unit, Form::Milliseconds);
        for (text, expected) in [
            ("250", Some((Duration::from_millis(250), milliseconds))),
            ("0", Some((Duration::ZERO, milliseconds))),
            ("250ms", Some((Duration::from_millis(250), unit))),
            ("100us", Some((Duration::from_micros(100), unit))),
            ("5s", Some((Duration::from_secs(5), unit))),
            ("2m", Some((Duration::from_secs(120), unit))),
            ("1h", Some((Duration::from_secs(3_600), unit))),
            (
                "9999999999999999999h",
                Some((nanoseconds(9_999_999_999_999_999_999 * 3_600_000_000_000), unit)),
            ),
            ("10000000000000000000", None),
            ("", None),
            ("ms", None),
            ("5 ms", None),
            ("5S", None),
            ("-5", None),
            ("1.5s", None),
            ("5,5", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_plain_timeout_is_passed_on_as_it_came() {
        let time = Duration::from_micros(1_001);
        assert_eq!(write(time, Form::Unit), "2ms");
        assert_eq!(write(time, Form::Milliseconds), "2");
        assert_eq!(write(Duration::from_nanos(1), Form::Unit), "1ms");
        assert_eq!(write(Duration::MAX, Form::Unit), "18446744073709551616000ms");
    }

    #[test]
    fn any_bytes_are_a_time_or_none_and_what_is_written_is_read_again() {
        for _ in 0..20_000 {
            let length = rand::random_range(0..24);
            let value: Vec<u8> =
                (0..length).map(|_| b"0123456789numSMHsh +"[rand::random_range(0..20)]).collect();
            let _no_panic = (parse_grpc(&value), parse(&value));
            let time = Duration::from_nanos(rand::random::<u64>() >> rand::random_range(0..64));
            let read = parse_grpc(write_grpc(time).as_bytes()).unwrap();
            assert!(read >= time && read - time <= time / 50_000, "{time:?} {read:?}");
            for form in [Form::Unit, Form::Milliseconds] {
                let (read, found) = parse(write(time, form).as_bytes()).unwrap();
                assert!(found == form && read >= time, "{time:?} {read:?}");
                assert!(read - time < Duration::from_millis(1), "{time:?} {read:?}");
            }
        }
    }
}
