//! The `log` capability: lines of a filter become `tracing` events with the filter's name and
//! version.
//!
//! The caller counts the lines of an exchange (`Exchange::count_log_line`); this file knows how
//! many are allowed by default, how long one may be, and how a guest's text is made safe to print.

use std::borrow::Cow;
use std::fmt::Write;

/// Lines of one filter in one exchange; the default of the filter limit `log_lines`.
pub const LOG_LINES_MAX: u32 = 20;
/// Bytes of one line; the rest is cut off.
pub const LOG_LINE_BYTES_MAX: usize = 1024;

/// `target` of the events, for the log filter: `pillion::filter=debug`.
pub const TARGET: &str = "pillion::filter";

/// The levels of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Worth knowing in production.
    Info,
    /// For the filter's author.
    Debug,
    /// Everything.
    Trace,
}

/// Would a line of this level be written?
pub fn enabled(level: Level) -> bool {
    match level {
        Level::Error => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
        Level::Warn => tracing::enabled!(target: TARGET, tracing::Level::WARN),
        Level::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
        Level::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        Level::Trace => tracing::enabled!(target: TARGET, tracing::Level::TRACE),
    }
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'w> {
    /// The filter.
    pub filter: &'w str,
    /// Its version.
    pub version: &'w str,
    /// It works on copies of exchanges: its lines say so.
    pub shadow: bool,
}

/// Writes the `line`th line of a filter in an exchange, counted from 1. `false`: it is over
/// `lines_max` and was dropped; the caller counts it (`FilterStats::log_line_dropped`).
pub fn write(writer: Writer<'_>, level: Level, message: &str, line: u32, lines_max: u32) -> bool {
    if line > lines_max {
        return false;
    }
    if !enabled(level) {
        return true;
    }
    let Writer { filter, version, shadow } = writer;
    let message = printable(message, LOG_LINE_BYTES_MAX);
    let shadow = shadow.then_some(true);
    match level {
        Level::Error => tracing::error!(target: TARGET, filter, version, shadow, "{message}"),
        Level::Warn => tracing::warn!(target: TARGET, filter, version, shadow, "{message}"),
        Level::Info => tracing::info!(target: TARGET, filter, version, shadow, "{message}"),
        Level::Debug => tracing::debug!(target: TARGET, filter, version, shadow, "{message}"),
        Level::Trace => tracing::trace!(target: TARGET, filter, version, shadow, "{message}"),
    }
    true
}

/// A guest's text as one printable line: at most `bytes_max` bytes of it, control characters and
/// those that break lines or turn the writing direction as escapes. A cut text ends in `…`.
///
/// An escape is longer than what it stands for: the result holds at most ten times `bytes_max`.
pub fn printable(text: &str, bytes_max: usize) -> Cow<'_, str> {
    let kept = &text[..text.floor_char_boundary(bytes_max)];
    let cut = kept.len() < text.len();
    if !cut && !kept.chars().any(is_disruptive) {
        return Cow::Borrowed(kept);
    }
    let mut line = String::with_capacity(kept.len() + 16);
    for character in kept.chars() {
        if is_disruptive(character) {
            // Writing into a string cannot fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    if cut {
        line.push('…');
    }
    Cow::Owned(line)
}

fn is_disruptive(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    const SHADOW: Writer<'static> = Writer { filter: "f", version: "v", shadow: true };

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Sink {
        type Writer = Sink;

        fn make_writer(&'a self) -> Sink {
            self.clone()
        }
    }

    fn logged(work: impl FnOnce()) -> String {
        let sink = Sink::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(sink.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_carries_filter_and_version() {
        let text = logged(|| {
            let auth = Writer { filter: "auth", version: "0123456789ab", shadow: false };
            assert!(write(auth, Level::Warn, "no\ntoken", 1, 20));
        });
        assert!(text.contains("WARN"), "{text}");
        assert!(!text.contains("shadow"), "{text}");
        assert!(text.contains(r#"filter="auth" version="0123456789ab""#), "{text}");
        assert!(text.contains(r"no\ntoken"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_line_of_a_shadow_says_so() {
        let text = logged(|| assert!(write(SHADOW, Level::Info, "line", 1, 20)));
        assert!(text.contains(r#"filter="f" version="v" shadow=true"#), "{text}");
    }

    #[test]
    fn lines_over_the_budget_are_dropped() {
        let text = logged(|| {
            for line in 1..=LOG_LINES_MAX + 1 {
                let written = write(SHADOW, Level::Info, "line", line, LOG_LINES_MAX);
                assert_eq!(written, line <= LOG_LINES_MAX);
            }
        });
        assert_eq!(text.lines().count(), LOG_LINES_MAX as usize);
    }

    #[test]
    fn levels_that_are_off_are_not_written() {
        let text = logged(|| {
            assert!(enabled(Level::Info));
            assert!(!enabled(Level::Debug));
            assert!(write(SHADOW, Level::Debug, "line", 1, 20));
        });
        assert_eq!(text, "");
    }

    #[test]
    fn a_line_is_cut_at_its_limit_and_between_characters() {
        let at = |length| printable(&"x".repeat(length), LOG_LINE_BYTES_MAX).into_owned();
        assert_eq!(at(LOG_LINE_BYTES_MAX - 1).len(), LOG_LINE_BYTES_MAX - 1);
        assert_eq!(at(LOG_LINE_BYTES_MAX).len(), LOG_LINE_BYTES_MAX);
        assert_eq!(at(LOG_LINE_BYTES_MAX + 1), "x".repeat(LOG_LINE_BYTES_MAX) + "…");
        assert_eq!(printable("aä", 2), "a…");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\r\n\t\x1b[31m\0", 99), r"a\r\n\t\u{1b}[31m\u{0}");
        assert_eq!(printable("\u{202e}\u{2028}", 99), r"\u{202e}\u{2028}");
        assert!(matches!(printable("grün", 99), Cow::Borrowed("grün")));
    }
}
