//! The configuration that a change from outside makes: what the admin interface asks to be tried
//! beside the running one.
//!
//! A change names filters and routes that are there; it has no references to replace, and what it
//! gives a filter is never shown. Knows neither files nor how a rollout goes on.

use std::collections::BTreeSet;
use std::fmt;

use super::candidate::{Candidate, Difference, chain_difference, filter_difference};
use super::dump::Secrets;
use super::model::{Config, Filter, FilterSource, Upload};
use super::words::{did_you_mean, join, quoted, shortened, version_problem};
use super::{CHAIN_FILTERS_MAX, DIAGNOSTICS_MAX, FILTER_CONFIG_BYTES_MAX, Loaded};
use crate::rollout::control::{ChainChange, Change, FilterChange, UPLOAD_BYTES_MAX};

/// What messages about the result call the place that it comes from.
const ORIGIN: &str = "change";

/// What `running` is with `change`; whatever was to be tried beside `running` is no part of it.
///
/// # Errors
/// Each thing that is wrong with it, as a sentence, [`DIAGNOSTICS_MAX`] at most.
pub fn apply(change: &Change, running: &Config) -> Result<Candidate, Vec<String>> {
    let Change { filters, chains } = change;
    let mut config = running.clone();
    config.filters.iter_mut().for_each(|filter| filter.next = None);
    let routes = config.listeners.iter_mut().flat_map(|listener| &mut listener.routes);
    routes.for_each(|route| route.next_chain = None);

    let mut problems = Problems(Vec::new());
    let mut differences = change_filters(filters, running, &mut config, &mut problems);
    differences.extend(change_chains(chains, running, &mut config, &mut problems));
    if problems.0.is_empty() && differences.is_empty() {
        problems
            .add("the change is what runs already: give another component, configuration or chain");
    }
    if !problems.0.is_empty() {
        return Err(problems.0);
    }
    Ok(Candidate { loaded: Loaded::without_file(config, ORIGIN), differences })
}

struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl fmt::Display) {
        if self.0.len() < DIAGNOSTICS_MAX {
            self.0.push(problem.to_string());
        }
    }
}

fn change_filters(
    changes: &[FilterChange],
    running: &Config,
    config: &mut Config,
    problems: &mut Problems,
) -> Vec<Difference> {
    let mut seen = BTreeSet::new();
    let mut differences = Vec::new();
    for change in changes {
        let name = change.filter.as_str();
        let Some(index) = index_of(running, name) else {
            problems.add(unknown("filter", name, running.filters.iter().map(|it| &*it.name)));
            continue;
        };
        if !seen.insert(index) {
            problems.add(format_args!("filter `{name}` is changed twice; give one change for it"));
            continue;
        }
        let filter = &mut config.filters[index];
        change_filter(change, filter, &mut config.secrets, problems);
        differences.extend(filter_difference(index, &running.filters[index], filter));
    }
    differences
}

fn change_filter(
    change: &FilterChange,
    filter: &mut Filter,
    secrets: &mut Secrets,
    problems: &mut Problems,
) {
    let FilterChange { filter: name, component, version, config } = change;
    if let Some((problem, help)) = version.as_deref().and_then(version_problem) {
        let shown = shortened(version.as_deref().unwrap_or_default());
        problems
            .add(format_args!("`{shown}` is no version for filter `{name}`: {problem}; {help}"));
    }
    filter.version = version.as_deref().map(Into::into);
    let table = join("filter", name);
    if let Some(bytes) = component {
        if bytes.len() > UPLOAD_BYTES_MAX {
            let (is, most) = (bytes.len(), UPLOAD_BYTES_MAX);
            problems.add(format_args!(
                "the component for filter `{name}` has {is} bytes; {most} is the most"
            ));
        } else {
            filter.source = FilterSource::Uploaded(Upload::new(bytes.clone()));
            secrets.paths.remove(&join(&table, "source"));
        }
    }
    let Some(given) = config else { return };
    let bytes = given.to_string().len();
    if !given.is_object() {
        problems.add(format_args!("the configuration for filter `{name}` is no JSON object"));
    } else if bytes > FILTER_CONFIG_BYTES_MAX {
        problems.add(format_args!(
            "the configuration for filter `{name}` has {bytes} bytes; {FILTER_CONFIG_BYTES_MAX} is \
             the most"
        ));
    }
    filter.config = given.clone();
    // It cannot say what of it is secret, so none of it is shown.
    secrets.paths.insert(join(&table, "config"));
}

fn change_chains(
    changes: &[ChainChange],
    running: &Config,
    config: &mut Config,
    problems: &mut Problems,
) -> Vec<Difference> {
    let mut seen = BTreeSet::new();
    let mut differences = Vec::new();
    for ChainChange { listener, route, chain } in changes {
        let known = config.listeners.iter().position(|it| &*it.name == listener.as_str());
        let Some(at) = known else {
            let known = running.listeners.iter().map(|it| &*it.name);
            problems.add(unknown("listener", listener, known));
            continue;
        };
        let listener = &mut config.listeners[at];
        let known = listener.routes.iter().position(|it| &*it.name == route.as_str());
        let Some(index) = known else {
            problems.add(unknown("route", route, listener.routes.iter().map(|it| &*it.name)));
            continue;
        };
        if !seen.insert((at, index)) {
            problems.add(format_args!("route `{route}` is changed twice; give one change for it"));
            continue;
        }
        let Some(next) = read_chain(chain, running, route, problems) else { continue };
        let (listener, route) = (&listener.name, &mut listener.routes[index]);
        let names = (listener, &route.name);
        differences.extend(chain_difference(running, names, &route.chain, &next));
        route.chain = next;
    }
    differences
}

fn read_chain(
    names: &[String],
    running: &Config,
    route: &str,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    if names.len() > CHAIN_FILTERS_MAX {
        let is = names.len();
        problems.add(format_args!(
            "the chain for route `{route}` has {is} filters; {CHAIN_FILTERS_MAX} is the most"
        ));
        return None;
    }
    let mut chain = Vec::with_capacity(names.len());
    for name in names {
        match index_of(running, name) {
            None => {
                problems.add(unknown("filter", name, running.filters.iter().map(|it| &*it.name)));
            }
            Some(index) if chain.contains(&index) => problems.add(format_args!(
                "filter `{name}` is in the chain for route `{route}` twice; name it once"
            )),
            Some(index) => chain.push(index),
        }
    }
    (chain.len() == names.len()).then_some(chain)
}

fn index_of(config: &Config, filter: &str) -> Option<usize> {
    config.filters.iter().position(|it| &*it.name == filter)
}

/// There is no such thing; what may be meant.
fn unknown<'k>(kind: &str, name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    const LISTED_MAX: usize = 20;
    let help = did_you_mean(name, known.clone()).unwrap_or_else(|| {
        let listed: Vec<&str> = known.take(LISTED_MAX).collect();
        format!("there are {}", if listed.is_empty() { "none".to_owned() } else { quoted(&listed) })
    });
    format!("there is no {kind} `{}`; {help}", shortened(name))
}
