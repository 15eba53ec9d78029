//! What a filter logs while a case is played, and how it fails: taken from the events of `tracing`
//! on the thread that plays.
//!
//! One subscriber serves every thread; what it takes down belongs to the thread it is called on.

use crate::capability::log;
use crate::config::case::LogLevel;
use std::cell::RefCell;
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// A line that a filter logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// Its text, as the log has it.
    pub text: String,
}

/// A hook call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureSeen {
    /// The word of metrics and logs.
    pub kind: String,
    /// The hook; empty: the filter was in quarantine and no hook was called.
    pub hook: String,
    /// What the log says of it.
    pub message: String,
}

/// What was taken down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) lines: Vec<LogLine>,
    pub(super) failures: Vec<FailureSeen>,
}

thread_local! {
    static CAPTURED: RefCell<Option<(LogLevel, Captured)>> = const { RefCell::new(None) };
}

/// The subscriber of a run.
pub(super) fn dispatch() -> Dispatch {
    Dispatch::new(Capture)
}

/// What `work` makes a filter log, from `level` on. `dispatch` has to be the thread's.
pub(super) fn capture<T>(level: LogLevel, work: impl FnOnce() -> T) -> (T, Captured) {
    CAPTURED.set(Some((level, Captured::default())));
    let done = work();
    let captured = CAPTURED.take().map(|(_, captured)| captured).unwrap_or_default();
    (done, captured)
}

struct Capture;

impl Subscriber for Capture {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Levels differ from case to case: asked each time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target() != log::TARGET {
            return is_failure(metadata);
        }
        CAPTURED.with_borrow(|captured| {
            captured.as_ref().is_some_and(|(level, _)| level_of(metadata.level()) <= *level)
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        CAPTURED.with_borrow_mut(|captured| {
            let Some((_, captured)) = captured else { return };
            if event.metadata().target() == log::TARGET {
                let level = level_of(event.metadata().level());
                captured.lines.push(LogLine { level, text: fields.message });
            } else if fields.message == "a filter failed" {
                let Fields { reason: kind, hook, detail: message, .. } = fields;
                captured.failures.push(FailureSeen { kind, hook, message });
            }
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Could it be the one log line of a failure?
fn is_failure(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::ERROR && metadata.target().starts_with("pillion::wasm")
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    reason: String,
    hook: String,
    detail: String,
}

impl Fields {
    fn of(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "message" => Some(&mut self.message),
            "reason" => Some(&mut self.reason),
            "hook" => Some(&mut self.hook),
            "detail" => Some(&mut self.detail),
            _ => None,
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.of(field) {
            value.clone_into(text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(text) = self.of(field) {
            *text = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_failures_of_this_thread_are_taken_down_from_their_level_on() {
        let speak = || {
            for (number, level) in [log::Level::Warn, log::Level::Debug].into_iter().enumerate() {
                let writer = log::Writer { filter: "f", version: "v", shadow: false };
                log::write(writer, level, "line\n", number as u32 + 1, 20);
            }
            tracing::error!(target: "pillion::wasm::filter", hook = "on-request", reason = "trap",
                detail = %"boom", "a filter failed");
            tracing::error!(target: "pillion::other", "a filter failed");
            log::enabled(log::Level::Debug)
        };
        tracing::dispatcher::with_default(&dispatch(), || {
            assert!(!speak(), "nothing is enabled outside");
            let (debug, captured) = capture(LogLevel::Info, speak);
            assert!(!debug);
            let line = LogLine { level: LogLevel::Warn, text: "line\\n".to_owned() };
            assert_eq!(captured.lines, [line]);
            let failure = FailureSeen {
                kind: "trap".to_owned(),
                hook: "on-request".to_owned(),
                message: "boom".to_owned(),
            };
            assert_eq!(captured.failures, [failure]);
            let (debug, captured) = capture(LogLevel::Trace, speak);
            assert!(debug);
            assert_eq!(captured.lines.len(), 2);
        });
    }
}
