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
    let used = config.used_filters();
    for difference in &differences {
        if let Difference::Filter { index, name, .. } = difference
            && !used[*index]
        {
            problems.add(format_args!(
                "filter `{name}` is in no chain, so nobody could tell how it does; change a chain, too"
            ));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NAME_BYTES_MAX, REDACTED, VERSION_BYTES_MAX, parse};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use std::path::Path;

    fn running() -> Config {
        let text = "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:1\"\n\
                    route = [{ name = \"api\", upstream = \"u\", chain = [\"limit\"],\n\
                    next = { chain = [] } }, { upstream = \"u\" }]\n\
                    [upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n\
                    [filter.limit]\nsource = \"./${A}.wasm\"\nversion = \"v1\"\n\
                    config = { k = \"${A}\" }\n\
                    next = { config = { k = \"${A}-2\" } }\n\
                    [filter.trace]\nsource = \"builtin:trace\"\n";
        let loaded = parse(text, "p.toml", Path::new("/c"), &|_| Some("t0p-s3cret".to_owned()));
        loaded.unwrap().config
    }

    fn filter(name: &str) -> FilterChange {
        FilterChange { filter: name.to_owned(), component: None, version: None, config: None }
    }

    fn chain(listener: &str, route: &str, chain: &[&str]) -> ChainChange {
        let chain = chain.iter().map(|name| (*name).to_owned()).collect();
        ChainChange { listener: listener.to_owned(), route: route.to_owned(), chain }
    }

    fn of_filter(change: FilterChange) -> Change {
        Change { filters: vec![change], chains: Vec::new() }
    }

    fn of_chains(chains: Vec<ChainChange>) -> Change {
        Change { filters: Vec::new(), chains }
    }

    fn problems(change: Change) -> String {
        apply(&change, &running()).unwrap_err().join("\n")
    }

    #[test]
    fn a_change_is_the_running_configuration_with_something_else_in_it() {
        let bytes = Bytes::from_static(b"component");
        let change = Change {
            filters: vec![FilterChange {
                component: Some(bytes.clone()),
                version: Some("v2".to_owned()),
                config: Some(json!({ "k": "typed-in" })),
                ..filter("limit")
            }],
            chains: vec![chain("in", "api", &["trace", "limit"]), chain("in", "in/2", &["trace"])],
        };
        let Candidate { loaded, differences } = apply(&change, &running()).unwrap();
        let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "filter limit: source, config (v2)",
                "chain in/api: limit -> trace, limit",
                "chain in/2: no filters -> trace"
            ]
        );
        let config = &loaded.config;
        let limit = &config.filters[0];
        let FilterSource::Uploaded(upload) = &limit.source else { panic!("{limit:?}") };
        assert_eq!((upload.bytes(), upload.hash()), (&bytes, blake3::hash(&bytes)));
        assert_eq!(limit.config, json!({ "k": "typed-in" }));
        assert!(limit.next.is_none() && loaded.candidate().is_none());
        assert_eq!(config.listeners[0].routes[0].chain, [1, 0]);

        let dump = config.redacted();
        assert_eq!(dump["filter"]["limit"]["config"], REDACTED);
        let source = format!("uploaded:{}", blake3::hash(&bytes));
        assert_eq!(dump["filter"]["limit"]["source"], source.as_str());
        let shown = format!("{loaded:?} {dump}");
        assert!(!shown.contains("typed-in") && !shown.contains("t0p-s3cret"), "{shown}");
        let message =
            loaded.locate_filter_config("limit", "k", "`t0p-s3cret` is short").to_string();
        assert_eq!(
            message,
            "change: error: filter `limit` refuses its configuration: `k`: `<redacted>` is short"
        );
    }

    #[test]
    fn what_a_change_does_not_name_stays_as_it_is() {
        let change = of_chains(vec![chain("in", "api", &[])]);
        let candidate = apply(&change, &self::running()).unwrap().loaded.config;
        assert_eq!(candidate.filters[0].config["k"], "t0p-s3cret");
        assert_eq!(candidate.filters[0].version.as_deref(), Some("v1"));
        assert_eq!(candidate.redacted()["filter"]["limit"]["config"]["k"], REDACTED);
    }

    #[test]
    fn every_problem_is_told_with_what_to_do() {
        let change = Change {
            filters: vec![
                filter("limt"),
                filter("nothing-like-it"),
                FilterChange { config: Some(json!([1])), ..filter("limit") },
                filter("limit"),
                FilterChange { version: Some("a b".to_owned()), ..filter("trace") },
            ],
            chains: vec![
                chain("inn", "api", &[]),
                chain("in", "in/3", &[]),
                chain("in", "api", &["limit", "trase", "limit"]),
                chain("in", "api", &[]),
            ],
        };
        assert_eq!(
            problems(change),
            "there is no filter `limt`; did you mean `limit`?\n\
             there is no filter `nothing-like-it`; there are `limit`, `trace`\n\
             the configuration for filter `limit` is no JSON object\n\
             filter `limit` is changed twice; give one change for it\n\
             `a b` is no version for filter `trace`: it has other characters; a version has \
             letters, digits, `-`, `_`, `.` and `+`, and no references\n\
             there is no listener `inn`; did you mean `in`?\n\
             there is no route `in/3`; did you mean `in/2`?\n\
             there is no filter `trase`; did you mean `trace`?\n\
             filter `limit` is in the chain for route `api` twice; name it once\n\
             route `api` is changed twice; give one change for it"
        );
        let unused = of_filter(FilterChange { config: Some(json!({ "k": 1 })), ..filter("trace") });
        assert!(problems(unused).starts_with("filter `trace` is in no chain"));
        let nothing = "the change is what runs already: give another component, configuration or \
                       chain";
        for change in [
            of_filter(FilterChange { version: Some("v9".to_owned()), ..filter("limit") }),
            of_filter(FilterChange { config: Some(json!({})), ..filter("trace") }),
            of_chains(vec![chain("in", "api", &["limit"])]),
            of_chains(Vec::new()),
        ] {
            assert_eq!(problems(change), nothing);
        }
    }

    #[test]
    fn every_bound_holds_below_at_and_above() {
        let upload = |length: usize| {
            of_filter(FilterChange { component: Some(vec![0; length].into()), ..filter("limit") })
        };
        // `{"k":"..."}` is 8 bytes without the value.
        let config = |length: usize| {
            let config: Value = json!({ "k": "v".repeat(length - 8) });
            of_filter(FilterChange { config: Some(config), ..filter("limit") })
        };
        let version = |length: usize| {
            let (version, config) = (Some("1".repeat(length)), Some(json!({ "k": 1 })));
            of_filter(FilterChange { version, config, ..filter("limit") })
        };
        type Case<'a> = (usize, &'a dyn Fn(usize) -> Change, &'a str);
        let cases: [Case<'_>; 3] = [
            (UPLOAD_BYTES_MAX, &upload, "the component for filter `limit` has 67108865 bytes"),
            (FILTER_CONFIG_BYTES_MAX, &config, "the configuration for filter `limit` has 262145"),
            (VERSION_BYTES_MAX, &version, "is no version for filter `limit`: it is too long"),
        ];
        for (max, change, message) in cases {
            for length in [max - 1, max] {
                assert!(apply(&change(length), &running()).is_ok(), "{message}: {length}");
            }
            let shown = problems(change(max + 1));
            assert!(shown.contains(message), "{shown}");
        }

        let mut running = running();
        let trace = running.filters[1].clone();
        let name = |index: usize| format!("f{index}");
        running
            .filters
            .extend((0..40).map(|index| Filter { name: name(index).into(), ..trace.clone() }));
        for (length, accepted) in [
            (CHAIN_FILTERS_MAX - 1, true),
            (CHAIN_FILTERS_MAX, true),
            (CHAIN_FILTERS_MAX + 1, false),
        ] {
            let chain = (0..length).map(name).collect();
            let change = ChainChange { listener: "in".into(), route: "api".into(), chain };
            assert_eq!(apply(&of_chains(vec![change]), &running).is_ok(), accepted, "{length}");
        }
        for (given, told) in [
            (DIAGNOSTICS_MAX - 1, DIAGNOSTICS_MAX - 1),
            (DIAGNOSTICS_MAX, DIAGNOSTICS_MAX),
            (DIAGNOSTICS_MAX + 1, DIAGNOSTICS_MAX),
        ] {
            let filters = vec![filter(&"x\n".repeat(NAME_BYTES_MAX)); given];
            let problems = apply(&Change { filters, chains: Vec::new() }, &running).unwrap_err();
            assert_eq!(problems.len(), told);
            assert!(problems.iter().all(|problem| !problem.contains('\n') && problem.len() < 800));
        }
    }
}
