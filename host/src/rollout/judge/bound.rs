//! How much worse the candidate may still be: a bound on the difference of two shares that holds at
//! all times at once, however often it is looked at.
//!
//! For each side, the shares that are not refuted by a gambler who spreads his wealth over all shares
//! (a Beta(1/2, 1/2) mixture) form an interval, and the true share is outside of it at any time with
//! a chance of at most a. The bound is the upper end for the candidate less the lower end for the
//! running version.

use super::rate::Trials;
use super::thresholds::within;

/// The most that the candidate's share exceeds the running version's by, but for a chance of
/// `error_chance`. Between 0 and 1.
pub(super) fn excess_max(running: Trials, next: Trials, error_chance: f64) -> f64 {
    // Half of the chance for each side.
    let limit = (2.0 / within(error_chance, 1e-12, 1.0)).ln();
    let lowest = if running.bad == 0 { 0.0 } else { end(running, limit, 0.0) };
    let highest = if next.bad >= next.exchanges { 1.0 } else { end(next, limit, 1.0) };
    (highest - lowest).max(0.0)
}

/// Where, between the share that was seen and `outer`, the evidence against a share reaches `limit`.
fn end(seen: Trials, limit: f64, outer: f64) -> f64 {
    let bad = seen.bad.min(seen.exchanges) as f64;
    let good = seen.exchanges as f64 - bad;
    let mixture = ln_beta(bad + 0.5, good + 0.5) - ln_beta(0.5, 0.5);
    let ln_evidence = |share: f64| mixture - bad * share.ln() - good * (-share).ln_1p();
    let (mut inside, mut outside) = (seen.share().min(1.0), outer);
    // Halved to more digits than are told.
    for _ in 0..40 {
        let middle = f64::midpoint(inside, outside);
        if ln_evidence(middle) < limit {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    outside
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// For positive numbers: Stirling's series, beyond 10, and the recurrence down from there.
fn ln_gamma(x: f64) -> f64 {
    let (mut large, mut product) = (x, 1.0);
    while large < 10.0 {
        product *= large;
        large += 1.0;
    }
    let inverse = 1.0 / large;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0));
    let half_ln_two_pi = 0.5 * std::f64::consts::TAU.ln();
    (large - 0.5) * large.ln() - large + half_ln_two_pi + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(exchanges: u64, bad: u64) -> Trials {
        Trials { exchanges, bad }
    }

    #[test]
    fn the_logarithm_of_gamma_is_that_of_factorials_and_of_the_root_of_pi() {
        let mut factorial = 1.0_f64;
        for n in 1..=20 {
            factorial *= f64::from(n);
            let got = ln_gamma(f64::from(n) + 1.0);
            assert!((got - factorial.ln()).abs() < 1e-9, "{n}: {got}");
        }
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_bound_shrinks_with_samples_and_never_lies_below_what_was_seen() {
        let bounds: Vec<f64> = [0, 10, 100, 1_000, 10_000, 100_000]
            .map(|n| excess_max(trials(n * 19, 0), trials(n, 0), 0.01))
            .to_vec();
        assert_eq!(bounds[0], 1.0);
        assert!(bounds.windows(2).all(|pair| pair[1] < pair[0]), "{bounds:?}");
        assert!(bounds[3] > 0.005 && bounds[3] < 0.01, "{bounds:?}");
        let seen = excess_max(trials(10_000, 100), trials(1_000, 50), 0.01);
        assert!(seen > 0.04 && seen < 0.08, "{seen}");
    }

    #[test]
    fn shares_at_the_ends_have_bounds() {
        assert_eq!(excess_max(trials(0, 0), trials(0, 0), 0.01), 1.0);
        assert_eq!(excess_max(trials(0, 0), trials(10, 10), 0.01), 1.0);
        assert!(excess_max(trials(1_000, 1_000), trials(1_000, 1_000), 0.01) < 0.02);
        assert_eq!(excess_max(trials(100_000, 90_000), trials(100_000, 10), 0.01), 0.0);
        for chance in [f64::NAN, 0.0, -1.0, 2.0] {
            let bound = excess_max(trials(u64::MAX, 1), trials(u64::MAX, u64::MAX - 1), chance);
            assert!((0.0..=1.0).contains(&bound), "{chance}: {bound}");
        }
    }
}
