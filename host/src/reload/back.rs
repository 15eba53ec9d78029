//! Going back: from a rollout to the running version, to an earlier full generation, or with one
//! filter to what it was.

use super::Cause;
use super::build::{self, Built};
use super::full::{self, Full, Identity};
use super::thread::Reload;
use crate::config::{self, FilterSource};
use crate::rollout::control::{Back, Change, FilterChange, Refusal};
use crate::rollout::store::{FullRecord, PinnedRecord};
use crate::shutdown::Stage;
use std::time::{Instant, SystemTime};

impl Reload {
    /// Returns to what is asked for. The generation in force then.
    pub(super) fn back(&mut self, back: &Back) -> Result<u64, Refusal> {
        if self.shared.shutdown.stage() != Stage::Running {
            return Err(Refusal::Conflict("the process is stopping".to_owned()));
        }
        match back {
            Back::Previous if self.rollout.is_some() => Ok(self.roll_back()),
            Back::Previous => match self.history.state().full.iter().rev().nth(1).cloned() {
                Some(record) => self.return_to(&record),
                None => Err(Refusal::Unknown("there is no full generation before this one".into())),
            },
            Back::Generation(generation) => self.back_to_generation(*generation),
            Back::Filter(filter) => {
                if self.rollout.as_ref().is_some_and(|rollout| rollout.changes_filter(filter)) {
                    return Ok(self.roll_back());
                }
                self.back_with_filter(filter)
            }
        }
    }

    fn back_to_generation(&mut self, generation: u64) -> Result<u64, Refusal> {
        let state = self.history.state();
        let Some(record) = state.full(generation).cloned() else {
            let kept: Vec<String> = state.full.iter().map(|it| it.generation.to_string()).collect();
            let kept = kept.join(", ");
            let message = format!("generation {generation} is not kept; these are: {kept}");
            return Err(Refusal::Unknown(message));
        };
        let is_latest = state.last_full().is_some_and(|last| last.generation == generation);
        if self.rollout.is_some() {
            self.roll_back();
        }
        if is_latest {
            return Ok(self.shared.snapshot.load().generation);
        }
        self.return_to(&record)
    }

    fn return_to(&mut self, record: &FullRecord) -> Result<u64, Refusal> {
        let started = Instant::now();
        let full = Full::again(record, &self.history).map_err(|why| {
            let generation = record.generation;
            Refusal::Unusable(vec![format!("generation {generation} cannot be made again: {why}")])
        })?;
        let built = self.built(&full)?;
        Ok(self.force(full, built, started))
    }

    /// The filter of the latest full generation in which it was something else; the rest as it is.
    fn back_with_filter(&mut self, name: &str) -> Result<u64, Refusal> {
        let started = Instant::now();
        if self.rollout.is_some() {
            let message = "a rollout of something else is in progress; end it first";
            return Err(Refusal::Conflict(message.to_owned()));
        }
        let Some(now) = self.identity_in(&self.full.clone(), name) else {
            return Err(Refusal::Unknown(format!("no filter is called `{name}`")));
        };
        let records: Vec<FullRecord> = self.history.state().full.iter().rev().cloned().collect();
        for record in &records {
            let Ok(before) = Full::again(record, &self.history) else { continue };
            if self.identity_in(&before, name).is_some_and(|identity| identity != now) {
                return self.exchange_filter(name, &before, started);
            }
        }
        let message = format!("no kept generation has another version of filter `{name}`");
        Err(Refusal::Unknown(message))
    }

    fn exchange_filter(
        &mut self,
        name: &str,
        before: &Full,
        started: Instant,
    ) -> Result<u64, Refusal> {
        let find = |full: &Full| {
            full.loaded.config.filters.iter().find(|filter| &*filter.name == name).cloned()
        };
        let (Some(old), Some(running)) = (find(before), find(&self.full)) else {
            return Err(Refusal::Unknown(format!("no filter is called `{name}`")));
        };
        let others = ["grants", "limits", "fail_policy", "isolation"];
        if running.differences(&old).iter().any(|key| others.contains(key)) {
            let message = format!(
                "filter `{name}` had other grants, limits or policies; return to the whole \
                 generation instead"
            );
            return Err(Refusal::Conflict(message));
        }
        let component = match &old.source {
            FilterSource::Builtin(_) => None,
            FilterSource::File(_) | FilterSource::Uploaded(_) => {
                let bytes = super::filters::read(&before.loaded, &old)
                    .map_err(|problem| Refusal::Unusable(vec![problem.to_string()]))?;
                Some(bytes.into_owned().into())
            }
        };
        let version = old.version.as_ref().map(ToString::to_string);
        let config = Some(old.config.clone());
        let filters = vec![FilterChange { filter: name.to_owned(), component, version, config }];
        let change = Change { filters, chains: Vec::new() };
        let candidate =
            config::apply(&change, &self.full.loaded.config).map_err(Refusal::Unusable)?;
        let on_top = full::over(self.full.on_top.as_ref(), &change, full::words(&candidate));
        let (text, returned) = (self.full.text.clone(), self.full.returned);
        let full = Full { loaded: candidate.loaded, text, on_top: Some(on_top), returned };
        let built = self.built(&full)?;
        Ok(self.force(full, built, started))
    }

    fn identity_in(&mut self, full: &Full, name: &str) -> Option<Identity> {
        let filter = full.loaded.config.filters.iter().find(|filter| &*filter.name == name)?;
        self.loader.identify(&full.loaded, filter)
    }

    fn built(&mut self, full: &Full) -> Result<Built, Refusal> {
        let running = self.shared.snapshot.load_full();
        let built = build::next(&mut self.loader, &full.loaded, &running, &self.listening);
        // What was read is of the past, not of the files that are watched.
        self.loader.take_files_read();
        built.map_err(|problems| {
            Refusal::Unusable(problems.iter().map(ToString::to_string).collect())
        })
    }

    fn force(&mut self, full: Full, built: Built, started: Instant) -> u64 {
        let next_stays = full.on_top.as_ref().is_some_and(|on_top| on_top.next_promoted);
        self.full = full;
        let snapshot = self.put_in_force(built, Cause::Rollback, started);
        if !next_stays {
            self.history.update(|state| {
                // Else it would be in force again with the next change of the file.
                if let Some(promoted) = state.promoted_next.take() {
                    state.pin(PinnedRecord {
                        identity: promoted.identity,
                        what: "`next` of the configuration file".to_owned(),
                        reason: "somebody rolled it back".to_owned(),
                        at: SystemTime::now(),
                    });
                }
            });
        }
        self.remember(&snapshot, Cause::Rollback);
        self.follow_keys();
        self.keep_watch(&snapshot);
        tracing::warn!(generation = snapshot.generation, "returned to an earlier version");
        snapshot.generation
    }

    /// Forgets that a version was found bad.
    pub(super) fn unpin(&mut self, identity: &str) -> Result<(), Refusal> {
        let mut known = false;
        self.history.update(|state| known = state.unpin(identity));
        self.show_history();
        if known {
            tracing::info!(identity, "unpinned: it may be tried again");
            return Ok(());
        }
        Err(Refusal::Unknown(format!("no version is pinned as {identity}")))
    }
}
