//! Shares as people write them: `0.2`, `1`. Held in thousandths, so that a value reads back as it was
//! written.
//!
//! Knows nothing of keys, ranges or files.

use serde_json::Value;

/// What is wrong with a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RatioError {
    /// It is below 0.
    Negative,
    /// It is not a number with at most three decimals.
    Malformed,
}

/// Thousandths of a number with at most three decimals; one that is too large is as large as it gets.
pub(super) fn parse(text: &str) -> Result<u64, RatioError> {
    if text.starts_with('-') {
        return Err(RatioError::Negative);
    }
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    if !is_digits(whole) || !is_digits(decimals) || decimals.len() > 3 {
        return Err(RatioError::Malformed);
    }
    // Only digits are left, so the one way to fail is a number that is too large.
    Ok(format!("{whole}{decimals:0<3}").parse().unwrap_or(u64::MAX))
}

/// The shortest way to write so many thousandths.
pub(super) fn format(thousandths: u64) -> String {
    let decimals = format!(".{:03}", thousandths % 1_000);
    let decimals = decimals.trim_end_matches('0').trim_end_matches('.');
    format!("{}{decimals}", thousandths / 1_000)
}

/// So many thousandths as a number.
pub(super) fn to_json(thousandths: u64) -> Value {
    match thousandths % 1_000 {
        0 => (thousandths / 1_000).into(),
        _ => (thousandths as f64 / 1e3).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_up_to_three_decimals() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("1", Ok(1_000)),
            ("0.2", Ok(200)),
            ("0.25", Ok(250)),
            ("1.005", Ok(1_005)),
            ("0.0005", Err(RatioError::Malformed)),
            ("", Err(RatioError::Malformed)),
            (".5", Err(RatioError::Malformed)),
            ("5.", Err(RatioError::Malformed)),
            ("1e3", Err(RatioError::Malformed)),
            ("nan", Err(RatioError::Malformed)),
            ("-1", Err(RatioError::Negative)),
            ("18446744073709551615", Ok(u64::MAX)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_formatted_parses_back() {
        for thousandths in [0, 1, 10, 200, 1_000, 1_050] {
            assert_eq!(parse(&format(thousandths)), Ok(thousandths));
        }
        assert_eq!(
            (to_json(0).to_string(), to_json(1_050).to_string()),
            ("0".into(), "1.05".into())
        );
        assert_eq!((format(200), format(0), format(1_000)), ("0.2".into(), "0".into(), "1".into()));
    }
}
