//! The access log: one JSON object a line for every exchange, as `host/ACCESS_LOG.md` describes.
//!
//! A worker formats into a buffer of its own and hands batches to the writer thread ([`Sink`]), so
//! that an exchange costs no system call and never waits for the log.

use super::json;
use super::sink::{Destination, Sink};
use crate::chain::{Exchange, Outcome};
use crate::http::PeerIdentity;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// Bytes a worker collects before it hands them over.
pub const BATCH_BYTES: usize = 32 * 1024;
/// How long a line waits in a worker's buffer at most.
pub const BATCH_TIME: Duration = Duration::from_millis(200);
/// Bytes of a text field; the rest is cut off.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;
/// A note whose key begins with this is a field of the line, named by the rest of the key.
pub const NOTE_PREFIX: &str = "access_log.";

/// The fields every line has, in their order.
pub const FIELDS: [&str; 20] = [
    "time",
    "listener",
    "route",
    "client",
    "peer",
    "method",
    "authority",
    "path",
    "protocol",
    "status",
    "complete",
    "error",
    "request_bytes",
    "response_bytes",
    "duration_ms",
    "upstream_ms",
    "upstream",
    "endpoint",
    "endpoint_peer",
    "generation",
];

/// The access log of the process.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sink: Sink,
}

/// What a line says beside its exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served<'a> {
    /// Name of the upstream; none where none was asked.
    pub upstream: Option<&'a str>,
    /// The endpoint that was asked last.
    pub endpoint: Option<&'a str>,
    /// Who has proved to be there; none without TLS.
    pub endpoint_peer: Option<&'a str>,
    /// The generation that served the exchange.
    pub generation: u64,
}

impl AccessLog {
    /// Opens the destination.
    pub fn open(destination: Destination) -> io::Result<AccessLog> {
        Ok(AccessLog { sink: Sink::start("access-log", destination)? })
    }

    /// The buffer of one worker.
    pub fn worker(&self) -> WorkerLog {
        WorkerLog {
            sink: self.sink.clone(),
            buffer: RefCell::new(Vec::with_capacity(BATCH_BYTES)),
            lines: Cell::new(0),
            first: Notify::new(),
        }
    }

    /// Opens the file anew, as after a log rotation.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Waits until what the workers handed over is written. `false`: it took longer.
    pub fn flush(&self, within: Duration) -> bool {
        self.sink.flush(within)
    }

    /// For the metrics of the log itself.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }
}

/// The access log of one worker. Dropping it hands over what it holds.
#[derive(Debug)]
pub struct WorkerLog {
    sink: Sink,
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    /// The buffer has got its first line.
    first: Notify,
}

impl WorkerLog {
    /// Writes the line of an exchange that is over; call it at its end, since the time on the line
    /// is that of the call less the duration.
    pub fn record(&self, exchange: &Exchange, outcome: &Outcome, served: Served<'_>) {
        let time =
            SystemTime::now().checked_sub(outcome.duration).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut buffer = self.buffer.borrow_mut();
        // Writing into memory does not fail.
        let _ = write_line(&mut buffer, time, exchange, outcome, served);
        self.lines.set(self.lines.get() + 1);
        let is_full = buffer.len() >= BATCH_BYTES;
        drop(buffer);
        if is_full {
            self.flush();
        } else if self.lines.get() == 1 {
            self.first.notify_one();
        }
    }

    /// Hands over what was collected.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        let lines = self.lines.take();
        if lines > 0 {
            self.sink.push(&buffer, lines);
        }
        buffer.clear();
        buffer.shrink_to(2 * BATCH_BYTES);
    }

    /// Hands over lines that have waited for [`BATCH_TIME`]; runs as a task of the worker for as
    /// long as it lives, and sleeps while there are none.
    ///
    /// # Cancel safety
    ///
    /// Lines stay in the buffer; dropping the log hands them over.
    pub async fn flush_in_time(&self) {
        loop {
            self.first.notified().await;
            tokio::time::sleep(BATCH_TIME).await;
            self.flush();
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_line(
    line: &mut Vec<u8>,
    time: SystemTime,
    exchange: &Exchange,
    outcome: &Outcome,
    served: Served<'_>,
) -> io::Result<()> {
    let request = &exchange.request;
    line.extend_from_slice(b"{\"time\":\"");
    json::push_time(line, time);
    line.push(b'"');
    text(line, "listener", &exchange.listener);
    text(line, "route", &exchange.route);
    client(line, exchange.client)?;
    optional(line, "peer", exchange.peer.as_deref().map(PeerIdentity::name));
    text(line, "method", request.method.as_str());
    text(line, "authority", &request.authority);
    text(line, "path", &request.target);
    text(line, "protocol", request.protocol.name());
    match outcome.status {
        Some(status) => write!(line, ",\"status\":{status}")?,
        None => line.extend_from_slice(b",\"status\":null"),
    }
    write!(line, ",\"complete\":{}", outcome.complete)?;
    optional(line, "error", outcome.error);
    write!(line, ",\"request_bytes\":{}", outcome.request_bytes)?;
    write!(line, ",\"response_bytes\":{}", outcome.response_bytes)?;
    milliseconds(line, "duration_ms", Some(outcome.duration))?;
    milliseconds(line, "upstream_ms", outcome.upstream)?;
    optional(line, "upstream", served.upstream);
    optional(line, "endpoint", served.endpoint);
    optional(line, "endpoint_peer", served.endpoint_peer);
    write!(line, ",\"generation\":{}", served.generation)?;
    for (key, value) in exchange.notes() {
        if let Some(name) = key.strip_prefix(NOTE_PREFIX)
            && !FIELDS.contains(&name)
        {
            text(line, name, value);
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

fn text(line: &mut Vec<u8>, name: &str, value: &str) {
    line.push(b',');
    json::push_string(line, name.as_bytes());
    line.push(b':');
    json::push_string(line, &value.as_bytes()[..value.floor_char_boundary(FIELD_BYTES_MAX)]);
}

fn optional(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    match value {
        Some(value) => text(line, name, value),
        None => {
            line.push(b',');
            json::push_string(line, name.as_bytes());
            line.extend_from_slice(b":null");
        }
    }
}

fn client(line: &mut Vec<u8>, address: IpAddr) -> io::Result<()> {
    write!(line, ",\"client\":\"{address}\"")
}

/// To the microsecond.
fn milliseconds(line: &mut Vec<u8>, name: &str, time: Option<Duration>) -> io::Result<()> {
    match time {
        Some(time) => {
            let microseconds = time.as_micros();
            write!(line, ",\"{name}\":{}.{:03}", microseconds / 1_000, microseconds % 1_000)
        }
        None => write!(line, ",\"{name}\":null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Phase;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    const LONG: Duration = Duration::from_secs(60);

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    fn open() -> (AccessLog, Written) {
        let written = Written::default();
        let destination = Destination::Writer(Box::new(written.clone()));
        (AccessLog::open(destination).unwrap(), written)
    }

    fn exchange(target: &str) -> Exchange {
        let mut exchange = Exchange::default();
        exchange.phase = Phase::Complete;
        exchange.listener = "inbound".into();
        exchange.route = "inbound/0".into();
        exchange.client = "2001:db8::1".parse().unwrap();
        exchange.request.authority = "example.com".into();
        exchange.request.target = target.into();
        exchange
    }

    fn outcome() -> Outcome {
        Outcome {
            status: Some(200),
            complete: true,
            error: None,
            request_bytes: 5,
            response_bytes: u64::MAX,
            duration: Duration::from_micros(12_034),
            upstream: Some(Duration::from_nanos(999)),
        }
    }

    fn one_line(exchange: Exchange, outcome: &Outcome, served: Served<'_>) -> Value {
        let (log, written) = open();
        log.worker().record(&exchange, outcome, served);
        assert!(log.flush(LONG));
        let [line] = &written.lines()[..] else { panic!("one line") };
        line.clone()
    }

    #[test]
    fn a_line_has_every_field_in_order() {
        let (log, written) = open();
        let served = Served {
            upstream: Some("app"),
            endpoint: Some("127.0.0.1:3000"),
            endpoint_peer: Some("spiffe://example.test/sa/app"),
            generation: 7,
        };
        log.worker().record(&exchange("/a?b=c"), &outcome(), served);
        assert!(log.flush(LONG));
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let rest = text.split_once(r#"Z","#).unwrap().1;
        let expected = concat!(
            r#""listener":"inbound","route":"inbound/0","client":"2001:db8::1","peer":null,"#,
            r#""method":"GET","authority":"example.com","path":"/a?b=c","protocol":"HTTP/1.1","#,
            r#""status":200,"complete":true,"error":null,"request_bytes":5,"#,
            r#""response_bytes":18446744073709551615,"duration_ms":12.034,"upstream_ms":0.000,"#,
            r#""upstream":"app","endpoint":"127.0.0.1:3000","#,
            r#""endpoint_peer":"spiffe://example.test/sa/app","generation":7}"#,
            "\n"
        );
        assert_eq!(rest, expected);
        let mut from = 0;
        for field in FIELDS {
            from +=
                text[from..].find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field}"));
        }
    }

    #[test]
    fn the_time_is_that_of_the_complete_request_head() {
        let text = |time| {
            let mut text = Vec::new();
            json::push_time(&mut text, time);
            String::from_utf8(text).unwrap()
        };
        let duration = Duration::from_secs(100 * 86_400);
        let before = text(SystemTime::now() - duration);
        let outcome = Outcome { duration, ..outcome() };
        let line = one_line(exchange("/"), &outcome, Served::default());
        let after = text(SystemTime::now() - duration);
        let time = line["time"].as_str().unwrap();
        assert!(*before <= *time && *time <= *after, "{before} {time} {after}");
    }

    #[test]
    fn the_schema_is_documented() {
        let document = include_str!("../../ACCESS_LOG.md");
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<&str> = rows.map(|row| row.split_once('`').unwrap().0).collect();
        assert_eq!(documented, FIELDS);
    }

    #[test]
    fn an_exchange_without_answer_has_nulls() {
        let outcome = Outcome { error: Some("connection_terminated"), ..Outcome::default() };
        let line = one_line(exchange("/"), &outcome, Served::default());
        assert_eq!(line["status"], Value::Null);
        assert_eq!(line["upstream_ms"], Value::Null);
        assert_eq!(line["endpoint"], Value::Null);
        assert_eq!(line["complete"], false);
        assert_eq!(line["error"], "connection_terminated");
    }

    #[test]
    fn notes_for_the_log_are_fields_unless_they_are_named_like_one() {
        let mut exchange = exchange("/");
        exchange.set_note("access_log.trace_id", "4bf9\"\n").unwrap();
        exchange.set_note("access_log.status", "999").unwrap();
        exchange.set_note("trace.id", "hidden").unwrap();
        let line = one_line(exchange, &outcome(), Served::default());
        assert_eq!(line["trace_id"], "4bf9\"\n");
        assert_eq!(line["status"], 200);
        assert_eq!(line.as_object().unwrap().len(), FIELDS.len() + 1);
    }

    #[test]
    fn hostile_text_stays_within_its_string() {
        let target = "/\"},{\"status\":1}\\\u{0}\u{1b}\u{7f}\u{2028}ä";
        let line = one_line(exchange(target), &outcome(), Served::default());
        assert_eq!(line["path"], target);
    }

    #[test]
    fn a_field_is_cut_at_its_limit() {
        for length in [FIELD_BYTES_MAX - 1, FIELD_BYTES_MAX, FIELD_BYTES_MAX + 1] {
            let line = one_line(exchange(&"x".repeat(length)), &outcome(), Served::default());
            assert_eq!(line["path"].as_str().unwrap().len(), length.min(FIELD_BYTES_MAX));
        }
    }

    #[test]
    fn a_full_buffer_is_handed_over_at_once() {
        let (log, written) = open();
        let worker = log.worker();
        let exchange = exchange(&"x".repeat(4 * 1024));
        for _ in 0..7 {
            worker.record(&exchange, &outcome(), Served::default());
        }
        assert!(log.flush(LONG));
        assert_eq!(written.lines().len(), 0);
        worker.record(&exchange, &outcome(), Served::default());
        assert!(log.flush(LONG));
        assert_eq!(written.lines().len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_waits_no_longer_than_the_batch_time() {
        let (log, written) = open();
        let worker = log.worker();
        let flushing = worker.flush_in_time();
        tokio::pin!(flushing);
        worker.record(&exchange("/"), &outcome(), Served::default());
        let just_before = BATCH_TIME - Duration::from_millis(1);
        assert!(tokio::time::timeout(just_before, &mut flushing).await.is_err());
        assert_eq!(worker.lines.get(), 1);
        let after = Duration::from_millis(2);
        assert!(tokio::time::timeout(after, &mut flushing).await.is_err());
        assert_eq!(worker.lines.get(), 0);
        assert!(log.flush(LONG));
        assert_eq!(written.lines().len(), 1);
    }
}
