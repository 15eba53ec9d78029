//! What the chain asks of a filter, and what a filter may answer.

use super::exchange::Exchange;
use crate::http::{Name, ResponseHead};
use bytes::Bytes;
use std::time::Duration;

/// A hook of the contract (`wit/`), in the order of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hook {
    /// Once per instance, before the others.
    Configure,
    /// Once per instance, between `configure` and the others.
    WantedHooks,
    /// Once per version, of an instance that does nothing else.
    StateVersion,
    /// Where a version takes over the state of an older form, on an instance that then is dropped.
    Migrate,
    /// Request head complete.
    OnRequest,
    /// A chunk of the request body.
    OnRequestBody,
    /// Request trailers present.
    OnRequestTrailers,
    /// Response head complete.
    OnResponse,
    /// A chunk of the response body.
    OnResponseBody,
    /// Response trailers present.
    OnResponseTrailers,
    /// The exchange is over.
    OnComplete,
}

impl Hook {
    /// Every hook, in the order of an exchange.
    pub const ALL: [Hook; 11] = [
        Hook::Configure,
        Hook::WantedHooks,
        Hook::StateVersion,
        Hook::Migrate,
        Hook::OnRequest,
        Hook::OnRequestBody,
        Hook::OnRequestTrailers,
        Hook::OnResponse,
        Hook::OnResponseBody,
        Hook::OnResponseTrailers,
        Hook::OnComplete,
    ];

    /// The name in the contract, as logs and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Configure => "configure",
            Hook::WantedHooks => "wanted-hooks",
            Hook::StateVersion => "state-version",
            Hook::Migrate => "migrate",
            Hook::OnRequest => "on-request",
            Hook::OnRequestBody => "on-request-body",
            Hook::OnRequestTrailers => "on-request-trailers",
            Hook::OnResponse => "on-response",
            Hook::OnResponseBody => "on-response-body",
            Hook::OnResponseTrailers => "on-response-trailers",
            Hook::OnComplete => "on-complete",
        }
    }

    /// The interface of the contract that has it.
    pub fn interface(self) -> &'static str {
        match self {
            Hook::StateVersion | Hook::Migrate => "state",
            _ => self.name(),
        }
    }

    /// Is it called in exchanges, and not before the first of them?
    pub fn is_of_exchange(self) -> bool {
        match self {
            Hook::Configure | Hook::WantedHooks | Hook::StateVersion | Hook::Migrate => false,
            Hook::OnRequest
            | Hook::OnRequestBody
            | Hook::OnRequestTrailers
            | Hook::OnResponse
            | Hook::OnResponseBody
            | Hook::OnResponseTrailers
            | Hook::OnComplete => true,
        }
    }
}

/// Hooks of a filter. A hook that is absent is never called and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u16);

impl Hooks {
    /// These and `hook`.
    pub fn with(self, hook: Hook) -> Self {
        Hooks(self.0 | 1 << hook as u8)
    }

    /// Is `hook` among them?
    pub fn has(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }

    /// Those of either.
    pub fn union(self, other: Hooks) -> Self {
        Hooks(self.0 | other.0)
    }

    /// Those of both.
    pub fn intersection(self, other: Hooks) -> Self {
        Hooks(self.0 & other.0)
    }

    /// None at all?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Hook> for Hooks {
    fn from_iter<I: IntoIterator<Item = Hook>>(hooks: I) -> Self {
        hooks.into_iter().fold(Hooks::default(), Hooks::with)
    }
}

/// A response made by a filter, already checked by the host: the status is final and the fields are
/// allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalResponse {
    /// 200 to 599.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most `local_reply` bytes.
    pub body: Vec<u8>,
}

impl LocalResponse {
    /// Puts it in place of what stands in `head`, and gives its body.
    pub fn put_into(self, head: &mut ResponseHead) -> Bytes {
        head.clear();
        head.status = self.status;
        for (name, value) in &self.headers {
            // The filter runtime has checked the names.
            if let Ok(name) = Name::parse(name.as_bytes()) {
                head.fields.append(name, value);
            }
        }
        self.body.into()
    }
}

/// Answer of a head hook; the meaning of each case stands in `wit/v0.1.0/types.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadDecision {
    /// Go on.
    Proceed,
    /// Go on without this filter's body hook for this message.
    SkipBody,
    /// Go on and keep the head back until the body hook releases it.
    WaitForBody,
    /// End the pass with this response; boxed, as nearly no decision is one.
    Respond(Box<LocalResponse>),
}

/// Answer of a body hook; the meaning of each case stands in `wit/v0.1.0/types.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyDecision {
    /// Forward what is held, then the chunk.
    Pass,
    /// Forward this in place of both.
    Replace(Vec<u8>),
    /// Keep the chunk.
    Hold,
    /// Answer so.
    Respond(LocalResponse),
}

/// What an exchange came to, for `on-complete`, the access log and the metrics.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Status sent downstream; none if the client left before one was.
    pub status: Option<u16>,
    /// The whole response reached the transport.
    pub complete: bool,
    /// What went wrong, in the words of RFC 9209 section 2.3.
    pub error: Option<&'static str>,
    /// Bytes of request body received.
    pub request_bytes: u64,
    /// Bytes of response body sent.
    pub response_bytes: u64,
    /// From the complete request head to the last byte.
    pub duration: Duration,
    /// From the complete request head to the upstream's response head.
    pub upstream: Option<Duration>,
}

/// What a filter that failed does to its exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailPolicy {
    /// The exchange is answered with 500 (or broken off, if an answer is on its way).
    #[default]
    Closed,
    /// The exchange goes on as if the filter were not in the chain. Counted and logged.
    Open,
}

/// Why a hook did not give an answer. The filter has written its log line already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For metrics and policy.
    pub kind: FailureKind,
    /// For the log; never for the client.
    pub message: String,
}

/// The reasons of a [`Failure`], as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureKind {
    /// The guest trapped: a panic, an abort, an access out of bounds.
    Trap,
    /// The hook or the exchange used up its time.
    Deadline,
    /// The guest asked for more memory, tables or instances than its limit.
    Memory,
    /// The guest answered something the contract does not allow.
    InvalidOutput,
    /// More was held than the `body` limit.
    BodyLimit,
    /// No instance: quarantined, being made anew, or the filter could not be instantiated.
    Unavailable,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 6] = [
        FailureKind::Trap,
        FailureKind::Deadline,
        FailureKind::Memory,
        FailureKind::InvalidOutput,
        FailureKind::BodyLimit,
        FailureKind::Unavailable,
    ];

    /// The label value in metrics and the word in logs.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Trap => "trap",
            FailureKind::Deadline => "deadline",
            FailureKind::Memory => "memory",
            FailureKind::InvalidOutput => "invalid_output",
            FailureKind::BodyLimit => "body_limit",
            FailureKind::Unavailable => "unavailable",
        }
    }
}

/// One filter of a chain on one worker. A hook runs to its end on the calling thread and is bounded
/// by the filter's own deadline; calls never nest.
///
/// The exchange is boxed so that an implementation can take it into its own keeping for the length
/// of a call and give it back, by exchanging two pointers. It is given back in every case.
pub trait Filter {
    /// The name in the configuration.
    fn name(&self) -> &str;
    /// The hooks that are to be called, always the same.
    fn hooks(&self) -> Hooks;
    /// What a failure does to the exchange.
    fn fail_policy(&self) -> FailPolicy;
    /// Bytes a body hook may hold, and the most that a `replace` may hold.
    fn body_bytes_max(&self) -> usize;
    /// Logs and counts that a body hook would hold more than that, and gives the failure.
    fn body_overflow(&self) -> Failure;

    /// The request head is complete.
    fn on_request(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure>;
    /// A chunk of the request body; `held` is what this filter holds of it.
    fn on_request_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure>;
    /// `exchange.trailers` holds the request's.
    fn on_request_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure>;
    /// The response head is complete.
    fn on_response(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure>;
    /// A chunk of the response body; `held` is what this filter holds of it.
    fn on_response_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure>;
    /// `exchange.trailers` holds the response's.
    fn on_response_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure>;
    /// The exchange is over.
    fn on_complete(&self, exchange: &mut Box<Exchange>, outcome: &Outcome) -> Result<(), Failure>;
}
