//! One attempt of a request on one connection: the request on its way up and the answer on its way
//! down, both at once, in one task.
//!
//! Knows neither how the connection came about nor what becomes of a failure: `forward` does.

use super::answering::{Answering, Head, fault_of_request};
use super::ends::{Begun, Responder, Sink, Source};
use super::flow::{Flow, Gathered, Stop, fault_of};
use super::forward::Timers;
use super::pump::Pump;
use super::reply::Fault;
use super::respond::deliver;
use super::retry::grpc_status;
use super::timer::Timer;
use super::tunnel;
use crate::chain::{BodyPass, Direction, Exchange};
use crate::clock;
use crate::config::Condition;
use crate::http::{BodyLength, Fields, Frame, Protocol, forwarding};
use crate::http2::{self, RequestError};
use crate::upstream::Http1;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// How long a client that waits for `100 (Continue)` is left waiting for the upstream's (RFC 9110
/// section 10.1.1 leaves the time open).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interim responses to one request, beyond which the upstream is taken to be broken.
pub(super) const INTERIM_MAX: usize = 16;

/// How long the head of an answer of gRPC is kept back for what comes behind it, where a status there
/// decides on a repetition.
const STATUS_TIMEOUT: Duration = Duration::from_millis(100);

/// What was left over of a request after the head hooks.
pub(super) struct Outgoing {
    pub(super) length: BodyLength,
    pub(super) pass: Option<BodyPass>,
    pub(super) gathered: Gathered,
}

/// How an attempt at one connection ended.
pub(super) enum Attempted {
    /// The response is delivered.
    Done,
    /// The upstream has switched protocols: what follows is a tunnel.
    Switched,
    /// The connection was closed before a byte of the answer; nothing was sent downstream.
    Stale(Stale),
    /// There is an answer, after which the request is to be repeated; so long from now.
    Again(Duration),
    /// The same, while a second attempt is under way that may come to more.
    GivesWay,
}

/// A connection that was closed before a byte of the answer.
pub(super) struct Stale {
    /// It has served another request before, so that this says nothing of the endpoint.
    pub(super) reused: bool,
    /// What that is to a repetition.
    pub(super) condition: Condition,
}

impl Stale {
    /// HTTP/1: nobody knows what became of the request.
    fn reset() -> Self {
        Stale { reused: false, condition: Condition::Reset }
    }

    /// HTTP/2: the endpoint has not begun with the request.
    fn refused() -> Self {
        Stale { reused: false, condition: Condition::RefusedStream }
    }
}

/// On an HTTP/1 connection.
pub(super) async fn over_http1(
    flow: &Flow<'_>,
    connection: &mut Http1,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Attempted, Stop> {
    connection.writer.request_head(&flow.exchange.borrow().request, outgoing.length);
    let Http1 { reader, writer, keepable, .. } = connection;
    let mut answering = Answering::Http1 { reader, keepable };
    let sink = Sink::Http1(writer);
    let attempted = both(flow, sink, &mut answering, outgoing, body, responder, timers).await?;
    if let (Attempted::Switched, Source::Http1(down), Responder::Http1 { writer, keep_alive, .. }) =
        (&attempted, &mut *body, &mut *responder)
    {
        **keep_alive = false;
        flow.deadline.lift();
        let upstream = (&mut connection.reader, &mut connection.writer);
        tunnel::run(flow, (down, writer), upstream, timers).await?;
    }
    Ok(attempted)
}

/// On a stream of an HTTP/2 connection.
pub(super) async fn over_http2(
    flow: &Flow<'_>,
    client: &http2::Client,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Attempted, Stop> {
    if flow.awaits_continue.take() {
        // HTTP/2 has no need of it, and the client is waiting.
        flow.exchange.borrow_mut().request.expects_continue = false;
        flow.continue_due.set(true);
    }
    let ends =
        outgoing.gathered.output.is_empty() && matches!(outgoing.gathered.ending, Some(None));
    let sent = client.request(&flow.exchange.borrow().request, outgoing.length, ends);
    let (response, writer) = match sent {
        Ok(sent) => sent,
        Err(http2::ClientSendError::Connection(RequestError::Unprocessed)) => {
            return Ok(Attempted::Stale(Stale::refused()));
        }
        Err(http2::ClientSendError::Connection(error)) => {
            return Err(fault_of_request(&error).into());
        }
        Err(http2::ClientSendError::Head(_)) => return Err(Fault::RequestMalformed.into()),
    };
    let sink = writer.map_or(Sink::None, Sink::Http2);
    let mut answering = Answering::Http2(response);
    both(flow, sink, &mut answering, outgoing, body, responder, timers).await
}

/// The request on its way up and the response on its way down. The request may end first, or last;
/// the response decides.
async fn both(
    flow: &Flow<'_>,
    sink: Sink<'_>,
    answering: &mut Answering<'_>,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Attempted, Stop> {
    let Timers { request, response } = timers;
    let mut up = pin!(send(flow, sink, outgoing, body, request));
    let mut down = pin!(receive(flow, answering, responder, response));
    poll_fn(|cx| {
        // The request goes first. Once it is sent all that is left of it is a client that may leave,
        // and the answer is mostly there before.
        let sent = flow.request_sent.get().is_some();
        if !sent && let Poll::Ready(stop) = up.as_mut().poll(cx) {
            return Poll::Ready(Err(stop));
        }
        if let Poll::Ready(ended) = down.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if sent { up.as_mut().poll(cx).map(Err) } else { Poll::Pending }
    })
    .await
}

/// Sends the request, then watches whether the client is still there. Ends only with a reason to
/// stop the exchange: an upstream that takes no more may still answer.
async fn send(
    flow: &Flow<'_>,
    mut sink: Sink<'_>,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    timer: &mut Timer,
) -> Stop {
    match send_body(flow, &mut sink, outgoing, body, timer).await {
        Ok(()) | Err(Stop::Fault(Fault::UpstreamReset)) => {}
        Err(stop) if flow.head_sent.get() => {
            // Too late for another answer: the response is broken off with the request.
            return match stop {
                Stop::Respond(_) => Stop::Fault(Fault::FilterFailed),
                fault @ Stop::Fault(_) => fault,
            };
        }
        Err(stop) => return stop,
    }
    flow.request_sent.set(Some(clock::recent().into()));
    poll_fn(|cx| body.poll_gone(cx)).await;
    Stop::Fault(Fault::ClientGone)
}

async fn send_body(
    flow: &Flow<'_>,
    sink: &mut Sink<'_>,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    timer: &mut Timer,
) -> Result<(), Stop> {
    let mut pump = Pump::new(timer, flow.limits(Direction::Request));
    flow.put(Direction::Request, sink, &mut outgoing.gathered.output)?;
    if let Some(trailers) = &outgoing.gathered.ending {
        return flow.finish(Direction::Request, sink, trailers.as_ref(), &mut pump).await;
    }
    if flow.awaits_continue.get() {
        pump.drain(sink, 0).await.map_err(|_| Fault::UpstreamReset)?;
        pump.wait(CONTINUE_TIMEOUT, || !flow.awaits_continue.get()).await;
        if flow.awaits_continue.take() {
            flow.continue_due.set(true);
        }
    }
    flow.run(Direction::Request, body, sink, &mut outgoing.pass, &mut pump).await
}

/// Waits for the answer and delivers it.
async fn receive(
    flow: &Flow<'_>,
    answering: &mut Answering<'_>,
    responder: &mut Responder<'_>,
    timer: &mut Timer,
) -> Result<Attempted, Stop> {
    let protocol = match answering {
        Answering::Http1 { .. } => Protocol::Http11,
        Answering::Http2(_) => Protocol::Http2,
    };
    let Some((length, source)) = answer_head(flow, answering, responder, timer).await? else {
        return Ok(Attempted::Stale(match protocol {
            Protocol::Http2 => Stale::refused(),
            _ => Stale::reset(),
        }));
    };
    answer(flow, protocol, (length, source), responder, timer).await
}

/// Delivers the answer whose head stands in the exchange, unless the request is to be repeated instead.
pub(super) async fn answer(
    flow: &Flow<'_>,
    protocol: Protocol,
    (length, source): (BodyLength, Source<'_>),
    responder: &mut Responder<'_>,
    timer: &mut Timer,
) -> Result<Attempted, Stop> {
    let (source, grpc) = if flow.long_lived && flow.retries.is_some() {
        look_ahead(flow, source, responder, timer).await?
    } else {
        (source, None)
    };
    if let Some(instead) = answered(flow, grpc) {
        return Ok(instead);
    }
    flow.upstream_time.set(Some(clock::recent().saturating_duration_since(flow.started)));
    let switched = {
        let mut exchange = flow.exchange.borrow_mut();
        forwarding::mark_response(&mut exchange.response, protocol);
        flow.record(|recording| recording.answered(&exchange.response, length));
        exchange.response.status == 101
    };
    let mut pump = Pump::new(timer, flow.limits(Direction::Response));
    deliver(flow, length, source, responder, &mut pump).await?;
    Ok(if switched && flow.exchange.borrow().response.status == 101 {
        Attempted::Switched
    } else {
        Attempted::Done
    })
}

/// A server of gRPC may send its head, then no message, and a status in the trailers. Where that
/// decides on a repetition, the first piece behind the head is waited for before the head is passed on:
/// not for long, since a client may want to see the head before the first message is due.
async fn look_ahead<'s>(
    flow: &Flow<'_>,
    source: Source<'s>,
    responder: &mut Responder<'_>,
    timer: &mut Timer,
) -> Result<(Source<'s>, Option<u8>), Stop> {
    let retries = flow.retries.as_ref();
    let matters = retries.is_some_and(|it| it.awaits_status(&flow.exchange.borrow().response));
    let mut rest = match source {
        Source::Http2(reader) if matters && !reader.is_end() => reader,
        source => return Ok((source, None)),
    };
    let until = Instant::from(clock::recent()) + STATUS_TIMEOUT;
    let first = poll_fn(|cx| {
        if let Poll::Ready(frame) = rest.poll_frame(cx) {
            return Poll::Ready(Ok(Some(frame)));
        }
        if responder.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Fault::ClientGone));
        }
        timer.poll_expired(cx, until).map(|()| Ok(None))
    })
    .await?;
    let Some(first) = first else { return Ok((Source::Http2(rest), None)) };
    let first = first.map_err(|error| fault_of(Direction::Response, &error.into()))?;
    let grpc = match &first {
        Frame::Trailers(trailers) => grpc_status(trailers),
        Frame::Data(_) | Frame::End => None,
    };
    Ok((Source::Begun(Box::new(Begun { first: Some(first), rest })), grpc))
}

/// The head of the answer is in the exchange: tells who wants to know. Some: what becomes of the attempt
/// in place of delivering it.
fn answered(flow: &Flow<'_>, grpc: Option<u8>) -> Option<Attempted> {
    if flow.lease.borrow().is_none() && flow.retries.is_none() {
        return None;
    }
    let exchange = flow.exchange.borrow();
    let answer = &exchange.response;
    let grpc = grpc.or_else(|| grpc_status(&answer.fields));
    if let Some(lease) = &*flow.lease.borrow() {
        lease.answered(answer.status, grpc);
    }
    flow.retries.as_ref()?.instead_of(&exchange.request, answer, grpc)
}

/// The final response head goes into the exchange. None: the connection was stale.
async fn answer_head<'s>(
    flow: &Flow<'_>,
    answering: &'s mut Answering<'_>,
    responder: &mut Responder<'_>,
    timer: &mut Timer,
) -> Result<Option<(BodyLength, Source<'s>)>, Stop> {
    let timeout = match &flow.retries {
        Some(retries) => retries.answer_timeout(),
        None => flow.route.upstream.limits.response_timeout,
    };
    for _ in 0..=INTERIM_MAX {
        let head = poll_fn(|cx| {
            if flow.continue_due.take() {
                responder.interim(100, &Fields::default());
            }
            if let Poll::Ready(Err(_)) = responder.poll_flush(cx) {
                return Poll::Ready(Err(Fault::ClientGone));
            }
            if responder.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Fault::ClientGone));
            }
            {
                let mut exchange = flow.exchange.borrow_mut();
                let Exchange { request, response, .. } = &mut ***exchange;
                let limits = &flow.route.upstream.head_limits;
                if let Poll::Ready(head) = answering.poll_head(cx, request, response, limits) {
                    return Poll::Ready(head);
                }
            }
            if let Some(sent) = flow.request_sent.get() {
                return timer
                    .poll_expired(cx, sent + timeout)
                    .map(|()| Err(Fault::UpstreamResponseTimeout));
            }
            Poll::Pending
        })
        .await?;
        match head {
            Head::Stale => return Ok(None),
            Head::Interim => {
                let exchange = flow.exchange.borrow();
                let status = exchange.response.status;
                if status == 100 {
                    // The client hears of it at the next poll, and the request direction goes on.
                    if flow.awaits_continue.take() {
                        flow.continue_due.set(true);
                    }
                } else if exchange.request.protocol != Protocol::Http10 {
                    responder.interim(status, &exchange.response.fields);
                }
            }
            Head::Final(length, body) => return Ok(Some((length, answering.source(body)))),
        }
        wake_both().await;
    }
    Err(Fault::UpstreamMalformed.into())
}

/// Lets the other direction see what this one has changed.
async fn wake_both() {
    let mut polled = false;
    poll_fn(|cx| {
        if polled {
            return Poll::Ready(());
        }
        polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
