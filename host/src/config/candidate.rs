//! The configuration that the `next` of filters and routes make: what a rollout tries beside the one
//! they stand in.
//!
//! Knows neither components nor how a rollout goes on.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::model::Config;
use super::positions::Positions;
use super::words::join;
use super::{Filter, Loaded};

/// A configuration that is to be tried beside another one. It has the same listeners, routes and
/// upstreams, and filters of the same names in the same order.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The configuration, with nothing left to be tried. Messages about it point to where its parts
    /// come from.
    pub loaded: Loaded,
    /// What it has that the other one has not; never empty.
    pub differences: Vec<Difference>,
}

/// One thing that a candidate has and the configuration beside it has not. Displays as in `filter
/// limit: source, config` and `chain inbound/api: trace, limit -> trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Another version of a filter.
    Filter {
        /// Index into the filters of both configurations.
        index: usize,
        /// The filter.
        name: Arc<str>,
        /// What people call the new version.
        version: Option<Arc<str>>,
        /// The keys that differ; never empty.
        keys: Vec<&'static str>,
    },
    /// Another chain of a route.
    Chain {
        /// The listener.
        listener: Arc<str>,
        /// The route, by a name that is its own within the listener.
        route: Arc<str>,
        /// Filters of the running chain.
        running: Vec<Arc<str>>,
        /// Filters of the new one.
        next: Vec<Arc<str>>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |chain: &[Arc<str>]| match chain {
            [] => "no filters".to_owned(),
            chain => chain.join(", "),
        };
        match self {
            Difference::Filter { index: _, name, version, keys } => {
                write!(f, "filter {name}: {}", keys.join(", "))?;
                version.as_ref().map_or(Ok(()), |version| write!(f, " ({version})"))
            }
            Difference::Chain { listener, route, running, next } => {
                write!(f, "chain {}: ", route_label(listener, route))?;
                write!(f, "{} -> {}", list(running), list(next))
            }
        }
    }
}

/// `inbound/api`; a route without a name of its own has one that begins with the listener's.
fn route_label(listener: &str, route: &str) -> String {
    if route.contains('/') { route.to_owned() } else { format!("{listener}/{route}") }
}

impl Loaded {
    /// What is to be tried, with every `next` in its place; none: nothing is.
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate_with(|_| true)
    }

    /// The same with those of the differences alone that are `wanted`; the others stay as they are.
    pub fn candidate_with(&self, wanted: impl Fn(&Difference) -> bool) -> Option<Candidate> {
        let mut config = self.config.clone();
        let mut differences = Vec::new();
        let mut moved = BTreeSet::new();
        for (index, filter) in config.filters.iter_mut().enumerate() {
            let Some(next) = filter.next.take() else { continue };
            let Some(difference) = filter_difference(index, filter, &next) else { continue };
            if wanted(&difference) {
                moved.insert(join("filter", &filter.name));
                *filter = *next;
                differences.push(difference);
            }
        }
        for (at, listener) in config.listeners.iter_mut().enumerate() {
            for (index, route) in listener.routes.iter_mut().enumerate() {
                let Some(next) = route.next_chain.take() else { continue };
                let running = &route.chain;
                let Some(difference) =
                    chain_difference(&self.config, (&listener.name, &route.name), running, &next)
                else {
                    continue;
                };
                if wanted(&difference) {
                    moved.insert(format!("listener[{at}].route[{index}]"));
                    route.chain = next;
                    differences.push(difference);
                }
            }
        }
        if differences.is_empty() {
            return None;
        }
        let given = |table: &str, key: &str| self.positions.has(&format!("{table}.next.{key}"));
        let positions = self.positions.renamed(|path| in_place(path, &moved, &given));
        // Those of a next version are complete: see `with_inherited`.
        let paths = config.secrets.paths.iter();
        config.secrets.paths =
            paths.filter_map(|path| in_place(path, &moved, &|_, _| true)).collect();
        let (warnings, referenced_files) = (self.warnings.clone(), self.referenced_files.clone());
        Some(Candidate {
            loaded: Loaded { config, warnings, positions, referenced_files },
            differences,
        })
    }
}

/// What a filter does differently in its next version, if it does.
pub(super) fn filter_difference(
    index: usize,
    running: &Filter,
    next: &Filter,
) -> Option<Difference> {
    let keys = running.differences(next);
    let (name, version) = (running.name.clone(), next.version.clone());
    (!keys.is_empty()).then_some(Difference::Filter { index, name, version, keys })
}

/// What is different between two chains of a route, if anything is. `names`: listener and route.
pub(super) fn chain_difference(
    config: &Config,
    names: (&Arc<str>, &Arc<str>),
    running: &[usize],
    next: &[usize],
) -> Option<Difference> {
    let filters = |chain: &[usize]| {
        chain
            .iter()
            .filter_map(|index| config.filters.get(*index))
            .map(|it| it.name.clone())
            .collect()
    };
    let (listener, route) = (names.0.clone(), names.1.clone());
    let (shown_running, shown_next) = (filters(running), filters(next));
    let difference =
        Difference::Chain { listener, route, running: shown_running, next: shown_next };
    (running != next).then_some(difference)
}

/// The secret paths of a file, with those that next versions have from their filters.
pub(super) fn with_inherited(
    secret_paths: BTreeSet<String>,
    positions: &Positions,
    config: &Config,
) -> BTreeSet<String> {
    let mut all = secret_paths.clone();
    for filter in config.filters.iter().filter(|filter| filter.next.is_some()) {
        let table = join("filter", &filter.name);
        let start = format!("{table}.");
        let own = secret_paths.range(start.clone()..).take_while(|path| path.starts_with(&start));
        for path in own {
            if let Some((key, rest)) = key_in(path, &table)
                && key != "next"
                && !positions.has(&format!("{table}.next.{key}"))
            {
                all.insert(format!("{table}.next.{key}{rest}"));
            }
        }
    }
    all
}

/// The path that a key of the file has once the `next` of the tables `moved` are in their places;
/// none: another one takes its place. `given`: does the `next` of a table have this key?
fn in_place(
    path: &str,
    moved: &BTreeSet<String>,
    given: &impl Fn(&str, &str) -> bool,
) -> Option<String> {
    let unchanged = || Some(path.to_owned());
    let Some(table) = table_of(path).filter(|table| moved.contains(*table)) else {
        return unchanged();
    };
    match key_in(path, table) {
        None => unchanged(),
        Some(("next", "")) => None,
        Some(("next", rest)) => Some(format!("{table}{rest}")),
        Some((key, _)) if given(table, key) => None,
        Some(_) => unchanged(),
    }
}

/// The path of the filter or route that a key belongs to. Names have no dots and brackets.
fn table_of(path: &str) -> Option<&str> {
    let start = match path.strip_prefix("filter.") {
        Some(_) => "filter.".len(),
        None => path.find("].route[")? + "].route[".len(),
    };
    let length = path[start..].find('.').unwrap_or(path.len() - start);
    Some(&path[..start + length])
}

/// The key of `table` that a path names or is below, and the rest of the path.
fn key_in<'p>(path: &'p str, table: &str) -> Option<(&'p str, &'p str)> {
    let inside = path.strip_prefix(table)?.strip_prefix('.')?;
    Some(inside.split_at(inside.find(['.', '[']).unwrap_or(inside.len())))
}
