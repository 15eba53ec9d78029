//! How a candidate takes over: stages with a time for each, the share of requests it gets, and which
//! requests those are.

use http::HeaderName;
use std::fmt;
use std::time::Duration;

use super::judge::Thresholds;

/// Steps of one plan.
pub const STEPS_MAX: usize = 16;

/// How a candidate becomes the running version.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// 1 to [`STEPS_MAX`]. `Shadow` comes first or not at all, shares grow, the last is `Full`.
    pub steps: Vec<Step>,
    /// Which requests a canary gets.
    pub sticky: Sticky,
    /// What counts as worse.
    pub thresholds: Thresholds,
    /// Fields that a shadow's comparison leaves out, since every exchange has another value.
    pub ignored_headers: Vec<HeaderName>,
}

impl Default for Plan {
    /// `shadow 1m, canary 5% 5m, canary 50% 5m, full`, by client address.
    fn default() -> Self {
        let hold = |stage, minutes| Step { stage, hold: Hold::For(Duration::from_mins(minutes)) };
        let percent = |percent: u32| Stage::Canary(Share::from_millionths(percent * 10_000));
        Plan {
            steps: vec![
                hold(Stage::Shadow, 1),
                hold(percent(5), 5),
                hold(percent(50), 5),
                Step { stage: Stage::Full, hold: Hold::UntilTold },
            ],
            sticky: Sticky::Random,
            thresholds: Thresholds::default(),
            ignored_headers: Vec::new(),
        }
    }
}

/// One stage, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the candidate gets.
    pub stage: Stage,
    /// When the next step begins. `UntilTold` in the last one.
    pub hold: Hold,
}

/// What a candidate gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Copies of exchanges; its effects are discarded and its decisions compared.
    Shadow,
    /// This share of the requests.
    Canary(Share),
    /// Everything: it is the running version.
    Full,
}

/// How long a step lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// At least so long, and until the judge has enough samples.
    For(Duration),
    /// Until somebody says so.
    UntilTold,
}

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// `millionths`, at most all of them.
    pub fn from_millionths(millionths: u32) -> Self {
        Share(millionths.min(1_000_000))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Is a request with this hash among them? A hash that is in a share is in every larger one, so
    /// that a client stays on the candidate while its share grows.
    pub fn takes(self, hash: u64) -> bool {
        // The upper half scaled to millionths: no share is favoured by the division.
        let millionth = ((hash >> 32) * 1_000_000) >> 32;
        millionth < u64::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// Which requests a canary gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Any, each time anew.
    Random,
    /// All of a client address, or none.
    Client,
    /// All with one value of this field, or none; requests without it at random.
    Header(HeaderName),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Shadow => f.write_str("shadow"),
            Stage::Canary(share) => write!(f, "canary {share}"),
            Stage::Full => f.write_str("full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_all_hashes_and_grows_around_it() {
        let hashes = || (0..100_000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for percent in [0, 1, 5, 50, 100] {
            let share = Share::from_millionths(percent * 10_000);
            let taken = hashes().filter(|hash| share.takes(*hash)).count();
            assert!(taken.abs_diff(percent as usize * 1_000) <= 100, "{share}: {taken}");
            let larger = Share::from_millionths(percent * 10_000 + 20_000);
            assert!(hashes().all(|hash| !share.takes(hash) || larger.takes(hash)));
        }
        assert!(!Share::from_millionths(0).takes(0));
        assert!(Share::from_millionths(1_000_000).takes(u64::MAX));
    }

    #[test]
    fn shares_are_shown_in_percent() {
        assert_eq!(Share::from_millionths(50_000).to_string(), "5%");
        assert_eq!(Share::from_millionths(1_000).to_string(), "0.1%");
        assert_eq!(Stage::Canary(Share::from_millionths(500_000)).to_string(), "canary 50%");
    }
}
