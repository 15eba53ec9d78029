//! What may be asked of rollouts from outside, and what is shown of them: the types between the admin
//! interface, the command line and `reload`.

use super::judge::{Counts, Differences};
use super::plan::Plan;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

/// Bytes of an uploaded component; as for one in a file.
pub const UPLOAD_BYTES_MAX: usize = 64 << 20;

/// What is to be tried. Everything else stays as it is running.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Filters that get something else.
    pub filters: Vec<FilterChange>,
    /// Routes that get another chain.
    pub chains: Vec<ChainChange>,
}

/// A filter that gets another component or another configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChange {
    /// Name in the configuration; it has to be there.
    pub filter: String,
    /// The component; none: the one that runs.
    pub component: Option<Bytes>,
    /// A name for this version, for people; none: its hash is enough.
    pub version: Option<String>,
    /// The filter's table `config`; none: as it is.
    pub config: Option<serde_json::Value>,
}

/// A route that gets another chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainChange {
    /// Name of the listener.
    pub listener: String,
    /// Name of the route.
    pub route: String,
    /// Names of filters in the configuration, in the order of the request hooks.
    pub chain: Vec<String>,
}

/// Which rollout this is: counted from 1 over the life of the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RolloutId(pub u64);

/// Who started a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `next` in the configuration file.
    File,
    /// The admin interface.
    Admin,
}

/// What is to be returned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// End the rollout in progress; without one, the full generation before this one.
    Previous,
    /// This full generation, one of those that are kept.
    Generation(u64),
    /// This filter as it was before its latest change, everything else as it is.
    Filter(String),
}

/// Something that was asked for and not done; in full sentences, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was asked for cannot be used: each problem as the command line shows it.
    #[error("{}", .0.join("\n"))]
    Unusable(Vec<String>),
    /// It does not fit what is going on: another rollout, or none; the process drains.
    #[error("{0}")]
    Conflict(String),
    /// There is no such filter, route, generation or rollout.
    #[error("{0}")]
    Unknown(String),
    /// Too many requests wait.
    #[error("{0}")]
    Busy(String),
}

/// An answer under way. What was asked for goes on to its end also when this is dropped.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// What can be asked for. Calls come from the admin thread and must not block it.
pub trait Control: Send + Sync {
    /// Starts a rollout of `change`. One at a time: another is refused while one is in progress.
    fn start(&self, change: Change, plan: Plan) -> Answer<RolloutId>;
    /// Goes to the next step now, whatever the time and the samples say; a bad verdict still holds.
    fn promote(&self, id: RolloutId) -> Answer<RolloutStatus>;
    /// Returns. The answer is the generation in force then.
    fn back(&self, back: Back) -> Answer<u64>;
    /// Forgets that a version was found bad, so that it may be tried again.
    fn unpin(&self, identity: String) -> Answer<()>;
    /// How a rollout goes where whoever starts it does not say: as the running configuration does.
    fn plan(&self) -> Plan;
    /// Who decides what is in force: `file`, `admin: generation 12 over the file`.
    fn in_force(&self) -> String;
    /// The rollout in progress, else the latest one since the start.
    fn rollout(&self) -> Option<RolloutStatus>;
    /// The kept full generations, newest first.
    fn generations(&self) -> Vec<GenerationStatus>;
    /// Versions that were found bad.
    fn pinned(&self) -> Vec<Pinned>;
}

/// A rollout as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutStatus {
    /// Which one.
    pub id: RolloutId,
    /// Who started it.
    pub origin: Origin,
    /// Each change in words: `filter limit: 0123456789ab -> ba9876543210 (v2)`.
    pub changes: Vec<String>,
    /// How it is to go on.
    pub plan: Plan,
    /// Index of the step in progress, or of the last one.
    pub step: usize,
    /// When the step began.
    pub step_began: SystemTime,
    /// When the rollout began.
    pub began: SystemTime,
    /// How it stands.
    pub progress: Progress,
    /// The running version since the step began.
    pub running: Counts,
    /// The candidate since the step began.
    pub next: Counts,
    /// In a shadow step.
    pub shadow: Option<Differences>,
    /// The last exchanges that differed, in words, without secrets.
    pub samples: Vec<String>,
    /// What the judge said last, in words and numbers.
    pub verdict: String,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step is in progress.
    Stepping,
    /// The candidate is the running version: this generation.
    Promoted {
        /// The full generation.
        generation: u64,
    },
    /// The judge or a person has ended it: this generation is in force.
    RolledBack {
        /// The full generation.
        generation: u64,
        /// In words and numbers.
        reason: String,
        /// The judge did, and the version is pinned as bad.
        by_judge: bool,
    },
    /// Another change passed it over, or the process ended.
    CutShort {
        /// In words.
        reason: String,
    },
}

/// A full generation as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u64,
    /// When it was published.
    pub published: SystemTime,
    /// By what: `start`, `file`, `signal`, `admin`, `rollout`, `rollback`.
    pub cause: String,
    /// Name and version of each filter.
    pub filters: Vec<(String, String)>,
    /// Is it in force?
    pub in_force: bool,
}

/// A version that was found bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Filter, component and configuration; as `unpin` takes it.
    pub identity: String,
    /// In words: which filter or chain.
    pub what: String,
    /// In words and numbers.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}
