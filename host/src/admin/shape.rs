//! What the admin interface says of rollouts, as JSON: the same types for the server that writes it
//! and for the command line that reads it. `openapi.json` describes them; a test compares.

use crate::rollout::control::{
    GenerationStatus, Origin, Pinned as PinnedVersion, Progress, RolloutStatus,
};
use crate::rollout::judge::{Counts, Differences};
use crate::telemetry::histogram::{BOUNDS, Distribution};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// `GET /rollout`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollouts {
    /// Who decides what is in force, in words.
    pub in_force: String,
    /// The rollout in progress, else the latest one since the start.
    pub rollout: Option<Rollout>,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Which one.
    pub id: u64,
    /// Who started it.
    pub origin: By,
    /// Each change in words.
    pub changes: Vec<String>,
    /// How it stands.
    pub state: State,
    /// The full generation that came of it.
    pub generation: Option<u64>,
    /// Why it was rolled back or cut short, in words and numbers.
    pub reason: Option<String>,
    /// Was it the judge who rolled it back? The version is pinned then.
    pub by_judge: Option<bool>,
    /// The steps, as they are written.
    pub steps: Vec<String>,
    /// Index of the step in progress, or of the last one.
    pub step: usize,
    /// For how long it has been in progress.
    pub step_elapsed_ms: u64,
    /// When it began.
    pub step_began_unix_seconds: u64,
    /// When the rollout began.
    pub began_unix_seconds: u64,
    /// Which requests a canary gets, as it is written.
    pub sticky: String,
    /// The running version since the step began.
    pub running: Side,
    /// The candidate since the step began.
    pub next: Side,
    /// In a shadow step.
    pub shadow: Option<Shadow>,
    /// The last exchanges that differed, in words, without secrets.
    pub samples: Vec<String>,
    /// What the judge said last.
    pub verdict: String,
}

/// Who started a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `next` in the configuration file.
    File,
    /// The admin interface.
    Admin,
}

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A step is in progress.
    Stepping,
    /// The candidate is the running version.
    Promoted,
    /// Ended by the judge or a person.
    RolledBack,
    /// Another change passed it over, or the process ended.
    CutShort,
}

/// What one side did since the step began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Exchanges that ended.
    pub exchanges: u64,
    /// Of them, those in which a filter failed.
    pub failures: u64,
    /// Of them, those answered by a filter.
    pub local_replies: u64,
    /// Of them, those answered with 500 to 599.
    pub errors: u64,
    /// Half of the exchanges took this or less in filters, to the next power of two.
    pub added_p50_us: Option<u64>,
    /// 99 of 100 exchanges did.
    pub added_p99_us: Option<u64>,
    /// Bytes of memory of all instances of the filters that differ.
    pub memory_bytes: u64,
}

/// What comparing a shadow has found since the step began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Exchanges that were played to both.
    pub compared: u64,
    /// Those that could not be.
    pub skipped: u64,
    /// Without a difference.
    pub same: u64,
    /// Another status.
    pub status: u64,
    /// Other fields.
    pub headers: u64,
    /// Another body.
    pub body: u64,
    /// The candidate failed.
    pub failed: u64,
    /// The candidate took much longer.
    pub slower: u64,
}

/// `GET /generations`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generations {
    /// Newest first.
    pub generations: Vec<Generation>,
}

/// A full generation that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// When it was published.
    pub published_unix_seconds: u64,
    /// By what.
    pub cause: String,
    /// Of its configuration.
    pub filters: Vec<FilterVersion>,
    /// Is it in force?
    pub in_force: bool,
}

/// A filter of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterVersion {
    /// In the configuration.
    pub name: String,
    /// As it is shown elsewhere.
    pub version: String,
}

/// `GET /pinned`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedVersions {
    /// All of them.
    pub pinned: Vec<Pinned>,
}

/// A version that was found bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// As `DELETE /pinned/ID` takes it.
    pub id: String,
    /// Which filter or chain, in words.
    pub what: String,
    /// In words and numbers.
    pub reason: String,
    /// When.
    pub at_unix_seconds: u64,
}

/// A rollout was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Its id.
    pub rollout: u64,
}

/// `POST /rollback`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Returned {
    /// The generation in force.
    pub generation: u64,
}

/// `DELETE /pinned/ID`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// It is.
    pub done: bool,
}

/// What was asked for and not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// In full sentences.
    pub error: String,
    /// Each problem as the command line shows it.
    pub diagnostics: Vec<String>,
}

/// Above every time that `added_p50_us` and `added_p99_us` can tell: 2^20 µs and one.
pub const ADDED_US_BEYOND: u64 = (1 << (BOUNDS - 1)) + 1;

impl Rollout {
    /// A rollout as it stands at `now`.
    pub fn of(status: &RolloutStatus, now: SystemTime) -> Self {
        let (state, generation, reason, by_judge) = match &status.progress {
            Progress::Stepping => (State::Stepping, None, None, None),
            Progress::Promoted { generation } => (State::Promoted, Some(*generation), None, None),
            Progress::RolledBack { generation, reason, by_judge } => {
                (State::RolledBack, Some(*generation), Some(reason.clone()), Some(*by_judge))
            }
            Progress::CutShort { reason } => (State::CutShort, None, Some(reason.clone()), None),
        };
        let elapsed = now.duration_since(status.step_began).unwrap_or_default();
        Rollout {
            id: status.id.0,
            origin: match status.origin {
                Origin::File => By::File,
                Origin::Admin => By::Admin,
            },
            changes: status.changes.clone(),
            state,
            generation,
            reason,
            by_judge,
            steps: status.plan.steps.iter().map(ToString::to_string).collect(),
            step: status.step,
            step_elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            step_began_unix_seconds: unix_seconds(status.step_began),
            began_unix_seconds: unix_seconds(status.began),
            sticky: status.plan.sticky.to_string(),
            running: Side::from(&status.running),
            next: Side::from(&status.next),
            shadow: status.shadow.as_ref().map(Shadow::from),
            samples: status.samples.clone(),
            verdict: status.verdict.clone(),
        }
    }
}

impl From<&Counts> for Side {
    fn from(counts: &Counts) -> Self {
        let Counts { exchanges, failures, local_replies, errors, added_time, memory_bytes } =
            counts;
        Side {
            exchanges: *exchanges,
            failures: *failures,
            local_replies: *local_replies,
            errors: *errors,
            added_p50_us: quantile(added_time, 50),
            added_p99_us: quantile(added_time, 99),
            memory_bytes: *memory_bytes,
        }
    }
}

impl From<&Differences> for Shadow {
    fn from(found: &Differences) -> Self {
        let Differences { compared, skipped, same, status, headers, body, failed, slower } = *found;
        Shadow { compared, skipped, same, status, headers, body, failed, slower }
    }
}

impl From<&GenerationStatus> for Generation {
    fn from(status: &GenerationStatus) -> Self {
        let version = |(name, version): &(String, String)| FilterVersion {
            name: name.clone(),
            version: version.clone(),
        };
        Generation {
            generation: status.generation,
            published_unix_seconds: unix_seconds(status.published),
            cause: status.cause.clone(),
            filters: status.filters.iter().map(version).collect(),
            in_force: status.in_force,
        }
    }
}

impl From<PinnedVersion> for Pinned {
    fn from(version: PinnedVersion) -> Self {
        let PinnedVersion { identity, what, reason, at } = version;
        Pinned { id: identity, what, reason, at_unix_seconds: unix_seconds(at) }
    }
}

/// The upper bound, in microseconds, of the bucket that so many percent of all observations do not
/// go beyond; none without an observation.
fn quantile(distribution: &Distribution, percent: u64) -> Option<u64> {
    let count = distribution.count();
    let rank = u128::from(count) * u128::from(percent);
    let mut seen = 0;
    for (at, bucket) in distribution.buckets.iter().enumerate() {
        seen += u128::from(*bucket) * 100;
        if count > 0 && seen >= rank {
            return Some(if at < BOUNDS { 1 << at } else { ADDED_US_BEYOND });
        }
    }
    None
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::histogram::Histogram;
    use std::time::Duration;

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let times = Histogram::<0>::default();
        let quantiles = |times: &Histogram<0>| {
            let mut sum = Distribution::default();
            times.add_to(&mut sum);
            (quantile(&sum, 50), quantile(&sum, 99))
        };
        assert_eq!(quantiles(&times), (None, None));
        for _ in 0..99 {
            times.observe(Duration::from_micros(3), true);
        }
        times.observe(Duration::from_millis(2), true);
        assert_eq!(quantiles(&times), (Some(4), Some(4)));
        times.observe(Duration::from_millis(2), true);
        assert_eq!(quantiles(&times), (Some(4), Some(2_048)));
        for _ in 0..200 {
            times.observe(Duration::from_secs(2), true);
        }
        assert_eq!(quantiles(&times), (Some(ADDED_US_BEYOND), Some(ADDED_US_BEYOND)));
        assert_eq!(ADDED_US_BEYOND, 1_048_577);
    }

    #[test]
    fn clocks_that_go_back_are_no_time() {
        assert_eq!(unix_seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
