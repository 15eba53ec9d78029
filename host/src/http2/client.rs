//! One upstream HTTP/2 connection, shared by the requests of a worker.
//!
//! A task of its own drives it; [`Client`] is the handle that a pool keeps, [`Response`] the one of a
//! request. The connection ends by itself when no request was open for `upstream_idle`. Knows no
//! endpoints and retries nothing, but tells what may be retried.

use super::body::{BodyReader, BodyWriter};
use super::error::{ConnectionError, RequestError, SendError};
use super::guard::{Guard, Side, Watch};
use super::head::{self, ResponseFraming};
use super::keepalive::{KeepAlive, Silence, Timer};
use super::limits::Http2Limits;
use crate::http::{BodyLength, PeerIdentity, RequestHead, ResponseHead};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::Method;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// An upstream connection. Clones are handles of the same one. It lives until it is idle for too
/// long, is closed or fails, whether or not there are handles.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
    /// Who the server has proved to be, as far as whoever made the connection has said.
    identity: Option<Arc<PeerIdentity>>,
}

struct Shared {
    /// None once the connection takes no more requests.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    limits: Rc<Http2Limits>,
    active: Cell<usize>,
    /// When the last active stream ended.
    idle_since: Cell<Instant>,
    failure: RefCell<Option<ConnectionError>>,
}

impl Client {
    /// Begins a connection and spawns its driver on the current `LocalSet` or local runtime. The
    /// server's settings are not waited for.
    pub async fn handshake<T>(io: T, limits: Rc<Http2Limits>) -> Result<Client, ConnectionError>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let guard = Guard::new(io, Side::Client, &limits);
        let watch = guard.watch();
        let (sender, mut connection) = client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(limits.streams as usize)
            .initial_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_header_list_size(limits.header_list_setting())
            .max_send_buffer_size(limits.send_buffer_bytes)
            .max_local_error_reset_streams(Some(limits.error_resets))
            .data_frame_budget(limits.small_frames_bytes)
            .handshake(guard)
            .await?;
        let now = Instant::now();
        let shared = Rc::new(Shared {
            sender: RefCell::new(Some(sender)),
            limits: limits.clone(),
            active: Cell::new(0),
            idle_since: Cell::new(now),
            failure: RefCell::new(None),
        });
        let driver = Driver {
            keepalive: KeepAlive::new(connection.ping_pong(), &limits),
            connection: Some(connection),
            watch,
            shared: shared.clone(),
            timer: Timer::new(now + limits.upstream_idle),
            closing: None,
        };
        tokio::task::spawn_local(driver);
        Ok(Client { shared, identity: None })
    }

    /// A connection to this server.
    pub fn of(self, identity: Option<Arc<PeerIdentity>>) -> Self {
        Client { identity, ..self }
    }

    /// Who the server has proved to be; none: nobody has said so.
    pub fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.identity.as_ref()
    }

    /// Takes the connection another request now? No once it is ending, and while as many streams
    /// are open as `streams` and the server allow.
    pub fn usable(&self) -> bool {
        let mut sender = self.shared.sender.borrow_mut();
        let Some(sender) = &mut *sender else {
            return false;
        };
        let allowed = sender.current_max_send_streams().min(self.shared.limits.streams as usize);
        self.shared.active.get() < allowed
            && matches!(
                sender.poll_ready(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(Ok(()))
            )
    }

    /// Will it never take another request?
    pub fn is_closed(&self) -> bool {
        match &mut *self.shared.sender.borrow_mut() {
            None => true,
            Some(sender) => matches!(
                sender.poll_ready(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(Err(_))
            ),
        }
    }

    /// Takes no more requests and lets the connection end with those under way.
    pub fn close(&self) {
        self.shared.sender.borrow_mut().take();
    }

    /// Requests under way.
    pub fn active_streams(&self) -> usize {
        self.shared.active.get()
    }

    /// Why the connection ended, once; none where it goes on or the server closed it.
    pub fn take_failure(&self) -> Option<ConnectionError> {
        self.shared.failure.borrow_mut().take()
    }

    /// Sends the head of a request. `end`: there is no body; no writer is returned then. An exact
    /// length is written as `content-length`. [`RequestError::Unprocessed`] when the connection
    /// takes no more requests.
    pub fn request(
        &self,
        head: &RequestHead,
        length: BodyLength,
        end: bool,
    ) -> Result<(Response, Option<BodyWriter>), ClientSendError> {
        let request = head::write_request(head, length).map_err(SendError::Head)?;
        if !self.usable() {
            return Err(RequestError::Unprocessed.into());
        }
        let mut sender = self.shared.sender.borrow_mut();
        let Some(sender) = &mut *sender else {
            return Err(RequestError::Unprocessed.into());
        };
        let sent = sender.send_request(request, end);
        let (future, stream) = sent.map_err(|_| RequestError::Unprocessed)?;
        let active = Rc::new(ActiveStream::begin(&self.shared));
        let writer = (!end).then(|| BodyWriter::new(stream, length, Some(active.clone())));
        let response = Response {
            future,
            method: head.method.clone(),
            limits: self.shared.limits.clone(),
            active,
        };
        Ok((response, writer))
    }
}

/// Why a request could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientSendError {
    /// The head cannot be written as HTTP/2.
    #[error("failed to write the request")]
    Head(#[from] SendError),
    /// The connection takes no more requests.
    #[error("failed to send the request")]
    Connection(#[from] RequestError),
}

/// Counts a stream as long as one of its handles is there.
pub(super) struct ActiveStream {
    shared: Rc<Shared>,
}

impl ActiveStream {
    fn begin(shared: &Rc<Shared>) -> Self {
        shared.active.set(shared.active.get() + 1);
        ActiveStream { shared: shared.clone() }
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        let left = self.shared.active.get() - 1;
        self.shared.active.set(left);
        if left == 0 {
            self.shared.idle_since.set(Instant::now());
        }
    }
}

/// The response to come. Dropping it gives the request up.
pub struct Response {
    future: client::ResponseFuture,
    method: Method,
    limits: Rc<Http2Limits>,
    active: Rc<ActiveStream>,
}

/// A head that has arrived.
pub enum Answer {
    /// An interim response (100, 102 to 199); ask again for the next one.
    Interim,
    /// The final response. Do not ask again.
    Final(ResponseFraming, BodyReader),
}

impl Response {
    /// The next response head, which goes into `head`.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<Answer, RequestError>> {
        if let Some(interim) = ready!(self.future.poll_informational(cx)) {
            let (parts, ()) = interim?.into_parts();
            head::read_response(&parts, &self.method, false, head, &self.limits)?;
            return Poll::Ready(Ok(Answer::Interim));
        }
        let (parts, stream) = ready!(Pin::new(&mut self.future).poll(cx))?.into_parts();
        let ended = stream.is_end_stream();
        let framing = head::read_response(&parts, &self.method, ended, head, &self.limits)?;
        let trailers = (&*self.limits).into();
        let body = BodyReader::new(stream, trailers, Some(self.active.clone()));
        Poll::Ready(Ok(Answer::Final(framing, body)))
    }
}

/// Shortest interval at which a driver looks whether its streams have ended.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The task behind a connection.
struct Driver<T: AsyncRead + AsyncWrite + Unpin> {
    connection: Option<client::Connection<Guard<T>, Bytes>>,
    watch: Rc<Watch>,
    shared: Rc<Shared>,
    keepalive: KeepAlive,
    timer: Timer,
    /// The connection takes no more requests and ends with the streams there are.
    closing: Option<Instant>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let this = &mut *self;
            let Some(connection) = &mut this.connection else {
                return Poll::Ready(());
            };
            if let Poll::Ready(result) = Pin::new(connection).poll(cx) {
                return this.over(result.err().map(ConnectionError::from));
            }
            if let Some(violation) = this.watch.violation() {
                return this.over(Some(ConnectionError::Violation(violation)));
            }
            this.keepalive.poll_pong(cx);
            if this.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(error) = this.check_deadlines(Instant::now()) {
                return this.over(error);
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Sets the timer anew; something: the connection is over.
    #[expect(clippy::option_option, reason = "over, and over for a reason, are two answers")]
    fn check_deadlines(&mut self, now: Instant) -> Option<Option<ConnectionError>> {
        let limits = &self.shared.limits;
        if self.shared.active.get() == 0 {
            let idle = self.shared.idle_since.get() + limits.upstream_idle;
            let deadline = match self.closing {
                None if idle > now => idle,
                // Without a sender and without streams the connection says GOAWAY and closes.
                None => {
                    self.shared.sender.borrow_mut().take();
                    self.closing = Some(now);
                    now + limits.ping_timeout
                }
                Some(since) if since + limits.ping_timeout <= now => return Some(None),
                Some(since) => since + limits.ping_timeout,
            };
            self.timer.set(deadline);
            return None;
        }
        // The end of the last stream does not wake the driver: it looks in time.
        let look = now + limits.upstream_idle.max(LOOK_INTERVAL_MIN);
        let deadline = match self.keepalive.check(now, self.watch.last_read()) {
            Silence::Until(deadline) => deadline.min(look),
            Silence::Pinged => look,
            Silence::Dead => return Some(Some(ConnectionError::PingTimeout)),
        };
        self.timer.set(deadline);
        None
    }

    fn over(&mut self, error: Option<ConnectionError>) -> Poll<()> {
        self.shared.sender.borrow_mut().take();
        *self.shared.failure.borrow_mut() = error;
        // Fails the streams that are left.
        self.connection = None;
        Poll::Ready(())
    }
}
