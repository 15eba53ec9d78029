//! Reads `[filter.NAME]`: where the component is, what it may do, and its `config` as JSON.
//!
//! What is in `config` is for the filter to judge; here it only has to fit into JSON.

use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::check;
use super::expand::Syntax;
use super::limits::{CONFIG_KEY_PATH_BYTES_MAX, FILTER_CONFIG_BYTES_MAX, FilterLimits, KvGrant};
use super::model::{FailPolicy, Filter, FilterSource, Grants, Isolation, RateLimitGrant};
use super::reader::{Node, TableReader, Text, whole_number};
use super::words::{did_you_mean, join, quoted};

/// The shipped filters, which `source = "builtin:NAME"` names.
pub const BUILTIN_FILTERS: [&str; 7] =
    ["compress", "cors", "headers", "jwt", "rate-limit", "trace", "validate-json"];

/// Reads the table of the filter called `name`; none: it has no usable source.
pub(super) fn read(name: &Text, table: &TableReader<'_, '_>) -> Option<Filter> {
    let source = table.text("source").and_then(|text| read_source(table, &text));
    let builtin = matches!(source, Some(FilterSource::Builtin(_)));
    let grants = read_grants(&table.table("grants"), builtin);
    let (limits, fail_policy, isolation) =
        (read_limits(table), read_fail_policy(table), read_isolation(table));
    let config = read_config(table);
    let version = read_version(table);
    let name: Arc<str> = name.value.as_str().into();
    let filter = |source| Filter {
        name,
        version,
        source,
        config,
        grants,
        limits,
        fail_policy,
        isolation,
        next: None,
    };
    let mut filter = filter(source?);
    if table.has("next") {
        filter.next = Some(Box::new(read_next(&table.table("next"), &filter)));
    }
    Some(filter)
}

/// The version that is to take the place of `running`. What it has not, it has from there; but not
/// the name of the version.
fn read_next(table: &TableReader<'_, '_>, running: &Filter) -> Filter {
    let source = table.text("source").and_then(|text| read_source(table, &text));
    let mut next = Filter { version: read_version(table), ..running.clone() };
    next.source = source.unwrap_or(next.source);
    if table.has("config") {
        next.config = read_config(table);
    }
    if table.has("grants") {
        let builtin = matches!(next.source, FilterSource::Builtin(_));
        next.grants = read_grants(&table.table("grants"), builtin);
    }
    if table.has("limits") {
        next.limits = read_limits(table);
    }
    next.fail_policy = table.choice_if_any("fail_policy").map_or(next.fail_policy, fail_policy);
    next.isolation = table.choice_if_any("isolation").map_or(next.isolation, isolation);
    if running.differences(&next).is_empty() {
        let message = format!("the next version of filter `{}` is what runs already", next.name);
        let help = "change what is to be tried, or remove `next`";
        table.context.conclusion(table.span.clone(), message, help);
    }
    next
}

fn read_version(table: &TableReader<'_, '_>) -> Option<Arc<str>> {
    table.version("version").map(|text| text.value.into())
}

pub(super) fn read_source(table: &TableReader<'_, '_>, text: &Text) -> Option<FilterSource> {
    let value = text.value.as_str();
    if let Some(name) = value.strip_prefix("builtin:") {
        if BUILTIN_FILTERS.contains(&name) {
            return Some(FilterSource::Builtin(name.to_owned()));
        }
        let known = BUILTIN_FILTERS.map(|name| format!("builtin:{name}"));
        let help = did_you_mean(value, known.iter().map(String::as_str))
            .filter(|_| !text.secret)
            .unwrap_or_else(|| format!("shipped are {}", quoted(&BUILTIN_FILTERS)));
        let message = format!("no shipped filter for `{}`", text.shown());
        table.context.error(text.span.clone(), message, help);
        return None;
    }
    if value.contains("://") || !(value.contains('/') || value.ends_with(".wasm")) {
        let message = format!("`{}` is no source of a filter", text.shown());
        let help = match BUILTIN_FILTERS.contains(&value) {
            true => format!("did you mean `builtin:{value}`?"),
            false => "write `builtin:NAME`, or a path as in `./limit.wasm`".to_owned(),
        };
        table.context.error(text.span.clone(), message, help);
        return None;
    }
    check::read_path(table, text).map(FilterSource::File)
}

pub(super) fn read_grants(table: &TableReader<'_, '_>, builtin: bool) -> Grants {
    let granted = |name| table.flag(name).unwrap_or(builtin);
    Grants {
        log: granted("log"),
        clock: granted("clock"),
        random: granted("random"),
        metrics: granted("metrics"),
        kv: read_kv(table),
        rate_limit: table.has("rate-limit").then(|| read_rate_limit(&table.table("rate-limit"))),
    }
}

pub(super) fn read_limits(table: &TableReader<'_, '_>) -> FilterLimits {
    let table = table.table("limits");
    let limits = FilterLimits::read(&table);
    if limits.time > limits.exchange_time {
        let message = "`time` of one hook is longer than `exchange_time` of all of them";
        let help = "raise `exchange_time` too, or the hook ends there";
        table.context.warning(table.span_of("time"), message, help);
    }
    limits
}

pub(super) fn read_fail_policy(table: &TableReader<'_, '_>) -> FailPolicy {
    fail_policy(table.choice("fail_policy"))
}

fn fail_policy(word: &str) -> FailPolicy {
    match word {
        "open" => FailPolicy::Open,
        _ => FailPolicy::Closed,
    }
}

pub(super) fn read_isolation(table: &TableReader<'_, '_>) -> Isolation {
    isolation(table.choice("isolation"))
}

fn isolation(word: &str) -> Isolation {
    match word {
        "per-request" => Isolation::PerRequest,
        _ => Isolation::Shared,
    }
}

fn read_kv(table: &TableReader<'_, '_>) -> Option<KvGrant> {
    match table.node("kv")?.get_ref() {
        DeValue::Boolean(true) => Some(KvGrant::default()),
        DeValue::Boolean(false) => None,
        _ => Some(KvGrant::read(&table.table("kv"))),
    }
}

fn read_rate_limit(table: &TableReader<'_, '_>) -> RateLimitGrant {
    // What is missing or wrong is reported, so that these stand-ins are never used.
    let requests = table.limit("requests").unwrap_or(1);
    let per = table.duration("per");
    if !per.subsec_nanos().is_multiple_of(1_000_000) {
        let message = "`per` has to be whole milliseconds";
        table.context.error(table.span_of("per"), message, "write it in `ms`");
    }
    let burst = table.limit("burst").unwrap_or(requests);
    RateLimitGrant { requests, per, burst, keys: table.count("keys") }
}

pub(super) fn read_config(table: &TableReader<'_, '_>) -> Value {
    let empty = || Value::Object(Map::new());
    let Some(node) = table.node("config") else { return empty() };
    let DeValue::Table(_) = node.get_ref() else {
        table.wrong_type("config", node, "a table");
        return empty();
    };
    let value = to_json(table, node, &join(table.path(), "config"), Texts::WithReferences);
    let bytes = value.to_string().len();
    if bytes > FILTER_CONFIG_BYTES_MAX {
        let message = format!("`config` has {bytes} bytes as JSON");
        let help = format!("{FILTER_CONFIG_BYTES_MAX} bytes is the most");
        table.context.error(table.span_of("config"), message, help);
    }
    value
}

/// Which references of a value's strings are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// Those of a filter's configuration.
    WithReferences,
    /// None.
    Literal,
}

/// A value as JSON, its strings as they are written.
pub(super) fn to_json_literally(table: &TableReader<'_, '_>, node: &Node<'_>) -> Value {
    to_json(table, node, "", Texts::Literal)
}

/// Recursion is bounded by the length of the path.
fn to_json(table: &TableReader<'_, '_>, node: &Node<'_>, path: &str, texts: Texts) -> Value {
    let refuse = |message: &str, help: &str| {
        table.context.error(node.span(), message, help);
        Value::Null
    };
    let locate = |path: String, span| {
        if texts == Texts::WithReferences {
            table.context.locate(path, span);
        }
    };
    if path.len() > CONFIG_KEY_PATH_BYTES_MAX {
        let help = format!("{CONFIG_KEY_PATH_BYTES_MAX} bytes is the most for all keys in a row");
        return refuse("keys are too long, or nest too deep", &help);
    }
    match node.get_ref() {
        DeValue::String(raw) if texts == Texts::Literal => Value::String(raw.to_string()),
        DeValue::String(raw) => table
            .context
            .text(raw, node.span(), path, Syntax::FilterConfig)
            .map_or(Value::Null, |text| text.value.into()),
        DeValue::Integer(number) => {
            let negative = || i64::from_str_radix(number.as_str(), number.radix()).ok();
            match whole_number(number).map(Value::from).or_else(|| negative().map(Value::from)) {
                Some(value) => value,
                None => refuse("the number does not fit into 64 bits", "write it as a string"),
            }
        }
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => refuse("JSON has no such number", "write it as a string"),
        },
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(value) => value.to_string().into(),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{path}[{index}]");
                locate(path.clone(), item.span());
                to_json(table, item, &path, texts)
            })
            .collect(),
        DeValue::Table(entries) => entries
            .iter()
            .map(|(key, node)| {
                let name = key.get_ref().to_string();
                let path = join(path, &name);
                // The mistake is in the value more often than in the key; tables have no better
                // place than their key.
                let span = if node.get_ref().is_table() { key.span() } else { node.span() };
                locate(path.clone(), span);
                (name, to_json(table, node, &path, texts))
            })
            .collect(),
    }
}
