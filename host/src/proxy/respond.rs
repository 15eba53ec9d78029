//! The way back: response hooks, the response body, and what is sent when there is nothing to
//! forward.

use super::ends::{Responder, Sink, Source};
use super::flow::{Flow, Gathered, Stop};
use super::pump::Pump;
use super::reply::Fault;
use crate::chain::{Direction, Exchange, LocalResponse, Verdict};
use crate::http::head::response_has_body;
use crate::http::timeout::is_grpc;
use crate::http::{BodyLength, Name, forwarding};
use crate::shadow::Recording;
use bytes::Bytes;

/// Sends the response whose head stands in the exchange and whose body is `source`, through the
/// filters that take part. A filter may put another response in its place until the head is sent, and
/// what fails until then is answered with its reply, and kept in the flow.
///
/// Err: the response could not be completed. If its head was sent, it has been broken off.
pub async fn deliver(
    flow: &Flow<'_>,
    mut length: BodyLength,
    mut source: Source<'_>,
    responder: &mut Responder<'_>,
    pump: &mut Pump<'_>,
) -> Result<(), Fault> {
    let (mut pass, mut gathered) = loop {
        match hooks_and_held_body(flow, length, &mut source, pump).await {
            Ok(ready) => break ready,
            Err(Stop::Respond(response)) => (length, source) = replace(flow, response),
            Err(Stop::Fault(fault)) => {
                flow.replaced_for.set(flow.replaced_for.get().or(Some(fault)));
                (length, source) = replace_by_fault(flow, fault);
            }
        }
    };
    if pass.is_some() {
        length = match &gathered.ending {
            Some(None) => {
                BodyLength::Exact(gathered.output.iter().map(|bytes| bytes.len() as u64).sum())
            }
            Some(Some(_)) | None => BodyLength::Unknown,
        };
    }
    let mut sink = {
        let mut exchange = flow.exchange.borrow_mut();
        let Exchange { request, response, .. } = &mut ***exchange;
        flow.way.tell_versions(response);
        responder.begin(&request.method, request.protocol, response, length)?
    };
    flow.head_sent.set(true);
    let sent = body(flow, &mut source, &mut sink, &mut pass, &mut gathered, pump).await;
    sent.map_err(|stop| {
        let fault = match stop {
            Stop::Fault(fault) => fault,
            // The head is on its way: there is no place for another answer.
            Stop::Respond(_) => Fault::FilterFailed,
        };
        flow.broken_off.set(true);
        sink.abort(fault);
        fault
    })
}

/// Runs the response hooks, and the body hooks for as long as one of them keeps the head back.
async fn hooks_and_held_body(
    flow: &Flow<'_>,
    length: BodyLength,
    source: &mut Source<'_>,
    pump: &mut Pump<'_>,
) -> Result<(Option<crate::chain::BodyPass>, Gathered), Stop> {
    let has_body = {
        let mut exchange = flow.exchange.borrow_mut();
        let mut progress = flow.progress.borrow_mut();
        match flow.way.chain.response_head(&mut exchange, &mut progress) {
            Verdict::Proceed => {}
            Verdict::Respond(response) => return Err(Stop::Respond(response)),
            Verdict::Failed => return Err(Stop::Fault(Fault::FilterFailed)),
        }
        length != BodyLength::None
            && response_has_body(&exchange.request.method, exchange.response.status)
    };
    let mut pass = if has_body { flow.body_pass(Direction::Response) } else { None };
    let gathered = match &mut pass {
        Some(pass) if pass.keeps_head() => {
            flow.gather(Direction::Response, source, pass, pump).await?
        }
        _ => Gathered::default(),
    };
    Ok((pass, gathered))
}

async fn body(
    flow: &Flow<'_>,
    source: &mut Source<'_>,
    sink: &mut Sink<'_>,
    pass: &mut Option<crate::chain::BodyPass>,
    gathered: &mut Gathered,
    pump: &mut Pump<'_>,
) -> Result<(), Stop> {
    flow.put(Direction::Response, sink, &mut gathered.output)?;
    match gathered.ending.take() {
        Some(trailers) => flow.finish(Direction::Response, sink, trailers.as_ref(), pump).await,
        None => flow.run(Direction::Response, source, sink, pass, pump).await,
    }
}

/// Puts a filter's response into the exchange, in place of what stood there.
pub fn replace(flow: &Flow<'_>, response: LocalResponse) -> (BodyLength, Source<'static>) {
    flow.local_reply.set(true);
    flow.record(Recording::replaced);
    let mut exchange = flow.exchange.borrow_mut();
    let head = &mut exchange.response;
    let body = response.put_into(head);
    forwarding::ensure_date(head);
    local(body)
}

/// Puts the reply to a fault into the exchange.
pub fn replace_by_fault(flow: &Flow<'_>, fault: Fault) -> (BodyLength, Source<'static>) {
    let mut exchange = flow.exchange.borrow_mut();
    let (length, body) = fault_head(fault, &mut exchange);
    let source = Source::Local(body);
    flow.record(|recording| match fault {
        Fault::FilterFailed => recording.failed(),
        // To the filters it is an answer like another.
        _ => recording.answered(&exchange.response, length),
    });
    (length, source)
}

/// Fills the head of the response with the reply to a fault, and gives its body.
pub fn fault_head(fault: Fault, exchange: &mut Exchange) -> (BodyLength, Bytes) {
    let Exchange { request, response, .. } = exchange;
    let body = match fault.grpc_status() {
        Some(status) if is_grpc(&request.fields) => {
            let kind = request.fields.get(Name::known("content-type")).unwrap_or_default();
            fault.reply_grpc(status, kind, response);
            Bytes::new()
        }
        _ => fault.reply(response),
    };
    forwarding::ensure_date(response);
    let length = BodyLength::Exact(body.len() as u64);
    (if body.is_empty() { BodyLength::None } else { length }, body)
}

fn local(body: Bytes) -> (BodyLength, Source<'static>) {
    (BodyLength::Exact(body.len() as u64), Source::Local(body))
}
