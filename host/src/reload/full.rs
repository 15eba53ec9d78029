//! Full generations: what a file asks for given what is known of its `next`, what is kept of a
//! generation in force, and how a kept one is made again.
//!
//! Publishes nothing.

pub(super) use super::filters::Identity;
use super::filters::Loader;
use super::history::History;
use crate::config::{self, Candidate, Difference, FilterSource, Loaded, Upload};
use crate::rollout::control::{ChainChange, Change, FilterChange, Origin};
use crate::rollout::store::{FullRecord, Kept, KeptFilter, OnTop, State};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The full generation in force, as it was read or made.
#[derive(Clone, Debug)]
pub(super) struct Full {
    /// What it is.
    pub(super) loaded: Loaded,
    /// The text of the configuration file it stands on.
    pub(super) text: Arc<str>,
    /// What is in force over that text.
    pub(super) on_top: Option<OnTop>,
    /// The text is not that of the file in place: a kept generation was returned to.
    pub(super) returned: bool,
}

/// What a file asks for.
pub(super) struct Wanted {
    /// What is to be in force.
    pub(super) full: Full,
    /// What is to be tried then.
    pub(super) trial: Option<Trial>,
    /// What the file has as `next`, whatever becomes of it.
    pub(super) identity: Option<String>,
}

/// Something to be tried, and what it is.
pub(super) struct Trial {
    pub(super) candidate: Candidate,
    pub(super) identity: String,
}

impl Wanted {
    /// What the file `loaded` asks for: its `next` is tried, unless it was promoted already, which
    /// puts it in force, or found bad, which leaves it out.
    pub(super) fn of(loaded: Loaded, loader: &mut Loader, state: &State) -> Self {
        let text = loaded.text();
        let full = |loaded, on_top| Full { loaded, text: text.clone(), on_top, returned: false };
        let Some(candidate) = loaded.candidate() else {
            return Wanted { full: full(loaded, None), trial: None, identity: None };
        };
        let identity = identity(loader, &candidate);
        if let Some(pinned) = state.pinned(&identity) {
            tracing::warn!(
                what = pinned.what,
                reason = pinned.reason,
                identity,
                "`next` was found bad and is left out until its content changes or it is unpinned"
            );
            return Wanted { full: full(loaded, None), trial: None, identity: Some(identity) };
        }
        if state.promoted_next.as_ref().is_some_and(|promoted| promoted.identity == identity) {
            let on_top = OnTop {
                by: Origin::File,
                changes: words(&candidate),
                next_promoted: true,
                filters: Vec::new(),
                chains: Vec::new(),
            };
            let full = full(candidate.loaded, Some(on_top));
            return Wanted { full, trial: None, identity: Some(identity) };
        }
        let trial = Some(Trial { candidate, identity: identity.clone() });
        Wanted { full: full(loaded, None), trial, identity: Some(identity) }
    }
}

/// Each difference in words.
pub(super) fn words(candidate: &Candidate) -> Vec<String> {
    candidate.differences.iter().map(ToString::to_string).collect()
}

/// What all that a candidate changes is: two with the same identity cannot be told apart.
pub(super) fn identity(loader: &mut Loader, candidate: &Candidate) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no part can be taken for another.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    let loaded = &candidate.loaded;
    for difference in &candidate.differences {
        match difference {
            Difference::Filter { index, .. } => {
                let filter = &loaded.config.filters[*index];
                // What cannot be read has no identity of its own; loading it tells why.
                let one = loader.identify(loaded, filter).unwrap_or(Identity::from([0; 32]));
                add(filter.name.as_bytes());
                add(one.as_bytes());
            }
            Difference::Chain { listener, route, next, .. } => {
                add(listener.as_bytes());
                add(route.as_bytes());
                add(next.join(",").as_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

impl Full {
    /// What is kept of it, published as `snapshot` while the files had the hash `source`.
    pub(super) fn record(
        &self,
        snapshot: &Snapshot,
        cause: &str,
        config_path: PathBuf,
        source: blake3::Hash,
    ) -> FullRecord {
        let filters = snapshot.config.filters.iter().zip(&snapshot.filters);
        let kept = filters.filter_map(|(filter, prepared)| {
            let component = prepared.as_ref()?.code().content();
            let version = filter.version.as_ref().map(ToString::to_string);
            Some(KeptFilter { name: filter.name.to_string(), version, component })
        });
        FullRecord {
            generation: snapshot.generation,
            published: SystemTime::now(),
            cause: cause.to_owned(),
            source_hash: source,
            config_path,
            config_text: Kept(self.text.to_string()),
            on_top: self.on_top.clone(),
            filters: kept.collect(),
        }
    }

    /// The generation that `record` is of, with the components it had.
    ///
    /// # Errors
    /// Its text cannot be used any more, or a component is not to be had. In words.
    pub(super) fn again(record: &FullRecord, history: &History) -> Result<Self, String> {
        let Kept(text) = &record.config_text;
        let file = record.config_path.to_string_lossy();
        let env = |variable: &str| std::env::var(variable).ok();
        let parsed = config::parse(text, &file, Path::new("/"), &env);
        let mut loaded = parsed.map_err(|problems| problems.to_string())?;
        let text = loaded.text();
        if let Some(on_top) = &record.on_top {
            loaded = put_on_top(loaded, on_top, history)?;
        }
        for filter in &mut loaded.config.filters {
            filter.next = None;
            let kept = record.filters.iter().find(|kept| *kept.name == *filter.name);
            let Some(KeptFilter { component, .. }) = kept else { continue };
            if let FilterSource::File(path) = &filter.source {
                let unchanged = std::fs::read(path).is_ok_and(|it| blake3::hash(&it) == *component);
                if !unchanged {
                    filter.source = FilterSource::Uploaded(upload(component, history)?);
                }
            }
        }
        for route in loaded.config.listeners.iter_mut().flat_map(|it| &mut it.routes) {
            route.next_chain = None;
        }
        Ok(Full { loaded, text, on_top: record.on_top.clone(), returned: true })
    }
}

/// A file's configuration with what was in force over it.
fn put_on_top(loaded: Loaded, on_top: &OnTop, history: &History) -> Result<Loaded, String> {
    let OnTop { by: _, changes: _, next_promoted, filters, chains } = on_top;
    let loaded = match loaded.candidate() {
        Some(candidate) if *next_promoted => candidate.loaded,
        _ => loaded,
    };
    if filters.is_empty() && chains.is_empty() {
        return Ok(loaded);
    }
    let filters = filters.iter().map(|filter| {
        let component = filter.component.as_ref().map(|hash| upload(hash, history)).transpose()?;
        let config = filter.config_json.as_ref().map(|Kept(json)| serde_json::from_str(json));
        Ok(FilterChange {
            filter: filter.filter.clone(),
            component: component.map(|upload| upload.bytes().clone()),
            version: filter.version.clone(),
            config: config.transpose().map_err(|error| error.to_string())?,
        })
    });
    let filters = filters.collect::<Result<_, String>>()?;
    let change = Change { filters, chains: chains.clone() };
    let candidate = config::apply(&change, &loaded.config);
    Ok(candidate.map_err(|problems| problems.join("\n"))?.loaded)
}

fn upload(hash: &blake3::Hash, history: &History) -> Result<Upload, String> {
    let bytes = history.component(hash).ok_or_else(|| {
        let shown = &hash.to_hex()[..12];
        format!("component {shown} is not kept, and its file has other content by now")
    })?;
    Ok(Upload::new(Bytes::from(bytes)))
}

/// `before` with a promoted change over it.
pub(super) fn over(before: Option<&OnTop>, change: &Change, words: Vec<String>) -> OnTop {
    use crate::rollout::store::FilterOnTop;
    let mut on_top = before.cloned().unwrap_or(OnTop {
        by: Origin::Admin,
        changes: Vec::new(),
        next_promoted: false,
        filters: Vec::new(),
        chains: Vec::new(),
    });
    on_top.by = Origin::Admin;
    on_top.changes.extend(words);
    for FilterChange { filter, component, version, config } in &change.filters {
        let known = on_top.filters.iter().position(|it| it.filter == *filter);
        let earlier = known.map(|at| on_top.filters.remove(at));
        let component = component.as_ref().map(|bytes| blake3::hash(bytes));
        let config = config.as_ref().map(|config| Kept(config.to_string()));
        on_top.filters.push(FilterOnTop {
            filter: filter.clone(),
            component: component.or(earlier.as_ref().and_then(|it| it.component)),
            version: version.clone(),
            config_json: config.or(earlier.and_then(|it| it.config_json)),
        });
    }
    for ChainChange { listener, route, chain } in &change.chains {
        on_top.chains.retain(|it| (&it.listener, &it.route) != (listener, route));
        let (listener, route, chain) = (listener.clone(), route.clone(), chain.clone());
        on_top.chains.push(ChainChange { listener, route, chain });
    }
    on_top
}
