//! A well-behaved client for HTTP/1.1 and HTTP/2, one connection each. For a client that misbehaves,
//! see `wire`.

use crate::origin::{Body, Seen};
use crate::wait::within;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The host that clients ask for.
pub const HOST_NAME: &str = "app.test";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// One connection.
pub struct Client {
    sender: Sender,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    /// Connects to `address`.
    ///
    /// # Panics
    /// When that fails.
    pub async fn connect(address: SocketAddr, protocol: Protocol) -> Client {
        let stream = within("a connection", TcpStream::connect(address)).await;
        let stream = stream.expect("the address accepts connections");
        let _ = stream.set_nodelay(true);
        Client::over(stream, protocol).await
    }

    /// Speaks over a connection that is there.
    ///
    /// # Panics
    /// When it breaks at once.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
    ) -> Client {
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    http1::handshake(io).await.expect("there is nothing to negotiate");
                let driver = tokio::spawn(connection.with_upgrades());
                Client { sender: Sender::Http1(sender), driver }
            }
            Protocol::Http2 => {
                // A stream that is not read takes a small part of the connection's window only.
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(64 * 1024);
                builder.initial_connection_window_size(1024 * 1024);
                let (sender, connection) =
                    builder.handshake(io).await.expect("the preface can be written");
                Client { sender: Sender::Http2(sender), driver: tokio::spawn(connection) }
            }
        }
    }

    /// A request on this connection, to be finished with a body.
    pub fn request(&self, method: Method, target: &str) -> http::request::Builder {
        let request = Request::builder().method(method);
        match self.sender {
            Sender::Http1(_) => request.uri(target).header(HOST, HOST_NAME),
            Sender::Http2(_) => {
                request.uri(format!("http://{HOST_NAME}{target}")).version(Version::HTTP_2)
            }
        }
    }

    /// Sends a request; the answer's body is still to come.
    pub async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        within("an answer", self.send_slowly(request)).await
    }

    /// The same for a request that takes longer than anything that is waited for.
    pub async fn send_slowly(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                within("a connection that is ready", sender.ready()).await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                within("a connection that is ready", sender.ready()).await?;
                sender.send_request(request).await
            }
        }
    }

    /// A second handle on an HTTP/2 connection, for requests at the same time.
    pub fn another(&self) -> Client {
        match &self.sender {
            Sender::Http1(_) => panic!("HTTP/1 carries one request at a time"),
            Sender::Http2(sender) => Client {
                sender: Sender::Http2(sender.clone()),
                driver: tokio::spawn(async { Ok(()) }),
            },
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When either fails.
    pub async fn fetch(&mut self, request: Request<Body>) -> Reply {
        self.try_fetch(request).await.expect("the exchange completes")
    }

    /// Sends a request and reads the whole answer.
    pub async fn try_fetch(&mut self, request: Request<Body>) -> Result<Reply, hyper::Error> {
        Reply::read(self.send(request).await?).await
    }

    /// `GET target`
    pub async fn get(&mut self, target: &str) -> Reply {
        let request = self.request(Method::GET, target).body(empty());
        self.fetch(request.expect("the request is valid")).await
    }

    /// `POST target` with a body of known length.
    pub async fn post(&mut self, target: &str, body: impl Into<Bytes>) -> Reply {
        let request = self.request(Method::POST, target).body(full(body));
        self.fetch(request.expect("the request is valid")).await
    }

    /// What is spoken on it.
    pub fn speaks(&self) -> Protocol {
        match &self.sender {
            Sender::Http1(_) => Protocol::Http1,
            Sender::Http2(_) => Protocol::Http2,
        }
    }

    /// The peer has not closed the connection.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// The peer closes the connection.
    pub async fn closed(mut self) {
        let _ = within("the peer to close the connection", &mut self.driver).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Of the connection it came on.
    pub version: Version,
    /// As received.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
    /// Empty where there were none.
    pub trailers: HeaderMap,
}

impl Reply {
    /// Reads the body of `response`.
    pub async fn read(response: Response<Incoming>) -> Result<Reply, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = within("the end of an answer", body.collect()).await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Reply {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// The first value of a field; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the echo origin saw of the request.
    ///
    /// # Panics
    /// When the answer is not the echo origin's.
    pub fn seen(&self) -> Seen {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not an echo: {} {}", self.status, self.text()))
    }
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}
