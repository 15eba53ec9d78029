//! The numbers of the rollout in progress, as a scrape shows them. They end with it.

use super::exposition::{Output, counter};
use super::families;
use std::fmt::Error;

/// What there is to show of a rollout in progress, since it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutNumbers {
    /// The step in progress, counted from 1.
    pub step: u64,
    /// The candidate's share of the requests, of 1.
    pub share: f64,
    /// The running version, on the routes that differ.
    pub running: SideNumbers,
    /// The candidate.
    pub next: SideNumbers,
    /// In a shadow step: copies by what came of them.
    pub shadow: Vec<(&'static str, u64)>,
}

/// Exchanges of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideNumbers {
    /// All.
    pub exchanges: u64,
    /// Those in which a filter that differs failed.
    pub failures: u64,
    /// Those answered by a filter.
    pub local_replies: u64,
    /// Those answered with 500 to 599.
    pub errors: u64,
}

pub(super) fn encode(out: &mut Output, numbers: &RolloutNumbers) -> Result<(), Error> {
    out.family(&families::ROLLOUT_STEP)?.encode_gauge(&numbers.step)?;
    out.family(&families::ROLLOUT_SHARE)?.encode_gauge(&numbers.share)?;
    let sides = [("running", &numbers.running), ("next", &numbers.next)];
    for (family, of) in [
        (&families::ROLLOUT_EXCHANGES, (|it| it.exchanges) as fn(&SideNumbers) -> u64),
        (&families::ROLLOUT_FAILURES, |it| it.failures),
        (&families::ROLLOUT_LOCAL_REPLIES, |it| it.local_replies),
        (&families::ROLLOUT_ERRORS, |it| it.errors),
    ] {
        let mut family = out.family(family)?;
        for (side, numbers) in sides {
            counter(&mut family, &[("side", side)], of(numbers))?;
        }
    }
    let mut family = out.family(&families::ROLLOUT_SHADOW)?;
    for (result, count) in &numbers.shadow {
        counter(&mut family, &[("result", result)], *count)?;
    }
    Ok(())
}
