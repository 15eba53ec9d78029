//! Connections of one worker to its endpoints: made, kept alive, closed when idle for too long or when no
//! upstream has the endpoint any more.

use super::load::Load;
use super::secure::{self, Begun, Spoken};
use super::{Connection, LendError, Upstream};
use crate::clock;
use crate::config::Protocol;
use crate::http::PeerIdentity;
use crate::http1::{Reader, Writer};
use crate::http2::{Client, ConnectionError};
use crate::io::Stream;
use crate::io::tls::is_alert;
use crate::telemetry::UpstreamStats;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The endpoints of one worker, over all generations.
#[derive(Default)]
pub struct Endpoints {
    known: RefCell<HashMap<Place, Weak<Endpoint>>>,
}

/// An address, and what decides whether who answers there is believed; none: it is not asked.
type Place = (SocketAddr, Option<blake3::Hash>);

impl Endpoints {
    /// The endpoint at `address`: the same as long as some generation uses it under the same `trust`.
    pub fn of(&self, address: SocketAddr, trust: Option<blake3::Hash>) -> Rc<Endpoint> {
        let mut known = self.known.borrow_mut();
        if let Some(endpoint) = known.get(&(address, trust)).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Rc::new(Endpoint {
            address,
            idle: RefCell::default(),
            http2: RefCell::default(),
            open: Rc::default(),
            users: Cell::new(0),
            lost_until: Cell::new(None),
            load: Load::default(),
        });
        known.insert((address, trust), Rc::downgrade(&endpoint));
        endpoint
    }

    /// Closes connections that were idle for too long, or that the endpoint has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        for endpoint in self.known.borrow().values().filter_map(Weak::upgrade) {
            endpoint.idle.borrow_mut().retain(|idle| idle.is_good(now));
            endpoint.http2.borrow_mut().retain(|client| !client.is_closed());
        }
    }
}

/// One address and the connections to it.
pub struct Endpoint {
    address: SocketAddr,
    /// Used last comes last, and is used first.
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<Client>>,
    open: Rc<Cell<usize>>,
    /// Upstreams that have it, over all generations.
    users: Cell<usize>,
    /// When it may come first in a race again.
    lost_until: Cell<Option<Instant>>,
    /// Of requests to it.
    pub(super) load: Load,
}

/// An endpoint that an upstream has. With the last of them its connections go: those that wait for a
/// request at once, those with requests under way when these end.
pub(super) struct InUse(Rc<Endpoint>);

impl InUse {
    pub(super) fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.users.set(endpoint.users.get() + 1);
        InUse(endpoint)
    }

    pub(super) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let left = self.0.users.get() - 1;
        self.0.users.set(left);
        if left == 0 {
            self.0.retire();
        }
    }
}

struct Idle {
    connection: Box<Http1>,
    until: Instant,
}

impl Idle {
    /// Can it be used? If not, it is to be dropped, and the endpoint is told.
    fn is_good(&self, now: Instant) -> bool {
        let stream = self.connection.reader.stream();
        let is_good = self.until > now && stream.quiet();
        if !is_good {
            stream.say_goodbye();
        }
        is_good
    }
}

/// A connection in HTTP/1.1, lent to one request.
pub struct Http1 {
    /// Reads answers.
    pub reader: Reader,
    /// Writes requests.
    pub writer: Writer,
    /// The answer read last leaves the connection open.
    pub keepable: bool,
    /// Who the endpoint has proved to be; none without TLS.
    pub identity: Option<Arc<PeerIdentity>>,
    endpoint: Rc<Endpoint>,
    _open: Open,
}

impl Http1 {
    /// Keeps the connection for the next request. Only after an answer that was read to its end, to
    /// a request that was written to its end; otherwise drop it.
    pub fn keep(self: Box<Self>, upstream: &Upstream) {
        let endpoint = self.endpoint.clone();
        let mut idle = endpoint.idle.borrow_mut();
        let room = idle.len() < upstream.limits.keepalive_connections;
        if room && endpoint.users.get() > 0 && !self.reader.began() {
            let until = Instant::from(clock::recent()) + upstream.limits.keepalive_timeout;
            idle.push(Idle { connection: self, until });
        }
    }
}

impl Endpoint {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets go of connections that no request is using.
    fn retire(&self) {
        for idle in self.idle.take() {
            idle.connection.reader.stream().say_goodbye();
        }
        self.http2.take().iter().for_each(Client::close);
    }

    /// Has it lost a race a moment ago?
    pub(super) fn has_lost(&self) -> bool {
        self.lost_until.get().is_some_and(|until| until > Instant::now())
    }

    /// It has lost a race.
    pub(super) fn lose_until(&self, until: Instant) {
        self.lost_until.set(Some(until));
    }

    /// It has won one.
    pub(super) fn forget_loss(&self) {
        self.lost_until.set(None);
    }

    /// The connection used last, if it is still good.
    fn take_idle(&self) -> Option<Box<Http1>> {
        let mut idle = self.idle.borrow_mut();
        let now = clock::recent().into();
        while let Some(last) = idle.pop() {
            if last.is_good(now) {
                return Some(last.connection);
            }
        }
        None
    }

    /// A connection that is there already.
    pub(super) fn kept(&self, protocol: Protocol) -> Option<Connection> {
        let http1 = || self.take_idle().map(Connection::Http1);
        let http2 = || self.usable_http2().map(Connection::Http2);
        match protocol {
            Protocol::Http1 => http1(),
            Protocol::Http2 => http2(),
            Protocol::Auto => http2().or_else(http1),
        }
    }

    fn usable_http2(&self) -> Option<Client> {
        self.http2.borrow().iter().find(|client| client.usable()).cloned()
    }

    /// A new connection.
    pub(super) async fn open(
        self: &Rc<Self>,
        upstream: &Upstream,
    ) -> Result<Connection, LendError> {
        let reached = self.reach(upstream).await?;
        self.begin(upstream, reached).await
    }

    /// The same, from the socket on.
    pub(super) async fn begin(
        self: &Rc<Self>,
        upstream: &Upstream,
        Reached { socket, open }: Reached,
    ) -> Result<Connection, LendError> {
        let begun = secure::begin(upstream, self.address, socket).await?;
        let Begun { stream, spoken, identity } = begun;
        match spoken {
            Spoken::Http1 => Ok(Connection::Http1(Box::new(Http1 {
                reader: Reader::new(stream.clone()),
                writer: Writer::new(stream),
                keepable: false,
                identity,
                endpoint: self.clone(),
                _open: open,
            }))),
            Spoken::Http2 => {
                let io = Counted { stream, _open: open };
                self.greet(io, identity, upstream).await
            }
        }
    }

    async fn greet(
        &self,
        io: Counted,
        identity: Option<Arc<PeerIdentity>>,
        upstream: &Upstream,
    ) -> Result<Connection, LendError> {
        let handshake = Client::handshake(io, upstream.http2_limits.clone());
        let client = handshake.await.map_err(|error| {
            tracing::debug!(endpoint = %self.address, error = %error, "An HTTP/2 connection failed.");
            match error {
                ConnectionError::Io(error) if is_alert(&error) => LendError::Alert,
                _ => LendError::Handshake,
            }
        })?;
        let client = client.of(identity);
        if self.users.get() > 0 {
            self.http2.borrow_mut().push(client.clone());
        }
        Ok(Connection::Http2(client))
    }

    /// A socket that the endpoint has accepted.
    pub(super) async fn reach(&self, upstream: &Upstream) -> Result<Reached, LendError> {
        if self.open.get() >= upstream.limits.connections_max {
            return Err(LendError::NoEndpoint);
        }
        let open = Open::new(self.open.clone(), upstream.stats.clone(), upstream.worker());
        let connecting = TcpStream::connect(self.address);
        let connected = tokio::time::timeout(upstream.limits.connect_timeout, connecting).await;
        let failed = |fault: LendError, error: &dyn std::fmt::Display| {
            tracing::debug!(
                upstream = %upstream.name, endpoint = %self.address, error = %error,
                "A connection to an endpoint could not be made."
            );
            fault
        };
        match connected {
            Ok(Ok(socket)) => {
                upstream.stats.connection_opened(upstream.worker());
                Ok(Reached { socket, open: open.made() })
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(failed(LendError::Refused, &error))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(failed(LendError::TimedOut, &error))
            }
            // Accepted, and broken off before we have looked.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(failed(LendError::Handshake, &error))
            }
            Ok(Err(error)) => Err(failed(LendError::Unreachable, &error)),
            Err(elapsed) => Err(failed(LendError::TimedOut, &elapsed)),
        }
    }
}

/// A connection on which nothing was said.
pub(super) struct Reached {
    socket: TcpStream,
    open: Open,
}

/// Counts a connection while it is there, from the attempt on.
struct Open {
    count: Rc<Cell<usize>>,
    stats: Arc<UpstreamStats>,
    worker: usize,
    made: bool,
}

impl Open {
    fn new(count: Rc<Cell<usize>>, stats: Arc<UpstreamStats>, worker: usize) -> Self {
        count.set(count.get() + 1);
        Open { count, stats, worker, made: false }
    }

    fn made(mut self) -> Self {
        self.made = true;
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        if self.made {
            self.stats.connection_closed(self.worker);
        }
    }
}

/// A stream that is counted until the driver of its HTTP/2 connection drops it.
struct Counted {
    stream: Stream,
    _open: Open,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
