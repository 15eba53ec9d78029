//! What outlives the process, as data: full generations, versions found bad, the rollout in progress.
//!
//! Each list has its bound here. Knows nothing of files; `format` turns it into bytes.

use super::super::control::{ChainChange, Origin, Pinned, RolloutId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

/// Full generations that are kept; the oldest go first.
pub const KEPT_MAX: usize = 5;
/// Versions that are remembered as bad; the oldest go first.
pub const PINNED_MAX: usize = 100;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The latest rollout; 0 before the first.
    pub rollout_id_last: u64,
    /// Full generations, oldest first: at most [`KEPT_MAX`]. The last one is, or was, in force.
    pub full: Vec<FullRecord>,
    /// There from the start of a rollout to its end, so that the next process knows of one cut short.
    pub in_progress: Option<InProgress>,
    /// The `next` of the configuration file that is the running version already, although the file
    /// still calls it next.
    pub promoted_next: Option<PromotedNext>,
    /// Versions found bad, oldest first: at most [`PINNED_MAX`].
    pub pinned: Vec<PinnedRecord>,
}

/// A generation without a candidate, with what is needed to build it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullRecord {
    /// Its number.
    pub generation: u64,
    /// When it was published.
    #[serde(with = "when")]
    pub published: SystemTime,
    /// By what: `start`, `file`, `signal`, `admin`, `rollout`, `rollback`.
    pub cause: String,
    /// Hash of the configuration file and of the files it names, as they were.
    #[serde(with = "hash")]
    pub source_hash: blake3::Hash,
    /// The configuration file: what it names is relative to it.
    pub config_path: PathBuf,
    /// What it held, as written: references to secrets are not expanded.
    pub config_text: Kept,
    /// What was in force over the file.
    pub on_top: Option<OnTop>,
    /// Every filter that was loaded.
    pub filters: Vec<KeptFilter>,
}

/// A filter of a full generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFilter {
    /// Its name in the configuration.
    pub name: String,
    /// Its version's name, for people.
    pub version: Option<String>,
    /// Its component, whatever the file that it came from holds by now.
    #[serde(with = "hash")]
    pub component: blake3::Hash,
}

/// What a generation has that its configuration file does not say: all that was promoted, and
/// returned to, since the file changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnTop {
    /// Who asked for the latest of it.
    pub by: Origin,
    /// Each change in words.
    pub changes: Vec<String>,
    /// The tables `next` of the configuration text are in force.
    pub next_promoted: bool,
    /// Filters that are not as the text has them.
    pub filters: Vec<FilterOnTop>,
    /// Routes that have another chain than in the text.
    pub chains: Vec<ChainChange>,
}

/// A filter that is not as the configuration text has it; what is none is as there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterOnTop {
    /// Its name in the configuration.
    pub filter: String,
    /// Its component.
    #[serde(with = "hash_option")]
    pub component: Option<blake3::Hash>,
    /// Its version's name, for people.
    pub version: Option<String>,
    /// Its table `config` as JSON text. As text, since it may nest as deep as it likes.
    pub config_json: Option<Kept>,
}

/// A rollout that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// Which one.
    pub id: u64,
    /// Who started it.
    pub origin: Origin,
    /// Each change in words.
    pub changes: Vec<String>,
    /// The full generation it began over.
    pub running: u64,
    /// Index of the step in progress.
    pub step: usize,
    /// The step in words: `canary 5%`.
    pub stage: String,
    /// When the rollout began.
    #[serde(with = "when")]
    pub began: SystemTime,
    /// When the step began.
    #[serde(with = "when")]
    pub step_began: SystemTime,
}

/// A `next` of the configuration file that was promoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotedNext {
    /// Of what it changes; another identity is another `next`.
    pub identity: String,
    /// The full generation that it became.
    pub generation: u64,
    /// When.
    #[serde(with = "when")]
    pub at: SystemTime,
}

/// A version that was found bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedRecord {
    /// Filter, component and configuration.
    pub identity: String,
    /// In words: which filter or chain.
    pub what: String,
    /// In words and numbers.
    pub reason: String,
    /// When.
    #[serde(with = "when")]
    pub at: SystemTime,
}

impl From<&PinnedRecord> for Pinned {
    fn from(record: &PinnedRecord) -> Self {
        let PinnedRecord { identity, what, reason, at } = record.clone();
        Pinned { identity, what, reason, at }
    }
}

/// Text that may hold secrets: `Debug` tells its length only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(pub String);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl State {
    /// The number of a rollout that starts now.
    pub fn next_rollout_id(&mut self) -> RolloutId {
        self.rollout_id_last = self.rollout_id_last.saturating_add(1);
        RolloutId(self.rollout_id_last)
    }

    /// Keeps a full generation; the oldest beyond [`KEPT_MAX`] goes.
    pub fn keep(&mut self, record: FullRecord) {
        self.full.push(record);
        drop_oldest(&mut self.full, KEPT_MAX);
    }

    /// The full generation that was published last.
    pub fn last_full(&self) -> Option<&FullRecord> {
        self.full.last()
    }

    /// The full generation of this number; the latest, should there be several.
    pub fn full(&self, generation: u64) -> Option<&FullRecord> {
        self.full.iter().rfind(|record| record.generation == generation)
    }

    /// Remembers a version as bad, in the place of what was known of it; the oldest beyond
    /// [`PINNED_MAX`] goes.
    pub fn pin(&mut self, record: PinnedRecord) {
        self.unpin(&record.identity);
        self.pinned.push(record);
        drop_oldest(&mut self.pinned, PINNED_MAX);
    }

    /// Forgets that a version was bad. Was it known as such?
    pub fn unpin(&mut self, identity: &str) -> bool {
        let before = self.pinned.len();
        self.pinned.retain(|pinned| pinned.identity != identity);
        self.pinned.len() < before
    }

    /// What is known of a bad version.
    pub fn pinned(&self, identity: &str) -> Option<&PinnedRecord> {
        self.pinned.iter().find(|pinned| pinned.identity == identity)
    }

    /// Holds the lists to their bounds, however they were filled.
    pub(super) fn bound(&mut self) {
        drop_oldest(&mut self.full, KEPT_MAX);
        drop_oldest(&mut self.pinned, PINNED_MAX);
    }

    /// Every component that a full generation names.
    pub(super) fn components(&self) -> HashSet<blake3::Hash> {
        self.full.iter().flat_map(FullRecord::components).collect()
    }
}

impl FullRecord {
    /// Every component that it names; some perhaps twice.
    pub(super) fn components(&self) -> impl Iterator<Item = blake3::Hash> {
        let on_top = self.on_top.iter().flat_map(|on_top| &on_top.filters);
        let loaded = self.filters.iter().map(|filter| filter.component);
        loaded.chain(on_top.filter_map(|filter| filter.component))
    }
}

fn drop_oldest<T>(list: &mut Vec<T>, kept: usize) {
    list.drain(..list.len().saturating_sub(kept));
}

/// A time as milliseconds since 1970; an earlier one becomes that.
mod when {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        serializer.serialize_u64(u64::try_from(since).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let since = Duration::from_millis(u64::deserialize(deserializer)?);
        UNIX_EPOCH.checked_add(since).ok_or_else(|| D::Error::custom("a time out of range"))
    }
}

/// A hash as 64 hexadecimal digits.
mod hash {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        hash: &blake3::Hash,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<blake3::Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(text).map_err(|_| D::Error::custom("not a hash"))
    }
}

/// The same, or none.
mod hash_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Hash(#[serde(with = "super::hash")] blake3::Hash);

    pub(super) fn serialize<S: Serializer>(
        hash: &Option<blake3::Hash>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hash.map(Hash).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<blake3::Hash>, D::Error> {
        Ok(Option::<Hash>::deserialize(deserializer)?.map(|Hash(hash)| hash))
    }
}
