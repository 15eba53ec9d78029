//! What the reload thread remembers: full generations, versions found bad, the rollout in progress.
//!
//! On disk where there is a state directory, in memory alone where there is none or it cannot be
//! used: the process serves either way, and says so.

use super::filters::read;
use super::problems::chain;
use crate::config::{Config, Loaded};
use crate::rollout::store::{self, FullRecord, State, Store};
use crate::telemetry::Metrics;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// What is remembered.
#[derive(Debug)]
pub struct History(Kind);

#[derive(Debug)]
enum Kind {
    Disk(Box<Store>),
    /// And why it is not on disk, in words.
    Memory(Box<State>, String),
}

impl History {
    /// In memory alone, for this reason.
    pub fn in_memory(why: impl Into<String>) -> Self {
        History(Kind::Memory(Box::default(), why.into()))
    }

    /// That of the state directory of `config`. A directory that cannot be used is logged and left as
    /// it is.
    pub fn open(config: &Config, metrics: Arc<Metrics>) -> Self {
        let configured = config.rollout.state_dir.clone();
        let Some(directory) = configured.or_else(|| store::default_directory(&config.source))
        else {
            let why = "there is no home directory; name a directory with `rollout.state_dir`";
            tracing::warn!(why, "generations and rollouts are forgotten when the process ends");
            return History::in_memory(why);
        };
        match Store::open(&directory, metrics.clone()) {
            Ok(store) => History(Kind::Disk(Box::new(store))),
            Err(error) => {
                let why = chain(&error);
                metrics.process().swallowed("rollout_state");
                tracing::warn!(
                    why,
                    "generations and rollouts are forgotten when the process ends; the configuration \
                     file is served"
                );
                History::in_memory(why)
            }
        }
    }

    /// What is known.
    pub(super) fn state(&self) -> &State {
        match &self.0 {
            Kind::Disk(store) => store.state(),
            Kind::Memory(state, _) => state,
        }
    }

    /// Changes it.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut State)) {
        self.update_with(&[], change);
    }

    /// Keeps a full generation made from `loaded`, in the place of the latest if that is the same
    /// but for its number, and makes `change`: both or neither, whenever the process ends.
    pub(super) fn keep(
        &mut self,
        record: FullRecord,
        loaded: &Loaded,
        change: impl FnOnce(&mut State),
    ) {
        let components = match &self.0 {
            Kind::Disk(_) => components(&record, loaded),
            Kind::Memory(..) => Vec::new(),
        };
        let slices: Vec<&[u8]> = components.iter().map(|bytes| &**bytes).collect();
        self.update_with(&slices, |state| {
            state.in_progress = None;
            if state.last_full().is_some_and(|last| is_same(last, &record)) {
                state.full.pop();
            }
            state.keep(record);
            change(state);
        });
    }

    fn update_with(&mut self, components: &[&[u8]], change: impl FnOnce(&mut State)) {
        match &mut self.0 {
            Kind::Disk(store) => {
                // It logs and counts what fails, and tries again with the next change.
                store.update(components, change);
            }
            Kind::Memory(state, _) => change(state),
        }
    }

    /// The component with this hash, if it is kept.
    pub(super) fn component(&self, hash: &blake3::Hash) -> Option<Vec<u8>> {
        match &self.0 {
            Kind::Disk(store) => match store.component(hash) {
                Ok(bytes) => Some(bytes),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a kept component cannot be used");
                    None
                }
            },
            Kind::Memory(..) => None,
        }
    }

    /// Why what is remembered would not outlive the process; none: it would.
    pub(super) fn fault(&self) -> Option<String> {
        match &self.0 {
            Kind::Disk(store) if store.persisted() => None,
            Kind::Disk(store) => Some(store.fault().unwrap_or("it was not written yet").to_owned()),
            Kind::Memory(_, why) => Some(why.clone()),
        }
    }

    /// Where it is kept.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match &self.0 {
            Kind::Disk(store) => Some(store.directory().to_owned()),
            Kind::Memory(..) => None,
        }
    }
}

/// The same but for number, time and cause.
fn is_same(one: &FullRecord, other: &FullRecord) -> bool {
    let FullRecord {
        generation: _,
        published: _,
        cause: _,
        source_hash,
        config_path,
        config_text,
        on_top,
        filters,
    } = one;
    *source_hash == other.source_hash
        && *config_path == other.config_path
        && *config_text == other.config_text
        && *on_top == other.on_top
        && *filters == other.filters
}

/// The components that `record` names, as far as they are where they came from. The others are in the
/// state directory already, or their file has changed since it was read.
fn components<'l>(record: &FullRecord, loaded: &'l Loaded) -> Vec<Cow<'l, [u8]>> {
    let named = |bytes: &[u8]| {
        let hash = blake3::hash(bytes);
        record.filters.iter().any(|filter| filter.component == hash)
    };
    let mut all = Vec::new();
    for filter in &loaded.config.filters {
        if let Ok(bytes) = read(loaded, filter)
            && named(&bytes)
        {
            all.push(bytes);
        }
    }
    all
}
