//! What the next version does differently in one exchange, in a word for the counters and in a line
//! for people.
//!
//! The line is redacted by its make: method, path without its query, statuses, lengths and names of
//! fields are told, values of fields and contents of bodies never.

use super::record::{Body, Record};
use super::replay::{Bytes, Course, Seen};
use crate::capability::log::printable;
use crate::http::{Fields, Name, RequestHead};
use http::HeaderName;

/// Names of fields that one line lists of each head; the rest is a number.
pub const NAMES_MAX: usize = 8;
/// Bytes of a path, a method or the name of a field in a line.
pub const TEXT_BYTES_MAX: usize = 128;

/// What differs, the gravest first: an exchange counts for the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next version failed and the running one did not.
    Failed,
    /// Another status, or one of the two answered and the other did not.
    Status,
    /// Other fields, or another method or target, on the way up or down.
    Headers,
    /// Another body, on the way up or down.
    Body,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// For the counters.
    pub kind: Kind,
    /// For people.
    pub line: String,
}

/// What differs between what was recorded and what the next version did; nothing: it is the same.
pub(super) fn compare(
    record: &Record,
    seen: &Seen<'_>,
    ignored: &[HeaderName],
) -> Option<Difference> {
    let (kind, what) = difference(record, seen, ignored)?;
    let head = &record.request.head;
    // A route without a name of its own has its listener's in it.
    let named = record.route.strip_prefix(&*record.listener).is_some_and(|it| it.starts_with('/'));
    let listener = if named { String::new() } else { format!("{}/", record.listener) };
    let line = format!(
        "{} {} on {listener}{}: {what}",
        printable(head.method.as_str(), TEXT_BYTES_MAX),
        printable(head.path(), TEXT_BYTES_MAX),
        record.route,
    );
    Some(Difference { kind, line })
}

fn difference(record: &Record, seen: &Seen<'_>, ignored: &[HeaderName]) -> Option<(Kind, String)> {
    if let (Some(filter), false) = (&seen.failed, record.failed) {
        return Some((Kind::Failed, format!("filter `{filter}` of the next version fails")));
    }
    let running = match (&record.answer, seen.course) {
        _ if record.failed_closed => "fails".to_owned(),
        (None, _) | (_, Course::UsedUp) => format!("answers {}", record.delivered.status),
        (Some(_), _) => "forwards the request".to_owned(),
    };
    let next = match (&record.answer, seen.course) {
        (_, Course::Failed) => "fails".to_owned(),
        (_, Course::Answered) => format!("answers {}", seen.delivered.status),
        (Some(_), Course::UsedUp) => "forwards the response".to_owned(),
        (None, Course::UsedUp) | (_, Course::Forwarded) => "forwards the request".to_owned(),
    };
    if running != next {
        let line = format!("the running version {running}, the next one {next}");
        return Some((Kind::Status, line));
    }
    if seen.course == Course::Failed {
        return None;
    }
    if record.delivered.status != seen.delivered.status {
        let (running, next) = (record.delivered.status, seen.delivered.status);
        return Some((Kind::Status, format!("status {running}, of the next version {next}")));
    }
    let heads = heads(record, seen, ignored);
    if !heads.is_empty() {
        return Some((Kind::Headers, format!("other {}", heads.join("; other "))));
    }
    let sent = bytes("request", record.sent_body(), &seen.sent);
    let line = sent.or_else(|| bytes("response", record.delivered_body(), &seen.received))?;
    Some((Kind::Body, line))
}

/// What differs in heads and trailers, part by part.
fn heads(record: &Record, seen: &Seen<'_>, ignored: &[HeaderName]) -> Vec<String> {
    let mut parts = Vec::new();
    if let (Some(running), Some(next)) = (&record.forwarded, &seen.forwarded) {
        parts.extend(targets(running, next));
        parts.extend(fields("request", &running.fields, &next.fields, ignored));
    }
    let (running, next) = (&record.delivered.fields, &seen.delivered.fields);
    parts.extend(fields("response", running, next, ignored));
    let trailers = [
        ("request trailer", record.sent_body(), &seen.sent),
        ("response trailer", record.delivered_body(), &seen.received),
    ];
    for (what, running, next) in trailers {
        if next.is_comparable() {
            let none = Fields::default();
            let running = running.trailers.as_ref().unwrap_or(&none);
            let next = next.trailers.as_ref().unwrap_or(&none);
            parts.extend(fields(what, running, next, ignored));
        }
    }
    parts
}

fn targets(running: &RequestHead, next: &RequestHead) -> Option<String> {
    let parts = [
        ("method", running.method != next.method),
        ("scheme", running.scheme != next.scheme),
        ("authority", running.authority != next.authority),
        ("path", running.path() != next.path()),
        ("query", running.path() == next.path() && running.target != next.target),
    ];
    let names: Vec<&str> =
        parts.iter().filter(|(_, other)| *other).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| format!("request {}", names.join(", ")))
}

/// The names of fields whose values, in their order, are not the same.
fn fields(what: &str, running: &Fields, next: &Fields, ignored: &[HeaderName]) -> Option<String> {
    if running.iter().eq(next.iter()) {
        return None;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for (text, _) in running.iter().chain(next.iter()) {
        let Ok(name) = Name::parse(text) else { continue };
        let differs = !running.get_all(name).eq(next.get_all(name));
        let is_ignored = ignored.iter().any(|ignored| ignored.as_str().as_bytes() == text);
        if differs && !is_ignored && !names.contains(&text) {
            names.push(text);
        }
    }
    let shown = names.iter().take(NAMES_MAX).map(|name| {
        let name = String::from_utf8_lossy(name);
        format!("`{}`", printable(&name, TEXT_BYTES_MAX))
    });
    let shown: Vec<String> = shown.collect();
    let more = match names.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| format!("{what} fields {}{more}", shown.join(", ")))
}

fn bytes(what: &str, running: &Body, next: &Bytes<'_>) -> Option<String> {
    let running = running.whole()?.len();
    next.differs().then(|| match next.length() {
        next if next == running as u64 => format!("other {what} body, {running} bytes in both"),
        next => format!("{what} body of {running} bytes, of the next version {next}"),
    })
}
