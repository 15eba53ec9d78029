//! Sends a request upstream and brings the answer back: both directions at once, in one task.

use super::ends::{Responder, Sink, Source};
use super::flow::{Flow, Gathered, Stop};
use super::pump::Pump;
use super::record::is_upstreams;
use super::reply::Fault;
use super::respond::deliver;
use super::retry::{grpc_status, is_idempotent};
use super::timer::Timer;
use super::tunnel;
use crate::chain::{BodyPass, Direction};
use crate::config::{Condition, HashKey};
use crate::http::{BodyLength, Fields, Name, Protocol, forwarding};
use crate::http1::{self, ReadError, Reader};
use crate::http2::{self, RequestError};
use crate::shadow::Recording;
use crate::upstream::{Connection, Freshness, Http1, LendError, Lent, Wanted, hash};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// How long a client that waits for `100 (Continue)` is left waiting for the upstream's (RFC 9110
/// section 10.1.1 leaves the time open).
pub const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Interim responses to one request, beyond which the upstream is taken to be broken.
pub const INTERIM_MAX: usize = 16;

/// The waiting places of an exchange, reused by the next one of the connection.
#[derive(Default)]
pub struct Timers {
    /// Of the direction to the upstream.
    pub request: Timer,
    /// Of the direction to the client.
    pub response: Timer,
}

/// What was left over of a request after the head hooks.
struct Outgoing {
    length: BodyLength,
    pass: Option<BodyPass>,
    gathered: Gathered,
}

/// How an attempt at one connection ended.
enum Attempted {
    /// The response is delivered.
    Done,
    /// The upstream has switched protocols: what follows is a tunnel.
    Switched,
    /// The connection was closed before a byte of the answer; nothing was sent downstream.
    Stale(Stale),
    /// There is an answer, after which the request is to be repeated; so long from now.
    Again(Duration),
}

/// A connection that was closed before a byte of the answer.
struct Stale {
    /// It has served another request before, so that this says nothing of the endpoint.
    reused: bool,
    /// What that is to a repetition.
    condition: Condition,
}

/// Why an attempt failed, and what that is to a repetition.
struct Failed {
    stop: Stop,
    condition: Option<Condition>,
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
    let mut freshness = Freshness::Any;
    loop {
        let attempted = attempt(flow, freshness, &mut outgoing, body, responder, timers).await;
        let failed = match attempted {
            Ok(Attempted::Done | Attempted::Switched) => return Ok(()),
            Ok(Attempted::Stale(Stale { reused: true, .. }))
                if length == BodyLength::None
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

/// Borrows a connection and sends the request on it.
async fn attempt(
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
    let lent = upstream.lend(Wanted { freshness, key, tried }).await.map_err(|error| Failed {
        stop: fault_of_lend(error).into(),
        condition: error.is_endpoints().then_some(Condition::Connect),
    })?;
    let Lent { connection, address, reused, lease } = lent;
    flow.endpoint.set(Some(address));
    *flow.lease.borrow_mut() = lease;
    let attempted = match connection {
        Connection::Http1(mut connection) => {
            over_http1(flow, &mut connection, outgoing, body, responder, timers).await.inspect(
                |attempted| {
                    if let Attempted::Done | Attempted::Again(_) = attempted {
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
fn conclude(
    flow: &Flow<'_>,
    attempted: Result<Attempted, Stop>,
    reused: bool,
) -> Result<Attempted, Failed> {
    let failed = || {
        if let Some(lease) = &*flow.lease.borrow() {
            lease.failed();
        }
    };
    match attempted {
        Ok(Attempted::Stale(stale)) => {
            if !reused {
                failed();
            }
            Ok(Attempted::Stale(Stale { reused, ..stale }))
        }
        Ok(attempted) => Ok(attempted),
        Err(stop) => {
            let Stop::Fault(fault) = stop else { return Err(Failed { stop, condition: None }) };
            if is_upstreams(fault) {
                failed();
            }
            let condition = match fault {
                // The answer has begun.
                _ if flow.upstream_time.get().is_some() => None,
                Fault::UpstreamReset | Fault::UpstreamIncomplete => Some(Condition::Reset),
                Fault::UpstreamResponseTimeout | Fault::UpstreamWriteTimeout => {
                    Some(Condition::Timeout)
                }
                _ => None,
            };
            Err(Failed { stop, condition })
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
        let gone = responder.poll_gone(cx).is_ready()
            || (has_whole_body && body.poll_gone(cx).is_ready())
            || matches!(responder.poll_flush(cx), Poll::Ready(Err(_)));
        if gone {
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

/// What decides on the endpoint, where a hash does.
fn hash_of(flow: &Flow<'_>, key: &HashKey) -> u64 {
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

async fn over_http1(
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
        let upstream = (&mut connection.reader, &mut connection.writer);
        tunnel::run(flow, (down, writer), upstream, timers).await?;
    }
    Ok(attempted)
}

async fn over_http2(
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
        if let Poll::Ready(stop) = up.as_mut().poll(cx) {
            return Poll::Ready(Err(stop));
        }
        down.as_mut().poll(cx)
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
    flow.request_sent.set(Some(Instant::now()));
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
    if let Some(pause) = answered(flow) {
        return Ok(Attempted::Again(pause));
    }
    flow.upstream_time.set(Some(flow.started.elapsed()));
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

/// The head of the answer is in the exchange: tells who wants to know. Some: the request is to be
/// repeated after so long instead.
fn answered(flow: &Flow<'_>) -> Option<Duration> {
    if flow.lease.borrow().is_none() && flow.retries.is_none() {
        return None;
    }
    let exchange = flow.exchange.borrow();
    let answer = &exchange.response;
    if let Some(lease) = &*flow.lease.borrow() {
        lease.answered(answer.status, grpc_status(answer));
    }
    flow.retries.as_ref()?.after_answer(&exchange.request, answer)
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
            if let Poll::Ready(head) = answering.poll_head(cx, flow) {
                return Poll::Ready(head);
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

/// Where an answer is awaited.
enum Answering<'c> {
    Http1 { reader: &'c mut Reader, keepable: &'c mut bool },
    Http2(http2::Response),
}

enum Head {
    Interim,
    Final(BodyLength, Option<http2::BodyReader>),
    Stale,
}

impl Answering<'_> {
    fn poll_head(
        &mut self,
        cx: &mut std::task::Context<'_>,
        flow: &Flow<'_>,
    ) -> Poll<Result<Head, Fault>> {
        let mut exchange = flow.exchange.borrow_mut();
        let exchange = &mut ***exchange;
        let (method, head) = (&exchange.request.method, &mut exchange.response);
        match self {
            Answering::Http1 { reader, keepable } => {
                let limits = &flow.route.upstream.head_limits;
                match std::task::ready!(reader.poll_response_head(cx, method, head, limits)) {
                    Ok(_) if (100..=199).contains(&head.status) && head.status != 101 => {
                        Poll::Ready(Ok(Head::Interim))
                    }
                    Ok(framing) => {
                        if head.status == 101 && !switches_as_asked(&exchange.request, head) {
                            return Poll::Ready(Err(Fault::UpgradeFailed));
                        }
                        **keepable = framing.keep_alive;
                        let length = framing.content_length.map_or(framing.body, BodyLength::Exact);
                        Poll::Ready(Ok(Head::Final(length, None)))
                    }
                    Err(ReadError::Closed) => Poll::Ready(Ok(Head::Stale)),
                    Err(error) => Poll::Ready(Err(fault_of_read(&error))),
                }
            }
            Answering::Http2(response) => match std::task::ready!(response.poll_head(cx, head)) {
                Ok(http2::Answer::Interim) => Poll::Ready(Ok(Head::Interim)),
                Ok(http2::Answer::Final(framing, body)) => {
                    let length = framing.content_length.map_or(framing.body, BodyLength::Exact);
                    Poll::Ready(Ok(Head::Final(length, Some(body))))
                }
                Err(RequestError::Unprocessed) => Poll::Ready(Ok(Head::Stale)),
                Err(error) => Poll::Ready(Err(fault_of_request(&error))),
            },
        }
    }

    fn source(&mut self, body: Option<http2::BodyReader>) -> Source<'_> {
        match (self, body) {
            (Answering::Http1 { reader, .. }, _) => Source::Http1(reader),
            (_, Some(body)) => Source::Http2(body),
            (_, None) => Source::None,
        }
    }
}

/// Is the switch to the protocol that the client asked for?
fn switches_as_asked(
    request: &crate::http::RequestHead,
    response: &crate::http::ResponseHead,
) -> bool {
    let (Some(asked), Some(got)) = (&request.upgrade, &response.upgrade) else { return false };
    asked.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(got.trim()))
}

/// Keeps a connection that has nothing left to read or write.
fn keep(flow: &Flow<'_>, connection: Box<Http1>) {
    let sent = connection.writer.queued() == 0 && !connection.writer.unfinished();
    if connection.keepable && sent && connection.reader.body_done() {
        connection.keep(&flow.route.upstream);
    }
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

fn fault_of_lend(error: LendError) -> Fault {
    match error {
        LendError::NoEndpoint => Fault::NoEndpoint,
        LendError::Limit => Fault::UpstreamLimit,
        LendError::Refused => Fault::UpstreamRefused,
        LendError::TimedOut => Fault::UpstreamConnectTimeout,
        LendError::Unreachable => Fault::UpstreamUnreachable,
        LendError::Handshake => Fault::UpstreamReset,
    }
}

fn fault_of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::Head(http1::HeadError::TooLarge | http1::HeadError::TooManyFields) => {
            Fault::UpstreamHeadTooLarge
        }
        ReadError::Head(_) | ReadError::BodyUnread => Fault::UpstreamMalformed,
        ReadError::Truncated => Fault::UpstreamIncomplete,
        ReadError::Closed | ReadError::Io(_) => Fault::UpstreamReset,
    }
}

fn fault_of_request(error: &RequestError) -> Fault {
    match error {
        RequestError::Head(http2::HeadError::TooLarge | http2::HeadError::TooManyFields) => {
            Fault::UpstreamHeadTooLarge
        }
        RequestError::Head(_) | RequestError::Protocol(_) => Fault::UpstreamMalformed,
        RequestError::Unprocessed | RequestError::Reset(_) | RequestError::Io(_) => {
            Fault::UpstreamReset
        }
    }
}
