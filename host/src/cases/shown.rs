//! Values in words for people, and as TOML for the case file.
//!
//! What comes from a filter is made printable and short: it goes to a terminal.

use super::capture::{FailureSeen, LogLine};
use crate::capability::log::printable;
use crate::config::case::{FailureWanted, LogWanted, TextWanted, Wanted, encode};
use serde_json::Value;
use std::fmt::Write;

/// Bytes of a line that are shown.
const SHOWN_BYTES_MAX: usize = 4 << 10;
/// Bytes of a text that are shown.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that is compared as a whole.
const BODY_BYTES_MAX: usize = TEXT_BYTES_MAX;
/// Bytes of a longer one that are shown from where it differs.
const AROUND_BYTES: usize = 64;

/// A text in quotes; one of several lines as these.
pub(super) fn shown_text(text: &str) -> String {
    let kept = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    if kept.len() < text.len() {
        return format!("{}\n… {} bytes in all", shown_text(kept), text.len());
    }
    let whole = text.strip_suffix('\n');
    if whole.unwrap_or(text).contains('\n') {
        let lines: Vec<_> = text.lines().map(|line| printable(line, SHOWN_BYTES_MAX)).collect();
        // A text that ends in a line break is the usual case, and needs no remark.
        let end = if whole.is_some() { "" } else { " (and no line break)" };
        return format!("{}{end}", lines.join("\n"));
    }
    format!("\"{}\"", printable(text, SHOWN_BYTES_MAX))
}

/// Two bodies that differ: whole, or where one is long, where they begin to differ.
pub(super) fn bodies(expected: &[u8], got: &[u8]) -> (String, String) {
    if expected.len().max(got.len()) <= BODY_BYTES_MAX {
        return (shown_bytes(expected), shown_bytes(got));
    }
    let alike = expected.iter().zip(got).take_while(|(one, other)| one == other).count();
    let around = |body: &[u8]| {
        let part = &body[alike..body.len().min(alike + AROUND_BYTES)];
        format!("{} bytes, from byte {alike} on: {}", body.len(), shown_bytes(part))
    };
    (around(expected), around(got))
}

/// Bytes as text where they are one, as Base64 otherwise.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => shown_text(text),
        _ => {
            let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX / 2)];
            let more = if cut.len() < bytes.len() { "…" } else { "" };
            format!("base64 {}{more} ({} bytes)", encode(cut), bytes.len())
        }
    }
}

/// The lines of a field.
pub(super) fn lines<B: AsRef<[u8]>>(lines: &[B]) -> String {
    match lines {
        [] => "no lines".to_owned(),
        [one] => shown_bytes(one.as_ref()),
        several => {
            let shown: Vec<String> = several.iter().map(|it| shown_bytes(it.as_ref())).collect();
            shown.join("\n")
        }
    }
}

/// What a text has to meet; empty: nothing.
pub(super) fn conditions(wanted: &TextWanted) -> String {
    let mut all = Vec::new();
    if let Some(is) = &wanted.is {
        all.push(shown_text(is));
    }
    all.extend(wanted.contains.iter().map(|part| format!("contains {}", shown_text(part))));
    all.extend(wanted.lacks.iter().map(|part| format!("lacks {}", shown_text(part))));
    if let Some(regex) = &wanted.matches {
        all.push(format!("matches '{}'", printable(regex.as_str(), SHOWN_BYTES_MAX)));
    }
    all.join(", ")
}

/// Is it one exact text, which another could take the place of?
pub(super) fn is_exact(wanted: &TextWanted) -> bool {
    wanted.is.is_some()
        && wanted.contains.is_empty()
        && wanted.lacks.is_empty()
        && wanted.matches.is_none()
}

/// What the lines of a field have to meet.
pub(super) fn field_like(count: Option<u64>, conditions: &str) -> String {
    let lines =
        |count: u64| if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    match (count, conditions) {
        (None, "") => "any value".to_owned(),
        (Some(count), "") => lines(count),
        (None, conditions) => format!("a line: {conditions}"),
        (Some(count), conditions) => format!("{}, one of them: {conditions}", lines(count)),
    }
}

pub(super) fn failure_wanted(wanted: &FailureWanted) -> String {
    let mut text = wanted.kind.to_owned();
    if let Some(hook) = &wanted.hook {
        // Writing into a string cannot fail.
        let _ = write!(text, " in {hook}");
    }
    let message = conditions(&wanted.message);
    if !message.is_empty() {
        let _ = write!(text, ": {message}");
    }
    text
}

pub(super) fn failure_seen(seen: &FailureSeen) -> String {
    let message = printable(&seen.message, SHOWN_BYTES_MAX);
    match seen.hook.as_str() {
        "" => format!("{}: {message}", seen.kind),
        hook => format!("{} in {hook}: {message}", seen.kind),
    }
}

pub(super) fn json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    if text.contains('\n') { text } else { text.clone() }
}

/// A text as TOML writes it on one line.
pub(super) fn toml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A body as TOML.
pub(super) fn toml_body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => toml_text(text),
        _ => format!("{{ base64 = \"{}\" }}", encode(bytes)),
    }
}

/// The lines of a field as TOML.
pub(super) fn toml_lines(lines: &[&[u8]]) -> String {
    match lines {
        [] => "false".to_owned(),
        [one] => toml_body(one),
        several => {
            let shown: Vec<String> = several.iter().map(|line| toml_body(line)).collect();
            format!("[{}]", shown.join(", "))
        }
    }
}

/// Log lines as TOML: with their levels where the lines before had them.
pub(super) fn toml_log(wanted: &[Wanted<LogWanted>], seen: &[LogLine]) -> String {
    let with_level = |at: usize| {
        let known = wanted.get(at).or(wanted.last());
        known.is_some_and(|wanted| wanted.value.level.is_some())
    };
    let lines = seen.iter().enumerate().map(|(at, line)| match with_level(at) {
        true => format!("{{ level = \"{}\", is = {} }}", line.level.name(), toml_text(&line.text)),
        false => toml_text(&line.text),
    });
    format!("[{}]", lines.collect::<Vec<_>>().join(", "))
}

/// A JSON value as TOML on one line; none: TOML has no `null`.
pub(super) fn toml_value(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        // A number of TOML is one of 64 bits with a sign, or a float.
        Value::Number(number) if number.is_u64() && number.as_i64().is_none() => return None,
        Value::Number(number) => number.to_string(),
        Value::String(text) => toml_text(text),
        Value::Array(items) => {
            let items = items.iter().map(toml_value).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Some(format!("{} = {}", toml_text(key), toml_value(value)?)))
                .collect::<Option<Vec<_>>>()?;
            format!("{{ {} }}", entries.join(", "))
        }
    })
}

/// Text that a person can read: no control characters but those of layout.
fn is_plain(text: &str) -> bool {
    text.chars().all(|it| !it.is_control() || matches!(it, '\n' | '\t' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_whole_up_to_a_limit() {
        for (bytes, cut) in
            [(TEXT_BYTES_MAX - 1, false), (TEXT_BYTES_MAX, false), (TEXT_BYTES_MAX + 1, true)]
        {
            let shown = shown_text(&"a\n".repeat(bytes.div_ceil(2))[..bytes]);
            assert_eq!(shown.contains("bytes in all"), cut, "{bytes}");
        }
        let long = "x".repeat(SHOWN_BYTES_MAX + 1);
        assert_eq!(shown_text(&long), format!("\"{}…\"", "x".repeat(SHOWN_BYTES_MAX)));
        assert_eq!(shown_text("one\n"), "\"one\\n\"");
        assert_eq!(shown_text("one\ntwo\n"), "one\ntwo");
        assert_eq!(shown_text("one\ntwo"), "one\ntwo (and no line break)");
        assert_eq!(shown_text("\u{1b}[31m"), "\"\\u{1b}[31m\"");
    }

    #[test]
    fn long_bodies_are_shown_from_where_they_differ() {
        let body =
            |bytes: usize, last: &str| format!("{}{last}", "x".repeat(bytes - 1)).into_bytes();
        for (bytes, whole) in
            [(BODY_BYTES_MAX - 1, true), (BODY_BYTES_MAX, true), (BODY_BYTES_MAX + 1, false)]
        {
            let (expected, got) = bodies(&body(bytes, "a"), &body(bytes, "b"));
            assert_eq!(expected.starts_with("\"xxx"), whole, "{bytes}");
            if !whole {
                let at = format!("{bytes} bytes, from byte {} on: ", bytes - 1);
                assert_eq!((expected, got), (format!("{at}\"a\""), format!("{at}\"b\"")));
            }
        }
    }

    #[test]
    fn what_toml_is_given_it_reads_back() {
        for text in ["", "plain", "\"quoted\" \\ \n\t\r", "\u{0}\u{1b}\u{7f}\u{85}ü\u{1F600}"] {
            let read: toml::Table = format!("a = {}", toml_text(text)).parse().unwrap();
            assert_eq!(read["a"].as_str(), Some(text));
        }
        let value = serde_json::json!({"a b": [1, -2, 2.5, true, "x\n"], "c": {"d": []}});
        let read: toml::Table = format!("a = {}", toml_value(&value).unwrap()).parse().unwrap();
        assert_eq!(serde_json::to_value(&read["a"]).unwrap(), value);
        for odd in [serde_json::json!(null), serde_json::json!([null]), u64::MAX.into()] {
            assert_eq!(toml_value(&odd), None);
        }
    }
}
