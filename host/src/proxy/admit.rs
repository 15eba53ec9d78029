//! Lets requests in: at once where nothing limits how many may be under way, else when there is a place.
//!
//! What the limits are, and who is next, `overload` knows.

use super::ends::{Responder, Source};
use super::reply::Fault;
use super::route::Listener;
use super::service::refuse;
use crate::chain::Exchange;
use crate::http::BodyLength;
use crate::overload::Places;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for a place under the limits on requests under way, where there are any.
pub(super) async fn admit(
    listener: &Listener,
    length: BodyLength,
    body: &mut Source<'_>,
    responder: &mut Responder<'_>,
) -> Result<Places, Fault> {
    let mut entering = pin!(listener.admission.enter());
    poll_fn(|cx| {
        if let Poll::Ready(entered) = entering.as_mut().poll(cx) {
            return Poll::Ready(entered.map_err(|_| Fault::Overload));
        }
        // In HTTP/1 a body that is not read hides whether the client is there; the wait is short.
        let gone = responder.poll_gone(cx).is_ready()
            || (length == BodyLength::None && body.poll_gone(cx).is_ready());
        if gone { Poll::Ready(Err(Fault::ClientGone)) } else { Poll::Pending }
    })
    .await
}

/// Answers a request that got no place. Was the answer sent?
pub(super) async fn turn_away(
    exchange: &mut Exchange,
    fault: Fault,
    responder: &mut Responder<'_>,
) -> bool {
    if fault == Fault::ClientGone {
        responder.abort(fault);
        return false;
    }
    refuse(exchange, fault, responder).await
}
