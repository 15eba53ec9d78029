//! Starts the shadow of a rollout: which chains it plays, with filters of its own.
//!
//! What a shadow does then is the matter of `shadow`.

use super::build::Filters;
use super::filters::Loader;
use super::problems::Problems;
use crate::chain::Members;
use crate::config::{Config, Loaded};
use crate::shadow::{Link, NextChain, Setup, Shadow};
use crate::snapshot::{Snapshot, differences, versions};
use http::HeaderName;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A shadow of what `loaded`, with these filters, changes of the running version.
///
/// # Errors
/// Its filters cannot be made once more, or there is no thread for it. In words.
pub(super) fn start(
    loader: &mut Loader,
    running: &Snapshot,
    loaded: &Loaded,
    filters: &Filters,
    ignored: &[HeaderName],
) -> Result<Arc<Shadow>, String> {
    let chains = chains(running, &loaded.config, filters);
    let links = chains.iter().flat_map(|chain| &chain.links);
    let used: BTreeSet<usize> = links.map(|link| link.filter).collect();
    let made = loader.load_for_shadow(loaded, |index| used.contains(&index));
    let made = made.map_err(|problems: Problems| problems.to_string())?;
    let mut ignored = ignored.to_vec();
    // The host's own field, which tells another version on each side.
    ignored.extend(running.config.rollout.version_header.clone());
    let shadow = Shadow::start(Setup { filters: made, chains, ignored });
    shadow.map(Arc::new).map_err(|error| format!("failed to start a thread: {error}"))
}

/// The chains of the candidate that are not those of the running version.
fn chains(running: &Snapshot, config: &Config, filters: &Filters) -> Vec<NextChain> {
    let mut all = Vec::new();
    for (at, listener) in config.listeners.iter().enumerate() {
        for (nth, route) in listener.routes.iter().enumerate() {
            let place = (at, nth);
            let one = versions(&running.config, &running.filters, place);
            let other = versions(config, filters, place);
            let Some((_, next_only)) = differences(&one, &other) else { continue };
            let (listener, name) = (listener.name.clone(), route.name.clone());
            let links = links(&route.chain, filters, next_only);
            all.push(NextChain { listener, route: name, links });
        }
    }
    all
}

/// `differs` counts the filters that could be loaded.
fn links(chain: &[usize], filters: &Filters, differs: Members) -> Vec<Link> {
    let loaded = chain.iter().filter(|index| filters[**index].is_some()).enumerate();
    loaded.map(|(at, index)| Link { filter: *index, differs: differs.has(at) }).collect()
}
