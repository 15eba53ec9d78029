//! What the TOML parser complains about, in our words, and which parts of the text cannot be
//! trusted because of it.
//!
//! The parser goes on after a mistake, so one run tells several; what follows from a mistake is
//! left out.

use toml::de::Error;

use super::problems::Span;

/// Complaints that are looked at; the others are counted.
const ERRORS_MAX: usize = 1_000;

/// What the parser said.
#[derive(Default)]
pub(super) struct SyntaxErrors {
    /// Place, message, and what to do.
    pub(super) list: Vec<(Span, String, &'static str)>,
    /// How many more there were.
    pub(super) omitted: usize,
    /// Parts of the text whose meaning is lost, in order.
    broken: Vec<Span>,
}

impl SyntaxErrors {
    pub(super) fn new(text: &str, errors: &[Error]) -> Self {
        let mut this = Self { omitted: errors.len().saturating_sub(ERRORS_MAX), ..Self::default() };
        let mut errors: Vec<(Span, &str)> = errors
            .iter()
            .take(ERRORS_MAX)
            .map(|error| (error.span().unwrap_or(0..0), error.message()))
            .collect();
        errors.sort_by_key(|(span, _)| span.start);
        for (span, message) in errors {
            // A table that is there twice has keys that are there twice.
            let follows = message == DUPLICATE && this.is_broken(span.start);
            if follows || this.list.last().is_some_and(|(last, ..)| last.start == span.start) {
                continue;
            }
            this.broken.push(lost_with(text, span.start));
            let (message, help) = in_our_words(text, &span, message);
            this.list.push((span, message, help));
        }
        this
    }

    /// Did everything parse?
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Is this byte in a part whose meaning is lost?
    pub(super) fn is_broken(&self, at: usize) -> bool {
        let after = self.broken.partition_point(|part| part.start <= at);
        self.broken[..after].iter().any(|part| at < part.end)
    }
}

const DUPLICATE: &str = "duplicate key";

/// The line of a mistake; with a table's header, all that is in the table.
fn lost_with(text: &str, at: usize) -> Span {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let mut lines = text[start..].split_inclusive('\n');
    let first = lines.next().unwrap_or_default();
    let mut end = start + first.len();
    if first.trim_start().starts_with('[') {
        let rest = lines.take_while(|line| !line.trim_start().starts_with('['));
        end += rest.map(str::len).sum::<usize>();
    }
    start..end.max(start + 1)
}

fn in_our_words(text: &str, span: &Span, message: &str) -> (String, &'static str) {
    if message == DUPLICATE {
        return (message.to_owned(), "it stands further up already; write each key once");
    }
    if message.starts_with("string values must be quoted") {
        return match text.get(span.clone()).map_or("", str::trim) {
            "" => ("missing value".to_owned(), "write a value after `=`"),
            _ => (
                "this is no value".to_owned(),
                "strings are in double quotes; `true`, `false` and numbers are not",
            ),
        };
    }
    (message.to_owned(), "")
}
