//! The data path on one screen: what happens to a request, in what order.
//!
//! The caller has read and checked the head, and holds one generation's view of the listener for the
//! whole exchange. Below this page: `admit` for the wait for a place, `forward` for the way to the
//! upstream and back, `respond` for the way to the client, `reply` for what a failure looks like,
//! `record` for what is kept of it.

use super::admit::{admit, turn_away};
use super::deadline::Deadline;
use super::ends::{Responder, Source};
use super::flow::{Flow, Stop};
use super::forward::{Timers, forward};
use super::pump::Pump;
use super::record::Record;
use super::reply::Fault;
use super::respond::{deliver, fault_head, replace, replace_by_fault};
use super::route::{Listener, Taken};
use crate::chain::{Direction, Exchange, Progress, Verdict};
use crate::clock;
use crate::http::{BodyLength, PeerIdentity, forwarding};
use crate::overload::Places;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

/// A request whose head is complete and in the exchange.
pub struct Request<'c> {
    /// Who sent it: the connection's peer.
    pub peer: IpAddr,
    /// Who that has proved to be.
    pub identity: Option<&'c Arc<PeerIdentity>>,
    /// How long its body is.
    pub length: BodyLength,
    /// Its body.
    pub body: Source<'c>,
    /// Where the answer goes.
    pub responder: Responder<'c>,
}

/// Takes a request through the proxy, to the last byte of its answer or to the point where it was
/// broken off. `exchange` holds the request head, and afterwards what became of it.
pub async fn serve(
    listener: &Listener,
    exchange: &mut Box<Exchange>,
    request: Request<'_>,
    timers: &mut Timers,
    record: &Record<'_>,
) {
    let Request { peer, identity, length, mut body, mut responder } = request;
    let started = clock::recent();
    exchange.client =
        forwarding::client_address(peer, &exchange.request.fields, &listener.trusted_proxies);
    exchange.listener = listener.name.clone();
    exchange.peer = identity.cloned();
    let identity = identity.map(|identity| &**identity);
    forwarding::mark_request(&mut exchange.request, peer, identity, &listener.trusted_proxies);

    let deadline = Deadline::of(listener, &exchange.request, record.worker);
    let passed;
    let route = match listener.route(&exchange.request, identity) {
        Some(route) => route,
        None => match deadline.within(listener.pass(&exchange.request)).await {
            Ok(route) => {
                passed = route;
                &*passed
            }
            Err(fault) => {
                responder.closes(body.is_unread());
                let sent = refuse(exchange, fault, &mut responder).await;
                return record.unrouted(listener, exchange, fault, sent, started);
            }
        },
    };
    exchange.route = route.config.name.clone();
    let active = record.begin(route);

    // What is not waited for is not made: moving a future about costs more than asking.
    let admitted = match listener.admission.is_free() {
        true => Ok(Places::default()),
        false => deadline.within(admit(listener, length, &mut body, &mut responder)).await,
    };
    let places = match admitted {
        Ok(places) => places,
        Err(fault) => {
            responder.closes(body.is_unread());
            let sent = turn_away(exchange, fault, &mut responder).await;
            return record.turned_away(listener, exchange, (fault, sent), started, active);
        }
    };
    let way = route.way(exchange);
    let shadow = route.shadow.as_ref();
    let recording = shadow.and_then(|shadow| shadow.begin(exchange, length, started));
    let mut progress = Progress::default();
    let verdict = way.chain.request_head(exchange, &mut progress);
    // After the hooks: a filter may set the field that a split goes by.
    let upstream = route.destination.of(exchange);
    let taken = Taken { route, way, upstream };
    let flow = Flow::new(exchange, progress, listener, taken, (started, &deadline));
    flow.go_on_recording(recording);
    if let Some(mirror) = &route.mirror {
        *flow.copying.borrow_mut() = mirror.begin(&flow.exchange.borrow());
    }
    let forwarded = match verdict {
        Verdict::Proceed if deadline.holds() => {
            let forwarding = pin!(forward(&flow, length, &mut body, &mut responder, timers));
            deadline.within(forwarding).await
        }
        Verdict::Proceed => forward(&flow, length, &mut body, &mut responder, timers).await,
        Verdict::Respond(response) => Err(Stop::Respond(response)),
        Verdict::Failed => Err(Stop::Fault(Fault::FilterFailed)),
    };
    let error = match forwarded {
        Ok(()) => None,
        Err(stop) => {
            // Nobody reads the rest of the request: the answer says that the connection ends.
            responder.closes(body.is_unread());
            answer(&flow, stop, &mut responder, timers).await
        }
    };
    let error = error.or(flow.replaced_for.get());
    match (flow.upstream_time.get(), error) {
        (Some(time), _) => places.answered((started + time).into()),
        // What is given up took so long at least; other failures say nothing of how long answers take.
        (None, Some(Fault::UpstreamResponseTimeout)) => places.answered(clock::look().into()),
        (None, _) => {}
    }
    record.end(flow, error, active);
}

/// Sends what stands in the place of an upstream's answer. The fault, if there was one: in the
/// exchange, or in the sending of the answer.
async fn answer(
    flow: &Flow<'_>,
    stop: Stop,
    responder: &mut Responder<'_>,
    timers: &mut Timers,
) -> Option<Fault> {
    let fault = match stop {
        Stop::Fault(fault) => Some(fault),
        Stop::Respond(_) => None,
    };
    if flow.head_sent.get() || fault == Some(Fault::ClientGone) {
        flow.broken_off.set(true);
        responder.abort(fault.unwrap_or(Fault::FilterFailed));
        return fault;
    }
    let (length, source) = match stop {
        Stop::Fault(fault) => {
            responder.closes(fault.row().closes);
            replace_by_fault(flow, fault)
        }
        Stop::Respond(response) => replace(flow, response),
    };
    let mut pump = Pump::new(&mut timers.response, flow.limits(Direction::Response));
    match deliver(flow, length, source, responder, &mut pump).await {
        Ok(()) => fault,
        Err(undelivered) => {
            flow.broken_off.set(true);
            responder.abort(undelivered);
            fault.or(Some(undelivered))
        }
    }
}

/// Answers a request that has no route, or whose head was refused: no filter sees it. Was the answer
/// sent?
pub async fn refuse(exchange: &mut Exchange, fault: Fault, responder: &mut Responder<'_>) -> bool {
    let (length, body) = fault_head(fault, exchange);
    responder.closes(fault.row().closes);
    let Exchange { request, response, .. } = exchange;
    let Ok(mut sink) = responder.begin(&request.method, request.protocol, response, length) else {
        return false;
    };
    let queued = sink.data(body).and_then(|()| sink.end(None));
    // Small enough for any socket's buffer: whether the client reads it makes no difference here.
    queued.is_ok()
        && tokio::time::timeout(REFUSAL_TIMEOUT, poll_fn(|cx| sink.poll_flush(cx))).await.is_ok()
}

/// How long the answer to a refused request may take to be written.
pub const REFUSAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Writer;
    use crate::io::Stream;
    use crate::worker::Gate;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_taken_in_time_or_given_up() {
        let millisecond = Duration::from_millis(1);
        for (pause, taken) in [
            (REFUSAL_TIMEOUT - millisecond, true),
            (REFUSAL_TIMEOUT, false),
            (REFUSAL_TIMEOUT + millisecond, false),
        ] {
            let (mut client, server) = tokio::io::duplex(16);
            let reading = async {
                tokio::time::sleep(pause).await;
                // Cut off or whole: what counts is what the other side takes it for.
                let _ = client.read_to_end(&mut Vec::new()).await;
            };
            let refusing = async {
                let mut writer = Writer::new(Stream::over(server));
                let (mut keep_alive, gate) = (true, Gate::default());
                let mut responder = Responder::Http1 {
                    writer: &mut writer,
                    keep_alive: &mut keep_alive,
                    gate: &gate,
                };
                refuse(&mut Exchange::default(), Fault::NoRoute, &mut responder).await
            };
            let ((), sent) = tokio::join!(reading, refusing);
            assert_eq!(sent, taken, "{pause:?}");
        }
    }
}
