//! Whether a request is repeated, when, and what is sent then.
//!
//! What was sent of a body is kept up to `replay_buffer` bytes. The upstream says how much is repeated
//! at all: `retries_max`, and the budget that the workers share. An answer that has begun ends it:
//! the caller asks only before.

use super::attempt::Attempted;
use super::deadline::Deadline;
use super::flow::{Ending, Gathered};
use crate::config::{Condition, Retry};
use crate::http::{Fields, Name, RequestHead, ResponseHead};
use crate::telemetry::{HedgeResult, RetryCause, RetryRefusal};
use crate::upstream::{Counted, Upstream};
use bytes::Bytes;
use http::Method;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// What is known of the attempts of one request.
pub struct Retries<'u> {
    upstream: &'u Upstream,
    policy: &'u Retry,
    deadline: &'u Deadline<'u>,
    attempts: Cell<usize>,
    sent: RefCell<Sent>,
    /// Endpoints that it was sent to.
    pub tried: RefCell<Vec<SocketAddr>>,
    repeating: RefCell<Option<Counted>>,
    /// A second attempt is under way beside the first.
    racing: Cell<bool>,
    hedging: RefCell<Option<Counted>>,
}

/// What was sent of a body in the latest attempt.
#[derive(Default)]
struct Sent {
    /// Copied, so that it holds no buffer of a connection.
    bytes: Vec<u8>,
    ending: Option<Ending>,
    /// It was too much to be kept.
    is_lost: bool,
}

impl<'u> Retries<'u> {
    /// None: the upstream's requests are not repeated.
    pub fn new(upstream: &'u Upstream, deadline: &'u Deadline<'u>) -> Option<Box<Self>> {
        let policy = upstream.retry.as_ref()?;
        Some(Box::new(Retries {
            upstream,
            policy,
            deadline,
            attempts: Cell::new(1),
            sent: RefCell::default(),
            tried: RefCell::default(),
            repeating: RefCell::default(),
            racing: Cell::new(false),
            hedging: RefCell::default(),
        }))
    }

    /// Time for the head of an answer.
    pub fn answer_timeout(&self) -> Duration {
        let whole = self.upstream.limits.response_timeout;
        self.policy.per_try_timeout.map_or(whole, |timeout| timeout.min(whole))
    }

    /// Pieces of the body are being sent.
    pub fn keep(&self, pieces: &[Bytes]) {
        let mut sent = self.sent.borrow_mut();
        for piece in pieces {
            sent.is_lost |= sent.bytes.len() + piece.len() > self.policy.replay_buffer;
            if sent.is_lost {
                sent.bytes = Vec::new();
                return;
            }
            sent.bytes.extend_from_slice(piece);
        }
    }

    /// The end of the body is being sent.
    pub fn keep_ending(&self, trailers: Option<&Fields>) {
        self.sent.borrow_mut().ending = Some(trailers.cloned());
    }

    /// Puts what was sent before what is still to be sent, for the next attempt.
    pub fn rewind(&self, gathered: &mut Gathered) {
        let sent = self.sent.take();
        if !sent.bytes.is_empty() {
            gathered.output.insert(0, sent.bytes.into());
        }
        gathered.ending = sent.ending.or_else(|| gathered.ending.take());
    }

    /// Is the whole body here?
    pub fn has_whole_body(&self) -> bool {
        self.sent.borrow().ending.is_some()
    }

    /// What is kept of a whole body, with its trailers.
    pub fn copy(&self) -> (Bytes, Ending) {
        let sent = self.sent.borrow();
        (Bytes::copy_from_slice(&sent.bytes), sent.ending.clone().flatten())
    }

    /// How long an attempt is waited for before a second one joins it; none: however long it takes.
    pub fn hedges_after(&self, request: &RequestHead) -> Option<Duration> {
        let after = self.policy.hedge?;
        let harmless = self.policy.any_method || is_idempotent(&request.method);
        // A connection that becomes a tunnel is the client's alone.
        (harmless && request.upgrade.is_none()).then_some(after)
    }

    /// Leave to begin a second attempt, which counts as a repetition. The request is whole.
    pub fn hedge(&self) -> bool {
        let guards = &self.upstream.stats.guards;
        let left = if self.upstream.has_other(&self.tried.borrow()) {
            self.allows(None, Duration::ZERO).and_then(|()| self.upstream.repeat())
        } else {
            Err(RetryRefusal::Endpoint)
        };
        match left {
            Ok(counted) => {
                *self.hedging.borrow_mut() = Some(counted);
                self.racing.set(true);
                self.attempts.set(self.attempts.get() + 1);
                guards.retried(RetryCause::Hedge);
                true
            }
            Err(why) => {
                guards.retry_refused(why);
                false
            }
        }
    }

    /// A second attempt is over, or the only one left.
    pub fn hedged(&self, result: HedgeResult) {
        self.racing.set(false);
        if result != HedgeResult::Won {
            self.hedging.take();
        }
        self.upstream.stats.guards.hedged(result);
    }

    /// Does a status of gRPC behind the head of this answer decide on a repetition, as one in it would?
    /// Not while the request is not whole: its client may be waiting for the head.
    pub fn awaits_status(&self, answer: &ResponseHead) -> bool {
        let may_repeat = self.racing.get()
            || (self.attempts.get() < self.policy.attempts && !self.sent.borrow().is_lost);
        answer.status == 200
            && may_repeat
            && self.policy.on.iter().any(|it| matches!(it, Condition::Grpc(_)))
            && self.has_whole_body()
            && grpc_status(&answer.fields).is_none()
    }

    /// What becomes of an attempt with this answer, whose body has not been touched, if it is not to be
    /// delivered. `grpc`: its status of gRPC, where no message came before it.
    pub(super) fn instead_of(
        &self,
        request: &RequestHead,
        answer: &ResponseHead,
        grpc: Option<u8>,
    ) -> Option<Attempted> {
        let condition = self.condition_of(answer.status, grpc)?;
        if self.racing.get() {
            // The other attempt is there already, and was paid for.
            return self.is_safe(condition, &request.method).then_some(Attempted::GivesWay);
        }
        let pause = self.after(condition, &request.method, retry_after(&answer.fields));
        pause.map(Attempted::Again)
    }

    /// Is an answer one that the request may be repeated after, as far as the file goes?
    pub(super) fn is_reason(&self, request: &RequestHead, answer: &ResponseHead) -> bool {
        let condition = self.condition_of(answer.status, grpc_status(&answer.fields));
        condition.is_some_and(|it| self.is_safe(it, &request.method))
    }

    fn condition_of(&self, status: u16, grpc: Option<u8>) -> Option<Condition> {
        let conditions = [Condition::Status(status)].into_iter().chain(grpc.map(Condition::Grpc));
        conditions.into_iter().find(|it| self.policy.on.contains(it))
    }

    /// May it be repeated after a failure? After so long.
    pub fn after_failure(&self, request: &RequestHead, failure: Condition) -> Option<Duration> {
        self.after(failure, &request.method, None)
    }

    fn after(
        &self,
        condition: Condition,
        method: &Method,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if !self.policy.on.contains(&condition) || !self.is_safe(condition, method) {
            return None;
        }
        let guards = &self.upstream.stats.guards;
        let pause = self.backoff().max(retry_after.unwrap_or_default());
        let left = self.allows(retry_after, pause).and_then(|()| {
            // The repetition before is over.
            self.repeating.take();
            self.upstream.repeat()
        });
        match left {
            Ok(counted) => {
                *self.repeating.borrow_mut() = Some(counted);
                guards.retried(cause_of(condition));
            }
            Err(why) => {
                guards.retry_refused(why);
                return None;
            }
        }
        self.attempts.set(self.attempts.get() + 1);
        Some(pause)
    }

    /// Was the request not carried out, or does it make no difference that it was? A status of gRPC
    /// says what its server made of it, and `on` what that means.
    fn is_safe(&self, condition: Condition, method: &Method) -> bool {
        matches!(condition, Condition::Connect | Condition::RefusedStream | Condition::Grpc(_))
            || self.policy.any_method
            || is_idempotent(method)
    }

    fn allows(&self, retry_after: Option<Duration>, pause: Duration) -> Result<(), RetryRefusal> {
        if self.attempts.get() >= self.policy.attempts {
            return Err(RetryRefusal::Attempts);
        }
        if self.sent.borrow().is_lost {
            return Err(RetryRefusal::Body);
        }
        if retry_after.is_some_and(|time| time > self.policy.retry_after_max) {
            return Err(RetryRefusal::RetryAfter);
        }
        if !self.deadline.leaves(pause) {
            return Err(RetryRefusal::Deadline);
        }
        Ok(())
    }

    /// Full jitter: anything from nothing to a bound that doubles each time, so that those who failed
    /// together do not come back together.
    fn backoff(&self) -> Duration {
        let doublings = u32::try_from(self.attempts.get() - 1).unwrap_or(u32::MAX);
        let factor = 2_u32.saturating_pow(doublings);
        let bound = self.policy.backoff.base.saturating_mul(factor).min(self.policy.backoff.max);
        bound.mul_f64(rand::random())
    }
}

/// RFC 9110 section 9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The status of gRPC in a head, where it is when there is no message before it, or in trailers.
pub fn grpc_status(fields: &Fields) -> Option<u8> {
    let value = fields.get(Name::known("grpc-status"))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(fields: &Fields) -> Option<Duration> {
    let value = std::str::from_utf8(fields.get(Name::known("retry-after"))?).ok()?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn cause_of(condition: Condition) -> RetryCause {
    match condition {
        Condition::Connect => RetryCause::Connect,
        Condition::RefusedStream => RetryCause::RefusedStream,
        Condition::Reset => RetryCause::Reset,
        Condition::Timeout => RetryCause::Timeout,
        Condition::Status(_) => RetryCause::Status,
        Condition::Grpc(_) => RetryCause::Grpc,
    }
}
