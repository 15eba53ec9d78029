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
    /// What is to be tried, with every `next` in its place; none: nothing is. The `next` of a filter
    /// that is in no chain stays out: nobody could tell how it does.
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate_with(|_| true)
    }

    /// The same with those of the differences alone that are `wanted`; the others stay as they are.
    pub fn candidate_with(&self, wanted: impl Fn(&Difference) -> bool) -> Option<Candidate> {
        let mut config = self.config.clone();
        let used = config.used_filters();
        let mut differences = Vec::new();
        let mut moved = BTreeSet::new();
        for (index, filter) in config.filters.iter_mut().enumerate() {
            let Some(next) = filter.next.take() else { continue };
            let Some(difference) = filter_difference(index, filter, &next) else { continue };
            if used[index] && wanted(&difference) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FailPolicy, FilterSource, Grants, Isolation, REDACTED, parse};
    use std::path::Path;

    /// With `${A}` and so on standing for `secret-A`.
    fn loaded(filters: &str, route: &str) -> Loaded {
        let text = format!(
            "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:1\"\n\
             route = [{{ upstream = \"u\" }}, {{ upstream = \"u\", {route} }}]\n\
             [upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n{filters}"
        );
        parse(&text, "p.toml", Path::new("/c"), &|name| Some(format!("secret-{name}"))).unwrap()
    }

    const TWO: &str =
        "[filter.a]\nsource = \"builtin:headers\"\n[filter.b]\nsource = \"./b.wasm\"\n";

    #[test]
    fn without_next_there_is_nothing_to_try() {
        assert!(loaded(TWO, "chain = [\"a\"]").candidate().is_none());
        let same = "[filter.a]\nsource = \"./a.wasm\"\nversion = \"v1\"\n\
                    next = { version = \"v2\", source = \"./a.wasm\" }\n";
        assert!(loaded(same, "chain = [\"a\"], next = { chain = [\"a\"] }").candidate().is_none());
    }

    #[test]
    fn a_next_version_has_what_it_does_not_change_from_its_filter() {
        let filters = "[filter.a]\nsource = \"./a.wasm\"\nversion = \"v1\"\nconfig = { k = 1 }\n\
                       grants = { log = true }\nlimits = { time = \"1ms\" }\nfail_policy = \"open\"\n\
                       isolation = \"per-request\"\nnext = { source = \"./b.wasm\" }\n";
        let loaded = loaded(filters, "chain = [\"a\"]");
        let Candidate { loaded: candidate, differences } = loaded.candidate().unwrap();
        let (running, next) = (&loaded.config.filters[0], &candidate.config.filters[0]);
        assert_eq!(next.source, FilterSource::File("/c/./b.wasm".into()));
        assert_eq!(running.differences(next), ["source"]);
        assert_eq!(next.version, None, "the name of a version is no other version's");
        assert!(next.next.is_none());
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].to_string(), "filter a: source");
        assert!(candidate.files().contains(Path::new("/c/./b.wasm")));
        let files = loaded.files();
        for file in ["/c/p.toml", "/c/./a.wasm", "/c/./b.wasm"] {
            assert!(files.contains(Path::new(file)), "{file}");
        }
    }

    #[test]
    fn what_a_next_version_has_replaces_the_whole_of_it() {
        let filters = "[filter.a]\nsource = \"builtin:headers\"\nconfig = { k = 1, l = 2 }\n\
                       grants = { kv = true }\nlimits = { time = \"1ms\", memory = \"1MiB\" }\n\
                       [filter.a.next]\nversion = \"v2\"\nsource = \"./a.wasm\"\nconfig = { k = 3 }\n\
                       grants = { clock = true }\nlimits = { time = \"2ms\" }\n\
                       fail_policy = \"open\"\nisolation = \"per-request\"\n";
        let loaded = loaded(filters, "chain = [\"a\"]");
        let candidate = loaded.candidate().unwrap();
        let next = &candidate.loaded.config.filters[0];
        assert_eq!(next.config, serde_json::json!({ "k": 3 }));
        assert_eq!(next.grants, Grants { clock: true, ..Grants::default() });
        assert_eq!(next.limits.memory, crate::config::FilterLimits::default().memory);
        assert_eq!((next.fail_policy, next.isolation), (FailPolicy::Open, Isolation::PerRequest));
        assert_eq!(
            candidate.differences[0].to_string(),
            "filter a: source, config, grants, limits, fail_policy, isolation (v2)"
        );
    }

    #[test]
    fn only_wanted_differences_are_made() {
        let filters = format!(
            "{TWO}next = {{ config = {{ k = 1 }} }}\n[filter.idle]\nsource = \"./c.wasm\"\n\
             next = {{ config = {{ k = 1 }} }}\n"
        );
        let route = "chain = [\"a\"], next = { chain = [\"b\", \"a\"] }";
        let loaded = loaded(&filters, route);
        let shown = |candidate: &Candidate| -> Vec<String> {
            candidate.differences.iter().map(ToString::to_string).collect()
        };
        let all = loaded.candidate().unwrap();
        assert_eq!(shown(&all), ["filter b: config", "chain in/2: a -> b, a"]);
        assert_eq!(all.loaded.config.listeners[0].routes[1].chain, [1, 0]);
        let chains = loaded.candidate_with(|it| matches!(it, Difference::Chain { .. })).unwrap();
        assert_eq!(shown(&chains), ["chain in/2: a -> b, a"]);
        let filter = &chains.loaded.config.filters[1];
        assert!(filter.next.is_none() && filter.config == serde_json::json!({}));
        assert!(chains.loaded.candidate().is_none());
        assert!(loaded.candidate_with(|_| false).is_none());

        let emptied = Difference::Chain {
            listener: "in".into(),
            route: "api".into(),
            running: vec!["a".into()],
            next: Vec::new(),
        };
        assert_eq!(emptied.to_string(), "chain in/api: a -> no filters");
    }

    #[test]
    fn messages_about_a_candidate_point_to_where_its_parts_come_from() {
        let filters = "[filter.a]\nsource = \"./a.wasm\"\nconfig = { k = 1, old = 2 }\n\
                       [filter.b]\nsource = \"./b.wasm\"\nconfig = { k = 1 }\n\
                       [filter.a.next]\nconfig = { k = [4] }\n";
        let route = "chain = [\"a\"], next = { chain = [\"b\"] }";
        let loaded = loaded(filters, route);
        let candidate = loaded.candidate().unwrap().loaded;
        let line = |loaded: &Loaded, path: &str| loaded.locate(path, "bad").place.unwrap().line;
        assert_eq!(line(&loaded, "filter.a.config.k"), 9);
        for (path, expected) in [
            ("filter.a.config.k", 14),
            ("filter.a.config.k[0]", 14),
            ("filter.a.config.old", 14),
            ("filter.a.source", 8),
            ("filter.b.config.k", 12),
            ("filter.a.next.source", 7),
        ] {
            assert_eq!(line(&candidate, path), expected, "{path}");
        }
        let column = |loaded: &Loaded| {
            loaded.locate("listener[0].route[1].chain", "bad").place.unwrap().column
        };
        assert!(column(&candidate) > column(&loaded));
    }

    #[test]
    fn secrets_stay_secret_in_a_next_version_and_in_a_candidate() {
        let filters = "[filter.a]\nsource = \"./${A}.wasm\"\nconfig = { k = \"${B}\", l = 1 }\n\
                       limits = { time = \"1ms\" }\n\
                       next = { config = { k = 1, l = \"${C}\", m = [\"${D}\"] } }\n\
                       [filter.ab]\nsource = \"./b.wasm\"\nconfig = { k = \"${E}\" }\n\
                       next = { fail_policy = \"open\" }\n";
        let loaded = loaded(filters, "chain = [\"a\", \"ab\"]");
        let candidate = loaded.candidate().unwrap().loaded;
        for config in [&loaded.config, &candidate.config] {
            let shown = format!("{config:?} {}", config.redacted());
            assert!(!shown.contains("secret-"), "{shown}");
        }
        let dump = candidate.config.redacted();
        let filter = &dump["filter"]["a"];
        assert_eq!(filter["source"], REDACTED);
        assert_eq!(filter["config"], serde_json::json!({ "k": 1, "l": REDACTED, "m": [REDACTED] }));
        assert_eq!(dump["filter"]["ab"]["config"]["k"], REDACTED);
        let diagnostic = candidate.locate("filter.a.config", "`secret-C` is short").to_string();
        assert!(diagnostic.contains(REDACTED) && !diagnostic.contains("secret-C"), "{diagnostic}");
    }
}
