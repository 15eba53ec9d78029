//! A second attempt beside one whose answer is long in coming, at another endpoint: the first answer
//! head wins, and the other attempt is given up ("The Tail at Scale", Dean and Barroso, CACM 2013).
//!
//! What fails first waits for the other; what fails last decides. `retry` says whether there may be a
//! second attempt at all, which takes from the same budget as a repetition.

use super::answering::{Answering, Head, fault_of_request};
use super::attempt::{Attempted, INTERIM_MAX, Outgoing, answer};
use super::ends::{Responder, Sink, Source};
use super::flow::{Flow, Stop};
use super::forward::{Failed, Timers, attempt, conclude, hash_of, keep, poll_client_gone};
use super::pump::{Pump, PumpError};
use super::record::is_upstreams;
use super::reply::Fault;
use super::retry::{Retries, grpc_status};
use super::timer::Timer;
use crate::chain::Direction;
use crate::http::{BodyLength, PeerIdentity, Protocol, ResponseHead};
use crate::http2::{self, RequestError};
use crate::telemetry::HedgeResult;
use crate::upstream::{Connection, Freshness, Http1, Lease, Lent, Wanted};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// When a second attempt is begun, and by whose leave.
#[derive(Clone, Copy)]
pub(super) struct Hedge<'f> {
    pub(super) retries: &'f Retries<'f>,
    pub(super) after: Duration,
}

/// An attempt, with a second one beside it once it has taken too long.
pub(super) async fn race(
    flow: &Flow<'_>,
    hedge: Hedge<'_>,
    freshness: Freshness,
    outgoing: &mut Outgoing,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Result<Attempted, Failed> {
    let mut second = Second::waiting(flow, hedge, outgoing.length);
    let ended = {
        let mut first = pin!(attempt(flow, freshness, outgoing, body, responder, timers));
        poll_fn(|cx| {
            if let Poll::Ready(attempted) = first.as_mut().poll(cx) {
                let waits = second.is_under_way() && leaves_room(flow, &attempted);
                return Poll::Ready(if waits { Ended::Alone } else { Ended::First(attempted) });
            }
            if flow.upstream_time.get().is_some() {
                second.give_up();
            }
            second.poll(cx).map(Ended::Second)
        })
        .await
    };
    let won = match ended {
        Ended::First(attempted) => return attempted,
        Ended::Second(won) => won,
        Ended::Alone => {
            flow.lease.take();
            poll_fn(|cx| {
                if poll_client_gone(cx, body, responder, true).is_ready() {
                    return Poll::Ready(Err(Failed::of(flow, Fault::ClientGone.into())));
                }
                second.poll_last(cx)
            })
            .await?
        }
    };
    drop(second);
    won.deliver(flow, body, responder, timers).await
}

enum Ended {
    First(Result<Attempted, Failed>),
    Second(Box<Won>),
    /// The first attempt has failed while the second is under way.
    Alone,
}

/// Did the first attempt fail in a way that the second may make good?
fn leaves_room(flow: &Flow<'_>, attempted: &Result<Attempted, Failed>) -> bool {
    flow.upstream_time.get().is_none()
        && match attempted {
            Ok(Attempted::GivesWay | Attempted::Stale(_)) => true,
            Ok(Attempted::Done | Attempted::Switched | Attempted::Again(_)) => false,
            Err(Failed { stop: Stop::Fault(fault), .. }) => is_upstreams(*fault),
            Err(Failed { stop: Stop::Respond(_), .. }) => false,
        }
}

type Attempting<'f> = Pin<Box<dyn Future<Output = Result<Box<Won>, Failed>> + 'f>>;

/// The second attempt.
struct Second<'f, 'e> {
    flow: &'f Flow<'e>,
    hedge: Hedge<'f>,
    length: BodyLength,
    due: Instant,
    timer: Timer,
    state: State<'f>,
}

enum State<'f> {
    /// Its time has not come, or the request is not whole yet.
    Waiting,
    UnderWay {
        attempting: Attempting<'f>,
        counted: UnderWay<'f>,
    },
    /// There is none any more, or none at all.
    Over,
}

/// Counts the attempt when it is over; whoever drops it before has given it up.
struct UnderWay<'f> {
    retries: &'f Retries<'f>,
    result: Cell<HedgeResult>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.retries.hedged(self.result.get());
    }
}

impl<'f, 'e: 'f> Second<'f, 'e> {
    fn waiting(flow: &'f Flow<'e>, hedge: Hedge<'f>, length: BodyLength) -> Self {
        let due = Instant::now() + hedge.after;
        Second { flow, hedge, length, due, timer: Timer::default(), state: State::Waiting }
    }

    fn is_under_way(&self) -> bool {
        matches!(self.state, State::UnderWay { .. })
    }

    fn give_up(&mut self) {
        self.state = State::Over;
    }

    /// Ready when it has won. One that fails beside the first is over, and nobody hears of it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<Won>> {
        if matches!(self.state, State::Waiting) {
            // What ends the request wakes the task too.
            let is_whole = self.length == BodyLength::None || self.hedge.retries.has_whole_body();
            if self.timer.poll_expired(cx, self.due).is_pending() || !is_whole {
                return Poll::Pending;
            }
            self.state = self.begin();
        }
        match self.poll_attempt(cx, |won, flow, retries| {
            // The first attempt may come to more.
            retries.is_reason(&flow.exchange.borrow().request, &won.head)
        }) {
            Poll::Ready(Ok(won)) => Poll::Ready(won),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// The same when there is no other: whatever it comes to counts.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Won>, Failed>> {
        self.poll_attempt(cx, |_, _, _| false)
    }

    fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
        fails: impl FnOnce(&Won, &Flow<'_>, &Retries<'_>) -> bool,
    ) -> Poll<Result<Box<Won>, Failed>> {
        let State::UnderWay { attempting, counted } = &mut self.state else {
            return Poll::Pending;
        };
        let mut attempted = ready!(attempting.as_mut().poll(cx));
        if let Ok(won) = &attempted
            && fails(won, self.flow, self.hedge.retries)
        {
            won.report();
            attempted = Err(Failed::of(self.flow, Fault::UpstreamReset.into()));
        }
        let result = if attempted.is_ok() { HedgeResult::Won } else { HedgeResult::Failed };
        counted.result.set(result);
        self.state = State::Over;
        Poll::Ready(attempted)
    }

    fn begin(&self) -> State<'f> {
        if !self.hedge.retries.hedge() {
            return State::Over;
        }
        let retries = self.hedge.retries;
        let attempting = Box::pin(attempt_second(self.flow, retries, self.length));
        let counted = UnderWay { retries, result: Cell::new(HedgeResult::Lost) };
        State::UnderWay { attempting, counted }
    }
}

/// A second attempt that has the head of an answer.
struct Won {
    address: SocketAddr,
    identity: Option<Arc<PeerIdentity>>,
    lease: Option<Lease>,
    head: ResponseHead,
    length: BodyLength,
    carrier: Carrier,
}

/// Where the rest of the answer comes from.
enum Carrier {
    Http1(Box<Http1>),
    Http2(Option<http2::BodyReader>),
}

impl Won {
    /// Tells of an answer that is not looked at.
    fn report(&self) {
        if let Some(lease) = &self.lease {
            lease.answered(self.head.status, grpc_status(&self.head.fields));
        }
    }

    /// Puts the answer into the exchange and sends it, as that of any attempt.
    async fn deliver(
        self: Box<Self>,
        flow: &Flow<'_>,
        body: &mut Source<'_>,
        responder: &mut Responder<'_>,
        timers: &mut Timers,
    ) -> Result<Attempted, Failed> {
        let Won { address, identity, lease, head, length, mut carrier } = *self;
        flow.goes_to(address, identity.as_ref());
        *flow.lease.borrow_mut() = lease;
        flow.exchange.borrow_mut().response = head;
        let attempted = {
            let (protocol, source) = match &mut carrier {
                Carrier::Http1(connection) => {
                    (Protocol::Http11, Source::Http1(&mut connection.reader))
                }
                Carrier::Http2(reader) => {
                    (Protocol::Http2, reader.take().map_or(Source::None, Source::Http2))
                }
            };
            let timer = &mut timers.response;
            let mut down = pin!(answer(flow, protocol, (length, source), responder, timer));
            poll_fn(|cx| {
                // The request is whole: nothing is left of it but its connection.
                if body.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Stop::Fault(Fault::ClientGone)));
                }
                down.as_mut().poll(cx)
            })
            .await
        };
        if let (Ok(Attempted::Done | Attempted::Again(_)), Carrier::Http1(connection)) =
            (&attempted, carrier)
        {
            keep(flow, connection);
        }
        conclude(flow, attempted, false)
    }
}

/// Sends what is kept of the request on a connection of its own, and waits for the head of an answer.
/// It is listened to once it has sent everything.
async fn attempt_second(
    flow: &Flow<'_>,
    retries: &Retries<'_>,
    length: BodyLength,
) -> Result<Box<Won>, Failed> {
    let upstream = &flow.route.upstream;
    let key = upstream.hash_key.as_ref().map_or(0, |key| hash_of(flow, key));
    let wanted = Wanted { freshness: Freshness::Any, key, tried: Some(&retries.tried) };
    let lent = upstream.lend(wanted).await.map_err(|lent| Failed::to_lend(lent.error))?;
    flow.deadline.tell(&mut flow.exchange.borrow_mut().request.fields);
    let Lent { connection, address, lease, reused } = lent;
    let identity = connection.identity().cloned();
    let mut head = ResponseHead::default();
    let answered = match connection {
        Connection::Http1(connection) => {
            over_http1(flow, retries, connection, length, &mut head).await
        }
        Connection::Http2(client) => over_http2(flow, retries, &client, length, &mut head).await,
    };
    match answered {
        Ok((length, carrier)) => {
            Ok(Box::new(Won { address, identity, lease, head, length, carrier }))
        }
        Err(failed) => {
            if let Some(lease) = lease {
                if reused { lease.disregard() } else { lease.failed() }
            }
            Err(failed)
        }
    }
}

async fn over_http1(
    flow: &Flow<'_>,
    retries: &Retries<'_>,
    mut connection: Box<Http1>,
    length: BodyLength,
    head: &mut ResponseHead,
) -> Result<(BodyLength, Carrier), Failed> {
    connection.writer.request_head(&flow.exchange.borrow().request, length);
    send(flow, retries, Sink::Http1(&mut connection.writer)).await?;
    let Http1 { reader, keepable, .. } = &mut *connection;
    let (length, _) = head_of(flow, retries, Answering::Http1 { reader, keepable }, head).await?;
    Ok((length, Carrier::Http1(connection)))
}

async fn over_http2(
    flow: &Flow<'_>,
    retries: &Retries<'_>,
    client: &http2::Client,
    length: BodyLength,
    head: &mut ResponseHead,
) -> Result<(BodyLength, Carrier), Failed> {
    let ends = length == BodyLength::None;
    let sent = client.request(&flow.exchange.borrow().request, length, ends);
    let (response, writer) = sent.map_err(|error| match error {
        http2::ClientSendError::Connection(RequestError::Unprocessed) => Failed::refused(),
        http2::ClientSendError::Connection(error) => {
            Failed::of(flow, fault_of_request(&error).into())
        }
        http2::ClientSendError::Head(_) => Failed::of(flow, Fault::RequestMalformed.into()),
    })?;
    send(flow, retries, writer.map_or(Sink::None, Sink::Http2)).await?;
    let (length, body) = head_of(flow, retries, Answering::Http2(response), head).await?;
    Ok((length, Carrier::Http2(body)))
}

/// Sends the body that is kept.
async fn send(flow: &Flow<'_>, retries: &Retries<'_>, mut sink: Sink<'_>) -> Result<(), Failed> {
    let mut timer = Timer::default();
    let mut pump = Pump::new(&mut timer, flow.limits(Direction::Request));
    let (bytes, trailers) = retries.copy();
    let queued = sink.data(bytes).and_then(|()| sink.end(trailers.as_ref()));
    queued.map_err(|_| Failed::of(flow, Fault::UpstreamReset.into()))?;
    pump.drain(&mut sink, 0).await.map_err(|error| {
        let fault = match error {
            PumpError::Stalled(_) => Fault::UpstreamWriteTimeout,
            PumpError::Source(_) | PumpError::Sink(_) | PumpError::Gone => Fault::UpstreamReset,
        };
        Failed::of(flow, fault.into())
    })
}

/// Waits for the head of the answer. Interim ones are passed over: nobody knows yet who answers.
async fn head_of(
    flow: &Flow<'_>,
    retries: &Retries<'_>,
    mut answering: Answering<'_>,
    head: &mut ResponseHead,
) -> Result<(BodyLength, Option<http2::BodyReader>), Failed> {
    let mut timer = Timer::default();
    let due = Instant::now() + retries.answer_timeout();
    let limits = &flow.route.upstream.head_limits;
    for _ in 0..=INTERIM_MAX {
        let found = poll_fn(|cx| {
            let exchange = flow.exchange.borrow();
            if let Poll::Ready(found) = answering.poll_head(cx, &exchange.request, head, limits) {
                return Poll::Ready(found);
            }
            timer.poll_expired(cx, due).map(|()| Err(Fault::UpstreamResponseTimeout))
        })
        .await;
        match found.map_err(|fault| Failed::of(flow, fault.into()))? {
            Head::Interim => {}
            Head::Final(length, body) => return Ok((length, body)),
            Head::Stale if matches!(answering, Answering::Http2(_)) => {
                return Err(Failed::refused());
            }
            Head::Stale => return Err(Failed::of(flow, Fault::UpstreamReset.into())),
        }
    }
    Err(Failed::of(flow, Fault::UpstreamMalformed.into()))
}
