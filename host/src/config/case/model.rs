//! A case file as the runner uses it: every default filled in, every value within its range.
//!
//! Plain data. What is expected carries the bytes of the file it was read from, so that a failed
//! expectation is shown, and rewritten, where it stands.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Method;
use regex_lite::Regex;
use serde_json::Value;

use crate::config::limits::FilterLimits;
use crate::config::model::{FailPolicy, Grants, Isolation};
use crate::config::problems::Span;

/// Something expected, with its place in the file.
#[derive(Clone, Debug)]
pub struct Wanted<T> {
    /// What is expected.
    pub value: T,
    /// Where the value stands.
    pub span: Span,
}

/// `[[case]]`
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique in the file.
    pub name: String,
    /// The case's header.
    pub span: Span,
    /// The filter as it is loaded for this case.
    pub setup: Setup,
    /// What the random bytes follow from.
    pub seed: u64,
    /// Where the clocks stand at its beginning.
    pub now: SystemTime,
    /// What its dearest exchange may use.
    pub budget: Budget,
    /// What it does; empty where `load_error` is expected.
    pub steps: Vec<Step>,
    /// The filter must not load.
    pub load_error: Option<LoadErrorWanted>,
}

/// How a filter is loaded.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its `config` table.
    pub config: Value,
    /// Path of that table in the file, or of what stands nearest to where it would be.
    pub config_path: String,
    /// Path of the `grants` table, likewise.
    pub grants_path: String,
    /// What it may import.
    pub grants: Grants,
    /// Bounds on its calls.
    pub limits: FilterLimits,
    /// What a failure does to the exchange.
    pub fail_policy: FailPolicy,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// The least important log lines that are written.
    pub log_level: LogLevel,
}

/// Levels of log lines, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
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

impl LogLevel {
    /// Every level.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// The word in a case file.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// What an exchange may use.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// Processor time of the hook calls.
    pub time: Option<Wanted<Duration>>,
    /// Memory of an instance, in bytes.
    pub memory: Option<Wanted<u64>>,
    /// Calls of functions of the host.
    pub host_calls: Option<Wanted<u64>>,
}

/// `[[case.step]]`, or the case itself where it has none.
#[derive(Clone, Debug)]
pub struct Step {
    /// How far the clocks move before it.
    pub advance: Duration,
    /// How often the request is sent.
    pub repeat: u64,
    /// The request.
    pub request: Request,
    /// What the upstream answers.
    pub upstream: Answer,
    /// What has to come of the last time.
    pub expect: Expect,
}

/// A body with the pieces it comes in, and the trailers after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// In order; none: there is no body.
    pub chunks: Option<Vec<Vec<u8>>>,
    /// Names in lower case, and values. Only where there is a body.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Payload {
    /// All of its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.chunks.as_deref().unwrap_or_default().concat()
    }
}

/// `request`
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// `https`?
    pub secure: bool,
    /// Host and port.
    pub authority: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The connection's peer.
    pub client: IpAddr,
    /// The listener that takes it.
    pub listener: String,
    /// Names in lower case, and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What follows the head.
    pub payload: Payload,
    /// Notes that earlier filters left.
    pub notes: Vec<(String, String)>,
}

/// `upstream`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case, and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What follows the head.
    pub payload: Payload,
    /// How far the clocks move until its head is there.
    pub delay: Duration,
}

impl Default for Answer {
    fn default() -> Self {
        let (headers, payload, delay) = Default::default();
        Answer { status: 200, headers, payload, delay }
    }
}

/// `expect`: what is not named is not looked at, but for failures and broken-off responses.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Where it stands; where the step stands if it does not.
    pub span: Span,
    /// Status that the client gets.
    pub status: Option<Wanted<u16>>,
    /// Fields that the client gets.
    pub headers: FieldsWanted,
    /// Body that the client gets.
    pub body: Option<Wanted<BodyWanted>>,
    /// Trailers that the client gets.
    pub trailers: FieldsWanted,
    /// Is the response whole?
    pub complete: Option<Wanted<bool>>,
    /// What the upstream gets.
    pub forwarded: Option<Wanted<ForwardedWanted>>,
    /// Every log line.
    pub log: Option<Wanted<Vec<Wanted<LogWanted>>>>,
    /// Notes at the end of the exchange.
    pub notes: Vec<Wanted<NoteWanted>>,
    /// Metrics after the exchange.
    pub metrics: Vec<Wanted<MetricWanted>>,
    /// Every failure of the filter.
    pub failure: Option<Wanted<Vec<FailureWanted>>>,
}

/// Fields by their names, in file order.
pub type FieldsWanted = Vec<(String, Wanted<FieldWanted>)>;

/// What is expected of the lines of one field.
#[derive(Clone, Debug)]
pub enum FieldWanted {
    /// There are none.
    Absent,
    /// There is one or more.
    Present,
    /// Exactly these.
    Lines(Vec<Vec<u8>>),
    /// So many, and one that is like this.
    Like {
        /// How many lines there are; none: any number but none at all.
        count: Option<u64>,
        /// What one of them is like.
        text: TextWanted,
    },
}

/// What is expected of a text; all of it has to hold.
#[derive(Clone, Debug, Default)]
pub struct TextWanted {
    /// Exactly this.
    pub is: Option<String>,
    /// With these in it.
    pub contains: Vec<String>,
    /// Without these in it.
    pub lacks: Vec<String>,
    /// Found by this.
    pub matches: Option<Regex>,
}

/// What is expected of a body.
#[derive(Clone, Debug)]
pub enum BodyWanted {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// Exactly these bytes, which stand in a file of their own.
    File(Vec<u8>),
    /// Like this, as text.
    Like(TextWanted),
    /// This value, as JSON.
    Json(Value),
    /// So many bytes.
    Length(u64),
}

/// What the upstream gets.
#[derive(Clone, Debug)]
pub enum ForwardedWanted {
    /// No whole request.
    Nothing,
    /// A whole request, of which this is looked at.
    Request(Box<RequestWanted>),
}

/// What is expected of a request as it was forwarded.
#[derive(Clone, Debug, Default)]
pub struct RequestWanted {
    /// Its method.
    pub method: Option<Wanted<String>>,
    /// Its path and query.
    pub path: Option<Wanted<String>>,
    /// Its scheme.
    pub scheme: Option<Wanted<String>>,
    /// Its authority.
    pub authority: Option<Wanted<String>>,
    /// Its fields.
    pub headers: FieldsWanted,
    /// Its body.
    pub body: Option<Wanted<BodyWanted>>,
    /// Its trailers.
    pub trailers: FieldsWanted,
}

/// A log line.
#[derive(Clone, Debug)]
pub struct LogWanted {
    /// Its level; none: any.
    pub level: Option<LogLevel>,
    /// Its text.
    pub text: TextWanted,
}

/// A note.
#[derive(Clone, Debug)]
pub struct NoteWanted {
    /// Its key.
    pub key: String,
    /// Its text; none: there is no such note.
    pub text: Option<TextWanted>,
}

/// A metric, summed over the series that have these labels.
#[derive(Clone, Debug)]
pub struct MetricWanted {
    /// As the filter defined it.
    pub name: String,
    /// Names and values of labels.
    pub labels: Vec<(String, String)>,
    /// Sum of a counter or histogram, value of a gauge; none: there is no such series.
    pub value: Option<f64>,
    /// Observations of a histogram.
    pub count: Option<u64>,
}

/// A failure of the filter.
#[derive(Clone, Debug)]
pub struct FailureWanted {
    /// The word of metrics and logs: `trap`, `deadline`, ...
    pub kind: &'static str,
    /// The hook that failed; none: any.
    pub hook: Option<String>,
    /// What the log says of it.
    pub message: TextWanted,
}

/// A filter that does not load.
#[derive(Clone, Debug)]
pub struct LoadErrorWanted {
    /// Where it stands.
    pub span: Span,
    /// The key of `config` that `configure` named.
    pub key: Option<Wanted<String>>,
    /// The message.
    pub message: Option<Wanted<TextWanted>>,
    /// The line of the file that the message points at.
    pub line: Option<Wanted<u64>>,
}
