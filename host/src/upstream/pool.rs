//! Connections of one worker to its endpoints: made, kept alive, closed when idle for too long.

use super::load::Load;
use super::{LendError, Upstream};
use crate::http1::{Reader, Writer};
use crate::http2::Client;
use crate::io::Stream;
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
    known: RefCell<HashMap<SocketAddr, Weak<Endpoint>>>,
}

impl Endpoints {
    /// The endpoint at `address`: the same as long as some generation uses it.
    pub fn of(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut known = self.known.borrow_mut();
        if let Some(endpoint) = known.get(&address).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Rc::new(Endpoint {
            address,
            idle: RefCell::default(),
            http2: RefCell::default(),
            open: Rc::default(),
            load: Load::default(),
        });
        known.insert(address, Rc::downgrade(&endpoint));
        endpoint
    }

    /// Closes connections that were idle for too long or that the endpoint has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        for endpoint in self.known.borrow().values().filter_map(Weak::upgrade) {
            endpoint
                .idle
                .borrow_mut()
                .retain(|idle| idle.until > now && idle.connection.is_quiet());
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
    /// Of requests to it.
    pub(super) load: Load,
}

struct Idle {
    connection: Box<Http1>,
    until: Instant,
}

/// A connection in HTTP/1.1, lent to one request.
pub struct Http1 {
    /// Reads answers.
    pub reader: Reader,
    /// Writes requests.
    pub writer: Writer,
    /// The answer read last leaves the connection open.
    pub keepable: bool,
    endpoint: Rc<Endpoint>,
    _open: Open,
}

impl Http1 {
    /// Keeps the connection for the next request. Only after an answer that was read to its end, to
    /// a request that was written to its end; otherwise drop it.
    pub fn keep(self: Box<Self>, upstream: &Upstream) {
        let endpoint = self.endpoint.clone();
        let mut idle = endpoint.idle.borrow_mut();
        if idle.len() < upstream.limits.keepalive_connections && !self.reader.began() {
            let until = Instant::now() + upstream.limits.keepalive_timeout;
            idle.push(Idle { connection: self, until });
        }
    }

    fn is_quiet(&self) -> bool {
        self.reader.stream().quiet()
    }
}

impl Endpoint {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection used last, if it is still good.
    pub(super) fn take_idle(&self) -> Option<Box<Http1>> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        while let Some(Idle { connection, until }) = idle.pop() {
            if until > now && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn usable_http2(&self) -> Option<Client> {
        self.http2.borrow().iter().find(|client| client.usable()).cloned()
    }

    pub(super) async fn connect_http1(
        self: &Rc<Self>,
        upstream: &Upstream,
    ) -> Result<Http1, LendError> {
        let (stream, open) = self.connect(upstream).await?;
        Ok(Http1 {
            reader: Reader::new(stream.clone()),
            writer: Writer::new(stream),
            keepable: false,
            endpoint: self.clone(),
            _open: open,
        })
    }

    pub(super) async fn connect_http2(
        self: &Rc<Self>,
        upstream: &Upstream,
    ) -> Result<Client, LendError> {
        let (stream, open) = self.connect(upstream).await?;
        let io = Counted { stream, _open: open };
        let handshake = Client::handshake(io, upstream.http2_limits.clone());
        let client = handshake.await.map_err(|error| {
            tracing::debug!(endpoint = %self.address, error = %error, "An HTTP/2 connection failed.");
            LendError::Handshake
        })?;
        self.http2.borrow_mut().push(client.clone());
        Ok(client)
    }

    async fn connect(&self, upstream: &Upstream) -> Result<(Stream, Open), LendError> {
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
                Ok((Stream::tcp(socket), open.made()))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(failed(LendError::Refused, &error))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(failed(LendError::TimedOut, &error))
            }
            Ok(Err(error)) => Err(failed(LendError::Unreachable, &error)),
            Err(elapsed) => Err(failed(LendError::TimedOut, &elapsed)),
        }
    }
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
