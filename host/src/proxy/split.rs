//! Which of a route's upstreams gets a request, by weight.
//!
//! Every upstream of a split draws a number for the request's lot, divided by its weight; the smallest
//! wins (weighted rendezvous hashing: an exponential race, so that the shares are exactly those of the
//! weights). What is drawn depends on the lot and the upstream's name alone. So when weights change, a
//! lot moves only to an upstream whose weight has grown in relation to that of the one it leaves;
//! cutting one range into pieces would promise that of two upstreams, and not of three.

use crate::chain::Exchange;
use crate::config;
use crate::http::Name;
use crate::rollout::choice::Lots;
use crate::upstream::Upstream;
use http::HeaderName;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::LazyLock;

/// Key of all splits of the process, the same in every generation and on every worker: a client stays
/// where it is over reloads, and cannot choose where that is.
static SALT: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Where a route leads.
pub enum Destination {
    /// Always there.
    Upstream(Rc<Upstream>),
    /// To one of several.
    Split(Split),
}

/// Several upstreams that share the requests of a route.
pub struct Split {
    legs: Vec<Leg>,
    lots: Lots,
}

struct Leg {
    share: Weighted,
    upstream: Rc<Upstream>,
}

/// How one leg takes part in the race.
#[derive(Clone, Copy, Debug)]
struct Weighted {
    /// Makes its numbers others than those of the other legs.
    seed: u64,
    weight: u32,
}

impl Destination {
    /// On one worker, whose view of all upstreams is `upstreams`. `route`: the names of the listener and
    /// of the route.
    pub fn new(
        config: &config::Destination,
        upstreams: &[Rc<Upstream>],
        route: (&str, &str),
        worker: usize,
    ) -> Self {
        match config {
            config::Destination::Upstream(index) => {
                Destination::Upstream(upstreams[*index].clone())
            }
            config::Destination::Split(split) => {
                Destination::Split(Split::new(split, upstreams, route, worker))
            }
        }
    }

    /// The upstream that gets the request.
    pub fn of(&self, exchange: &Exchange) -> &Rc<Upstream> {
        match self {
            Destination::Upstream(upstream) => upstream,
            Destination::Split(split) => split.of(exchange),
        }
    }
}

impl Split {
    fn new(
        config: &config::Split,
        upstreams: &[Rc<Upstream>],
        route: (&str, &str),
        worker: usize,
    ) -> Self {
        let leg = |leg: &config::Leg| {
            let upstream = upstreams[leg.upstream].clone();
            let seed = SALT.hash_one((route, &*upstream.name));
            Leg { share: Weighted { seed, weight: leg.weight }, upstream }
        };
        let legs = config.legs.iter().map(leg).collect();
        Split { legs, lots: Lots::new(config.sticky.clone(), SALT.clone(), worker) }
    }

    fn of(&self, exchange: &Exchange) -> &Rc<Upstream> {
        let lot = self.lots.of(exchange.client, |name| field(exchange, name));
        let shares = self.legs.iter().map(|leg| leg.share);
        &self.legs[winner(shares, lot)].upstream
    }
}

/// The index of the share that gets a lot; the first where none has a weight.
fn winner(shares: impl Iterator<Item = Weighted>, lot: u64) -> usize {
    let drawn = shares.map(|share| share.draw(lot)).enumerate();
    drawn.min_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(index, _)| index)
}

impl Weighted {
    /// Exponentially distributed over the lots, and the smaller the greater the weight.
    fn draw(self, lot: u64) -> f64 {
        // 53 bits, as many as a float has: above 0 and up to 1.
        let unit = ((mixed(lot ^ self.seed) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        if self.weight == 0 { f64::INFINITY } else { -unit.ln() / f64::from(self.weight) }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every bit depends on every bit.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The first line of a field of the request.
pub(super) fn field<'e>(exchange: &'e Exchange, name: &HeaderName) -> Option<&'e [u8]> {
    exchange.request.fields.get(Name::parse(name.as_str().as_bytes()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOTS: u64 = 100_000;

    fn lots() -> impl Iterator<Item = u64> {
        (0..LOTS).map(|number| mixed(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// Which of upstreams with these weights gets each lot. Seeded: the same in every run.
    fn shared_out(weights: &[u32]) -> Vec<usize> {
        let share = |(index, weight): (usize, &u32)| Weighted {
            seed: mixed(index as u64),
            weight: *weight,
        };
        let shares: Vec<Weighted> = weights.iter().enumerate().map(share).collect();
        lots().map(|lot| winner(shares.iter().copied(), lot)).collect()
    }

    fn assert_shares(weights: &[u32]) {
        let total: u32 = weights.iter().sum();
        let winners = shared_out(weights);
        for (index, weight) in weights.iter().enumerate() {
            let share = f64::from(*weight) / f64::from(total);
            let got = winners.iter().filter(|winner| **winner == index).count() as f64;
            // Five standard deviations of a binomial distribution.
            let slack = 5.0 * (LOTS as f64 * share * (1.0 - share)).sqrt();
            let expected = LOTS as f64 * share;
            assert!((got - expected).abs() <= slack, "{weights:?}[{index}]: {got}, not {expected}");
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for weights in [
            &[1][..],
            &[95, 5],
            &[50, 50],
            &[0, 1],
            &[100, 0],
            &[999_999, 1],
            &[1_000_000, 1_000_000],
            &[70, 20, 10],
            &[1, 0, 2, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
        ] {
            assert_shares(weights);
        }
    }

    #[test]
    fn a_lot_moves_only_to_an_upstream_that_has_grown_in_relation_to_the_one_before() {
        let steps = [[100, 0, 0], [95, 5, 0], [50, 30, 20], [10, 60, 30], [0, 70, 30], [9, 1, 1]];
        for pair in steps.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            for (before, after) in shared_out(old).into_iter().zip(shared_out(new)) {
                let has_grown = new[after] * old[before] > new[before] * old[after];
                assert!(before == after || has_grown, "{old:?} {new:?}: {before} to {after}");
            }
        }
    }

    #[test]
    fn weights_count_by_their_ratio_alone() {
        assert_eq!(shared_out(&[95, 5]), shared_out(&[950_000, 50_000]));
    }
}
