//! Durations, sizes and shares as people write them: `5ms`, `64KiB`, `0.1%`. No rounding, so that a value
//! reads back as it was written. What the configuration and the command line have in common.
//!
//! Knows nothing of keys, ranges or files.

use std::time::Duration;

/// Units of time with their microseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Units of size with their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What is wrong with a duration, a size or a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// It does not begin with a whole number.
    NoNumber,
    /// The number has no unit.
    NoUnit,
    /// The unit is not one of the known ones.
    UnknownUnit,
    /// A percentage with more than four digits behind the point.
    TooFine,
    /// It does not fit into 64 bits.
    TooLarge,
}

/// Microseconds of `250us`, `5ms`, `30s`, `10m`, `1h`.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    parse(text, &TIME_UNITS)
}

/// Bytes of `512B`, `64KiB`, `32MiB`, `1GiB`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, &SIZE_UNITS)
}

/// The shortest way to write `micros`.
pub fn format_duration(micros: u64) -> String {
    if micros == 0 { "0s".to_owned() } else { format(micros, &TIME_UNITS) }
}

/// The shortest way to write `bytes`.
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { format(bytes, &SIZE_UNITS) }
}

/// Millionths of `5%`, `0.1%`, `125%`.
pub fn parse_percent(text: &str) -> Result<u64, UnitError> {
    const DIGITS_MAX: usize = 4;
    let number = text.strip_suffix('%').ok_or(UnitError::NoUnit)?.trim_end_matches(' ');
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(UnitError::NoNumber);
    }
    if fraction.len() > DIGITS_MAX {
        return Err(UnitError::TooFine);
    }
    // Only digits are left, so the one way to fail is a number that is too large.
    let whole: u64 = whole.parse().map_err(|_| UnitError::TooLarge)?;
    let fraction: u64 = format!("{fraction:0<DIGITS_MAX$}").parse().unwrap_or_default();
    whole.checked_mul(10_000).and_then(|it| it.checked_add(fraction)).ok_or(UnitError::TooLarge)
}

/// The shortest way to write `millionths` in percent.
pub fn format_percent(millionths: u64) -> String {
    let (whole, fraction) = (millionths / 10_000, millionths % 10_000);
    let text = format!("{whole}.{fraction:04}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Microseconds of a duration; finer parts are cut.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    let unit = unit.trim_start_matches(' ');
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let (_, scale) = units.iter().find(|(name, _)| *name == unit).ok_or(UnitError::UnknownUnit)?;
    // Only digits are left, so the one way to fail is a number that is too large.
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(*scale).ok_or(UnitError::TooLarge)
}

fn format(value: u64, units: &[(&str, u64)]) -> String {
    let (name, scale) = units
        .iter()
        .find(|(_, scale)| value.is_multiple_of(*scale))
        .expect("the last unit has a scale of one");
    format!("{}{name}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        for (text, expected) in [
            ("250us", Ok(250)),
            ("5ms", Ok(5_000)),
            ("30s", Ok(30_000_000)),
            ("30 s", Ok(30_000_000)),
            ("10m", Ok(600_000_000)),
            ("1h", Ok(3_600_000_000)),
            ("", Err(UnitError::NoNumber)),
            ("s", Err(UnitError::NoNumber)),
            ("-1s", Err(UnitError::NoNumber)),
            ("5", Err(UnitError::NoUnit)),
            ("1.5s", Err(UnitError::UnknownUnit)),
            ("5 sec", Err(UnitError::UnknownUnit)),
            ("5KiB", Err(UnitError::UnknownUnit)),
            ("5µs", Err(UnitError::UnknownUnit)),
            ("99999999999999999999s", Err(UnitError::TooLarge)),
            ("18446744073709551615h", Err(UnitError::TooLarge)),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_a_whole_number_and_a_binary_unit() {
        for (text, expected) in [
            ("512B", Ok(512)),
            ("64KiB", Ok(65_536)),
            ("1GiB", Ok(1 << 30)),
            ("64KB", Err(UnitError::UnknownUnit)),
            ("64k", Err(UnitError::UnknownUnit)),
            ("64", Err(UnitError::NoUnit)),
            ("17179869184GiB", Err(UnitError::TooLarge)),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn percentages_have_at_most_four_digits_behind_the_point() {
        for (text, expected) in [
            ("5%", Ok(50_000)),
            ("0.1%", Ok(1_000)),
            ("125%", Ok(1_250_000)),
            ("0.0001%", Ok(1)),
            ("5 %", Ok(50_000)),
            ("0.00001%", Err(UnitError::TooFine)),
            (".5%", Err(UnitError::NoNumber)),
            ("5.%", Err(UnitError::NoNumber)),
            ("-5%", Err(UnitError::NoNumber)),
            ("%", Err(UnitError::NoNumber)),
            ("5", Err(UnitError::NoUnit)),
            ("99999999999999999999%", Err(UnitError::TooLarge)),
            ("18446744073709551615%", Err(UnitError::TooLarge)),
        ] {
            assert_eq!(parse_percent(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_formatted_parses_back() {
        for micros in [0, 1, 999, 1_000, 1_500, 90_000_000, 3_600_000_000, u64::MAX] {
            assert_eq!(parse_duration(&format_duration(micros)), Ok(micros));
            assert_eq!(parse_size(&format_size(micros)), Ok(micros));
            assert_eq!(parse_percent(&format_percent(micros)), Ok(micros));
        }
        assert_eq!(format_duration(90_000_000), "90s");
        assert_eq!(format_size(32 << 20), "32MiB");
        assert_eq!(format_percent(1_250_000), "125%");
        assert_eq!(format_percent(1_000), "0.1%");
    }
}
