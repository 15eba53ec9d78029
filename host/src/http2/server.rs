//! One downstream HTTP/2 connection: accepts its requests and decides when it ends.
//!
//! [`Connection`] does all reading and writing of the connection while it is polled, also for the
//! streams it has handed out; it must be polled until it says the connection is over. Malformed
//! requests are answered here and reported. Knows no routes; `client` is the other side.

use super::body::{BodyReader, BodyWriter};
use super::error::{AcceptError, ConnectionError, SendError};
use super::guard::{Guard, Side, Watch};
use super::head;
use super::keepalive::{KeepAlive, Silence, Timer};
use super::limits::Http2Limits;
use crate::http::{BodyLength, Fields, RequestHead, ResponseHead};
use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{HeaderValue, StatusCode, header};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

/// How long a last GOAWAY may take to be written when the peer is turned away.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// A request beside its head.
pub struct Incoming {
    /// How long the body is.
    pub length: BodyLength,
    /// Reads the body.
    pub body: BodyReader,
    /// Answers.
    pub responder: Responder,
}

/// A downstream connection.
pub struct Connection<T> {
    /// None once the connection is over; dropping it fails the streams that are left.
    inner: Option<server::Connection<Guard<T>, Bytes>>,
    watch: Rc<Watch>,
    limits: Rc<Http2Limits>,
    keepalive: KeepAlive,
    timer: Timer,
    started: Instant,
    requests: u64,
    idle_since: Option<Instant>,
    phase: Phase,
}

enum Phase {
    Open,
    /// GOAWAY was sent or is being sent; streams in flight finish.
    Draining,
    /// The last GOAWAY is on its way, at most until the instant.
    Ending(Option<ConnectionError>, Instant),
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Connection<T> {
    /// Sends our settings and waits for the client's preface; the settings it ends with may still
    /// be on their way afterwards, within the same `preface_timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the transport.
    pub async fn handshake(io: T, limits: Rc<Http2Limits>) -> Result<Self, ConnectionError> {
        let started = Instant::now();
        let guard = Guard::new(io, Side::Server, &limits);
        let watch = guard.watch();
        let handshake = server::Builder::new()
            .initial_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_list_setting())
            .max_send_buffer_size(limits.send_buffer_bytes)
            .max_pending_accept_reset_streams(limits.pending_resets)
            .max_local_error_reset_streams(Some(limits.error_resets))
            .data_frame_budget(limits.small_frames_bytes)
            .handshake(guard);
        let mut inner: server::Connection<Guard<T>, Bytes> =
            match timeout(limits.preface_timeout, handshake).await {
                Ok(result) => result?,
                Err(_) => return Err(ConnectionError::PrefaceTimeout),
            };
        let keepalive = KeepAlive::new(inner.ping_pong(), &limits);
        let now = Instant::now();
        Ok(Connection {
            inner: Some(inner),
            watch,
            keepalive,
            timer: Timer::new(
                (started + limits.preface_timeout)
                    .min(now + limits.ping_interval.min(limits.downstream_idle)),
            ),
            limits,
            started,
            requests: 0,
            idle_since: Some(now),
            phase: Phase::Open,
        })
    }

    /// The next request, whose head goes into `head`. None: the connection ended cleanly. After an
    /// [`AcceptError::Request`] the connection goes on; after None or any other error it is over.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn accept(
        &mut self,
        head: &mut RequestHead,
    ) -> Option<Result<Incoming, AcceptError>> {
        std::future::poll_fn(|cx| self.poll_accept(cx, head)).await
    }

    /// The same as a poll function. What is in `head` when the answer is no request means nothing.
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
    ) -> Poll<Option<Result<Incoming, AcceptError>>> {
        loop {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            match inner.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, responder)))) => {
                    self.idle_since = None;
                    self.count_request();
                    return Poll::Ready(Some(self.incoming(request, responder, head)));
                }
                Poll::Ready(Some(Err(error))) => return self.over(Some(error.into())),
                Poll::Ready(None) => return self.over(None),
                Poll::Pending => {}
            }
            if let (Some(violation), false) = (self.watch.violation(), self.is_ending()) {
                self.end(violation.reason(), Some(ConnectionError::Violation(violation)));
                continue;
            }
            match self.poll_deadlines(cx) {
                Next::Wait => return Poll::Pending,
                Next::PollAgain => {}
                Next::Over(error) => return self.over(error),
            }
        }
    }

    /// Tells the client to open no more streams and ends the connection when those there are have
    /// finished. Streams that the client opens before it hears of it are still accepted. Go on
    /// polling: nothing is sent otherwise.
    pub fn graceful_shutdown(&mut self) {
        if let (Phase::Open, Some(inner)) = (&self.phase, &mut self.inner) {
            self.phase = Phase::Draining;
            inner.graceful_shutdown();
            // From here on the time without streams is measured anew.
            let now = Instant::now();
            self.idle_since = self.idle_since.map(|_| now);
            self.timer.at_latest(now + self.limits.ping_timeout);
        }
    }

    /// Ends the connection and all its streams, telling the client `reason`.
    pub fn abrupt_shutdown(&mut self, reason: Reason) {
        if !self.is_ending() {
            self.end(reason, None);
        }
    }

    /// Is there a stream that is not finished?
    pub fn has_streams(&self) -> bool {
        self.inner.as_ref().is_some_and(server::Connection::has_streams)
    }

    /// Streams reset since the connection began because the client broke the protocol on them, most
    /// of them before they became requests: malformed heads, header lists over twice the limit that
    /// come with a body (answered with 431), bodies that contradict their `content-length`.
    pub fn rejected_streams(&self) -> u64 {
        self.watch.rejected()
    }

    fn incoming(
        &self,
        request: http::Request<RecvStream>,
        mut responder: server::SendResponse<Bytes>,
        head: &mut RequestHead,
    ) -> Result<Incoming, AcceptError> {
        let (parts, stream) = request.into_parts();
        match head::read_request(&parts, stream.is_end_stream(), head, &self.limits) {
            Ok(length) => Ok(Incoming {
                length,
                body: BodyReader::new(stream, (&*self.limits).into(), None),
                responder: Responder { inner: responder },
            }),
            Err(error) => {
                let mut response = http::Response::new(());
                *response.status_mut() =
                    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let zero = HeaderValue::from_static("0");
                response.headers_mut().insert(header::CONTENT_LENGTH, zero);
                // It fails only when the client has reset the stream. A body still on its way is
                // declined with NO_ERROR when the handles are dropped (RFC 9113 section 8.1).
                let _ = responder.send_response(response, true);
                Err(error.into())
            }
        }
    }

    fn count_request(&mut self) {
        self.requests += 1;
        if self.requests >= self.limits.requests {
            self.graceful_shutdown();
        }
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(..))
    }

    fn end(&mut self, reason: Reason, error: Option<ConnectionError>) {
        if let Some(inner) = &mut self.inner {
            inner.abrupt_shutdown(reason);
            self.phase = Phase::Ending(error, Instant::now() + LAST_WORDS_TIMEOUT);
        }
    }

    /// The connection is over; why it was ended outweighs what its last poll said. A client that
    /// has all its answers and a GOAWAY may just leave.
    fn over(
        &mut self,
        error: Option<ConnectionError>,
    ) -> Poll<Option<Result<Incoming, AcceptError>>> {
        self.inner = None;
        let error = match std::mem::replace(&mut self.phase, Phase::Draining) {
            Phase::Ending(Some(cause), _) => Some(cause),
            Phase::Ending(None, _) => None,
            Phase::Draining if self.idle_since.is_some() => {
                error.filter(|error| !matches!(error, ConnectionError::Io(_)))
            }
            Phase::Open | Phase::Draining => error,
        };
        Poll::Ready(error.map(|error| Err(error.into())))
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Next {
        self.keepalive.poll_pong(cx);
        if self.has_streams() {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            let now = Instant::now();
            self.idle_since = Some(now);
            self.timer.at_latest(now + self.limits.downstream_idle.min(self.limits.ping_timeout));
        }
        if let Phase::Ending(_, deadline) = &self.phase {
            self.timer.at_latest(*deadline);
        }
        if self.timer.poll(cx).is_pending() {
            return Next::Wait;
        }
        let now = Instant::now();
        let (next, deadline) = self.check_deadlines(now);
        // A deadline that has just passed fires once more; the check then finds another state.
        self.timer.set(deadline);
        match next {
            // The timer has to see the waker.
            Next::Wait if self.timer.poll(cx).is_ready() => Next::PollAgain,
            next => next,
        }
    }

    /// What the passing of time asks for, and the next deadline.
    fn check_deadlines(&mut self, now: Instant) -> (Next, Instant) {
        let idle_deadline = |since: Option<Instant>, limit| since.map(|since| since + limit);
        let mut deadline = match &mut self.phase {
            Phase::Ending(error, deadline) => {
                return if *deadline <= now {
                    (Next::Over(error.take()), now)
                } else {
                    (Next::Wait, *deadline)
                };
            }
            Phase::Draining => {
                // The client has all its answers and does not acknowledge the GOAWAY.
                match idle_deadline(self.idle_since, self.limits.ping_timeout) {
                    Some(deadline) if deadline <= now => return (Next::Over(None), now),
                    Some(deadline) => deadline,
                    None => now + self.limits.ping_interval,
                }
            }
            Phase::Open => {
                let aged = self.started + self.limits.lifetime;
                let idle = idle_deadline(self.idle_since, self.limits.downstream_idle);
                let deadline = idle.map_or(aged, |idle| idle.min(aged));
                if deadline <= now {
                    self.graceful_shutdown();
                    return (Next::PollAgain, now + self.limits.ping_timeout);
                }
                let preface = self.started + self.limits.preface_timeout;
                match (self.watch.greeted(), preface <= now) {
                    (true, _) => deadline,
                    (false, false) => deadline.min(preface),
                    (false, true) => {
                        return (Next::Over(Some(ConnectionError::PrefaceTimeout)), now);
                    }
                }
            }
        };
        match self.keepalive.check(now, self.watch.last_read()) {
            Silence::Until(ping) => deadline = deadline.min(ping),
            Silence::Pinged => {
                return (Next::PollAgain, deadline.min(now + self.limits.ping_timeout));
            }
            Silence::Dead => return (Next::Over(Some(ConnectionError::PingTimeout)), now),
        }
        (Next::Wait, deadline)
    }
}

enum Next {
    Wait,
    PollAgain,
    Over(Option<ConnectionError>),
}

/// Answers one request.
pub struct Responder {
    inner: server::SendResponse<Bytes>,
}

impl Responder {
    /// Sends an interim response (100, 102, 103), which may be several.
    pub fn interim(&mut self, status: u16, fields: &Fields) -> Result<(), SendError> {
        let response =
            head::write_response(status, fields, BodyLength::None).map_err(SendError::Head)?;
        if !response.status().is_informational() {
            return Err(SendError::Head("status"));
        }
        Ok(self.inner.send_informational(response)?)
    }

    /// Sends the head of the response, once. `end`: there is no body; none is returned then. An
    /// exact length is written as `content-length`, also with `end` (HEAD, 304).
    pub fn response_head(
        &mut self,
        head: &ResponseHead,
        length: BodyLength,
        end: bool,
    ) -> Result<Option<BodyWriter>, SendError> {
        let response =
            head::write_response(head.status, &head.fields, length).map_err(SendError::Head)?;
        if response.status().is_informational() {
            return Err(SendError::Head("status"));
        }
        let stream = self.inner.send_response(response, end)?;
        Ok((!end).then(|| BodyWriter::new(stream, length, None)))
    }

    /// Ready when the client has reset the stream, with its reason, or the connection is gone.
    /// Before the head is sent; afterwards ask the [`BodyWriter`].
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, SendError>> {
        self.inner.poll_reset(cx).map_err(SendError::from)
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        self.inner.send_reset(reason);
    }
}
