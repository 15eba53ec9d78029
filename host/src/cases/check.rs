//! Compares what came of an exchange with what was expected of it.
//!
//! Each difference carries its place in the case file, both sides in words, and where it can be put
//! right by writing another value, that value. Knows nothing of how the exchange was played.

use super::capture::{FailureSeen, LogLine};
use super::play::{Forwarded, Lines, OUTPUT_BYTES_MAX, Observed};
use super::shown::{self, shown_bytes, shown_text};
use crate::capability::metrics::{Kind, Snapshot};
use crate::config::case::{
    BodyWanted, Expect, FailureWanted, FieldWanted, ForwardedWanted, LogWanted, MetricWanted,
    NoteWanted, RequestWanted, TextWanted, Wanted,
};
use std::ops::Range;

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Bytes of the case file that expect it.
    pub span: Range<usize>,
    /// What differs, as in `headers.x-a` or `forwarded.method`.
    pub what: String,
    /// What was expected, in words or as a value.
    pub expected: String,
    /// What there was.
    pub got: String,
    /// TOML to stand in place of `span`, so that it is expected from then on.
    pub rewrite: Option<String>,
}

/// Everything that is not as expected. What cannot be seen in `observed` is not looked at.
pub fn check(expect: &Expect, observed: &Observed) -> Vec<Mismatch> {
    let mut found = Check { found: Vec::new(), prefix: "" };
    if let Some(wanted) = &expect.status
        && wanted.value != observed.status
    {
        found.value(wanted, "status", &wanted.value.to_string(), &observed.status.to_string());
    }
    found.fields("headers", &expect.headers, &observed.headers);
    found.body(expect.body.as_ref(), &observed.body);
    found.fields("trailers", &expect.trailers, &observed.trailers);
    found.complete(expect, observed);
    found.forwarded(expect.forwarded.as_ref(), observed.forwarded.as_ref());
    if let (Some(wanted), Some(seen)) = (&expect.log, &observed.log) {
        found.log(wanted, seen);
    }
    if let Some(seen) = &observed.notes {
        expect.notes.iter().for_each(|wanted| found.note(wanted, seen));
    }
    if let Some(seen) = &observed.metrics {
        expect.metrics.iter().for_each(|wanted| found.metric(wanted, seen));
    }
    if let Some(seen) = &observed.failures {
        found.failures(expect, seen);
    }
    found.found
}

/// Failures of an exchange of which nothing is expected but that there are none.
pub(super) fn unexpected_failures(expect: &Expect, observed: &Observed) -> Vec<Mismatch> {
    let mut found = Check { found: Vec::new(), prefix: "" };
    if let (None, Some(seen)) = (&expect.failure, &observed.failures) {
        found.failures(expect, seen);
    }
    found.found
}

struct Check {
    found: Vec<Mismatch>,
    /// What the names of things begin with.
    prefix: &'static str,
}

impl Check {
    fn add(
        &mut self,
        span: &Range<usize>,
        what: &str,
        expected: String,
        got: String,
        rewrite: Option<String>,
    ) {
        let what = format!("{}{what}", self.prefix);
        self.found.push(Mismatch { span: span.clone(), what, expected, got, rewrite });
    }

    /// A value that TOML writes as it is shown.
    fn value<T>(&mut self, wanted: &Wanted<T>, what: &str, expected: &str, got: &str) {
        let rewrite = Some(got.to_owned());
        self.add(&wanted.span, what, expected.to_owned(), got.to_owned(), rewrite);
    }

    fn exact(&mut self, wanted: Option<&Wanted<String>>, what: &str, got: &str) {
        if let Some(wanted) = wanted.filter(|wanted| wanted.value != got) {
            let (expected, rewrite) = (shown_text(&wanted.value), Some(shown::toml_text(got)));
            self.add(&wanted.span, what, expected, shown_text(got), rewrite);
        }
    }

    fn fields(&mut self, what: &str, wanted: &[(String, Wanted<FieldWanted>)], seen: &Lines) {
        for (name, wanted) in wanted {
            let lines: Vec<&[u8]> =
                seen.iter().filter(|(n, _)| n == name).map(|(_, value)| &**value).collect();
            let (holds, expected, exact) = match &wanted.value {
                FieldWanted::Absent => (lines.is_empty(), "no such field".to_owned(), true),
                FieldWanted::Present => (!lines.is_empty(), "any value".to_owned(), true),
                FieldWanted::Lines(expected) => (lines == *expected, shown::lines(expected), true),
                FieldWanted::Like { count, text } => {
                    let counted = count.map_or(!lines.is_empty(), |it| it == lines.len() as u64);
                    let conditions = shown::conditions(text);
                    let holds =
                        counted && (conditions.is_empty() || lines.iter().any(|it| like(text, it)));
                    (holds, shown::field_like(*count, &conditions), false)
                }
            };
            if !holds {
                let got = match lines.as_slice() {
                    [] => "no such field".to_owned(),
                    lines => shown::lines(lines),
                };
                let rewrite = exact.then(|| shown::toml_lines(&lines));
                self.add(&wanted.span, &format!("{what}.{name}"), expected, got, rewrite);
            }
        }
    }

    fn body(&mut self, wanted: Option<&Wanted<BodyWanted>>, seen: &[u8]) {
        let Some(wanted) = wanted else { return };
        let mut differs = |expected: String, got: String, rewrite| {
            self.add(&wanted.span, "body", expected, got, rewrite);
        };
        match &wanted.value {
            BodyWanted::Bytes(bytes) if bytes != seen => {
                let (expected, got) = shown::bodies(bytes, seen);
                differs(expected, got, Some(shown::toml_body(seen)));
            }
            BodyWanted::File(bytes) if bytes != seen => {
                let (expected, got) = shown::bodies(bytes, seen);
                differs(expected, got, None);
            }
            BodyWanted::Length(length) if *length != seen.len() as u64 => differs(
                format!("{length} bytes"),
                format!("{} bytes", seen.len()),
                Some(format!("{{ bytes = {} }}", seen.len())),
            ),
            BodyWanted::Like(text) if !like(text, seen) => {
                differs(shown::conditions(text), shown_bytes(seen), None);
            }
            BodyWanted::Json(value) => match serde_json::from_slice::<serde_json::Value>(seen) {
                Ok(got) if same_json(value, &got) => {}
                Ok(got) => {
                    let rewrite = shown::toml_value(&got).map(|it| format!("{{ json = {it} }}"));
                    differs(shown::json(value), shown::json(&got), rewrite);
                }
                Err(_) => {
                    differs(shown::json(value), format!("no JSON: {}", shown_bytes(seen)), None);
                }
            },
            BodyWanted::Bytes(_)
            | BodyWanted::File(_)
            | BodyWanted::Length(_)
            | BodyWanted::Like(_) => {}
        }
    }

    fn complete(&mut self, expect: &Expect, observed: &Observed) {
        let wanted = expect.complete.as_ref();
        let span = wanted.map_or(&expect.span, |wanted| &wanted.span).clone();
        if observed.outgrown {
            let (expected, got) = ("a body that ends", "more than the runner keeps");
            let got = format!("{got}: {} MiB", OUTPUT_BYTES_MAX >> 20);
            return self.add(&span, "body", expected.to_owned(), got, None);
        }
        if wanted.is_none_or(|wanted| wanted.value) != observed.complete {
            let words = ["a response that is broken off", "a whole response"];
            let [expected, got] =
                [!observed.complete, observed.complete].map(|it| words[usize::from(it)].to_owned());
            let rewrite = wanted.map(|_| observed.complete.to_string());
            self.add(&span, "complete", expected, got, rewrite);
        }
    }

    fn forwarded(&mut self, wanted: Option<&Wanted<ForwardedWanted>>, seen: Option<&Forwarded>) {
        let Some(wanted) = wanted else { return };
        let nothing = || "nothing: the upstream got no whole request".to_owned();
        match (&wanted.value, seen) {
            (ForwardedWanted::Nothing, None) => {}
            (ForwardedWanted::Nothing, Some(seen)) => {
                let got = format!("{} {}", seen.method, shown_text(&seen.path));
                self.add(&wanted.span, "forwarded", nothing(), got, Some("true".to_owned()));
            }
            (ForwardedWanted::Request(_), None) => {
                let expected = "a request to the upstream".to_owned();
                self.add(&wanted.span, "forwarded", expected, nothing(), Some("false".to_owned()));
            }
            (ForwardedWanted::Request(wanted), Some(seen)) => {
                self.prefix = "forwarded.";
                self.request(wanted, seen);
                self.prefix = "";
            }
        }
    }

    fn request(&mut self, wanted: &RequestWanted, seen: &Forwarded) {
        self.exact(wanted.method.as_ref(), "method", &seen.method);
        self.exact(wanted.path.as_ref(), "path", &seen.path);
        if let Some(scheme) = &seen.scheme {
            self.exact(wanted.scheme.as_ref(), "scheme", scheme);
        }
        self.exact(wanted.authority.as_ref(), "authority", &seen.authority);
        self.fields("headers", &wanted.headers, &seen.headers);
        self.body(wanted.body.as_ref(), &seen.body);
        self.fields("trailers", &wanted.trailers, &seen.trailers);
    }

    fn log(&mut self, wanted: &Wanted<Vec<Wanted<LogWanted>>>, seen: &[LogLine]) {
        let line = |wanted: &LogWanted| match wanted.level {
            Some(level) => format!("{}: {}", level.name(), shown::conditions(&wanted.text)),
            None => shown::conditions(&wanted.text),
        };
        let meets = |wanted: &LogWanted, seen: &LogLine| {
            wanted.level.is_none_or(|level| level == seen.level)
                && like(&wanted.text, seen.text.as_bytes())
        };
        let lines = &wanted.value;
        let same = lines.len() == seen.len()
            && lines.iter().zip(seen).all(|(wanted, seen)| meets(&wanted.value, seen));
        if !same {
            let expected: Vec<String> = lines.iter().map(|wanted| line(&wanted.value)).collect();
            let plain =
                |seen: &LogLine| format!("{}: {}", seen.level.name(), shown_text(&seen.text));
            let got: Vec<String> = seen.iter().map(plain).collect();
            let exact = lines.iter().all(|wanted| shown::is_exact(&wanted.value.text));
            let rewrite = exact.then(|| shown::toml_log(lines, seen));
            self.add(&wanted.span, "log", listed(&expected), listed(&got), rewrite);
        }
    }

    fn note(&mut self, wanted: &Wanted<NoteWanted>, seen: &[(String, String)]) {
        let NoteWanted { key, text } = &wanted.value;
        let seen = seen.iter().find(|(known, _)| known == key).map(|(_, text)| text);
        let holds = match (text, seen) {
            (None, None) => true,
            (Some(text), Some(seen)) => like(text, seen.as_bytes()),
            _ => false,
        };
        if !holds {
            let none = || "no such note".to_owned();
            let expected = text.as_ref().map_or_else(none, shown::conditions);
            let got = seen.map_or_else(none, |seen| shown_text(seen));
            let exact = text.as_ref().is_none_or(shown::is_exact);
            let rewrite = exact.then(|| match seen {
                Some(seen) => shown::toml_text(seen),
                None => "false".to_owned(),
            });
            self.add(&wanted.span, &format!("notes.{key}"), expected, got, rewrite);
        }
    }

    fn metric(&mut self, wanted: &Wanted<MetricWanted>, seen: &[Snapshot]) {
        let MetricWanted { name, labels, value, count } = &wanted.value;
        let sum = sum_of(seen, name, labels);
        let words = |value: Option<f64>, count: Option<u64>| match (value, count) {
            (None, None) => "no such series".to_owned(),
            (Some(value), None) => value.to_string(),
            (None, Some(count)) => format!("{count} observations"),
            (Some(value), Some(count)) => format!("{count} observations, {value} in sum"),
        };
        let (got, seen) = match &sum {
            None => ((None, None), (None, None)),
            Some(sum) => (
                (value.and(Some(sum.value)), count.and(Some(sum.count))),
                (Some(sum.value), (sum.kind == Kind::Histogram).then_some(sum.count)),
            ),
        };
        let as_wanted = match (value, count) {
            (None, None) => sum.is_none(),
            _ => sum.is_some() && got == (*value, *count),
        };
        if !as_wanted {
            let rewrite = match (seen, count) {
                ((None, _), _) => "false".to_owned(),
                ((Some(sum), Some(count)), Some(_)) => {
                    format!("{{ count = {count}, sum = {sum:?} }}")
                }
                ((Some(sum), _), _) => sum.to_string(),
            };
            let shown_labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let what = match shown_labels.as_slice() {
                [] => format!("metrics.{name}"),
                labels => format!("metrics.{name}{{{}}}", labels.join(",")),
            };
            let (expected, got) = (words(*value, *count), words(seen.0, seen.1));
            self.add(&wanted.span, &what, expected, got, Some(rewrite));
        }
    }

    fn failures(&mut self, expect: &Expect, seen: &[FailureSeen]) {
        let wanted = expect.failure.as_ref();
        let all: &[FailureWanted] = wanted.map_or(&[], |wanted| &wanted.value);
        let meets = |wanted: &FailureWanted, seen: &FailureSeen| {
            wanted.kind == seen.kind
                && wanted.hook.as_ref().is_none_or(|hook| *hook == seen.hook)
                && like(&wanted.message, seen.message.as_bytes())
        };
        let same = all.len() == seen.len()
            && all.iter().zip(seen).all(|(wanted, seen)| meets(wanted, seen));
        if same {
            return;
        }
        let expected: Vec<String> = all.iter().map(shown::failure_wanted).collect();
        let got: Vec<String> = seen.iter().map(shown::failure_seen).collect();
        let plain =
            all.iter().all(|it| it.hook.is_none() && shown::conditions(&it.message).is_empty());
        let rewrite = wanted.filter(|_| plain).map(|_| {
            let kinds: Vec<String> = seen.iter().map(|it| shown::toml_text(&it.kind)).collect();
            format!("[{}]", kinds.join(", "))
        });
        let span = wanted.map_or(&expect.span, |wanted| &wanted.span);
        let (expected, got) = match expected.is_empty() {
            true => ("no failure of the filter".to_owned(), listed(&got)),
            false if got.is_empty() => (listed(&expected), "no failure of the filter".to_owned()),
            false => (listed(&expected), listed(&got)),
        };
        self.add(span, "failure", expected, got, rewrite);
    }
}

/// Does a text meet all conditions? Bytes that are not UTF-8 are U+FFFD.
pub(super) fn like(wanted: &TextWanted, seen: &[u8]) -> bool {
    let seen = String::from_utf8_lossy(seen);
    wanted.is.as_ref().is_none_or(|is| *is == seen)
        && wanted.contains.iter().all(|part| seen.contains(part.as_str()))
        && !wanted.lacks.iter().any(|part| seen.contains(part.as_str()))
        && wanted.matches.as_ref().is_none_or(|regex| regex.is_match(&seen))
}

/// Numbers are the same whether they are written with a fraction or without.
fn same_json(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64().is_some_and(|one| Some(one) == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_json(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(k, a)| other.get(k).is_some_and(|b| same_json(a, b)))
        }
        _ => one == other,
    }
}

struct Sum {
    kind: Kind,
    value: f64,
    count: u64,
}

/// The sum over the series of a metric that have these labels; none: there is none.
fn sum_of(seen: &[Snapshot], name: &str, labels: &[(String, String)]) -> Option<Sum> {
    let metric = seen.iter().find(|metric| *metric.name == *name)?;
    let has = |series: &[Box<str>], (name, value): &(String, String)| {
        let mut pairs = metric.labels.iter().zip(series);
        pairs.any(|(n, v)| **n == **name && **v == **value)
    };
    let mut series = metric.series.iter();
    let mut met: Vec<_> =
        series.by_ref().filter(|it| labels.iter().all(|label| has(&it.labels, label))).collect();
    // Sums of floats depend on their order.
    met.sort_by(|one, other| one.labels.cmp(&other.labels));
    if met.is_empty() {
        return None;
    }
    Some(Sum {
        kind: metric.kind,
        value: met.iter().map(|series| series.value).sum(),
        count: met.iter().flat_map(|series| series.buckets.iter()).sum(),
    })
}

fn listed(all: &[String]) -> String {
    if all.is_empty() { "nothing".to_owned() } else { all.join("\n") }
}
