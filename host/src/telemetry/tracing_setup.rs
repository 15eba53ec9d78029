//! The structured log: `tracing` events on standard error, one a line.
//!
//! Compact text on a terminal, JSON anywhere else. Lines go through a [`Sink`], so that a worker
//! that logs never waits for whoever reads.

use super::sink::{Destination, Sink};
use std::io::{self, IsTerminal};
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable with the log filter.
pub const VARIABLE: &str = "PILLION_LOG";
/// The log filter where none is given.
pub const FILTER_DEFAULT: &str = "info";

/// How long the end of the process waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Neither a level nor a list of targets and levels.
    #[error(
        "`{filter}` from {source_name} is not a log filter: {reason}; \
         use a level (`info`) or targets and levels (`info,pillion::filter=debug`)"
    )]
    Filter {
        /// As given.
        filter: String,
        /// Where it was given.
        source_name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Standard error or the thread that writes to it.
    #[error("cannot start the log on standard error")]
    Start(#[source] io::Error),
    /// Something in this process logs already.
    #[error("the log is set up already")]
    Twice,
}

/// Keeps the log; dropping it writes the last lines, for at most a second.
#[derive(Debug)]
pub struct Logging {
    sink: Sink,
}

impl Logging {
    /// For the metrics of the log itself.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Waits until what was logged is written, for at most a second.
    pub fn flush(&self) {
        self.sink.flush(FLUSH_TIME);
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sends the events of the whole process to standard error, filtered by `option` (`--log`), else by
/// [`VARIABLE`], else by [`FILTER_DEFAULT`].
pub fn init(option: Option<&str>) -> Result<Logging, LogError> {
    let variable = std::env::var(VARIABLE).ok();
    let filter = parse_filter(option, variable.as_deref())?;
    let format = if io::stderr().is_terminal() { Format::Text } else { Format::Json };
    let sink = Sink::start("log", Destination::Stderr).map_err(LogError::Start)?;
    let subscriber = subscriber(filter, format, sink.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(Logging { sink })
}

fn parse_filter(option: Option<&str>, variable: Option<&str>) -> Result<EnvFilter, LogError> {
    let (filter, source_name) = match (option, variable) {
        (Some(option), _) => (option, "`--log`"),
        (None, Some(variable)) if !variable.trim().is_empty() => (variable, VARIABLE),
        (None, _) => (FILTER_DEFAULT, "the default"),
    };
    EnvFilter::builder().parse(filter).map_err(|error| LogError::Filter {
        filter: filter.to_owned(),
        source_name,
        reason: error.to_string(),
    })
}

fn subscriber(
    filter: EnvFilter,
    format: Format,
    sink: Sink,
) -> Box<dyn Subscriber + Send + Sync + 'static> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(SinkWriter(sink))
        .with_ansi(false);
    match format {
        Format::Text => Box::new(builder.compact().finish()),
        Format::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
    }
}

/// The formatter writes each event with one call.
#[derive(Clone)]
struct SinkWriter(Sink);

impl io::Write for SinkWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line, 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for SinkWriter {
    type Writer = SinkWriter;

    fn make_writer(&'a self) -> SinkWriter {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: Format, work: impl FnOnce()) -> String {
        let written = Written::default();
        let destination = Destination::Writer(Box::new(written.clone()));
        let sink = Sink::start("test", destination).unwrap();
        let filter = parse_filter(Some(filter), None).unwrap();
        tracing::subscriber::with_default(subscriber(filter, format, sink.clone()), work);
        assert!(sink.flush(Duration::from_secs(60)));
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_have_fields_and_message_at_the_top() {
        let text = logged("info", Format::Json, || {
            tracing::warn!(filter = "auth", "a \"line\"\nof two");
            tracing::debug!("too fine");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["filter"], "auth");
        assert_eq!(line["message"], "a \"line\"\nof two");
    }

    #[test]
    fn text_lines_are_filtered_by_target() {
        let text = logged("off,pillion::filter=debug", Format::Text, || {
            tracing::debug!(target: "pillion::filter", "shown");
            tracing::error!(target: "elsewhere", "hidden");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn the_option_goes_before_the_variable_before_the_default() {
        let of = |option, variable| parse_filter(option, variable).unwrap().to_string();
        assert_eq!(of(Some("warn"), Some("debug")), "warn");
        assert_eq!(of(None, Some("debug")), "debug");
        assert_eq!(of(None, Some(" ")), "info");
        assert_eq!(of(None, None), "info");
    }

    #[test]
    fn a_bad_filter_names_its_source_and_a_good_one() {
        let message = parse_filter(None, Some("pillion=loud")).unwrap_err().to_string();
        assert!(message.starts_with("`pillion=loud` from PILLION_LOG is not a log filter: "));
        assert!(message.ends_with("(`info,pillion::filter=debug`)"), "{message}");
    }
}
