//! Traffic made of chance, for the judge of a rollout: exchanges with known rates, their counts, and
//! what the judge makes of them second by second.
//!
//! The same numbers come out for the same seed. Knows nothing of what is to come out: the table is in
//! `main`, what is promised in the suite.

use pillion::rollout::judge::{Counts, Judge, Thresholds, Verdict, Window};
use std::time::Duration;

/// Seconds of a step, and looks at it: one a second. A running sidecar looks ten times as often, which
/// is no matter to tests that may be looked at at any time.
pub(crate) const SECONDS: u32 = 600;

/// Buckets of a histogram of times.
const BUCKETS: usize = 22;

/// Traffic, and how both versions take it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Requests a second.
    pub(crate) rate: f64,
    /// The candidate's share of them.
    pub(crate) share: f64,
    pub(crate) running: Behaviour,
    pub(crate) next: Behaviour,
    /// None: each request is given to a side by itself.
    pub(crate) clients: Option<Clients>,
}

/// How a version takes requests.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Share of requests in which a filter fails, with a 5xx.
    pub(crate) failures: f64,
    /// Share of requests with another 5xx.
    pub(crate) errors: f64,
    /// Share of requests that a filter answers.
    pub(crate) local_replies: f64,
    pub(crate) times: Times,
}

/// Times in filters: the logarithm has a logistic distribution, so there are long ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) median_us: f64,
    /// This share of the requests takes `slow_us` instead.
    pub(crate) slow: f64,
    pub(crate) slow_us: f64,
}

/// Clients that stay on one side, the first with most requests (Zipf's law).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    pub(crate) count: usize,
    /// Share of the clients that all errors come from.
    pub(crate) with_errors: f64,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// After so many seconds.
    RolledBack(u32),
    /// At the end.
    Promoted,
    /// Neither at the end.
    Held,
}

/// What became of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) plays: usize,
    pub(crate) promoted: usize,
    /// The seconds that it took, in order.
    pub(crate) rolled_back: Vec<u32>,
}

/// A generator of numbers that repeat (splitmix64).
struct Chance(u64);

impl Behaviour {
    /// Good but for `errors`: 5 % local replies, 20 µs in filters for half of the requests.
    pub(crate) fn with_errors(errors: f64) -> Self {
        let times = Times { median_us: 20.0, slow: 0.0, slow_us: 0.0 };
        Behaviour { failures: 0.0, errors, local_replies: 0.05, times }
    }
}

/// Plays a scenario so many times.
pub(crate) fn play(scenario: &Scenario, plays: usize) -> Outcomes {
    let mut outcomes = Outcomes { plays, ..Outcomes::default() };
    for seed in 0..plays as u64 {
        match once(scenario, seed) {
            Outcome::RolledBack(seconds) => outcomes.rolled_back.push(seconds),
            Outcome::Promoted => outcomes.promoted += 1,
            Outcome::Held => {}
        }
    }
    outcomes.rolled_back.sort_unstable();
    outcomes
}

/// Plays one step.
pub(crate) fn once(scenario: &Scenario, seed: u64) -> Outcome {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED);
    let clients = scenario.clients.map(|clients| Placed::new(clients, scenario.share, &mut chance));
    let versions = [&scenario.running, &scenario.next];
    let times = versions.map(|version| version.times.cumulated());
    let mut judge = Judge::new(Thresholds::default());
    let mut window = Window::default();
    let (mut verdict, mut arrived) = (None, chance.interval(scenario.rate));
    for second in 1..=SECONDS {
        while arrived < f64::from(second) {
            arrived += chance.interval(scenario.rate);
            let (side, part) = match &clients {
                Some(clients) => clients.next(&mut chance),
                None => (usize::from(chance.part() < scenario.share), 1.0),
            };
            let counts = if side == 0 { &mut window.running } else { &mut window.next };
            versions[side].exchange(part, &times[side], counts, &mut chance);
        }
        window.elapsed = Duration::from_secs(second.into());
        match judge.look(&window) {
            Verdict::Worse(_) => return Outcome::RolledBack(second),
            other => verdict = Some(other),
        }
    }
    if matches!(verdict, Some(Verdict::Sound(_))) { Outcome::Promoted } else { Outcome::Held }
}

impl Behaviour {
    /// One exchange; errors happen in so many times their share.
    fn exchange(
        &self,
        part: f64,
        times: &[f64; BUCKETS],
        counts: &mut Counts,
        chance: &mut Chance,
    ) {
        let event = chance.part();
        let failed = event < self.failures;
        counts.exchanges += 1;
        counts.failures += u64::from(failed);
        counts.errors += u64::from(event < self.failures + self.errors * part);
        counts.local_replies += u64::from(event >= 1.0 - self.local_replies);
        let time = chance.part();
        let bucket = times.iter().position(|most| time < *most).unwrap_or(BUCKETS - 1);
        counts.added_time.buckets[bucket] += 1;
    }
}

impl Times {
    /// The share of the requests up to the end of each bucket.
    fn cumulated(&self) -> [f64; BUCKETS] {
        std::array::from_fn(|bucket| {
            let usual = 1.0 / (1.0 + (2.5 * (self.median_us.log2() - bucket as f64)).exp());
            let slow = f64::from(u8::from(self.slow_us <= f64::from(1u32 << bucket)));
            (1.0 - self.slow) * usual + self.slow * slow
        })
    }
}

/// Clients with their sides.
struct Placed {
    /// Share of the requests up to each client, its side, and in so many times their share errors.
    clients: Vec<(f64, usize, f64)>,
}

impl Placed {
    fn new(clients: Clients, share: f64, chance: &mut Chance) -> Self {
        let weight = |rank: usize| 1.0 / (rank + 1) as f64;
        let total: f64 = (0..clients.count).map(weight).sum();
        let mut sum = 0.0;
        let placed = (0..clients.count).map(|rank| {
            sum += weight(rank) / total;
            let part =
                if chance.part() < clients.with_errors { 1.0 / clients.with_errors } else { 0.0 };
            (sum, usize::from(chance.part() < share), part)
        });
        Placed { clients: placed.collect() }
    }

    fn next(&self, chance: &mut Chance) -> (usize, f64) {
        let part = chance.part();
        let at = self.clients.partition_point(|(most, ..)| *most <= part);
        let (_, side, errors) = self.clients[at.min(self.clients.len() - 1)];
        (side, errors)
    }
}

impl Outcomes {
    pub(crate) fn rolled_back_share(&self) -> f64 {
        self.rolled_back.len() as f64 / self.plays as f64
    }

    pub(crate) fn promoted_share(&self) -> f64 {
        self.promoted as f64 / self.plays as f64
    }

    /// Seconds to a rollback, where there was one.
    pub(crate) fn median_seconds(&self) -> Option<u32> {
        self.rolled_back.get(self.rolled_back.len() / 2).copied()
    }
}

impl Chance {
    /// From 0 to 1, 1 excluded.
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Seconds to the next of `rate` a second.
    fn interval(&mut self, rate: f64) -> f64 {
        -(-self.part()).ln_1p() / rate
    }
}
