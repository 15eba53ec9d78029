//! Servers behind the sidecar: an echo that tells what it saw, a handler of the test's own, or a raw
//! connection scripted byte by byte. Each counts its connections and requests, and ends with its
//! value.

use crate::wire::Wire;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel};
pub use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// What can go wrong with a body that a test makes.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body that a test makes.
pub type Body = BoxBody<Bytes, BodyError>;
/// The other end of a body that a test writes piece by piece.
pub type BodySender = http_body_util::channel::Sender<Bytes, BodyError>;

/// A body to be written piece by piece.
pub fn streamed() -> (BodySender, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// What the echo origin saw of a request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// As received.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// `HTTP/1.1`, `HTTP/2.0`, ...
    pub version: String,
    /// `:authority` or `host`.
    pub authority: String,
    /// `:scheme`, where the protocol has one.
    pub scheme: String,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// The first 16 KiB of it.
    pub body: String,
    /// All of its bytes, counted.
    pub body_bytes: u64,
    /// Fields after it.
    pub trailers: Vec<(String, String)>,
    /// Counted from 1, over the life of the origin.
    pub connection: usize,
}

impl Seen {
    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A server.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Origin {
    /// Answers every request with a [`Seen`] as JSON; HTTP/1.1 and HTTP/2.
    pub async fn echo() -> Origin {
        Origin::echo_on(listen().await)
    }

    /// The same at this address, to which an origin may have listened before.
    pub async fn echo_at(address: SocketAddr) -> Origin {
        let bound = crate::wait::until("the address to be free", async || {
            TcpListener::bind(address).await.ok()
        });
        let listener = bound.await;
        let address = listener.local_addr().expect("a bound socket has an address");
        Origin::echo_on((listener, address))
    }

    fn echo_on((listener, address): (TcpListener, SocketAddr)) -> Origin {
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task =
            tokio::spawn(accept(listener, shared, |stream, connection, counts| async move {
                let handler = move |request| echo(request, connection);
                serve(stream, counts, handler).await;
            }));
        Origin { address, counts, task }
    }

    /// The same at each of these addresses of this host, with one port for all of them.
    ///
    /// # Panics
    /// When no port is free at all of them.
    pub async fn echoes_at<const COUNT: usize>(addresses: [IpAddr; COUNT]) -> [Origin; COUNT] {
        let listeners = crate::wait::until("a port that is free at every address", async || {
            let mut listeners = Vec::new();
            let mut port = 0;
            for address in addresses {
                let listener = TcpListener::bind((address, port)).await.ok()?;
                port = listener.local_addr().ok()?.port();
                listeners.push(listener);
            }
            listeners.try_into().ok()
        });
        let listeners: [TcpListener; COUNT] = listeners.await;
        listeners.map(|listener| {
            let address = listener.local_addr().expect("a bound socket has an address");
            let counts = Arc::<Counts>::default();
            let shared = Arc::clone(&counts);
            let task =
                tokio::spawn(accept(listener, shared, |stream, connection, counts| async move {
                    let handler = move |request| echo(request, connection);
                    serve(stream, counts, handler).await;
                }));
            Origin { address, counts, task }
        })
    }

    /// Answers every request by `handler`; HTTP/1.1 and HTTP/2.
    pub async fn serve<F, A>(handler: F) -> Origin
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let (listener, address) = listen().await;
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(accept(listener, shared, move |stream, _, counts| {
            serve(stream, counts, handler.clone())
        }));
        Origin { address, counts, task }
    }

    /// Speaks HTTP/2, and says goodbye (GOAWAY) on each connection after its first answer.
    pub async fn goodbye() -> Origin {
        let (listener, address) = listen().await;
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(accept(listener, shared, |stream, _, counts| async move {
            let asked = Arc::new(tokio::sync::Notify::new());
            let told = Arc::clone(&asked);
            let service = service_fn(move |_: Request<Incoming>| {
                counts.requests.fetch_add(1, Ordering::SeqCst);
                told.notify_one();
                async { Ok::<_, Infallible>(Response::new(crate::client::full("x"))) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection =
                std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = asked.notified() => connection.as_mut().graceful_shutdown(),
            }
            // What is open finishes; how the connection ends is the peer's business.
            let _ = connection.await;
        }));
        Origin { address, counts, task }
    }

    /// Hands every connection, numbered from 1, to `script`.
    pub async fn script<F, A>(script: F) -> Origin
    where
        F: Fn(Wire, usize) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = listen().await;
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(accept(listener, shared, move |stream, connection, _| {
            script(Wire::new(stream), connection)
        }));
        Origin { address, counts, task }
    }

    /// Answers every request with these bytes, and closes.
    pub async fn bytes(answer: impl Into<Bytes>) -> Origin {
        let answer = answer.into();
        Origin::script(move |mut wire, _| {
            let answer = answer.clone();
            async move {
                if wire.request().await.is_some() {
                    wire.send(&answer).await;
                    wire.finish().await;
                    wire.rest().await;
                }
            }
        })
        .await
    }

    /// Takes requests and never answers.
    pub async fn silent() -> Origin {
        Origin::script(|mut wire, _| async move {
            wire.rest().await;
        })
        .await
    }

    /// An address where nothing listens.
    pub async fn refusing() -> SocketAddr {
        listen().await.1
    }

    /// An address that lets connection attempts hang: its backlog is full and never emptied. Lasts
    /// as long as the value beside it.
    pub async fn unreachable() -> (SocketAddr, Box<dyn Send>) {
        Origin::unreachable_at(([127, 0, 0, 1], 0).into()).await.expect("a free port can be bound")
    }

    /// The same at this address; none: it cannot be had.
    pub async fn unreachable_at(address: SocketAddr) -> Option<(SocketAddr, Box<dyn Send>)> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.ok()?;
        socket.bind(address).ok()?;
        let listener = socket.listen(0).expect("a bound socket can listen");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut waiting = Vec::new();
        let attempt = std::time::Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(attempt, TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        Some((address, Box::new((listener, waiting))))
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Requests so far; a scripted origin does not count them.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

async fn accept<A: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    counts: Arc<Counts>,
    connection: impl Fn(TcpStream, usize, Arc<Counts>) -> A,
) {
    // Dropped with the accepting task, so that connections end with the origin.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("descriptors are not used up");
        let number = counts.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, number, Arc::clone(&counts)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<F, A>(stream: TcpStream, counts: Arc<Counts>, handler: F)
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // A connection that ends badly is the peer's doing, and what some tests are about.
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn echo(request: Request<Incoming>, connection: usize) -> Response<Body> {
    const SHOWN_MAX: usize = 16 * 1024;
    let (head, mut body) = request.into_parts();
    let lossy = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs = |fields: &http::HeaderMap| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.as_str().to_owned(), lossy(value))).collect()
    };
    let host = head.headers.get("host").map(lossy);
    let mut seen = Seen {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        version: format!("{:?}", head.version),
        authority: head.uri.authority().map(ToString::to_string).or(host).unwrap_or_default(),
        scheme: head.uri.scheme_str().unwrap_or_default().to_owned(),
        headers: pairs(&head.headers),
        connection,
        ..Seen::default()
    };
    let mut shown = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        if let Some(data) = frame.data_ref() {
            seen.body_bytes += data.len() as u64;
            let room = SHOWN_MAX.saturating_sub(shown.len()).min(data.len());
            shown.extend_from_slice(&data[..room]);
        } else if let Some(trailers) = frame.trailers_ref() {
            seen.trailers = pairs(trailers);
        }
    }
    seen.body = String::from_utf8_lossy(&shown).into_owned();
    let text = serde_json::to_vec(&seen).expect("strings and numbers are always JSON");
    let mut answer = Response::new(crate::client::full(text));
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    if head.version == Version::HTTP_10 {
        *answer.version_mut() = Version::HTTP_10;
    }
    answer
}
