//! Reads what has to come out of a filter: `expect` and `load_error`.

use regex_lite::Regex;
use toml::de::DeValue;

use super::keys::LISTED_MAX;
use super::message::{
    Collected, Entry, base64_of, entries, field_name, field_value, file_of, known_entries, literal,
    text_of,
};
use super::model::{
    BodyWanted, Expect, FailureWanted, FieldWanted, FieldsWanted, ForwardedWanted, LoadErrorWanted,
    LogLevel, LogWanted, MetricWanted, NoteWanted, RequestWanted, TextWanted, Wanted,
};
use crate::config::filters::to_json_literally;
use crate::config::reader::{Node, TableReader, whole_number};
use crate::config::words::{did_you_mean, quoted, shortened};

/// Bytes of a regular expression; what it may grow to is bounded by the library.
pub(super) const REGEX_BYTES_MAX: usize = 4 << 10;
/// The failures that a filter can have, as metrics and logs name them.
pub const FAILURES: [&str; 6] =
    ["trap", "deadline", "memory", "invalid_output", "body_limit", "unavailable"];
/// The hooks that a failure can be of.
pub const HOOKS: [&str; 7] = [
    "on-request",
    "on-request-body",
    "on-request-trailers",
    "on-response",
    "on-response-body",
    "on-response-trailers",
    "on-complete",
];
const TEXT_KEYS: [&str; 4] = ["is", "contains", "lacks", "matches"];

/// `expect`
pub(super) fn expect(table: &TableReader<'_, '_>, collected: &mut Collected) -> Expect {
    let wanted = |key: &str| table.has(key).then(|| table.limit(key)).flatten();
    let status = wanted("status").and_then(|status| u16::try_from(status).ok());
    let complete = table.has("complete").then(|| table.flag("complete")).flatten();
    Expect {
        span: table.span.clone(),
        status: status.map(|value| Wanted { value, span: table.span_of("status") }),
        headers: fields(table, "headers"),
        body: body(table, collected),
        trailers: fields(table, "trailers"),
        complete: complete.map(|value| Wanted { value, span: table.span_of("complete") }),
        forwarded: forwarded(table, collected),
        log: log(table),
        notes: notes(table),
        metrics: metrics(table),
        failure: failure(table),
    }
}

/// `load_error`
pub(super) fn load_error(table: &TableReader<'_, '_>) -> LoadErrorWanted {
    let line = table.has("line").then(|| table.limit("line")).flatten();
    let message = table.node("message").and_then(|node| {
        let value = text(table, "message", node)?;
        Some(Wanted { value, span: node.span() })
    });
    LoadErrorWanted {
        span: table.span.clone(),
        key: exact(table, "key"),
        message,
        line: line.map(|value| Wanted { value, span: table.span_of("line") }),
    }
}

fn exact(table: &TableReader<'_, '_>, key: &str) -> Option<Wanted<String>> {
    literal(table, key).map(|(value, node)| Wanted { value, span: node.span() })
}

fn forwarded(
    table: &TableReader<'_, '_>,
    collected: &mut Collected,
) -> Option<Wanted<ForwardedWanted>> {
    let node = table.node("forwarded")?;
    let mut request = || {
        let table = table.table("forwarded");
        RequestWanted {
            method: exact(&table, "method"),
            path: exact(&table, "path"),
            scheme: exact(&table, "scheme"),
            authority: exact(&table, "authority"),
            headers: fields(&table, "headers"),
            body: body(&table, collected),
            trailers: fields(&table, "trailers"),
        }
    };
    let value = match node.get_ref() {
        DeValue::Boolean(false) => ForwardedWanted::Nothing,
        DeValue::Boolean(true) => ForwardedWanted::Request(Box::default()),
        _ => ForwardedWanted::Request(Box::new(request())),
    };
    Some(Wanted { value, span: node.span() })
}

fn fields(table: &TableReader<'_, '_>, key: &str) -> FieldsWanted {
    let fields = entries(table, key, "a table of field names").into_iter();
    fields
        .filter_map(|entry| {
            let name = field_name(table, &entry)?;
            let value = field(table, &entry.name, entry.node)?;
            Some((name, Wanted { value, span: entry.node.span() }))
        })
        .collect()
}

fn field(table: &TableReader<'_, '_>, name: &str, node: &Node<'_>) -> Option<FieldWanted> {
    Some(match node.get_ref() {
        DeValue::Boolean(true) => FieldWanted::Present,
        DeValue::Boolean(false) => FieldWanted::Absent,
        DeValue::Array(items) => {
            let items = table.bounded(name, node, items.len(), LISTED_MAX, items.iter());
            FieldWanted::Lines(items.filter_map(|item| field_value(table, name, item)).collect())
        }
        DeValue::Table(inner) if inner.contains_key("base64") => {
            FieldWanted::Lines(vec![field_value(table, name, node)?])
        }
        DeValue::Table(inner) => {
            let known = ["count", "is", "contains", "lacks", "matches"];
            let (mut count, mut text) = (None, TextWanted::default());
            for (key, node) in known_entries(table, inner, &known) {
                match key.as_str() {
                    "count" => count = whole(table, "count", node),
                    key => condition(table, key, node, &mut text),
                }
            }
            FieldWanted::Like { count, text }
        }
        _ => FieldWanted::Lines(vec![field_value(table, name, node)?]),
    })
}

fn body(table: &TableReader<'_, '_>, collected: &mut Collected) -> Option<Wanted<BodyWanted>> {
    let node = table.node("body")?;
    let span = node.span();
    let DeValue::Table(inner) = node.get_ref() else {
        let text = text_of(table, "body", node)?;
        return Some(Wanted { value: BodyWanted::Bytes(text.into_bytes()), span });
    };
    const KNOWN: [&str; 9] =
        ["text", "base64", "file", "json", "bytes", "is", "contains", "lacks", "matches"];
    let mut forms: Vec<BodyWanted> = Vec::new();
    let mut like = TextWanted::default();
    for (key, node) in known_entries(table, inner, &KNOWN) {
        let form = match key.as_str() {
            "text" => text_of(table, "text", node).map(|it| BodyWanted::Bytes(it.into_bytes())),
            "base64" => base64_of(table, node).map(BodyWanted::Bytes),
            "file" => file_of(table, node, collected).map(BodyWanted::File),
            "json" => Some(BodyWanted::Json(to_json_literally(table, node))),
            "bytes" => whole(table, "bytes", node).map(BodyWanted::Length),
            key => {
                condition(table, key, node, &mut like);
                continue;
            }
        };
        forms.push(form?);
    }
    let is_like = like.is.is_some()
        || !(like.contains.is_empty() && like.lacks.is_empty())
        || like.matches.is_some();
    let value = match (forms.pop(), is_like) {
        (Some(form), false) if forms.is_empty() => form,
        (None, _) => BodyWanted::Like(like),
        _ => {
            let message = "a body is told in one way";
            table.context.error(span, message, "`contains` and `matches` go together, others not");
            return None;
        }
    };
    Some(Wanted { value, span })
}

fn log(table: &TableReader<'_, '_>) -> Option<Wanted<Vec<Wanted<LogWanted>>>> {
    let node = table.node("log")?;
    let DeValue::Array(items) = node.get_ref() else {
        table.wrong_type("log", node, "a list of lines");
        return None;
    };
    let items = table.bounded("log", node, items.len(), LISTED_MAX, items.iter());
    let lines = items.filter_map(|item| {
        let value = log_line(table, item)?;
        Some(Wanted { value, span: item.span() })
    });
    Some(Wanted { value: lines.collect(), span: node.span() })
}

fn log_line(table: &TableReader<'_, '_>, node: &Node<'_>) -> Option<LogWanted> {
    let DeValue::Table(inner) = node.get_ref() else {
        let text = TextWanted { is: Some(text_of(table, "log", node)?), ..TextWanted::default() };
        return Some(LogWanted { level: None, text });
    };
    let mut line = LogWanted { level: None, text: TextWanted::default() };
    for (key, node) in known_entries(table, inner, &["level", "is", "contains", "lacks", "matches"])
    {
        match key.as_str() {
            "level" => {
                let word = one_of(table, "level", node, &LogLevel::ALL.map(LogLevel::name));
                line.level = LogLevel::ALL.into_iter().find(|it| Some(it.name()) == word);
            }
            key => condition(table, key, node, &mut line.text),
        }
    }
    Some(line)
}

fn notes(table: &TableReader<'_, '_>) -> Vec<Wanted<NoteWanted>> {
    let notes = entries(table, "notes", "a table of notes").into_iter();
    notes
        .filter_map(|Entry { name: key, node, .. }| {
            let text = match node.get_ref() {
                DeValue::Boolean(false) => None,
                DeValue::Boolean(true) => Some(TextWanted::default()),
                _ => Some(text(table, &key, node)?),
            };
            Some(Wanted { value: NoteWanted { key, text }, span: node.span() })
        })
        .collect()
}

fn metrics(table: &TableReader<'_, '_>) -> Vec<Wanted<MetricWanted>> {
    let metrics = entries(table, "metrics", "a table of metrics").into_iter();
    metrics
        .filter_map(|Entry { name: written, at, node }| {
            let Some((name, labels)) = series(&written) else {
                let message = format!("`{}` is no name of a metric", shortened(&written));
                let help = "write `name`, or \"name{label=value}\" with quotes around it";
                table.context.error(at, message, help);
                return None;
            };
            let (value, count) = metric_value(table, &written, node)?;
            let value = MetricWanted { name, labels, value, count };
            Some(Wanted { value, span: node.span() })
        })
        .collect()
}

/// `name{label=value,other=value}`
fn series(written: &str) -> Option<(String, Vec<(String, String)>)> {
    let Some((name, rest)) = written.split_once('{') else {
        return Some((written.to_owned(), Vec::new()));
    };
    let labels = rest.strip_suffix('}')?.split(',').filter(|it| !it.trim().is_empty());
    let labels = labels
        .map(|label| {
            let (name, value) = label.split_once('=')?;
            let value = value.trim().trim_matches('"');
            Some((name.trim().to_owned(), value.to_owned()))
        })
        .collect::<Option<Vec<_>>>()?;
    Some((name.trim().to_owned(), labels))
}

/// Value and count; neither: there must be no such series.
fn metric_value(
    table: &TableReader<'_, '_>,
    name: &str,
    node: &Node<'_>,
) -> Option<(Option<f64>, Option<u64>)> {
    match node.get_ref() {
        DeValue::Boolean(false) => Some((None, None)),
        DeValue::Table(inner) => {
            let (mut sum, mut count) = (None, None);
            for (key, node) in known_entries(table, inner, &["sum", "count"]) {
                match key.as_str() {
                    "sum" => sum = Some(number(table, "sum", node)?),
                    _ => count = Some(whole(table, "count", node)?),
                }
            }
            if sum.is_none() && count.is_none() {
                let help = "write a number, `false`, or `{ count = 2, sum = 0.5 }`";
                table.context.error(node.span(), format!("`{name}` has no value"), help);
                return None;
            }
            Some((sum, count))
        }
        _ => Some((Some(number(table, name, node)?), None)),
    }
}

fn failure(table: &TableReader<'_, '_>) -> Option<Wanted<Vec<FailureWanted>>> {
    let node = table.node("failure")?;
    let one = |node: &Node<'_>| failure_of(table, node);
    let failures = match node.get_ref() {
        DeValue::Array(items) => {
            let items = table.bounded("failure", node, items.len(), LISTED_MAX, items.iter());
            items.filter_map(one).collect()
        }
        _ => one(node).into_iter().collect(),
    };
    Some(Wanted { value: failures, span: node.span() })
}

fn failure_of(table: &TableReader<'_, '_>, node: &Node<'_>) -> Option<FailureWanted> {
    let DeValue::Table(inner) = node.get_ref() else {
        let kind = one_of(table, "failure", node, &FAILURES)?;
        return Some(FailureWanted { kind, hook: None, message: TextWanted::default() });
    };
    let (mut kind, mut hook, mut message) = (None, None, TextWanted::default());
    for (key, node) in known_entries(table, inner, &["kind", "hook", "message"]) {
        match key.as_str() {
            "kind" => kind = Some(one_of(table, "kind", node, &FAILURES)?),
            "hook" => hook = one_of(table, "hook", node, &HOOKS).map(str::to_owned),
            _ => message = text(table, "message", node)?,
        }
    }
    if kind.is_none() {
        let help = format!("add `kind`: one of {}", quoted(&FAILURES));
        table.context.error(node.span(), "a failure without its kind", help);
    }
    Some(FailureWanted { kind: kind?, hook, message })
}

/// One of a few words.
fn one_of(
    table: &TableReader<'_, '_>,
    key: &str,
    node: &Node<'_>,
    words: &[&'static str],
) -> Option<&'static str> {
    let text = text_of(table, key, node)?;
    let known = words.iter().find(|word| **word == text).copied();
    if known.is_none() {
        let help = did_you_mean(&text, words.iter().copied())
            .unwrap_or_else(|| format!("it is one of {}", quoted(words)));
        let message = format!("`{key}` cannot be `{}`", shortened(&text));
        table.context.error(node.span(), message, help);
    }
    known
}

/// A text, or a table of conditions.
fn text(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>) -> Option<TextWanted> {
    let mut wanted = TextWanted::default();
    match node.get_ref() {
        DeValue::Table(inner) => {
            for (key, node) in known_entries(table, inner, &TEXT_KEYS) {
                condition(table, &key, node, &mut wanted);
            }
        }
        _ => wanted.is = Some(text_of(table, key, node)?),
    }
    Some(wanted)
}

fn condition(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>, wanted: &mut TextWanted) {
    match key {
        "is" => wanted.is = text_of(table, key, node),
        "matches" => wanted.matches = regex(table, node),
        "lacks" => wanted.lacks = one_or_many(table, key, node),
        _ => wanted.contains = one_or_many(table, key, node),
    }
}

fn one_or_many(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>) -> Vec<String> {
    match node.get_ref() {
        DeValue::Array(items) => {
            let items = table.bounded(key, node, items.len(), LISTED_MAX, items.iter());
            items.filter_map(|item| text_of(table, key, item)).collect()
        }
        _ => text_of(table, key, node).into_iter().collect(),
    }
}

fn regex(table: &TableReader<'_, '_>, node: &Node<'_>) -> Option<Regex> {
    let text = text_of(table, "matches", node)?;
    let problem = if text.len() > REGEX_BYTES_MAX {
        format!("it has more than {REGEX_BYTES_MAX} bytes")
    } else {
        match Regex::new(&text) {
            Ok(regex) => return Some(regex),
            Err(error) => error.to_string(),
        }
    };
    let message = format!("`{}` is no regular expression: {problem}", shortened(&text));
    let help = "write it in single quotes, so that a backslash is one";
    table.context.error(node.span(), message, help);
    None
}

fn whole(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>) -> Option<u64> {
    let value = match node.get_ref() {
        DeValue::Integer(number) => whole_number(number),
        _ => None,
    };
    if value.is_none() {
        table.wrong_type(key, node, "a whole number");
    }
    value
}

fn number(table: &TableReader<'_, '_>, key: &str, node: &Node<'_>) -> Option<f64> {
    let value = match node.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    let value = value.filter(|value: &f64| value.is_finite());
    if value.is_none() {
        table.wrong_type(key, node, "a number");
    }
    value
}
