//! One measure that is a share of exchanges: is the candidate's larger than the running version's by
//! more than is tolerated?
//!
//! Two claims have to fall before it is: "at most so many times the running version's share", which
//! holds when both sides suffer from the same outage, and "at most this share", which holds for rare
//! events. Knows neither what the events are nor words.

use super::evidence::Evidence;
use super::thresholds::{Tolerance, within};

/// Exchanges of each side in a block: see [`Rate::observe`].
const BLOCK: u64 = 4;

/// Share of the candidate's exchanges that may be bad where there is nothing to compare with.
pub const ALONE_SHARE: f64 = 0.5;

/// For each exchange of the running version, so many of the candidate make it "nothing to compare
/// with".
const ALONE: u64 = 100;

/// Exchanges, and how many of them are bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trials {
    pub(super) exchanges: u64,
    pub(super) bad: u64,
}

/// One measure of both sides, exchange by exchange.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    share: f64,
    above_share: Evidence,
    compared: Option<Compared>,
}

#[derive(Clone, Debug)]
struct Compared {
    ratio: f64,
    above_running: Evidence,
    running: Trials,
    next: Trials,
    /// Against [`ALONE_SHARE`], for candidates that get everything, and the exchanges so far.
    alone: Option<(Evidence, u64, u64)>,
}

impl Rate {
    /// Against the running version.
    pub(super) fn compared(tolerance: Tolerance) -> Self {
        let compared = Compared {
            ratio: within(tolerance.ratio, 1.0, 1e6),
            above_running: Evidence::new(),
            running: Trials::default(),
            next: Trials::default(),
            alone: None,
        };
        Rate { compared: Some(compared), ..Rate::absolute(tolerance.share) }
    }

    /// Against the running version; and where that gets nothing, against [`ALONE_SHARE`].
    pub(super) fn compared_or_alone(tolerance: Tolerance) -> Self {
        let mut rate = Rate::compared(tolerance);
        if let Some(compared) = &mut rate.compared {
            compared.alone = Some((Evidence::new(), 0, 0));
        }
        rate
    }

    /// Against a share.
    pub(super) fn absolute(share: f64) -> Self {
        Rate { share: within(share, 1e-6, 0.99), above_share: Evidence::new(), compared: None }
    }

    /// Chances of a false alarm that this takes out of the judge's.
    pub(super) fn tests(&self) -> usize {
        let alone = self.compared.as_ref().is_some_and(|compared| compared.alone.is_some());
        1 + usize::from(alone)
    }

    /// Takes note of exchanges that ended since the last time.
    ///
    /// What is bet on against the running version is which side a bad exchange is on. In a block of a
    /// and b exchanges with shares p and at most `ratio` p, the candidate's part of the bad ones is at
    /// most q = ratio b / (a + ratio b), whatever p, so that a rush hour or an outage of both says
    /// nothing. With d = 1 + (r - 1) q, the mean of r^(bad of the candidate) / d^(all bad) is at most
    /// exp(b ratio p (r / d - 1) + a p (1 / d - 1)) by 1 + x <= e^x, which is exp(0) for this q.
    /// A block ends when both sides have [`BLOCK`] exchanges in it: by their number alone, which says
    /// nothing of how they went, and with enough of both that little is lost.
    pub(super) fn observe(&mut self, running: Trials, next: Trials) {
        self.above_share.observe(next.bad, next.exchanges, self.share);
        let Some(compared) = &mut self.compared else { return };
        compared.running.add(running);
        compared.next.add(next);
        if let Some((evidence, running_total, next_total)) = &mut compared.alone {
            *running_total = running_total.saturating_add(running.exchanges);
            *next_total = next_total.saturating_add(next.exchanges);
            evidence.observe(next.bad, next.exchanges, ALONE_SHARE);
        }
        let (a, b) = (compared.running.exchanges, compared.next.exchanges);
        if a >= BLOCK && b >= BLOCK {
            let weight = compared.ratio * b as f64;
            let chance = weight / (a as f64 + weight);
            let bad = compared.running.bad.saturating_add(compared.next.bad);
            compared.above_running.observe(compared.next.bad, bad, chance);
            compared.running = Trials::default();
            compared.next = Trials::default();
        }
    }

    /// The natural logarithm of the evidence that the candidate is beyond what is tolerated.
    pub(super) fn ln_evidence(&self) -> f64 {
        let Some(compared) = &self.compared else { return self.above_share.ln() };
        let both = self.above_share.ln().min(compared.above_running.ln());
        match &compared.alone {
            Some((evidence, running, next)) if running.saturating_mul(ALONE) < *next => {
                both.max(evidence.ln())
            }
            _ => both,
        }
    }
}

impl Trials {
    /// The share of bad ones; 0 of none.
    pub(super) fn share(self) -> f64 {
        if self.exchanges == 0 { 0.0 } else { self.bad as f64 / self.exchanges as f64 }
    }

    /// Those that are not in `earlier`.
    pub(super) fn since(self, earlier: Trials) -> Trials {
        Trials {
            exchanges: self.exchanges.saturating_sub(earlier.exchanges),
            bad: self.bad.saturating_sub(earlier.bad),
        }
    }

    fn add(&mut self, other: Trials) {
        self.exchanges = self.exchanges.saturating_add(other.exchanges);
        self.bad = self.bad.saturating_add(other.bad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { ratio: 1.25, share: 0.001 };

    fn trials(exchanges: u64, bad: u64) -> Trials {
        Trials { exchanges, bad }
    }

    /// Evidence after `times` looks at the same.
    fn after(mut rate: Rate, times: u64, running: Trials, next: Trials) -> f64 {
        (0..times).for_each(|_| rate.observe(running, next));
        rate.ln_evidence()
    }

    #[test]
    fn an_outage_of_both_sides_says_nothing() {
        let rate = Rate::compared_or_alone(TOLERANCE);
        assert!(after(rate, 1_000, trials(95, 95), trials(5, 5)) < 0.0);
    }

    #[test]
    fn a_share_below_the_tolerated_one_says_nothing_however_good_the_running_version() {
        let rate = Rate::compared_or_alone(TOLERANCE);
        assert!(after(rate, 1_000, trials(95_000, 0), trials(5_000, 3)) < 0.0);
        let rate = Rate::compared_or_alone(TOLERANCE);
        assert!(after(rate, 1_000, trials(95_000, 0), trials(5_000, 30)) > 100.0);
    }

    #[test]
    fn a_ratio_below_the_tolerated_one_says_nothing_and_one_above_does() {
        let at = |bad| {
            let rate = Rate::compared(TOLERANCE);
            after(rate, 1_000, trials(1_000, 40), trials(1_000, bad))
        };
        assert!(at(49) < 0.0 && at(50) < 0.0, "{} {}", at(49), at(50));
        assert!(at(60) > 100.0, "{}", at(60));
    }

    #[test]
    fn without_a_comparison_only_more_than_half_is_bad() {
        let nothing = trials(0, 0);
        let at = |bad| after(Rate::compared_or_alone(TOLERANCE), 100, nothing, trials(10, bad));
        assert!(at(5) < 0.0, "{}", at(5));
        assert!(at(8) > 10.0, "{}", at(8));
        assert!(after(Rate::compared(TOLERANCE), 100, nothing, trials(10, 10)) <= 0.0);
    }

    #[test]
    fn a_block_waits_for_both_sides() {
        let mut rate = Rate::compared(TOLERANCE);
        for _ in 0..BLOCK - 1 {
            rate.observe(trials(19, 0), trials(1, 1));
        }
        assert!(rate.ln_evidence() <= 0.0);
        rate.observe(trials(19, 0), trials(1, 1));
        assert!(rate.ln_evidence() > 5.0, "{}", rate.ln_evidence());
    }

    #[test]
    fn tolerances_out_of_range_are_blunt_and_not_broken() {
        for ratio in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            for share in [f64::NAN, -1.0, 0.0, 1.0, f64::INFINITY] {
                let rate = Rate::compared_or_alone(Tolerance { ratio, share });
                let evidence = after(rate, 10, trials(u64::MAX, 0), trials(u64::MAX, u64::MAX));
                assert!(!evidence.is_nan(), "{ratio} {share}: {evidence}");
            }
        }
    }
}
