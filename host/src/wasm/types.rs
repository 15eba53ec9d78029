//! The types of the contract as wasmtime moves them over the boundary; `wit/v0.1.0` has their meaning.
//!
//! Kept apart from the chain's own types, so that the chain knows no wasm: each converts at the edge.

use crate::capability::{kv, metrics};
use crate::chain::{self, Hook, Hooks};
use wasmtime::component::{ComponentType, Lift, Lower};

/// `types.field`.
#[derive(ComponentType, Lift, Lower, Debug)]
#[component(record)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

/// `types.edit-error`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(variant)]
pub(super) enum EditError {
    #[component(name = "invalid-name")]
    InvalidName,
    #[component(name = "invalid-value")]
    InvalidValue,
    #[component(name = "host-owned")]
    HostOwned,
    #[component(name = "limit-exceeded")]
    LimitExceeded,
    #[component(name = "wrong-phase")]
    WrongPhase,
}

impl From<chain::EditError> for EditError {
    fn from(error: chain::EditError) -> Self {
        match error {
            chain::EditError::InvalidName => EditError::InvalidName,
            chain::EditError::InvalidValue => EditError::InvalidValue,
            chain::EditError::HostOwned => EditError::HostOwned,
            chain::EditError::LimitExceeded => EditError::LimitExceeded,
            chain::EditError::WrongPhase => EditError::WrongPhase,
        }
    }
}

/// `notes.note-error`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
pub(super) enum NoteError {
    #[component(name = "limit-exceeded")]
    LimitExceeded,
    #[component(name = "wrong-phase")]
    WrongPhase,
}

impl From<chain::NoteError> for NoteError {
    fn from(error: chain::NoteError) -> Self {
        match error {
            chain::NoteError::LimitExceeded => NoteError::LimitExceeded,
            chain::NoteError::WrongPhase => NoteError::WrongPhase,
        }
    }
}

/// `types.local-response`.
#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct LocalResponse {
    pub(super) status: u16,
    pub(super) headers: Vec<Field>,
    pub(super) body: Vec<u8>,
}

/// `types.head-decision`.
#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub(super) enum HeadDecision {
    #[component(name = "proceed")]
    Proceed,
    #[component(name = "skip-body")]
    SkipBody,
    #[component(name = "wait-for-body")]
    WaitForBody,
    #[component(name = "respond")]
    Respond(LocalResponse),
}

/// The same, small enough for registers: nearly no decision is a response.
#[derive(Debug)]
pub(super) enum Head {
    Proceed,
    SkipBody,
    WaitForBody,
    Respond(Box<LocalResponse>),
}

impl From<HeadDecision> for Head {
    fn from(decision: HeadDecision) -> Self {
        match decision {
            HeadDecision::Proceed => Head::Proceed,
            HeadDecision::SkipBody => Head::SkipBody,
            HeadDecision::WaitForBody => Head::WaitForBody,
            HeadDecision::Respond(response) => Head::Respond(Box::new(response)),
        }
    }
}

/// `types.body-decision`.
#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub(super) enum BodyDecision {
    #[component(name = "pass")]
    Pass,
    #[component(name = "replace")]
    Replace(Vec<u8>),
    #[component(name = "hold")]
    Hold,
    #[component(name = "respond")]
    Respond(LocalResponse),
}

wasmtime::component::flags! {
    HookSet {
        #[component(name = "on-request")]
        const ON_REQUEST;
        #[component(name = "on-request-body")]
        const ON_REQUEST_BODY;
        #[component(name = "on-request-trailers")]
        const ON_REQUEST_TRAILERS;
        #[component(name = "on-response")]
        const ON_RESPONSE;
        #[component(name = "on-response-body")]
        const ON_RESPONSE_BODY;
        #[component(name = "on-response-trailers")]
        const ON_RESPONSE_TRAILERS;
        #[component(name = "on-complete")]
        const ON_COMPLETE;
    }
}

/// The hooks of a `wanted-hooks.hook-set`: each has a bit, in the order of an exchange. Bits beyond
/// them mean nothing, as the canonical ABI wants it.
pub(super) fn wanted_hooks(bits: u32) -> Hooks {
    let hooks = Hook::ALL.into_iter().filter(|hook| hook.is_of_exchange());
    hooks.enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, hook)| hook).collect()
}

/// `configure.config-error`.
#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct ConfigError {
    pub(super) key: String,
    pub(super) message: String,
}

/// `on-complete.outcome`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(super) struct Outcome {
    status: Option<u16>,
    complete: bool,
    error: Option<&'static str>,
    #[component(name = "request-bytes")]
    request_bytes: u64,
    #[component(name = "response-bytes")]
    response_bytes: u64,
    #[component(name = "duration-ns")]
    duration_ns: u64,
    #[component(name = "upstream-ns")]
    upstream_ns: Option<u64>,
}

impl From<&chain::Outcome> for Outcome {
    fn from(outcome: &chain::Outcome) -> Self {
        let nanoseconds =
            |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Outcome {
            status: outcome.status,
            complete: outcome.complete,
            error: outcome.error,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            duration_ns: nanoseconds(outcome.duration),
            upstream_ns: outcome.upstream.map(nanoseconds),
        }
    }
}

/// `log.level`.
#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values are lifted from the guest's memory")]
pub(super) enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
}

/// `clock.instant`, and `datetime` of `wasi:clocks/wall-clock`, which has the same shape.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(super) struct Timestamp {
    pub(super) seconds: u64,
    pub(super) nanoseconds: u32,
}

/// `metrics.kind`.
#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values are lifted from the guest's memory")]
pub(super) enum MetricKind {
    #[component(name = "counter")]
    Counter,
    #[component(name = "gauge")]
    Gauge,
    #[component(name = "histogram")]
    Histogram,
}

/// `metrics.metric-error`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
pub(super) enum MetricError {
    #[component(name = "invalid-name")]
    InvalidName,
    #[component(name = "limit-exceeded")]
    LimitExceeded,
    #[component(name = "conflict")]
    Conflict,
    #[component(name = "invalid-value")]
    InvalidValue,
}

impl From<metrics::MetricError> for MetricError {
    fn from(error: metrics::MetricError) -> Self {
        match error {
            metrics::MetricError::InvalidName => MetricError::InvalidName,
            metrics::MetricError::LimitExceeded => MetricError::LimitExceeded,
            metrics::MetricError::Conflict => MetricError::Conflict,
            metrics::MetricError::InvalidValue => MetricError::InvalidValue,
        }
    }
}

/// `kv.kv-error`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
pub(super) enum KvError {
    #[component(name = "full")]
    Full,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "not-a-number")]
    NotANumber,
}

impl From<kv::KvError> for KvError {
    fn from(error: kv::KvError) -> Self {
        match error {
            kv::KvError::Full => KvError::Full,
            kv::KvError::TooLarge => KvError::TooLarge,
            kv::KvError::NotANumber => KvError::NotANumber,
        }
    }
}

/// `rate-limit.policy`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(super) struct Policy {
    pub(super) requests: u64,
    #[component(name = "per-ms")]
    pub(super) per_ms: u64,
    pub(super) burst: u64,
}

/// `rate-limit.taken`.
#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(record)]
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) remaining: u64,
    #[component(name = "retry-after-ms")]
    pub(super) retry_after_ms: u64,
    #[component(name = "full-after-ms")]
    pub(super) full_after_ms: u64,
}
