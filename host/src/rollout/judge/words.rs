//! Verdicts as sentences: counts with their shares, evidence as odds, times and sizes with units.

use super::rate::Trials;
use std::time::Duration;

/// `37 of 412 requests failed (9.0 %), 3 of 8,120 (0.04 %) on the running version`.
pub(super) fn compared(what: &str, running: Trials, next: Trials) -> String {
    let beside = if running.exchanges == 0 {
        "the running version had none to compare with".to_owned()
    } else {
        format!("{} on the running version", part(running, ""))
    };
    format!("{}, {beside}", part(next, what))
}

/// `37 of 412 requests failed (9.0 %)`, where `what` is `requests failed`.
pub(super) fn part(trials: Trials, what: &str) -> String {
    let blank = if what.is_empty() { "" } else { " " };
    let (bad, exchanges) = (count(trials.bad), count(trials.exchanges));
    format!("{bad} of {exchanges}{blank}{what} ({})", percent(trials.share()))
}

/// `8,120`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `9.0 %`: two digits that say something.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", two_digits(share * 100.0))
}

/// `0.92`, `9.2`, `92`; small ones with a digit that is not 0.
pub(super) fn two_digits(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number >= 9.95 => format!("{number:.0}"),
        number if number >= 0.995 => format!("{number:.1}"),
        number if number >= 0.01 => format!("{number:.2}"),
        number => format!("{number:.1e}"),
    }
}

/// `1 : 2.4e9`, of a natural logarithm: the chance that as much speaks against a candidate that is
/// within what is tolerated is at most that.
pub(super) fn odds(ln: f64) -> String {
    let decimal = (ln.max(0.0) / std::f64::consts::LN_10).min(1e15);
    if decimal < 3.0 {
        return format!("1 : {:.0}", 10.0_f64.powf(decimal));
    }
    let (mut exponent, mut digits) = (decimal.floor(), 10.0_f64.powf(decimal.fract()));
    if digits >= 9.95 {
        (exponent, digits) = (exponent + 1.0, 1.0);
    }
    format!("1 : {digits:.1}e{exponent:.0}")
}

/// `256 µs`, `2 ms`: the bounds of histograms, rounded down to their unit.
pub(super) fn time(time: Duration) -> String {
    match time.as_micros() {
        micros if micros < 1_000 => format!("{micros} µs"),
        micros if micros < 1_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{} s", micros / 1_000_000),
    }
}

/// `24 MiB`.
pub(super) fn size(bytes: u64) -> String {
    format!("{} MiB", two_digits(bytes as f64 / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_say_something() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (8_120_345, "8,120,345")]
        {
            assert_eq!(count(number), shown);
        }
        for (share, shown) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.0898, "9.0 %"),
            (0.0995, "10 %"),
            (0.00037, "0.04 %"),
            (0.00996, "1.0 %"),
            (0.000_001, "1.0e-4 %"),
        ] {
            assert_eq!(percent(share), shown, "{share}");
        }
        for (number, shown) in
            [(0.5, "1 : 1"), (600.0, "1 : 600"), (2.4e9, "1 : 2.4e9"), (9.99e8, "1 : 1.0e9")]
        {
            assert_eq!(odds(f64::ln(number)), shown);
        }
        assert_eq!(odds(1e300), "1 : 1.0e1000000000000000");
        for (micros, shown) in [(1, "1 µs"), (512, "512 µs"), (2_048, "2 ms"), (1_048_576, "1 s")]
        {
            assert_eq!(time(Duration::from_micros(micros)), shown);
        }
        assert_eq!(
            (size(24 << 20), size(0), size(1 << 19)),
            ("24 MiB".into(), "0 MiB".into(), "0.50 MiB".into())
        );
    }

    #[test]
    fn shares_stand_beside_their_counts() {
        let trials = |exchanges, bad| Trials { exchanges, bad };
        assert_eq!(
            compared("requests failed", trials(8_120, 3), trials(412, 37)),
            "37 of 412 requests failed (9.0 %), 3 of 8,120 (0.04 %) on the running version"
        );
        assert_eq!(
            compared("requests failed", trials(0, 0), trials(14, 14)),
            "14 of 14 requests failed (100 %), the running version had none to compare with"
        );
    }
}
