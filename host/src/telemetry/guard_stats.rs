//! What guards an upstream: breakers that were reached, endpoints left out, requests repeated; and a
//! view of the state that only `upstream` knows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

/// What a breaker bounds, by the name of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Guard {
    /// Requests that wait for a connection.
    Pending,
    /// Requests outstanding.
    Requests,
    /// Requests that are being repeated.
    Retries,
}

/// Why an endpoint was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EjectionCause {
    /// Errors in a row.
    Consecutive5xx,
    /// Errors of a gateway in a row.
    ConsecutiveGateway,
    /// Too few good answers.
    SuccessRate,
}

/// After what a request was repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryCause {
    /// No connection.
    Connect,
    /// Not begun with.
    RefusedStream,
    /// The connection broke.
    Reset,
    /// No answer in time.
    Timeout,
    /// A status.
    Status,
    /// A status of gRPC.
    Grpc,
    /// It took too long, and goes on.
    Hedge,
}

/// What became of a second attempt beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HedgeResult {
    /// It was answered first.
    Won,
    /// It was given up, in most cases because the other was answered first.
    Lost,
    /// There was no answer.
    Failed,
}

/// Why a request was not repeated that would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryRefusal {
    /// There have been `attempts`.
    Attempts,
    /// More of its body was sent than is kept.
    Body,
    /// The budget is used up.
    Budget,
    /// `retries_max` is reached.
    RetriesMax,
    /// The answer asks for a longer wait than there may be.
    RetryAfter,
    /// The time that the request has would be over.
    Deadline,
    /// There is no other endpoint for a second attempt beside the first.
    Endpoint,
}

/// Declares every case of a label and its name.
macro_rules! labels {
    ($type:ident: $($case:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Every case.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$case),+];

            /// The label value in metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$case => $name),+
                }
            }
        }
    };
}

labels!(Guard: Pending = "pending_max", Requests = "requests_max", Retries = "retries_max");
labels!(EjectionCause: Consecutive5xx = "consecutive_5xx",
    ConsecutiveGateway = "consecutive_gateway", SuccessRate = "success_rate");
labels!(RetryCause: Connect = "connect", RefusedStream = "refused_stream", Reset = "reset",
    Timeout = "timeout", Status = "status", Grpc = "grpc", Hedge = "hedge");
labels!(HedgeResult: Won = "won", Lost = "lost", Failed = "failed");
labels!(RetryRefusal: Attempts = "attempts", Body = "body", Budget = "budget",
    RetriesMax = "retries_max", RetryAfter = "retry_after", Deadline = "deadline",
    Endpoint = "endpoint");
labels!(EndpointUse: Available = "available", Ejected = "ejected", Unhealthy = "unhealthy");

/// Is an endpoint in use?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndpointUse {
    /// Yes.
    Available,
    /// Left out for its answers.
    Ejected,
    /// Left out for its health checks.
    Unhealthy,
}

/// An endpoint and whether it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointShown {
    /// Where it is.
    pub address: SocketAddr,
    /// Is it in use?
    pub state: EndpointUse,
}

/// What is looked up at the moment of a scrape.
pub trait ShowGuards: Send + Sync + std::fmt::Debug {
    /// The endpoints of the upstream.
    fn endpoints(&self) -> Vec<EndpointShown>;
    /// How much of what a breaker bounds is under way.
    fn under_way(&self, guard: Guard) -> u64;
    /// Repetitions that the budget has left; none: nothing is repeated.
    fn budget_left(&self) -> Option<u64>;
}

/// What happens seldom to an upstream; one set for all workers.
#[derive(Debug, Default)]
pub struct GuardStats {
    reached: [AtomicU64; Guard::ALL.len()],
    ejections: [AtomicU64; EjectionCause::ALL.len()],
    kept: AtomicU64,
    retries: [AtomicU64; RetryCause::ALL.len()],
    refusals: [AtomicU64; RetryRefusal::ALL.len()],
    hedges: [AtomicU64; HedgeResult::ALL.len()],
    checks: [AtomicU64; 2],
    state: Mutex<Option<Weak<dyn ShowGuards>>>,
}

impl GuardStats {
    /// Shows `state` from now on.
    pub fn show(&self, state: Weak<dyn ShowGuards>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// What `show` was told, as long as it is there.
    pub fn shown(&self) -> Option<std::sync::Arc<dyn ShowGuards>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// A request was refused, or not repeated, because of a breaker.
    pub fn guard_reached(&self, guard: Guard) {
        self.reached[guard as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An endpoint was left out.
    pub fn ejected(&self, cause: EjectionCause) {
        self.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An endpoint was kept although it should have been left out: too many are.
    pub fn ejection_withheld(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is repeated.
    pub fn retried(&self, cause: RetryCause) {
        self.retries[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request is not repeated.
    pub fn retry_refused(&self, why: RetryRefusal) {
        self.refusals[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A second attempt beside another is over.
    pub fn hedged(&self, result: HedgeResult) {
        self.hedges[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Second attempts so far.
    pub fn hedges(&self, result: HedgeResult) -> u64 {
        self.hedges[result as usize].load(Ordering::Relaxed)
    }

    /// A health check is done.
    pub fn checked(&self, good: bool) {
        self.checks[usize::from(good)].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a breaker was reached.
    pub fn reached(&self, guard: Guard) -> u64 {
        self.reached[guard as usize].load(Ordering::Relaxed)
    }

    /// Ejections so far.
    pub fn ejections(&self, cause: EjectionCause) -> u64 {
        self.ejections[cause as usize].load(Ordering::Relaxed)
    }

    /// Ejections that were withheld so far.
    pub fn ejections_withheld(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Repetitions so far.
    pub fn retries(&self, cause: RetryCause) -> u64 {
        self.retries[cause as usize].load(Ordering::Relaxed)
    }

    /// Repetitions refused so far.
    pub fn retry_refusals(&self, why: RetryRefusal) -> u64 {
        self.refusals[why as usize].load(Ordering::Relaxed)
    }

    /// Health checks so far, good or bad.
    pub fn checks(&self, good: bool) -> u64 {
        self.checks[usize::from(good)].load(Ordering::Relaxed)
    }
}
