//! Evidence that something happens more often than it may: a test that may be looked at at any time.
//!
//! A gambler who bets, at odds that are fair or worse while the claim "it happens within its chance"
//! is true, has no way to win: his wealth, which starts at 1, then reaches 1/a at any time ever with
//! a chance of at most a (Ville's inequality). So his wealth is the evidence against the claim, it may
//! be looked at after every exchange, and an alarm at 1/a is false with a chance of at most a. Knows
//! nothing of versions or measures; `rate` says what is bet on.

/// What the bets are on: the odds of the event are so many times those that the claim allows.
/// Together they cover what lies between, each at little loss.
const EFFECTS: [f64; 9] = [1.15, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1_000.0];

/// A bet that has lost this much of its stake, as a logarithm, is given up for a new one.
const GIVEN_UP: f64 = -4.0;

/// Wealth of a gambler, in equal parts on each of [`EFFECTS`].
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    bets: [Bet; EFFECTS.len()],
}

/// A part of the wealth, put on one effect stake by stake. Stake number n of the part is 1/(n (n + 1))
/// of it, so that all of them together are the part. A stake that is nearly lost is dropped and the
/// next one set: what turns bad late is noticed as it were new, however much spoke for it before.
#[derive(Clone, Copy, Debug)]
struct Bet {
    stakes: f64,
    /// As a logarithm; the part's wealth is what the current stake has become.
    wealth: f64,
}

impl Evidence {
    pub(super) fn new() -> Self {
        Evidence { bets: [Bet { stakes: 1.0, wealth: stake(1.0) }; EFFECTS.len()] }
    }

    /// Takes note of `trials` trials, `hits` of which were the event. `chance` is what the claim allows
    /// a trial, given all that was known before its outcome.
    ///
    /// For effect r the wealth is multiplied by r for a hit and divided by d = 1 + (r - 1) chance for
    /// each trial. The mean of that is (1 + (r - 1) p) / d for the true chance p, so at most 1 under
    /// the claim.
    pub(super) fn observe(&mut self, hits: u64, trials: u64, chance: f64) {
        if trials == 0 {
            return;
        }
        for (bet, effect) in self.bets.iter_mut().zip(EFFECTS) {
            let price = ((effect - 1.0) * chance).ln_1p();
            bet.wealth += hits as f64 * effect.ln() - trials as f64 * price;
            if bet.wealth < stake(bet.stakes) + GIVEN_UP {
                bet.stakes += 1.0;
                bet.wealth = stake(bet.stakes);
            }
        }
    }

    /// The natural logarithm of the evidence.
    pub(super) fn ln(&self) -> f64 {
        let most = self.bets.iter().fold(f64::NEG_INFINITY, |most, bet| most.max(bet.wealth));
        most + self.bets.iter().map(|bet| (bet.wealth - most).exp()).sum::<f64>().ln()
    }
}

/// Stake number `number` of one effect, as a logarithm.
fn stake(number: f64) -> f64 {
    -(EFFECTS.len() as f64 * number * (number + 1.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wealth with what is kept for later stakes.
    fn total(evidence: &Evidence) -> f64 {
        let kept = |bet: &Bet| 1.0 / (EFFECTS.len() as f64 * (bet.stakes + 1.0));
        evidence.bets.iter().map(|bet| bet.wealth.exp() + kept(bet)).sum()
    }

    #[test]
    fn wealth_starts_at_one_and_has_no_mean_gain_while_the_claim_is_true() {
        assert!((total(&Evidence::new()) - 1.0).abs() < 1e-9);
        // The mean over all outcomes of ten trials.
        let mean = |truth: f64, chance: f64| -> f64 {
            let outcomes = 0..1u32 << 10;
            let of = |outcome: u32| {
                let mut evidence = Evidence::new();
                for trial in 0..10 {
                    evidence.observe(u64::from(outcome >> trial & 1), 1, chance);
                }
                let hits = outcome.count_ones() as i32;
                total(&evidence) * truth.powi(hits) * (1.0 - truth).powi(10 - hits)
            };
            outcomes.map(of).sum()
        };
        for chance in [0.001, 0.01, 0.3, 0.5] {
            let (fair, better, worse) =
                (mean(chance, chance), mean(chance / 2.0, chance), mean(chance * 1.9, chance));
            assert!(fair <= 1.0 + 1e-9, "{chance}: {fair}");
            assert!(better < 1.0, "{chance}: {better}");
            assert!(worse > 1.0, "{chance}: {worse}");
        }
    }

    #[test]
    fn what_turns_bad_late_is_noticed_however_long_it_was_good() {
        let needed = |good: u64| {
            let mut evidence = Evidence::new();
            for _ in 0..good {
                evidence.observe(0, 10, 0.001);
            }
            (1..).find(|_| {
                evidence.observe(1, 1, 0.001);
                evidence.ln() >= 1_000.0_f64.ln()
            })
        };
        assert_eq!(needed(0), Some(2));
        let late = needed(1_000_000);
        assert!(late.is_some_and(|needed| needed <= 20), "{late:?}");
    }

    #[test]
    fn absurd_numbers_do_not_break_it() {
        let mut evidence = Evidence::new();
        evidence.observe(u64::MAX, u64::MAX, 1.0);
        evidence.observe(0, u64::MAX, 0.999);
        evidence.observe(u64::MAX, 0, 0.5);
        evidence.observe(5, 1, 0.5);
        assert!(evidence.ln().is_finite());
    }
}
