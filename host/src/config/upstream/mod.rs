//! How an upstream's endpoints are chosen and guarded, and when requests are repeated: the model of
//! the keys `balance`, `outlier`, `retry` and `health` of `[upstream.NAME]`, and what makes it of the
//! file (`read`, `keys`) and a file of it (`dump`).
//!
//! Who acts on it is not known here.

mod dump;
pub(super) mod keys;
pub(super) mod read;

use super::limits::{Backoff, Outlier, RetryBudget};
use http::HeaderName;
use std::time::Duration;

pub(super) use dump::dump;

/// How the endpoints of an upstream are chosen and guarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which endpoint is next.
    pub balance: Balance,
    /// For so long an endpoint that has come or come back gets less than its share; zero: it does
    /// not.
    pub slow_start: Duration,
    /// When an endpoint is left out because of its answers; none: never.
    pub outlier: Option<Outlier>,
    /// When a request is repeated; none: only when a kept connection was closed under it.
    pub retry: Option<Retry>,
    /// How endpoints are asked whether they are well; none: they are not.
    pub health: Option<Health>,
}

/// Which endpoint is next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in its turn.
    #[default]
    RoundRobin,
    /// The one with fewer requests outstanding of two that are drawn.
    LeastRequest,
    /// The one of two that are drawn that is expected to answer sooner.
    PeakEwma,
    /// By a hash: the same key meets the same endpoint.
    Maglev(HashKey),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The address of the client.
    Client,
    /// The first value of this field; without one, the address of the client.
    Header(HeaderName),
}

/// `[upstream.NAME.retry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After what a request is repeated. At least one.
    pub on: Vec<Condition>,
    /// Attempts of one request, the first included.
    pub attempts: usize,
    /// In place of `response_timeout`; none: that one.
    pub per_try_timeout: Option<Duration>,
    /// Also requests whose method is not idempotent and that may have been carried out.
    pub any_method: bool,
    /// Bytes of a body up to which a request can be repeated.
    pub replay_buffer: usize,
    /// The longest `retry-after` that is waited for.
    pub retry_after_max: Duration,
    /// How long is waited otherwise.
    pub backoff: Backoff,
    /// How much is repeated.
    pub budget: RetryBudget,
    /// How long an attempt is waited for before a second one joins it; none: however long it takes.
    pub hedge: Option<Duration>,
}

/// After what a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No connection could be made.
    Connect,
    /// The endpoint said that it had not begun with the request (RFC 9113 section 8.7).
    RefusedStream,
    /// The connection broke before the answer.
    Reset,
    /// The answer did not come in time.
    Timeout,
    /// The answer has this status.
    Status(u16),
    /// The answer consists of this status of gRPC and no message.
    Grpc(u8),
}

/// `[upstream.NAME.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Time between two checks of an endpoint.
    pub interval: Duration,
    /// Time for a check.
    pub timeout: Duration,
    /// Good checks in a row after which an endpoint is used again.
    pub healthy: usize,
    /// Bad checks in a row after which an endpoint is used no more.
    pub unhealthy: usize,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// To accept a connection.
    Tcp,
    /// To answer a request, in the protocol of the upstream.
    Http {
        /// In origin form.
        path: String,
        /// `host`; none: the endpoint's address.
        host: Option<String>,
        /// The status of a good answer; none: 200 to 299.
        status: Option<u16>,
    },
    /// To say `SERVING` to `grpc.health.v1.Health/Check`; only of an upstream that speaks HTTP/2.
    Grpc {
        /// Empty: the whole server.
        service: String,
        /// `:authority`; none: the endpoint's address.
        host: Option<String>,
    },
}

/// Statuses of gRPC by their numbers, as `on` names them.
pub(super) const GRPC_STATUSES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];
