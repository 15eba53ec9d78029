//! Requests off a downstream connection, one after the other (HTTP/1) or side by side (HTTP/2).
//!
//! It reads heads, refuses malformed ones, hands the others to `service`, and decides whether the
//! connection goes on. Each request takes the generation that is in force when its head is complete.

use super::ends::{Responder, Source};
use super::forward::Timers;
use super::reply::Fault;
use super::route::Listener;
use super::service::{self, Request};
use super::timer::Timer;
use crate::chain::Exchange;
use crate::clock::{self, Timed};
use crate::http::{Frame, PeerIdentity, Scheme};
use crate::http1::{self, HeadError, Opening, ReadError, Reader, RequestFraming, Writer};
use crate::http2::{self, AcceptError};
use crate::io::Stream;
use crate::worker::{Gate, Worker};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long, and how many bytes, a client may still send when its connection is being closed: so
/// that it can read the last answer before it sees a reset (RFC 9112 section 9.6).
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// See [`LINGER_TIMEOUT`].
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// One downstream connection.
pub struct Downstream {
    /// The worker it belongs to.
    pub worker: Rc<Worker>,
    /// Name of the listener it came by.
    pub listener: Arc<str>,
    /// Closed when the listener or the process stops.
    pub gate: Rc<Gate>,
    /// The client's end.
    pub peer: IpAddr,
    /// None: the connection is not secured.
    pub secured: Option<Secured>,
}

/// What a TLS handshake has settled.
#[derive(Debug, Default)]
pub struct Secured {
    /// Who the client is, if it has shown a certificate.
    pub peer: Option<Arc<PeerIdentity>>,
    /// What the two have agreed to speak; none: the first bytes show it.
    pub protocol: Option<Opening>,
}

impl Downstream {
    /// Serves the connection to its end.
    pub async fn run(self, stream: Stream) {
        let Some(listener) = self.worker.listener(&self.listener) else { return };
        let mut reader = Reader::new(stream.clone());
        let mut timer = Timer::default();
        let gate = self.gate.clone();
        let mut closed = pin!(async move { gate.closed().await });
        let begun = first_byte(closed.as_mut(), &mut reader, &mut timer, &listener);
        if !matches!(begun.await, Some(true)) {
            return;
        }
        let agreed = self.secured.as_ref().and_then(|secured| secured.protocol);
        let opening = poll_fn(|cx| match agreed {
            Some(opening) => Poll::Ready(Ok(opening)),
            None => reader.poll_opening(cx),
        });
        match timer.within(listener.limits.head_timeout, opening).await {
            Ok(Ok(Opening::Http2)) => {
                stream.unread(reader.take_buffered());
                drop(reader);
                self.http2(stream, &listener).await;
            }
            Ok(Ok(Opening::Http1)) | Err(_) => self.http1(stream, reader, timer, closed).await,
            Ok(Ok(Opening::Closed) | Err(_)) => {}
        }
    }

    async fn http1(
        &self,
        stream: Stream,
        mut reader: Reader,
        mut timer: Timer,
        mut closed: Pin<&mut impl Future<Output = ()>>,
    ) {
        let mut writer = Writer::new(stream.clone());
        let mut exchange = Box::<Exchange>::default();
        let mut timers = Timers::default();
        let opened = clock::recent();
        let mut requests = 0;
        while let Some(listener) = self.worker.listener(&self.listener) {
            if requests > 0 {
                let begun = first_byte(closed.as_mut(), &mut reader, &mut timer, &listener);
                if !matches!(begun.await, Some(true)) {
                    break;
                }
            }
            exchange.clear();
            let head = poll_fn(|cx| {
                reader.poll_request_head(cx, &mut exchange.request, &listener.head_limits)
            });
            let framing = match timer.within(listener.limits.head_timeout, head).await {
                Ok(Ok(Some(framing))) => framing,
                Ok(Ok(None) | Err(ReadError::Closed | ReadError::Io(_))) => break,
                Ok(Err(error)) => {
                    self.refuse(&listener, &mut exchange, fault_of_read(&error), &mut writer).await;
                    break;
                }
                Err(_) => {
                    self.refuse(&listener, &mut exchange, Fault::RequestHeadTimeout, &mut writer)
                        .await;
                    break;
                }
            };
            requests += 1;
            // The generation of the request is the one in force now, not when the wait began.
            let Some(listener) = self.worker.listener(&self.listener) else { break };
            let mut keep_alive = framing.keep_alive
                && requests < listener.limits.requests_per_connection
                && clock::recent().saturating_duration_since(opened)
                    < listener.limits.connection_lifetime;
            self.exchange(
                &listener,
                &mut exchange,
                framing,
                &mut reader,
                &mut writer,
                &mut keep_alive,
                &mut timers,
            )
            .await;
            if stream.aborted() {
                return;
            }
            let whole = reader.body_done() && writer.queued() == 0 && !writer.unfinished();
            if !keep_alive || !whole {
                break;
            }
        }
        linger(&stream, reader, &mut timer).await;
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a connection are lent one by one")]
    async fn exchange(
        &self,
        listener: &Listener,
        exchange: &mut Box<Exchange>,
        framing: RequestFraming,
        reader: &mut Reader,
        writer: &mut Writer,
        keep_alive: &mut bool,
        timers: &mut Timers,
    ) {
        exchange.request.scheme = self.scheme();
        let request = Request {
            peer: self.peer,
            identity: self.identity(),
            length: framing.body,
            body: Source::Http1(reader),
            responder: Responder::Http1 { writer, keep_alive, gate: &self.gate },
        };
        service::serve(listener, exchange, request, timers, &self.worker.record()).await;
    }

    fn scheme(&self) -> Scheme {
        if self.secured.is_some() { Scheme::Https } else { Scheme::Http }
    }

    fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.secured.as_ref()?.peer.as_ref()
    }

    /// Answers a request whose head was refused, and counts it.
    async fn refuse(
        &self,
        listener: &Listener,
        exchange: &mut Exchange,
        fault: Fault,
        writer: &mut Writer,
    ) {
        // What stands in the head is not to be trusted, not even its method.
        exchange.clear();
        exchange.client = self.peer;
        exchange.peer = self.identity().cloned();
        exchange.listener = listener.name.clone();
        let mut keep_alive = false;
        let mut responder =
            Responder::Http1 { writer, keep_alive: &mut keep_alive, gate: &self.gate };
        let sent = service::refuse(exchange, fault, &mut responder).await;
        self.worker.record().unrouted(listener, exchange, fault, sent, clock::recent());
    }

    async fn http2(self, stream: Stream, listener: &Listener) {
        let limits = listener.http2_limits.clone();
        let mut connection = match http2::Connection::handshake(stream.clone(), limits).await {
            Ok(connection) => connection,
            Err(error) => return end_badly(&listener.name, &stream, &error),
        };
        let this = Rc::new(self);
        let mut closed = pin!(this.gate.closed());
        let mut draining = false;
        loop {
            let mut exchange = Box::<Exchange>::default();
            let accepted = poll_fn(|cx| {
                if !draining && closed.as_mut().poll(cx).is_ready() {
                    draining = true;
                    connection.graceful_shutdown();
                }
                connection.poll_accept(cx, &mut exchange.request)
            })
            .await;
            match accepted {
                Some(Ok(incoming)) => {
                    let this = this.clone();
                    let served = async move { this.stream(exchange, incoming).await };
                    tokio::task::spawn_local(Timed::new(served));
                }
                Some(Err(AcceptError::Request(error))) => {
                    exchange.client = this.peer;
                    exchange.peer = this.identity().cloned();
                    exchange.listener = listener.name.clone();
                    let fault = fault_of_status(error.status());
                    exchange.response.status = fault.row().status;
                    let record = this.worker.record();
                    record.unrouted(listener, &mut exchange, fault, true, clock::recent());
                }
                Some(Err(AcceptError::Connection(error))) => {
                    return end_badly(&listener.name, &stream, &error);
                }
                None => return,
            }
        }
    }

    async fn stream(&self, mut exchange: Box<Exchange>, incoming: http2::Incoming) {
        let http2::Incoming { length, body, mut responder } = incoming;
        let Some(listener) = self.worker.listener(&self.listener) else {
            return responder.reset(http2::Reason::REFUSED_STREAM);
        };
        exchange.request.scheme = self.scheme();
        let request = Request {
            peer: self.peer,
            identity: self.identity(),
            length,
            body: Source::Http2(body),
            responder: Responder::Http2(responder),
        };
        let mut timers = Timers::default();
        service::serve(&listener, &mut exchange, request, &mut timers, &self.worker.record()).await;
    }
}

/// Waits for the next request. `Some(true)`: its first byte is here. `Some(false)`: the client has
/// closed. None: the connection is to be closed, since `closed` is over, or nothing came in time.
async fn first_byte(
    mut closed: Pin<&mut impl Future<Output = ()>>,
    reader: &mut Reader,
    timer: &mut Timer,
    listener: &Listener,
) -> Option<bool> {
    let wait = poll_fn(|cx| {
        if let Poll::Ready(begun) = reader.poll_idle(cx) {
            return Poll::Ready(Some(begun.unwrap_or(false)));
        }
        closed.as_mut().poll(cx).map(|()| None)
    });
    timer.within(listener.limits.idle_timeout, wait).await.unwrap_or(None)
}

/// Closes in an order that lets the client read the last answer.
async fn linger(stream: &Stream, mut reader: Reader, timer: &mut Timer) {
    let unread = async {
        // A connection that cannot be shut down is closed already.
        let _ = poll_fn(|cx| stream.poll_shutdown(cx)).await;
        reader.tunnel();
        let mut left = LINGER_BYTES_MAX;
        while let Ok(Frame::Data(bytes)) = poll_fn(|cx| reader.poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(bytes.len()) else { return };
            left = rest;
        }
    };
    let _ = timer.within(LINGER_TIMEOUT, unread).await;
}

/// What was to be said to the client on HTTP/2 is said.
fn end_badly(listener: &str, stream: &Stream, error: &http2::ConnectionError) {
    stream.say_goodbye();
    tracing::debug!(listener, error = %error, "A downstream HTTP/2 connection ended.");
}

fn fault_of_read(error: &ReadError) -> Fault {
    match error {
        ReadError::Head(error) => fault_of_head(*error),
        ReadError::Truncated | ReadError::Closed | ReadError::Io(_) => Fault::RequestIncomplete,
        ReadError::BodyUnread => Fault::RequestMalformed,
    }
}

fn fault_of_head(error: HeadError) -> Fault {
    fault_of_status(http1::HeadError::status(error))
}

fn fault_of_status(status: u16) -> Fault {
    match status {
        414 => Fault::TargetTooLong,
        417 => Fault::ExpectationUnknown,
        431 => Fault::RequestHeadTooLarge,
        501 => Fault::MethodNotOffered,
        505 => Fault::VersionNotOffered,
        _ => Fault::RequestMalformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// How long a connection lingers whose client sends so many bytes more and stays.
    async fn lingered(bytes: usize) -> Duration {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let stream = Stream::over(server);
        let start = tokio::time::Instant::now();
        let (mut timer, rest) = (Timer::default(), vec![b'x'; bytes]);
        let lingering = linger(&stream, Reader::new(stream.clone()), &mut timer);
        let (sent, ()) = tokio::join!(client.write_all(&rest), lingering);
        sent.unwrap();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_reads_on_for_a_while() {
        for bytes in [0, LINGER_BYTES_MAX - 1, LINGER_BYTES_MAX] {
            assert_eq!(lingered(bytes).await.as_secs(), LINGER_TIMEOUT.as_secs(), "{bytes}");
        }
        assert_eq!(lingered(LINGER_BYTES_MAX + 1).await, Duration::ZERO);
    }
}
