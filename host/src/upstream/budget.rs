//! How many requests may be repeated: the retry budget of Finagle
//! (<https://twitter.github.io/finagle/guide/Clients.html#retry-budget>) and Linkerd, shared by all
//! workers.
//!
//! Each request deposits `ratio` of a repetition, which is good for `ttl`; each repetition takes one
//! out; `min_per_second` are there whatever comes. So a total outage multiplies what an upstream sees
//! by no more than 1 + `ratio`, beside that minimum. Time is given by the caller, in milliseconds.

use crate::config::RetryBudget;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Parts of `ttl`, each forgotten as a whole.
const SLOTS: usize = 10;

/// Deposits are counted in thousandths of a repetition.
const ONE: i64 = 1_000;

/// The deposits and withdrawals of the last `ttl`.
#[derive(Debug, Default)]
pub(super) struct Budget {
    slots: [AtomicU64; SLOTS],
    /// Held for a withdrawal: what is looked at before is there still. Deposits only add.
    withdrawing: Mutex<()>,
}

/// What happened in one part of `ttl`, in one word: its number, and the balance.
#[derive(Clone, Copy)]
struct Slot {
    tick: u32,
    balance: i32,
}

impl Slot {
    fn of(word: u64) -> Self {
        Slot { tick: (word >> 32) as u32, balance: word as u32 as i32 }
    }

    fn word(self) -> u64 {
        (u64::from(self.tick) << 32) | u64::from(self.balance as u32)
    }
}

impl Budget {
    /// A request has come.
    pub(super) fn deposit(&self, settings: &RetryBudget, now: u64) {
        // Millionths in the file.
        self.add(settings, now, (settings.ratio / 1_000) as i64);
    }

    /// Takes out a repetition; false: there is none.
    pub(super) fn withdraw(&self, settings: &RetryBudget, now: u64) -> bool {
        let _alone = self.withdrawing.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.balance(settings, now) >= ONE;
        if enough {
            self.add(settings, now, -ONE);
        }
        enough
    }

    /// Repetitions that are left.
    pub(super) fn left(&self, settings: &RetryBudget, now: u64) -> u64 {
        u64::try_from(self.balance(settings, now) / ONE).unwrap_or(0)
    }

    fn balance(&self, settings: &RetryBudget, now: u64) -> i64 {
        let tick = tick(settings, now);
        let recent = |slot: &Slot| tick.wrapping_sub(slot.tick) < SLOTS as u32;
        let slots = self.slots.iter().map(|slot| Slot::of(slot.load(Ordering::Relaxed)));
        let sum: i64 = slots.filter(recent).map(|slot| i64::from(slot.balance)).sum();
        let reserve = settings.min_per_second as i64 * settings.ttl.as_millis() as i64;
        // Thousandths a second times milliseconds: the units cancel out.
        sum + reserve
    }

    fn add(&self, settings: &RetryBudget, now: u64, amount: i64) {
        let tick = tick(settings, now);
        let slot = &self.slots[tick as usize % SLOTS];
        let add = |word| {
            let known = Slot::of(word);
            let before = if known.tick == tick { i64::from(known.balance) } else { 0 };
            let sum = (before + amount).clamp(i32::MIN.into(), i32::MAX.into());
            Some(Slot { tick, balance: sum as i32 }.word())
        };
        // The closure always gives a word, so that this ends.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The number of the part of `ttl` that `now` is in.
fn tick(settings: &RetryBudget, now: u64) -> u32 {
    let length = (settings.ttl.as_millis() as u64 / SLOTS as u64).max(1);
    (now / length) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(ratio: u64, min_per_second: usize) -> RetryBudget {
        RetryBudget { ratio, min_per_second, ttl: Duration::from_secs(10) }
    }

    fn taken(budget: &Budget, settings: &RetryBudget, now: u64) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(settings, now)).count()
    }

    #[test]
    fn five_requests_at_a_fifth_allow_one_repetition() {
        let (budget, settings) = (Budget::default(), settings(200_000, 0));
        for _ in 0..4 {
            budget.deposit(&settings, 5_000);
        }
        assert!(!budget.withdraw(&settings, 5_000), "four fifths are not enough");
        budget.deposit(&settings, 5_000);
        assert_eq!(budget.left(&settings, 5_000), 1);
        assert_eq!(taken(&budget, &settings, 5_000), 1);
        for _ in 0..6 {
            budget.deposit(&settings, 5_000);
        }
        assert_eq!(taken(&budget, &settings, 5_000), 1, "the sixth counts for the next");
    }

    #[test]
    fn a_minimum_is_there_whatever_comes_and_comes_again() {
        let (budget, settings) = (Budget::default(), settings(0, 3));
        assert_eq!(taken(&budget, &settings, 1_000), 30, "three a second for ten seconds");
        assert_eq!(taken(&budget, &settings, 10_999), 0);
        assert_eq!(taken(&budget, &settings, 11_000), 30);
    }

    #[test]
    fn deposits_are_good_for_the_given_time() {
        for (later, left) in [(9_999, 10), (10_000, 0), (10_001, 0), (1 << 45, 0)] {
            let (budget, settings) = (Budget::default(), settings(1_000_000, 0));
            (0..10).for_each(|_| budget.deposit(&settings, 20_000));
            assert_eq!(budget.left(&settings, 20_000 + later), left, "{later}");
        }
    }

    #[test]
    fn a_flood_of_requests_overflows_nothing() {
        let (budget, settings) = (Budget::default(), settings(1_000_000, 100_000));
        budget.add(&settings, 0, i64::from(i32::MAX));
        budget.deposit(&settings, 0);
        assert_eq!(budget.left(&settings, 0), 2_147_483 + 1_000_000);
    }

    #[test]
    fn workers_never_take_out_more_than_is_there() {
        let (budget, settings) = (Budget::default(), settings(1_000_000, 0));
        (0..1_000).for_each(|_| budget.deposit(&settings, 0));
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| taken(&budget, &settings, 0))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(all, 1_000);
    }
}
