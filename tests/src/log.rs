//! Lines that a process writes, kept while it runs: to wait for one, to count some, and to show the
//! last of them when a test fails.
//!
//! Knows that Pillion's own lines are flat JSON objects with `level` and `message`.

use crate::wait::within;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// The lines of one stream of one process.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    grown: watch::Receiver<usize>,
}

impl Log {
    /// Reads `source` to its end on a thread of its own.
    pub fn capture(source: impl Read + Send + 'static) -> Log {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (grow, grown) = watch::channel(0);
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut lines = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                lines.push(text);
                grow.send_replace(lines.len());
            }
        });
        Log { lines, grown }
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// The last `count` lines, joined.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lock();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Every line so far that is an event.
    pub fn events(&self) -> Vec<Event> {
        self.lock().iter().filter_map(|line| Event::parse(line)).collect()
    }

    /// Events so far whose message is `message`.
    pub fn messages(&self, message: &str) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.message() == message).collect()
    }

    /// The first event, past or to come, that `wanted` accepts.
    ///
    /// # Panics
    /// When none comes in time or the process ends before.
    pub async fn event(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let pick = |line: &str| Event::parse(line).filter(&wanted);
        self.first(what, pick).await
    }

    /// The first line, past or to come, that holds `text`.
    ///
    /// # Panics
    /// When none comes in time or the process ends before.
    pub async fn line(&self, text: &str) -> String {
        self.first(text, |line| line.contains(text).then(|| line.to_owned())).await
    }

    /// The process has closed the stream: nothing more will come.
    pub async fn ended(&self) {
        let mut grown = self.grown.clone();
        within("the end of the log", async { while grown.changed().await.is_ok() {} }).await;
    }

    async fn first<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let mut grown = self.grown.clone();
        let mut next = 0;
        let search = async {
            loop {
                let length = *grown.borrow_and_update();
                let fresh = self.lock()[next..length].to_vec();
                next = length;
                if let Some(found) = fresh.iter().find_map(|line| pick(line)) {
                    return Some(found);
                }
                if grown.changed().await.is_err() && self.lock().len() == next {
                    return None;
                }
            }
        };
        match tokio::time::timeout(crate::wait::PATIENCE, search).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the log ended without {what}:\n{}", self.tail(30)),
            Err(_) => panic!("waited in vain for {what} in the log:\n{}", self.tail(30)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One structured line.
#[derive(Clone, Debug)]
pub struct Event(Value);

impl Event {
    fn parse(line: &str) -> Option<Event> {
        serde_json::from_str(line).ok().filter(Value::is_object).map(Event)
    }

    /// Its sentence; empty where it has none.
    pub fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }

    /// `ERROR`, `WARN`, ...
    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// A field as text, whatever its type; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The line as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }
}
