//! What came of an exchange, in words that are the same for both hosts.

use pillion::config::case::LogLevel;
use pillion::http::Fields;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

/// Names and values of fields, in order.
pub(super) type Lines = Vec<(String, Vec<u8>)>;

/// Characters of an effect that a difference shows.
const SHOWN: usize = 1200;

/// Every effect, by what it is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    effects: BTreeMap<String, String>,
    failures: Vec<String>,
    log: Vec<String>,
}

impl Seen {
    /// A whole request reached the upstream.
    pub(super) fn forwarded(
        &mut self,
        line: &[&str; 4],
        headers: &[(String, Vec<u8>)],
        body: &[u8],
        trailers: &[(String, Vec<u8>)],
    ) {
        self.put("forwarded line", line);
        self.message("forwarded", headers, body, trailers);
    }

    /// A whole response reached the client.
    pub(super) fn reply(
        &mut self,
        status: u16,
        headers: &[(String, Vec<u8>)],
        body: &[u8],
        trailers: &[(String, Vec<u8>)],
    ) {
        self.put("reply status", &status);
        self.message("reply", headers, body, trailers);
    }

    /// The client got a part of a response.
    pub(super) fn broken_off(&mut self) {
        self.put("reply", &"broken off");
    }

    /// The filter failed with this text.
    pub(super) fn failure(&mut self, text: String) {
        self.failures.push(text);
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(super) fn note(&mut self, key: &str, text: &str) {
        self.put(format!("note {key:?}"), &text);
    }

    pub(super) fn log(&mut self, level: LogLevel, text: &str) {
        self.log.push(format!("{} {text:?}", level.name()));
    }

    /// A series; only a histogram has `observations`.
    pub(super) fn series<'l>(
        &mut self,
        name: &str,
        labels: impl Iterator<Item = &'l str>,
        value: f64,
        observations: Option<u64>,
    ) {
        let labels: Vec<&str> = labels.collect();
        self.put(format!("metric {name} {labels:?}"), &(value, observations));
    }

    /// What differs, effect by effect: this first, then the other.
    pub(super) fn differences(&self, other: &Seen) -> String {
        let mut told = String::new();
        let mut tell = |what: &str, one: &dyn Debug, other: &dyn Debug| {
            let [one, other] = [one, other].map(|it| format!("{it:?}"));
            if one != other {
                let [one, other] =
                    [one, other].map(|it| it.chars().take(SHOWN).collect::<String>());
                let _infallible = write!(told, "{what}\n  native: {one}\n  real:   {other}\n");
            }
        };
        let names = self.effects.keys().chain(other.effects.keys());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            tell(name, &self.effects.get(name), &other.effects.get(name));
        }
        tell("failures", &self.failures, &other.failures);
        tell("log", &self.log, &other.log);
        told
    }

    fn message(
        &mut self,
        what: &str,
        headers: &[(String, Vec<u8>)],
        body: &[u8],
        trailers: &[(String, Vec<u8>)],
    ) {
        self.put(format!("{what} headers"), &shown(headers));
        self.put(format!("{what} body"), &(body.len(), String::from_utf8_lossy(body)));
        self.put(format!("{what} trailers"), &shown(trailers));
    }

    fn put(&mut self, what: impl Into<String>, effect: &dyn Debug) {
        self.effects.insert(what.into(), format!("{effect:?}"));
    }
}

fn shown(lines: &[(String, Vec<u8>)]) -> Vec<String> {
    lines.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect()
}

pub(super) fn lines_of(fields: &Fields) -> Lines {
    let line = |(name, value): (&[u8], &[u8])| {
        (String::from_utf8_lossy(name).into_owned(), value.to_vec())
    };
    fields.iter().map(line).collect()
}
