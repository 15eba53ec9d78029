//! Is the candidate worse than the running version? Counts of both over the same window in, a
//! verdict in words and numbers out. Pure: no clocks, no threads.

use crate::telemetry::histogram::Distribution;
use std::time::Duration;

/// What one side did since the step began: the running version, or the candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Exchanges that ended.
    pub exchanges: u64,
    /// Of them, those in which a filter that differs trapped, missed a deadline or failed otherwise.
    pub failures: u64,
    /// Of them, those answered by a filter.
    pub local_replies: u64,
    /// Of them, those answered with 500 to 599, whoever answered.
    pub errors: u64,
    /// Time that the filters of the chain took in an exchange.
    pub added_time: Distribution,
    /// Bytes of memory of all instances of the filters that differ, now.
    pub memory_bytes: u64,
}

/// What comparing a shadow's decisions with the running version's has found since the step began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Exchanges that were played to both.
    pub compared: u64,
    /// Those that could not be copied or compared for want of room.
    pub skipped: u64,
    /// The same status, fields and body.
    pub same: u64,
    /// Another status, or one of the two answered and the other did not.
    pub status: u64,
    /// Other fields.
    pub headers: u64,
    /// Another body.
    pub body: u64,
    /// The candidate failed and the running version did not.
    pub failed: u64,
    /// The candidate took more than twice the time, and 100 µs more.
    pub slower: u64,
}

/// What the judge looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Since the step began.
    pub elapsed: Duration,
    /// The running version.
    pub running: Counts,
    /// The candidate. In a shadow step: of its copies.
    pub next: Counts,
    /// In a shadow step.
    pub shadow: Option<Differences>,
}

/// What counts as worse. Each has a default that is meant to be left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Exchanges of the candidate before any promotion: 100.
    pub samples_min: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { samples_min: 100 }
    }
}

/// What the judge says of a window.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Too few samples for either; in words, how many are there and how many are needed.
    TooFew(String),
    /// Nothing is worse; in words and numbers.
    Sound(String),
    /// The candidate is to be rolled back; in words and numbers, the reason that decided first.
    Worse(String),
}

/// Looks at the windows of one step.
#[derive(Debug)]
pub struct Judge {
    thresholds: Thresholds,
}

impl Judge {
    /// For a step that begins now.
    pub fn new(thresholds: Thresholds) -> Self {
        Judge { thresholds }
    }

    /// Looks at everything since the step began.
    pub fn look(&mut self, window: &Window) -> Verdict {
        let (next, min) = (&window.next, self.thresholds.samples_min);
        if next.exchanges >= 10 && next.failures * 2 > next.exchanges {
            return Verdict::Worse(format!(
                "{} of {} requests failed",
                next.failures, next.exchanges
            ));
        }
        match next.exchanges < min {
            true => Verdict::TooFew(format!("{} of {min} samples", next.exchanges)),
            false => Verdict::Sound(format!("{} samples", next.exchanges)),
        }
    }
}
