//! Whole files against the whole reader: good ones parse, bad ones have exactly the messages beside
//! them, every limit holds at its edges, and the descriptions of keys agree with everything made
//! from them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::ROOT;
use super::spec::{Kind, Limit, Presence, Table, Unit};
use super::*;
use crate::rollout::plan::STEPS_MAX;
use crate::rollout::{Plan, Stage, Sticky};

/// Set to rewrite the expected messages; look at the difference before committing it.
const REWRITE: &str = "PILLION_REWRITE_EXPECTED";

const APP: &str = "[upstream.app]\nendpoints = [\"127.0.0.1:3000\"]\n";

/// The files in a folder of `tests/`, by name.
pub(super) fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "PORT" => "4871",
        "HOST" => "hidden.example.com",
        "TOKEN" => "t0p-s3cret",
        "COUNT" => "3",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse_file(path: &Path) -> Result<Loaded, Diagnostics> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    parse(&text, name, path.parent().unwrap(), &environment)
}

fn parse_text(text: &str) -> Result<Loaded, Diagnostics> {
    parse(text, "pillion.toml", Path::new("/etc/pillion"), &environment)
}

/// A good configuration with `extra` before everything else.
fn with(extra: &str) -> String {
    let listener = "[[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:8080\"\n";
    format!("{extra}\n{listener}route = [{{ upstream = \"app\" }}]\n{APP}")
}

#[test]
fn good_files_parse_without_a_word() {
    for path in files("config/good") {
        match parse_file(&path) {
            Ok(loaded) => assert!(loaded.warnings.is_empty(), "{}", loaded.warnings),
            Err(problems) => panic!("{problems}"),
        }
    }
}

#[test]
fn bad_files_have_exactly_the_messages_beside_them() {
    for path in files("config/bad") {
        let problems = match parse_file(&path) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems,
        };
        expect_messages(&path, &problems);
    }
}

/// The messages are exactly those beside the file.
pub(super) fn expect_messages(path: &Path, problems: &Diagnostics) {
    assert!(!problems.is_empty(), "{}", path.display());
    let shown = format!("{problems}\n");
    let expected = path.with_extension("txt");
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&expected, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(shown, expected, "{}", path.display());
}

#[test]
fn a_file_that_is_only_odd_is_used_and_says_so() {
    let loaded = parse_text(&with("[upstream.idle]\nendpoints = [\"a:1\"]")).unwrap();
    let warnings = loaded.warnings.to_string();
    assert!(warnings.starts_with("pillion.toml:1:11: warning: upstream `idle` is not used"));
}

#[test]
fn values_and_defaults_reach_the_model() {
    let config = parse_file(&files("config/good")[1]).unwrap().config;
    assert_eq!(config.admin.address.to_string(), "0.0.0.0:9901");
    assert!(config.admin.socket.as_ref().unwrap().ends_with("admin.sock"));
    assert_eq!(config.admin.token.as_ref().unwrap().text(), "s3cret-from-a-file");
    assert!(!format!("{:?}{config:?}", config.admin).contains("s3cret"));
    assert_eq!(config.runtime.drain_timeout.as_secs(), 45);
    let api = &config.listeners[0].routes[0];
    assert_eq!(&*api.name, "api");
    assert_eq!(api.path, PathMatch::Prefix("/v1".to_owned()));
    assert_eq!(api.hosts[1], HostMatch::Below(".api.example.com".to_owned()));
    let chain: Vec<&str> = api.chain.iter().map(|index| &*config.filters[*index].name).collect();
    assert_eq!(chain, ["headers", "limit"]);
    let Destination::Split(split) = &api.destination else { panic!("{:?}", api.destination) };
    let legs: Vec<_> =
        split.legs.iter().map(|leg| (&*config.upstreams[leg.upstream].name, leg.weight)).collect();
    assert_eq!((legs, &split.sticky), (vec![("api", 95), ("app", 5)], &Sticky::Client));
    assert_eq!(&*config.listeners[1].routes[0].name, "outbound/1");
    assert_eq!(config.upstreams[0].endpoints[1].to_string(), "[::1]:8443");
    assert_eq!(config.listeners[1].limits, ListenerLimits::default());
    let limit = &config.filters[1];
    assert!(limit.grants.log && !limit.grants.clock);
    assert_eq!(limit.grants.kv.as_ref().unwrap().entries, 100);
    assert_eq!(limit.grants.rate_limit.as_ref().unwrap().burst, 20);
    assert_eq!(limit.config["quoted key"][1]["b"], 16);
    assert_eq!(limit.config["started"], "2026-01-02T03:04:05Z");

    let config = parse_text(&with("")).unwrap().config;
    assert_eq!(config.admin.address.to_string(), ADMIN_ADDRESS_DEFAULT);
    assert!(config.runtime.watch && config.access_log.is_none());
    assert_eq!(config.runtime.drain_timeout.as_secs(), 30);
    assert_eq!(config.listeners[0].routes[0].path, PathMatch::Any);
}

#[test]
fn shipped_filters_have_the_harmless_grants_and_others_have_none() {
    let text = "[filter.a]\nsource = \"builtin:trace\"\ngrants = { clock = false }\n\
                [filter.b]\nsource = \"./b.wasm\"";
    let filters = parse_text(&with(text)).unwrap().config.filters;
    let expected = Grants { log: true, random: true, metrics: true, ..Grants::default() };
    assert_eq!(filters[0].grants, expected);
    assert_eq!(filters[1].grants, Grants::default());
    assert_eq!(filters[1].source, FilterSource::File("/etc/pillion/./b.wasm".into()));
}

#[test]
fn burst_is_requests_unless_given() {
    let text = "[filter.a]\nsource = \"./a.wasm\"\n\
                grants = { rate-limit = { requests = 7, per = \"1m\" } }";
    let filters = parse_text(&with(text)).unwrap().config.filters;
    let grant = filters[0].grants.rate_limit.clone().unwrap();
    assert_eq!((grant.burst, grant.keys, grant.per.as_secs()), (7, 100_000, 60));
}

/// Every limit of every table, with the text that sets it before and after its value.
fn limits() -> Vec<(String, Limit, String, String)> {
    let listener = "[[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:8080\"\n";
    let end = format!("\nroute = [{{ upstream = \"app\" }}]\n{APP}");
    let filter = "[filter.a]\nsource = \"./a.wasm\"\n";
    let upstream = |table: &str| format!("{}\n[upstream.app{table}]\n", with(""));
    let places: [(&Table, String, String); 17] = [
        (&DnsLimits::TABLE, "[dns.limits]\n".to_owned(), with("")),
        (&JudgeLimits::TABLE, "[rollout.judge]\n".to_owned(), with("")),
        (&keys::RUNTIME, "[runtime]\n".to_owned(), with("")),
        (&CompileLimits::TABLE, "[runtime.compile]\n".to_owned(), with("")),
        (&deadline::DEADLINE, format!("{listener}deadline."), end.clone()),
        (&ListenerLimits::TABLE, format!("{listener}limits."), end),
        (&UpstreamLimits::TABLE, upstream(".limits"), String::new()),
        (&keys::UPSTREAM, with(""), String::new()),
        (&Outlier::TABLE, upstream(".outlier"), String::new()),
        (&upstream::keys::RETRY, upstream(".retry"), String::new()),
        (&Backoff::TABLE, upstream(".retry.backoff"), String::new()),
        (&RetryBudget::TABLE, upstream(".retry.budget"), String::new()),
        (&upstream::keys::HEDGE, upstream(".retry.hedge"), String::new()),
        (&upstream::keys::HEALTH, upstream(".health"), String::new()),
        (&FilterLimits::TABLE, format!("{filter}limits."), with("")),
        (&KvGrant::TABLE, format!("{filter}grants.kv."), with("")),
        (&keys::RATE_LIMIT, format!("{filter}grants.rate-limit."), with("")),
    ];
    let mut limits = Vec::new();
    for (table, before, after) in places {
        for key in table.keys {
            let Kind::Limit(limit) = key.kind else { continue };
            let required = table
                .keys
                .iter()
                .filter(|other| other.presence == Presence::Required && other.name != key.name);
            let mut before = before.clone();
            for other in required {
                // Others are in the text before.
                let Kind::Limit(limit) = other.kind else { continue };
                let value = limit.format(limit.min);
                let value = if limit.unit == Unit::Count { value } else { format!("{value:?}") };
                before = format!("{before}{} = {value}\ngrants.rate-limit.", other.name);
            }
            limits.push((
                key.name.to_owned(),
                limit,
                format!("{before}{}", key.name),
                after.clone(),
            ));
        }
    }
    limits
}

#[test]
fn every_limit_holds_below_at_and_above_its_edges() {
    let all = limits();
    assert!(all.len() > 50);
    for (name, limit, before, after) in all {
        // A window is whole milliseconds, so its neighbours are one of those away.
        let step = if name == "per" { 1_000 } else { 1 };
        let values = [
            (limit.min.checked_sub(step), false, "small"),
            (Some(limit.min), true, ""),
            (Some(limit.min + step), true, ""),
            (Some(limit.max - step), true, ""),
            (Some(limit.max), true, ""),
            (Some(limit.max + step), false, "large"),
        ];
        for (value, accepted, side) in values {
            let Some(value) = value else { continue };
            let value = match limit.unit {
                Unit::Count => value.to_string(),
                Unit::Duration | Unit::Size | Unit::Percent => format!("{:?}", limit.format(value)),
            };
            let text = format!("{before} = {value}\n{after}");
            match parse_text(&text) {
                Ok(_) => assert!(accepted, "{name} = {value} was accepted"),
                Err(problems) => {
                    assert!(!accepted, "{text}\n{problems}");
                    let message = format!("error: `{name}` is too {side}");
                    assert!(problems.to_string().contains(&message), "{problems}");
                }
            }
        }
    }
}

#[test]
fn a_rollout_is_read_with_its_defaults() {
    let rollout = parse_text(&with("")).unwrap().config.rollout;
    assert_eq!(rollout.plan, Plan::default());
    assert!(rollout.state_dir.is_none() && rollout.version_header.is_none());

    let config = parse_file(&files("config/good")[1]).unwrap().config;
    let Rollout { plan, state_dir, version_header } = config.rollout;
    let stages: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(stages, ["shadow 10m", "canary 0.5% 10m", "canary 50%", "full"]);
    assert_eq!(plan.steps[3].stage, Stage::Full);
    assert_eq!(plan.sticky, Sticky::Header("x-user".parse().unwrap()));
    assert_eq!(plan.ignored_headers, ["date", "x-request-id"]);
    assert_eq!(plan.thresholds.samples_min, 500);
    assert!(state_dir.unwrap().ends_with("state"));
    assert_eq!(version_header.unwrap(), "x-filter-versions");
}

#[test]
fn the_admins_socket_and_token_have_bounds() {
    for (length, accepted) in [
        (SOCKET_PATH_BYTES_MAX - 1, true),
        (SOCKET_PATH_BYTES_MAX, true),
        (SOCKET_PATH_BYTES_MAX + 1, false),
    ] {
        let path = format!("/{}", "s".repeat(length - 1));
        let parsed = parse_text(&with(&format!("[admin]\nsocket = \"{path}\"\n")));
        assert_eq!(parsed.is_ok(), accepted, "{length}");
        if let Err(problems) = parsed {
            let shown = problems.to_string();
            assert!(shown.contains("error: the path of the socket has 108 bytes"), "{shown}");
        }
    }
    for (token, problem) in [
        ("x".repeat(TOKEN_CHARS_MIN - 1), Some("the token is too short")),
        ("x".repeat(TOKEN_CHARS_MIN), None),
        ("x".repeat(TOKEN_CHARS_MIN + 1), None),
        ("x".repeat(TOKEN_CHARS_MAX - 1), None),
        ("x".repeat(TOKEN_CHARS_MAX), None),
        ("x".repeat(TOKEN_CHARS_MAX + 1), Some("the token is too long")),
        (
            format!("x x{}", "x".repeat(TOKEN_CHARS_MIN)),
            Some("characters that a field cannot carry"),
        ),
        (format!("é{}", "x".repeat(TOKEN_CHARS_MIN)), Some("characters that a field cannot carry")),
    ] {
        let text = with("[admin]\ntoken = \"${SET}\"\n");
        let parsed = parse(&text, "p.toml", Path::new("/"), &|_| Some(token.clone()));
        match (parsed, problem) {
            (Ok(loaded), None) => assert_eq!(loaded.config.admin.token.unwrap().text(), token),
            (Err(problems), Some(problem)) => {
                let shown = problems.to_string();
                assert!(shown.contains(problem) && !shown.contains(&token), "{shown}");
            }
            (parsed, _) => panic!("{problem:?} {parsed:?}"),
        }
    }
}

#[test]
fn every_default_is_within_its_range() {
    for (name, limit, ..) in limits() {
        let default = limit.default.unwrap_or(limit.min);
        assert!((limit.min..=limit.max).contains(&default), "{name}");
    }
}

/// What a message names, the largest length, and a file with a given length.
type Case<'a> = (&'a str, usize, &'a dyn Fn(usize) -> String);

/// Texts of a list, each made from its number.
fn list(length: usize, entry: impl Fn(usize) -> String) -> String {
    let entries: Vec<String> = (0..length).map(entry).collect();
    entries.join(", ")
}

#[test]
fn every_list_has_a_largest_length() {
    let upstream = |name: &str| format!("[upstream.{name}]\nendpoints = [\"a:1\"]\n");
    let filter = |index| format!("[filter.f{index}]\nsource = \"./f.wasm\"\n");
    let route = |inner: &str| with("").replace("{ upstream", &format!("{{ {inner}, upstream"));
    let listener = |index: usize| {
        let route = "route = [{ upstream = \"app\" }]";
        format!(
            "[[listener]]\nname = \"l{index}\"\naddress = \"127.0.0.1:{}\"\n{route}\n",
            index + 1
        )
    };
    let cases: [Case<'_>; 15] = [
        ("servers", NAME_SERVERS_MAX, &|length| {
            let servers = list(length, |index| format!("\"10.0.0.{}\"", index + 1));
            with(&format!("[dns]\nservers = [{servers}]\n"))
        }),
        ("on", RETRY_CONDITIONS_MAX, &|length| {
            let on = list(length, |index| format!("\"{}\"", 400 + index));
            format!("{}retry = {{ on = [{on}] }}\n", with(""))
        }),
        ("steps", STEPS_MAX, &|length| {
            let canaries = list(length - 1, |index| format!("\"canary {}%\"", index + 1));
            with(&format!("[rollout]\nsteps = [{canaries}, \"full\"]\n"))
        }),
        ("ignore_headers", IGNORED_HEADERS_MAX, &|length| {
            let names = list(length, |index| format!("\"x-{index}\""));
            with(&format!("[rollout]\nignore_headers = [{names}]\n"))
        }),
        ("listener", LISTENERS_MAX, &|length| {
            format!("{}{APP}", (0..length).map(listener).collect::<String>())
        }),
        ("route", ROUTES_MAX, &|length| {
            let route = "{ upstream = \"app\" }";
            with("").replace(route, &list(length, |_| route.to_owned()))
        }),
        ("split", SPLIT_LEGS_MAX, &|length| {
            let legs = list(length, |index| format!("{{ upstream = \"u{index}\", weight = 1 }}"));
            let upstreams = (0..length).map(|index| upstream(&format!("u{index}")));
            let split = format!("[{{ split = [{legs}] }}]");
            let text = with("").replace("[{ upstream = \"app\" }]", &split);
            text.replace(APP, "") + &upstreams.collect::<String>()
        }),
        ("upstream", UPSTREAMS_MAX, &|length| {
            with(&(1..length).map(|index| upstream(&format!("u{index}"))).collect::<String>())
        }),
        ("filter", FILTERS_MAX, &|length| with(&(0..length).map(filter).collect::<String>())),
        ("chain", CHAIN_FILTERS_MAX, &|length| {
            let filters: String = (0..length).map(filter).collect();
            let names = list(length, |index| format!("\"f{index}\""));
            format!("{}{filters}", route(&format!("chain = [{names}]")))
        }),
        ("endpoints", ENDPOINTS_MAX, &|length| {
            with("").replace(
                "\"127.0.0.1:3000\"",
                &list(length, |index| format!("\"a:{}\"", index + 1)),
            )
        }),
        ("trusted_proxies", TRUSTED_PROXIES_MAX, &|length| {
            let list = list(length, |_| "\"10.0.0.1\"".to_owned());
            with("").replace("route =", &format!("trusted_proxies = [{list}]\nroute ="))
        }),
        ("host", MATCH_VALUES_MAX, &|length| {
            route(&format!("match.host = [{}]", list(length, |index| format!("\"h{index}\""))))
        }),
        ("method", MATCH_VALUES_MAX, &|length| {
            route(&format!("match.method = [{}]", list(length, |index| format!("\"M{index}\""))))
        }),
        ("headers", MATCH_VALUES_MAX, &|length| {
            let fields = list(length, |index| format!("x-{index} = true"));
            route(&format!("match.headers = {{ {fields} }}"))
        }),
    ];
    for (name, max, text) in cases {
        for length in [max - 1, max] {
            parse_text(&text(length)).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        }
        let problems = parse_text(&text(max + 1)).unwrap_err().to_string();
        let message = format!("error: `{name}` has {} entries, and {max} is the most", max + 1);
        assert!(problems.contains(&message), "{name}: {problems}");
    }
}

#[test]
fn every_text_has_a_largest_size() {
    let filter = |inner: String| with(&format!("[filter.a]\nsource = \"./a.wasm\"\n{inner}\n"));
    let folder = std::env::temp_dir().join(format!("pillion-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let cases: [Case<'_>; 6] = [
        ("is no version: it is too long", VERSION_BYTES_MAX, &|length| {
            filter(format!("version = \"{}\"", "1".repeat(length)))
        }),
        ("it is too long", NAME_BYTES_MAX, &|length| {
            with("").replace("inbound", &"n".repeat(length))
        }),
        // `{"k":"..."}` is 8 bytes without the value.
        ("`config` has 262145 bytes as JSON", FILTER_CONFIG_BYTES_MAX, &|length| {
            filter(format!("config = {{ k = \"{}\" }}", "v".repeat(length - 8)))
        }),
        ("keys are too long, or nest too deep", CONFIG_KEY_PATH_BYTES_MAX, &|length| {
            filter(format!("config.{} = 1", "k".repeat(length - "filter.a.config.".len())))
        }),
        ("the configuration is larger than 1048576 bytes", CONFIG_FILE_BYTES_MAX, &|length| {
            let text = with("");
            format!("{text}#{}", "x".repeat(length - text.len() - 1))
        }),
        ("is larger than 65536 bytes", REFERENCED_FILE_BYTES_MAX, &|length| {
            let path = folder.join(length.to_string());
            std::fs::write(&path, "x".repeat(length)).unwrap();
            filter(format!("config.k = \"${{file:{}}}\"", path.display()))
        }),
    ];
    for (message, max, text) in cases {
        for length in [max - 1, max] {
            parse_text(&text(length)).unwrap_or_else(|problems| panic!("{message}: {problems}"));
        }
        let problems = parse_text(&text(max + 1)).unwrap_err().to_string();
        assert!(problems.contains(message), "{message}: {problems}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Files made to be as costly as they can be, on a thread with the stack that threads have.
#[test]
fn hostile_files_cost_neither_the_stack_nor_minutes() {
    let keys = vec!["a"; 79].join(".");
    let nested = format!("{keys} = {{ ").repeat(79);
    let lines = |line: &dyn Fn(usize) -> String| -> String {
        let mut text = String::new();
        let mut index = 0;
        while text.len() < CONFIG_FILE_BYTES_MAX - 100 {
            text.push_str(&line(index));
            index += 1;
        }
        text
    };
    let texts = [
        format!("[filter.a.config.{keys}]\n{nested}a = 1{}", " }".repeat(79)),
        format!("[filter.a.config]\na = {}1{}", "[".repeat(200_000), "]".repeat(200_000)),
        lines(&|index| format!("k{index}=1\n")),
        format!("[filter.a.config]\n{}", lines(&|index| format!("k{index}=nan\n"))),
        lines(&|_| "=\n".to_owned()),
        lines(&|_| "[a]\n".to_owned()),
        lines(&|index| format!("[filter.f{index}]\nsource=1\n")),
        format!("a = {}", lines(&|_| "\" x \"".to_owned())),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for text in texts {
            assert!(text.len() <= CONFIG_FILE_BYTES_MAX);
            let problems = parse_text(&text).unwrap_err();
            assert!(problems.iter().count() <= DIAGNOSTICS_MAX);
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn secrets_are_shown_nowhere() {
    let path =
        files("config/good").into_iter().find(|path| path.ends_with("environment.toml")).unwrap();
    let loaded = parse_file(&path).unwrap();
    let config = &loaded.config;
    assert_eq!(config.listeners[0].address.port(), 4871);
    assert_eq!(config.runtime.workers.unwrap().get(), 3);
    let filter = &config.filters[0].config;
    assert_eq!(filter["token"], "Bearer t0p-s3cret");
    assert_eq!(filter["key"], "s3cret-from-a-file");
    assert_eq!(filter["template"], "${method} ${TOKEN} $$");
    assert_eq!(filter["path"], "file:not-a-reference");

    let dump = config.redacted();
    assert_eq!(dump["listener"][0]["address"], REDACTED);
    assert_eq!(dump["listener"][0]["route"][0]["match"]["headers"]["x-token"], REDACTED);
    assert_eq!(dump["filter"]["headers"]["config"]["token"], REDACTED);
    let diagnostic = loaded.locate_filter_config("headers", "token", "`t0p-s3cret` is short");
    let route = &config.listeners[0].routes[0].headers;
    let shown = format!(
        "{dump} {config:?} {loaded:?} {diagnostic} {route:?} {filter:?}",
        filter = config.filters[0]
    );
    for secret in ["t0p-s3cret", "s3cret-from-a-file", "hidden.example.com", "4871"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(loaded.files().iter().any(|file| file.ends_with("secret.key")));
}

/// Values of a wrong form from the environment: their messages quote the reference alone.
#[test]
fn messages_about_secrets_do_not_quote_them() {
    let path =
        files("config/bad").into_iter().find(|path| path.ends_with("references.toml")).unwrap();
    let problems = parse_file(&path).unwrap_err();
    assert!(problems.to_string().contains(REDACTED));
    assert!(!format!("{problems}{problems:?}").contains("t0p-s3cret"));
}

#[test]
fn the_dump_reads_back_as_the_same_configuration() {
    for path in files("config/good").into_iter().filter(|path| !path.ends_with("environment.toml"))
    {
        let mut dump = parse_file(&path).unwrap().config.redacted();
        // Nothing can be read back from what is not shown.
        dump["admin"].as_object_mut().unwrap().remove("token");
        // Dollar signs of filters are written as they are read.
        let text = toml::to_string(&dump).unwrap();
        let again = parse_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.config.redacted(), dump, "{}", path.display());
    }
}

/// Keys of a JSON object and of all objects in it, as paths without indexes and names.
fn paths_of_values(value: &Value, table: &Table, path: &str, paths: &mut BTreeSet<String>) {
    let Value::Object(entries) = value else { return };
    for (name, value) in entries {
        let key = table.key(name).unwrap_or_else(|| panic!("{path}.{name} is not described"));
        let path = format!("{path}.{name}");
        match key.kind {
            Kind::Table(table) | Kind::FlagOrTable(table) => {
                paths_of_values(value, table, &path, paths);
            }
            Kind::Tables { table, .. } => {
                for item in value.as_array().unwrap() {
                    paths_of_values(item, table, &path, paths);
                }
            }
            Kind::NamedTables { table, .. } => {
                for item in value.as_object().unwrap().values() {
                    paths_of_values(item, table, &path, paths);
                }
            }
            _ => {}
        }
        paths.insert(path);
    }
}

fn paths_of_table(table: &Table, path: &str, paths: &mut BTreeSet<String>) {
    for key in table.keys {
        let path = format!("{path}.{}", key.name);
        if let Kind::Table(table)
        | Kind::FlagOrTable(table)
        | Kind::Tables { table, .. }
        | Kind::NamedTables { table, .. } = key.kind
        {
            paths_of_table(table, &path, paths);
        }
        paths.insert(path);
    }
}

fn paths_of_schema(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    let object = schema["oneOf"]
        .as_array()
        .and_then(|list| list.iter().find(|it| it["properties"].is_object()));
    let schema = object.unwrap_or(schema);
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        // What is asked of header values is described with the key itself.
        if inner["description"].is_string() {
            paths_of_schema(inner, path, paths);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
        paths_of_schema(property, &path, paths);
        paths.insert(path);
    }
}

#[test]
fn schema_dump_example_and_reader_know_the_same_keys() {
    let mut described = BTreeSet::new();
    paths_of_table(&ROOT, "", &mut described);
    assert!(described.len() > 90);

    let mut in_schema = BTreeSet::new();
    paths_of_schema(&schema(), "", &mut in_schema);
    assert_eq!(in_schema, described);

    // The example sets every key, so that every key is read; and the reader panics on one that is
    // read and not described.
    let everything = &files("config/good")[1];
    let mut in_dump = BTreeSet::new();
    paths_of_values(&parse_file(everything).unwrap().config.redacted(), &ROOT, "", &mut in_dump);
    assert_eq!(in_dump, described);

    let written: toml::Table = std::fs::read_to_string(everything).unwrap().parse().unwrap();
    let written = serde_json::to_value(written).unwrap();
    let mut in_example = BTreeSet::new();
    paths_of_values(&written, &ROOT, "", &mut in_example);
    assert_eq!(in_example, described);
}

#[test]
fn a_complaint_of_a_filter_points_into_its_config() {
    let text = "[filter.a]\nsource = \"./a.wasm\"\n[[filter.a.config.rules]]\nset = { name = 1 }\n\
                [[filter.a.config.rules]]\n[filter.a.config.rules.set]\n\"x.y\" = 'twice'\n\
                [filter.b]\nsource = \"./b.wasm\"\n";
    let loaded = parse_text(&with(text)).unwrap();
    for (filter, key, place) in [
        ("a", "rules[0].set.name", (4, 16)),
        ("a", "rules[1].set.\"x.y\"", (7, 9)),
        ("a", "rules[1].set.x.y", (6, 24)),
        ("a", "rules[1].unset.name", (5, 1)),
        ("a", "rules[7].set", (3, 1)),
        ("a", "", (3, 12)),
        ("a", "no such key", (3, 12)),
        ("b", "key", (8, 9)),
    ] {
        let found = loaded.locate_filter_config(filter, key, "bad").place.unwrap();
        assert_eq!((found.line, found.column), place, "{filter} {key}");
    }
    assert_eq!(
        loaded.locate_filter_config("a", "rules[0].set.name", "is no string").to_string(),
        "pillion.toml:4:16: error: filter `a` refuses its configuration: `rules[0].set.name`: is \
         no string\n4 | set = { name = 1 }\n                   ^"
    );
    assert_eq!(loaded.locate("listener[0].address", "in use").place.unwrap().line, 13);
}

#[test]
fn load_reads_a_file_or_says_why_not() {
    let loaded = load(&files("config/good")[2], "").unwrap();
    assert!(loaded.config.source.is_absolute());
    let missing = load(Path::new("no-such-file.toml"), "do this").unwrap_err().to_string();
    assert!(missing.starts_with("no-such-file.toml: error: cannot read the configuration: "));
    assert!(missing.ends_with("help: do this"), "{missing}");
}

/// The parser recovers from mistakes, and what it recovers must never make the reader panic.
#[test]
fn no_mutilation_of_a_file_causes_a_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let pieces = [
        "[", "]", "[[", "]]", "{", "}", "=", "\"", "'", "\n", ".", ",", "${", "é", "\0", "0x",
        "[a.b]\n",
    ];
    for path in files("config/good").into_iter().chain(files("config/bad")) {
        let whole: Vec<char> = std::fs::read_to_string(&path).unwrap().chars().collect();
        for _ in 0..150 {
            let mut text = whole.clone();
            for _ in 0..=random(3) {
                let from = random(text.len() + 1);
                let to = (from + random(20)).min(text.len());
                text.splice(from..to, pieces[random(pieces.len())].chars());
            }
            let text: String = text.into_iter().collect();
            match parse_text(&text) {
                Ok(loaded) => drop(loaded.config.redacted()),
                Err(problems) => assert!(problems.has_errors() && !problems.to_string().is_empty()),
            }
        }
    }
}
