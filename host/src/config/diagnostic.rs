//! Messages that point into a file: `file:line:column`, the line, a caret, and what to do.
//!
//! Knows text and positions, nothing of TOML or of what a key means. A message never carries a
//! value that came from the environment or from a referenced file; its authors see to that.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Messages of one run; further ones are counted.
pub const DIAGNOSTICS_MAX: usize = 100;

/// Characters of a source line that are shown.
const LINE_CHARS_MAX: usize = 120;

/// Does a message keep the configuration from being used?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Yes.
    Error,
    /// No, but it is hardly what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One message about a file. Displays as several lines of plain text without a final line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// Where in the file; none: the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place in a file, with the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, or the part of a long one around the place; control characters are replaced.
    excerpt: String,
    /// Characters of `excerpt` before the place.
    caret_start: usize,
    /// Characters marked; at least one.
    caret_width: usize,
}

impl Diagnostic {
    /// An error about the file as a whole.
    pub fn about_file(file: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            place: None,
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let line = format!("{number} | {}", place.excerpt);
            write!(f, "\n{}", line.trim_end())?;
            let indent = number.len() + 3 + place.caret_start;
            write!(f, "\n{:indent$}{}", "", "^".repeat(place.caret_width))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The messages of one run, in order of their places. Displays with a blank line between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// Looks up the places of the first `DIAGNOSTICS_MAX` drafts, leaving out warnings first where
    /// some have to go, and counts the others with `omitted`.
    pub(super) fn new(source: &SourceText, mut drafts: Vec<Draft>, mut omitted: usize) -> Self {
        drafts.sort_by_key(|draft| (draft.severity, draft.span.start));
        omitted += drafts.len().saturating_sub(DIAGNOSTICS_MAX);
        drafts.truncate(DIAGNOSTICS_MAX);
        drafts.sort_by_key(|draft| draft.span.start);
        let list = drafts.into_iter().map(|draft| {
            let Draft { severity, span, message, help } = draft;
            source.diagnostic(severity, span, message, help)
        });
        Self { list: list.collect(), omitted }
    }

    /// In order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Is there nothing to say?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Is one of them an error?
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic], omitted: 0 }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        if self.omitted > 0 {
            write!(f, "\n\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// A message whose place is not looked up yet: that takes a walk over the text.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) severity: Severity,
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// The text of a file, for looking up places.
#[derive(Clone, Debug)]
pub(super) struct SourceText {
    name: Arc<str>,
    text: Arc<str>,
}

impl SourceText {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// A message about the text as a whole.
    pub(super) fn about(&self, severity: Severity, message: String) -> Diagnostic {
        Diagnostic { severity, file: self.name.clone(), place: None, message, help: None }
    }

    /// All of it.
    pub(super) fn text(&self) -> Arc<str> {
        self.text.clone()
    }

    /// A message about the bytes of `span`.
    pub(super) fn diagnostic(
        &self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let place = Some(self.place(span));
        Diagnostic { severity, file: self.name.clone(), place, message, help }
    }

    /// A span that is out of the text, or within a character, is moved to the nearest place.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let rest = &self.text[line_start..];
        let whole = rest.lines().next().unwrap_or_default();

        let end = self.text.ceil_char_boundary(span.end.max(start));
        // A span may reach over the end of its line; the mark does not.
        let marked_end = end.clamp(start, (line_start + whole.len()).max(start));
        let before_mark = self.text[line_start..start].chars().count();
        let width = self.text[start..marked_end].chars().count().max(1);

        // A long line is shown from a little before the place.
        let length = whole.chars().count();
        let skip = match length > LINE_CHARS_MAX {
            true => before_mark.saturating_sub(LINE_CHARS_MAX / 2).min(length - LINE_CHARS_MAX),
            false => 0,
        };
        let excerpt: String =
            whole.chars().skip(skip).take(LINE_CHARS_MAX).map(printable).collect();
        let caret_start = before_mark - skip;
        let caret_width = width.min(LINE_CHARS_MAX.saturating_sub(caret_start)).max(1);
        Place { line, column: before_mark + 1, excerpt, caret_start, caret_width }
    }
}

/// One character wide, whatever it was, so that the caret stands where it should.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        other if other.is_control() => '\u{FFFD}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        SourceText::new("a.toml", text)
            .diagnostic(Severity::Error, span, "wrong".to_owned(), None)
            .to_string()
    }

    #[test]
    fn a_message_shows_the_line_and_marks_the_span() {
        assert_eq!(
            shown("a = 1\nbc = 22\n", 11..13),
            "a.toml:2:6: error: wrong\n2 | bc = 22\n         ^^"
        );
    }

    #[test]
    fn columns_count_characters_and_tabs_are_one_blank() {
        assert_eq!(
            shown("\tü = 'x'", 6..9),
            "a.toml:1:6: error: wrong\n1 |  ü = 'x'\n         ^^^"
        );
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        assert!(shown("a = '\u{1b}[31m'", 4..6).contains("a = '\u{FFFD}[31m'"));
    }

    #[test]
    fn odd_spans_are_moved_to_the_nearest_place() {
        for (text, span) in [("", 0..0), ("", 7..9), ("ü", 1..1), ("a\r\nb", 1..99), ("a\n", 2..2)]
        {
            assert!(shown(text, span).contains('^'));
        }
        let backwards = Range { start: 2, end: 1 };
        assert!(shown("abc", backwards).ends_with("1 | abc\n      ^"));
    }

    #[test]
    fn a_span_over_several_lines_is_marked_to_the_end_of_the_first() {
        assert_eq!(shown("ab\ncd", 1..5), "a.toml:1:2: error: wrong\n1 | ab\n     ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}here{}", "x".repeat(5_000), "y".repeat(5_000));
        let message = shown(&text, 5_000..5_004);
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(lines[0], "a.toml:1:5001: error: wrong");
        assert_eq!(lines[1].chars().count(), "1 | ".len() + LINE_CHARS_MAX);
        let start = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][start..start + lines[2].trim_start().len()], "here");
    }

    #[test]
    fn messages_beyond_the_limit_are_counted_and_warnings_go_first() {
        let text = SourceText::new("a.toml", "x");
        let of = |severity| Draft { severity, span: 0..1, message: String::new(), help: None };
        for (errors, warnings, kept, omitted) in [
            (DIAGNOSTICS_MAX - 1, 0, DIAGNOSTICS_MAX - 1, 0),
            (DIAGNOSTICS_MAX, 0, DIAGNOSTICS_MAX, 0),
            (DIAGNOSTICS_MAX, 1, DIAGNOSTICS_MAX, 1),
        ] {
            let mut list = vec![of(Severity::Warning); warnings];
            list.extend(vec![of(Severity::Error); errors]);
            let all = Diagnostics::new(&text, list, 0);
            assert_eq!((all.list.len(), all.omitted), (kept, omitted));
            assert!(all.iter().all(|it| it.severity == Severity::Error));
        }
    }
}
