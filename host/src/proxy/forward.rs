//! Takes a request upstream and brings the answer back: attempts, one after the other, until there is
//! an answer or nothing more to be tried.
//!
//! `attempt` is one of them on its connection, `retry` says whether there is to be another, `hedge` is
//! two at once.

use super::attempt::{Attempted, Outgoing, Stale, over_http1, over_http2};
use super::ends::{Responder, Source};
use super::flow::{Flow, Gathered, Stop};
use super::hedge::{Hedge, race};
use super::pump::Pump;
use super::record::is_upstreams;
use super::reply::Fault;
use super::retry::is_idempotent;
use super::timer::Timer;
use crate::chain::Direction;
use crate::config::{Condition, HashKey};
use crate::http::{BodyLength, Fields, Name};
use crate::shadow::Recording;
use crate::upstream::{Connection, Freshness, Http1, LendError, Lent, NotLent, Wanted, hash};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The waiting places of an exchange, reused by the next one of the connection.
#[derive(Default)]
pub struct Timers {
    /// Of the direction to the upstream.
    pub request: Timer,
    /// Of the direction to the client.
    pub response: Timer,
}

/// Why an attempt failed, and what that is to a repetition.
pub(super) struct Failed {
    pub(super) stop: Stop,
    condition: Option<Condition>,
}

impl Failed {
    /// No answer has begun, unless the exchange has one.
    pub(super) fn of(flow: &Flow<'_>, stop: Stop) -> Self {
        let condition = match stop {
            // The answer has begun.
            _ if flow.upstream_time.get().is_some() => None,
            Stop::Fault(Fault::UpstreamReset | Fault::UpstreamIncomplete) => Some(Condition::Reset),
            Stop::Fault(Fault::UpstreamResponseTimeout | Fault::UpstreamWriteTimeout) => {
                Some(Condition::Timeout)
            }
            _ => None,
        };
        Failed { stop, condition }
    }

    /// No connection.
    pub(super) fn to_lend(error: LendError) -> Self {
        let condition = error.is_endpoints().then_some(Condition::Connect);
        Failed { stop: fault_of_lend(error).into(), condition }
    }

    /// The endpoint has not begun with the request.
    pub(super) fn refused() -> Self {
        let condition = Some(Condition::RefusedStream);
        Failed { stop: Fault::UpstreamReset.into(), condition }
    }
}

/// Takes the exchange to an upstream and back. `Err`: there is no answer to forward; unless a
/// response head was sent, the caller answers.
pub async fn forward(
    flow: &Flow<'_>,
    length: BodyLength,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<(), Stop> {
    let mut outgoing = prepare(flow, length, body, responder, timers).await?;
    flow.route.upstream.expect();
    flow.record(Recording::forwarded);
    if length == BodyLength::None {
        flow.copy(length, &[], true);
    }
    let loses_nothing = loses_nothing(length, &outgoing, body);
    let mut freshness = Freshness::Any;
    loop {
        let attempted = match hedge_of(flow) {
            None => attempt(flow, freshness, &mut outgoing, body, responder, timers).await,
            Some(hedge) => {
                let racing = race(flow, hedge, freshness, &mut outgoing, body, responder, timers);
                Box::pin(racing).await
            }
        };
        let failed = match attempted {
            Ok(Attempted::Done | Attempted::Switched) => return Ok(()),
            Ok(Attempted::Stale(Stale { reused: true, .. }))
                if loses_nothing
                    && freshness == Freshness::Any
                    && is_idempotent(&flow.exchange.borrow().request.method) =>
            {
                freshness = Freshness::New;
                continue;
            }
            Ok(Attempted::Again(pause)) => {
                again(flow, pause, &mut outgoing, body, responder, &mut timers.request).await?;
                continue;
            }
            Ok(Attempted::GivesWay) => Failed::of(flow, Fault::UpstreamReset.into()),
            Ok(Attempted::Stale(Stale { condition, .. })) => {
                Failed { stop: Fault::UpstreamReset.into(), condition: Some(condition) }
            }
            Err(failed) => failed,
        };
        let pause = failed.condition.and_then(|condition| {
            let retries = flow.retries.as_ref()?;
            retries.after_failure(&flow.exchange.borrow().request, condition)
        });
        let Some(pause) = pause else { return Err(failed.stop) };
        again(flow, pause, &mut outgoing, body, responder, &mut timers.request).await?;
    }
}

/// Is there no body that a connection could take with it? One of no bytes is none, unless filters see
/// it or trailers may follow.
fn loses_nothing(length: BodyLength, outgoing: &Outgoing, body: &Source<'_>) -> bool {
    match length {
        BodyLength::None => true,
        BodyLength::Exact(0) => outgoing.pass.is_none() && body.is_over(),
        BodyLength::Exact(_) | BodyLength::Unknown => false,
    }
}

/// When a second attempt joins one that takes too long, where the file says so.
fn hedge_of<'f>(flow: &'f Flow<'_>) -> Option<Hedge<'f>> {
    let retries = flow.retries.as_deref()?;
    let after = retries.hedges_after(&flow.exchange.borrow().request)?;
    Some(Hedge { retries, after })
}

/// Borrows a connection and sends the request on it.
pub(super) async fn attempt(
    flow: &Flow<'_>,
    freshness: Freshness,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Attempted, Failed> {
    let upstream = &flow.route.upstream;
    // The endpoint of the attempt before is not in use any more.
    flow.lease.take();
    let tried = flow.retries.as_ref().map(|retries| &retries.tried);
    let key = upstream.hash_key.as_ref().map_or(0, |key| hash_of(flow, key));
    let lent = upstream.lend(Wanted { freshness, key, tried }).await;
    let lent = lent.map_err(|NotLent { error, address }| {
        if let Some(address) = address {
            flow.goes_to(address, None);
        }
        Failed::to_lend(error)
    })?;
    flow.deadline.tell(&mut flow.exchange.borrow_mut().request.fields);
    let Lent { connection, address, reused, lease } = lent;
    flow.goes_to(address, connection.identity());
    *flow.lease.borrow_mut() = lease;
    let attempted = match connection {
        Connection::Http1(mut connection) => {
            over_http1(flow, &mut connection, outgoing, body, responder, timers).await.inspect(
                |attempted| {
                    if let Attempted::Done | Attempted::Again(_) | Attempted::GivesWay = attempted {
                        keep(flow, connection);
                    }
                },
            )
        }
        Connection::Http2(client) => {
            over_http2(flow, &client, outgoing, body, responder, timers).await
        }
    };
    conclude(flow, attempted, reused)
}

/// Tells the endpoint's lease of a failure, and what a failure is to a repetition.
pub(super) fn conclude(
    flow: &Flow<'_>,
    attempted: Result<Attempted, Stop>,
    reused: bool,
) -> Result<Attempted, Failed> {
    let lease = flow.lease.borrow();
    match attempted {
        Ok(Attempted::Stale(stale)) => {
            if let Some(lease) = &*lease {
                if reused { lease.disregard() } else { lease.failed() }
            }
            Ok(Attempted::Stale(Stale { reused, ..stale }))
        }
        Ok(attempted) => {
            if let (Some(fault), Some(lease)) = (flow.replaced_for.get(), &*lease)
                && is_upstreams(fault)
            {
                lease.failed();
            }
            Ok(attempted)
        }
        Err(stop) => {
            if let (Stop::Fault(fault), Some(lease)) = (&stop, &*lease)
                && is_upstreams(*fault)
            {
                lease.failed();
            }
            Err(Failed::of(flow, stop))
        }
    }
}

/// Waits before a repetition, and makes the request ready for it.
async fn again(
    flow: &Flow<'_>,
    pause: Duration,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timer: &mut Timer,
) -> Result<(), Stop> {
    // What is repeated does not keep the endpoint busy.
    flow.lease.take();
    let has_whole_body = flow.retries.as_ref().is_some_and(|retries| retries.has_whole_body());
    let until = Instant::now() + pause;
    poll_fn(|cx| {
        if poll_client_gone(cx, body, responder, has_whole_body).is_ready() {
            return Poll::Ready(Err(Fault::ClientGone));
        }
        timer.poll_expired(cx, until).map(Ok)
    })
    .await?;
    if let Some(retries) = &flow.retries {
        retries.rewind(&mut outgoing.gathered);
        flow.record(Recording::repeated);
    }
    flow.request_sent.set(None);
    Ok(())
}

/// Ready when the client has left while nothing is under way to the upstream that would notice. What
/// waits to be sent to it is sent.
pub(super) fn poll_client_gone(
    cx: &mut Context<'_>,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    has_whole_body: bool,
) -> Poll<()> {
    let is_gone = responder.poll_gone(cx).is_ready()
        || (has_whole_body && body.poll_gone(cx).is_ready())
        || matches!(responder.poll_flush(cx), Poll::Ready(Err(_)));
    if is_gone { Poll::Ready(()) } else { Poll::Pending }
}

/// What decides on the endpoint, where a hash does.
pub(super) fn hash_of(flow: &Flow<'_>, key: &HashKey) -> u64 {
    let exchange = flow.exchange.borrow();
    let field = match key {
        HashKey::Client => None,
        HashKey::Header(name) => Name::parse(name.as_str().as_bytes()).ok(),
    };
    match field.and_then(|name| exchange.request.fields.get(name)) {
        Some(value) => hash(&[b"field ", value]),
        None => hash(&[b"client ", exchange.client.to_string().as_bytes()]),
    }
}

/// Runs the body hooks for as long as a filter keeps the request head back.
async fn prepare(
    flow: &Flow<'_>,
    length: BodyLength,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Outgoing, Stop> {
    if length == BodyLength::None {
        let gathered = Gathered { ending: Some(None), ..Gathered::default() };
        return Ok(Outgoing { length, pass: None, gathered });
    }
    flow.awaits_continue.set(flow.exchange.borrow().request.expects_continue);
    let Some(mut pass) = flow.body_pass(Direction::Request) else {
        return Ok(Outgoing { length, pass: None, gathered: Gathered::default() });
    };
    let mut gathered = Gathered::default();
    let mut length = BodyLength::Unknown;
    if pass.keeps_head() {
        if flow.awaits_continue.take() {
            flow.exchange.borrow_mut().request.expects_continue = false;
            responder.interim(100, &Fields::default());
            poll_fn(|cx| responder.poll_flush(cx)).await.map_err(|_| Fault::ClientGone)?;
        }
        let mut pump = Pump::new(&mut timers.request, flow.limits(Direction::Request));
        gathered = flow.gather(Direction::Request, body, &mut pass, &mut pump).await?;
        if let Some(None) = gathered.ending {
            length =
                BodyLength::Exact(gathered.output.iter().map(|bytes| bytes.len() as u64).sum());
        }
    }
    Ok(Outgoing { length, pass: Some(pass), gathered })
}

/// Keeps a connection that has nothing left to read or write.
pub(super) fn keep(flow: &Flow<'_>, connection: Box<Http1>) {
    let sent = connection.writer.queued() == 0 && !connection.writer.unfinished();
    if connection.keepable && sent && connection.reader.body_done() {
        connection.keep(flow.route.upstream);
    }
}

fn fault_of_lend(error: LendError) -> Fault {
    match error {
        LendError::NoEndpoint => Fault::NoEndpoint,
        LendError::Unresolved => Fault::UpstreamDnsError,
        LendError::UnresolvedInTime => Fault::UpstreamDnsTimeout,
        LendError::Limit => Fault::UpstreamLimit,
        LendError::Refused => Fault::UpstreamRefused,
        LendError::TimedOut => Fault::UpstreamConnectTimeout,
        LendError::Unreachable => Fault::UpstreamUnreachable,
        LendError::Handshake => Fault::UpstreamReset,
        LendError::Certificate => Fault::UpstreamCertificate,
        LendError::Tls => Fault::UpstreamTls,
        LendError::Alert => Fault::UpstreamAlert,
    }
}
