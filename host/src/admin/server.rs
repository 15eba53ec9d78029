//! Connections of the admin interface: read a request under limits, answer, read the next.
//!
//! It uses the HTTP/1 codec of the data path, and so refuses what that refuses. Everything that is
//! waited for has a limit, and nothing a client does or leaves undone keeps others from being
//! served.

use super::AdminTarget;
use super::answer::{self, Answer, Wanted, text};
use crate::http::head::response_has_body;
use crate::http::{BodyLength, Fields, Frame, Name, RequestHead, ResponseHead};
use crate::http1::{HeadLimits, ReadError, Reader, RequestFraming, ResponseKind, Writer};
use crate::io::Stream;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at one time; more are closed at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request body. Nothing here needs one.
pub const BODY_BYTES_MAX: usize = 1024;
/// For a whole request, head and body.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without a request is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// For the client to take a whole answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `POST /reload` waits before it answers that the reload goes on.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// How long answers that were begun may take once the server is to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to leave accepting alone when it fails, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin thread. Dropping it ends the thread, after at most a second.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Serves `target` on a bound socket, on a thread of its own.
pub fn spawn(listener: std::net::TcpListener, target: Arc<dyn AdminTarget>) -> io::Result<Admin> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let served = serve_thread(runtime, listener, target, stopped);
        if let Err(error) = served {
            tracing::error!(%error, "the admin interface cannot be served");
        }
    })?;
    Ok(Admin { address, stop: Some(stop), thread: Some(thread) })
}

fn serve_thread(
    mut runtime: tokio::runtime::Builder,
    listener: std::net::TcpListener,
    target: Arc<dyn AdminTarget>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = runtime.enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        run(listener, target, async {
            // An error means the same: the handle is gone.
            let _ = stopped.await;
        })
        .await;
        Ok(())
    })
}

/// Serves `target` until `shutdown`, then finishes the answers that were begun. Must run on a local
/// runtime.
///
/// # Cancel safety
///
/// Dropping it closes every connection.
pub async fn run(
    listener: TcpListener,
    target: Arc<dyn AdminTarget>,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        // Cancelled branches lose nothing: accept and join are cancel safe, shutdown is pinned.
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if open(&mut connections) < CONNECTIONS_MAX => {
                    let connection = Connection::new(Stream::tcp(socket), target.clone());
                    connections.spawn_local(connection.serve(stopping.clone()));
                }
                Ok(_) => tracing::warn!(
                    connections_max = CONNECTIONS_MAX,
                    "an admin connection was refused: there are too many"
                ),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    stop.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is not finished by then is cut off with the set.
    let _ = timeout(STOP_TIMEOUT, finished).await;
}

/// Connections there are; what has ended but was not looked at yet is none.
fn open(connections: &mut JoinSet<()>) -> usize {
    while connections.try_join_next().is_some() {}
    connections.len()
}

struct Connection {
    reader: Reader,
    writer: Writer,
    target: Arc<dyn AdminTarget>,
    request: RequestHead,
    limits: Rc<HeadLimits>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Another,
    Close,
}

impl Connection {
    fn new(stream: Stream, target: Arc<dyn AdminTarget>) -> Self {
        Connection {
            reader: Reader::new(stream.clone()),
            writer: Writer::new(stream),
            target,
            request: RequestHead::default(),
            limits: Rc::default(),
        }
    }

    async fn serve(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            let idle = timeout(IDLE_TIMEOUT, poll_fn(|cx| self.reader.poll_idle(cx)));
            // Cancelled branches lose nothing: waiting reads nothing.
            let began = tokio::select! {
                began = idle => began,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            if !matches!(began, Ok(Ok(true))) {
                return;
            }
            // A connection that fails is closed; there is nobody to tell.
            match self.exchange().await {
                Ok(Next::Another) => {}
                Ok(Next::Close) | Err(_) => return,
            }
        }
    }

    async fn exchange(&mut self) -> io::Result<Next> {
        let request = timeout(HEAD_TIMEOUT, self.read_request()).await;
        let (answer, next) = match request {
            Ok(Ok(Some(framing))) => {
                let next = if framing.keep_alive { Next::Another } else { Next::Close };
                (self.answer().await, next)
            }
            Ok(Ok(None)) => return Ok(Next::Close),
            Ok(Err(Refused::Answer(answer))) => (answer, Next::Close),
            Ok(Err(Refused::Gone(error))) => return Err(error),
            Err(_) => (text(408, "The request did not arrive in time.\n".to_owned()), Next::Close),
        };
        self.write(answer, next).await
    }

    /// The head, into `self.request`; the body is read and forgotten. None: there is no request.
    async fn read_request(&mut self) -> Result<Option<RequestFraming>, Refused> {
        let read = poll_fn(|cx| self.reader.poll_request_head(cx, &mut self.request, &self.limits));
        let framing = match read.await {
            Ok(Some(framing)) => framing,
            Ok(None) => return Ok(None),
            Err(ReadError::Head(error)) => {
                return Err(Refused::Answer(text(error.status(), format!("{error}\n"))));
            }
            Err(ReadError::Io(error)) => return Err(Refused::Gone(error)),
            Err(error) => return Err(Refused::Gone(io::Error::other(error))),
        };
        if self.request.expects_continue && framing.body != BodyLength::None {
            self.writer.interim(100, &Fields::default());
            poll_fn(|cx| self.writer.poll_flush(cx)).await.map_err(Refused::Gone)?;
        }
        let mut body_bytes = 0;
        loop {
            match poll_fn(|cx| self.reader.poll_frame(cx)).await {
                Ok(Frame::Data(bytes)) => body_bytes += bytes.len(),
                Ok(Frame::Trailers(_) | Frame::End) => return Ok(Some(framing)),
                Err(error) => {
                    return Err(Refused::Answer(text(400, format!("{error}\n"))));
                }
            }
            if body_bytes > BODY_BYTES_MAX {
                let body = format!("The body is larger than {BODY_BYTES_MAX} bytes.\n");
                return Err(Refused::Answer(text(413, body)));
            }
        }
    }

    async fn answer(&mut self) -> Answer {
        match answer::answer(&*self.target, &self.request) {
            Wanted::Answer(answer) => answer,
            Wanted::Reload => match timeout(RELOAD_TIMEOUT, self.target.reload()).await {
                Ok(result) => answer::reloaded(&self.request, result),
                Err(_) => answer::reload_goes_on(&self.request, RELOAD_TIMEOUT),
            },
        }
    }

    async fn write(&mut self, answer: Answer, next: Next) -> io::Result<Next> {
        let mut head = ResponseHead { status: answer.status, ..ResponseHead::default() };
        let mut field = |name, value: &str| head.fields.append(Name::known(name), value.as_bytes());
        field("content-type", answer.content_type);
        field("cache-control", "no-store");
        field("x-content-type-options", "nosniff");
        field("date", &httpdate::fmt_http_date(SystemTime::now()));
        if let Some(allow) = answer.allow {
            field("allow", allow);
        }
        let kind = ResponseKind {
            has_body: response_has_body(&self.request.method, answer.status),
            keep_alive: next == Next::Another,
            protocol: self.request.protocol,
        };
        let length = BodyLength::Exact(answer.body.len() as u64);
        let keeps = self.writer.response_head(&head, length, kind);
        if kind.has_body {
            self.writer.data(answer.body.into()).map_err(io::Error::other)?;
        }
        self.writer.end(None).map_err(io::Error::other)?;
        let written = timeout(WRITE_TIMEOUT, poll_fn(|cx| self.writer.poll_flush(cx)));
        written.await.map_err(io::Error::other)??;
        if keeps {
            return Ok(Next::Another);
        }
        self.close().await?;
        Ok(Next::Close)
    }

    /// Shuts down and reads on for a little: closing a socket with unread bytes makes the kernel
    /// send a reset, which can overtake the answer.
    async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.reader.stream().poll_shutdown(cx)).await?;
        let drained = async {
            let mut buffer = bytes::BytesMut::new();
            loop {
                buffer.clear();
                buffer.reserve(BODY_BYTES_MAX);
                let read = poll_fn(|cx| self.reader.stream().poll_read(cx, &mut buffer)).await;
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
        };
        let _ = timeout(STOP_TIMEOUT, drained).await;
        Ok(())
    }
}

/// Why there is no request to answer.
enum Refused {
    /// This is answered instead, and the connection closed.
    Answer(Answer),
    /// The connection is of no more use.
    Gone(io::Error),
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::Target;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::Ordering;

    fn serving(target: Target) -> (Admin, Arc<Target>) {
        let target = Arc::new(target);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (spawn(listener, target.clone()).unwrap(), target)
    }

    fn connected(admin: &Admin) -> TcpStream {
        let stream = TcpStream::connect(admin.address()).unwrap();
        // A hang would otherwise be one of the test runner.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes and reads to the end of the connection.
    fn exchanged(admin: &Admin, sent: &str) -> String {
        let mut stream = connected(admin);
        stream.write_all(sent.as_bytes()).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        received
    }

    /// One request on a connection of its own.
    fn asked(admin: &Admin, line: &str, more: &str) -> String {
        let sent =
            format!("{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}", admin.address());
        exchanged(admin, &sent)
    }

    /// Reads one response with a known body from a connection that stays.
    fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.ends_with(end) {
            stream.read_exact(&mut byte).unwrap();
            text.push(byte[0].into());
        }
        text
    }

    #[test]
    fn a_view_is_served_with_its_head() {
        let (admin, _) = serving(Target::default());
        let response = asked(&admin, "GET /livez", "\r\n");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "live\n");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 200 OK");
        for field in [
            "content-type: text/plain; charset=utf-8",
            "cache-control: no-store",
            "content-length: 5",
            "connection: close",
        ] {
            assert!(lines.contains(&field), "{field}: {head}");
        }
    }

    #[test]
    fn head_has_no_body_and_says_its_length() {
        let (admin, _) = serving(Target::default());
        let response = asked(&admin, "HEAD /livez", "\r\n");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
        assert!(response.contains("content-length: 5\r\n"), "{response}");
    }

    #[test]
    fn a_connection_serves_one_request_after_the_other() {
        let (admin, _) = serving(Target::default());
        let mut stream = connected(&admin);
        for _ in 0..3 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            let response = read_until(&mut stream, "live\n");
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let (admin, _) = serving(Target::default());
        let sent = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n\
                    GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let response = exchanged(&admin, sent);
        let (first, second) = response.split_once("live\n").unwrap();
        assert!(first.starts_with("HTTP/1.1 200") && second.ends_with("ready\n"), "{response}");
    }

    #[test]
    fn reload_and_drain_reach_the_target() {
        let (admin, target) = serving(Target::default());
        let response = asked(&admin, "POST /reload", "content-length: 0\r\n\r\n");
        assert!(response.ends_with("\r\n\r\ngeneration 8\n"), "{response}");
        let response = asked(&admin, "POST /drain", "\r\n");
        assert!(response.starts_with("HTTP/1.1 202 "), "{response}");
        assert_eq!(target.drains.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_refused_reload_shows_its_diagnostics() {
        let diagnostics = vec!["pillion.toml:3:1: unknown key `chian`".to_owned()];
        let (admin, _) = serving(Target { diagnostics, ..Target::default() });
        let response = asked(&admin, "POST /reload", "accept: application/json\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 422 "), "{response}");
        assert!(response.contains("unknown key `chian`"), "{response}");
    }

    #[test]
    fn a_body_is_read_up_to_its_limit() {
        let (admin, _) = serving(Target::default());
        for (length, status) in
            [(BODY_BYTES_MAX - 1, "202"), (BODY_BYTES_MAX, "202"), (BODY_BYTES_MAX + 1, "413")]
        {
            let more = format!("content-length: {length}\r\n\r\n{}", "x".repeat(length));
            let response = asked(&admin, "POST /drain", &more);
            assert_eq!(response.split(' ').nth(1), Some(status), "{length} bytes: {response}");
        }
        let more = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert!(asked(&admin, "POST /drain", more).starts_with("HTTP/1.1 202 "));
        let more = "expect: 100-continue\r\ncontent-length: 1\r\n\r\nx";
        let response = asked(&admin, "POST /drain", more);
        assert!(response.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 "), "{response}");
    }

    #[test]
    fn malformed_requests_are_refused_and_closed() {
        let (admin, target) = serving(Target::default());
        let long = "x".repeat(33 * 1024);
        for (sent, status) in [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/3.0\r\nhost: localhost\r\n\r\n".to_owned(), "505"),
            (format!("POST /drain HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), "431"),
            (
                "POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\
                 transfer-encoding: chunked\r\n\r\n"
                    .to_owned(),
                "400",
            ),
        ] {
            let response = exchanged(&admin, &sent);
            assert_eq!(response.split(' ').nth(1), Some(status), "{sent:.80}: {response}");
            assert!(response.contains("connection: close\r\n"), "{response}");
        }
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_name_that_resolves_to_loopback_is_refused() {
        let (admin, target) = serving(Target::default());
        let sent = "POST /drain HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        assert!(exchanged(&admin, sent).starts_with("HTTP/1.1 403 "));
        let response = asked(&admin, "POST /drain", "origin: https://evil.example\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 403 "));
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn connections_over_the_limit_are_closed_at_once() {
        let (admin, _) = serving(Target::default());
        let ask = |stream: &mut TcpStream| {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            read_until(stream, "live\n");
        };
        let mut kept: Vec<TcpStream> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = connected(&admin);
                ask(&mut stream);
                stream
            })
            .collect();
        let mut refused = connected(&admin);
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)), "one over the limit");
        ask(&mut kept[0]);
        // The server sees the end of this one before it accepts the next: it closes in answer.
        let freed = kept.pop().unwrap();
        freed.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&freed).read(&mut [0]).unwrap(), 0);
        ask(&mut connected(&admin));
    }

    #[test]
    fn dropping_the_handle_ends_the_thread_in_spite_of_idle_connections() {
        let (admin, target) = serving(Target::default());
        let mut idle = connected(&admin);
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        read_until(&mut idle, "live\n");
        drop(admin);
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        assert_eq!(Arc::strong_count(&target), 1);
    }

    /// On a runtime with paused time, against a client in memory of the same runtime.
    async fn until_closed(sent: &[u8]) -> (String, Duration) {
        let target = Target::default();
        talk(target, 64 * 1024, sent, Duration::ZERO).await
    }

    /// The same with a client that reads only after a pause, over a connection that holds so many
    /// bytes.
    async fn talk(
        target: Target,
        holds: usize,
        sent: &[u8],
        pause: Duration,
    ) -> (String, Duration) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut client, server) = tokio::io::duplex(holds);
        let target: Arc<dyn AdminTarget> = Arc::new(target);
        let (_stop, stopping) = watch::channel(false);
        let serving = Connection::new(Stream::over(server), target).serve(stopping);
        let start = tokio::time::Instant::now();
        let talking = async {
            client.write_all(sent).await.unwrap();
            tokio::time::sleep(pause).await;
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            (received, start.elapsed())
        };
        let (answer, ()) = tokio::join!(talking, serving);
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_timeout() {
        let (received, after) = until_closed(b"").await;
        assert_eq!(received, "");
        assert_eq!(after.as_secs(), IDLE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_or_body_that_does_not_come_is_answered_with_408() {
        for sent in [
            &b"GET /livez HTTP/1.1\r\nhost: localh"[..],
            b"POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhi",
        ] {
            let (received, after) = until_closed(sent).await;
            assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
            assert_eq!(after.as_secs(), HEAD_TIMEOUT.as_secs());
        }
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_in_time_or_cut_off() {
        let sent = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        for (pause, whole) in [
            (WRITE_TIMEOUT - MILLISECOND, true),
            (WRITE_TIMEOUT, false),
            (WRITE_TIMEOUT + MILLISECOND, false),
        ] {
            let (received, _) = talk(Target::default(), 16, sent, pause).await;
            assert_eq!(received.ends_with("\r\n\r\nlive\n"), whole, "{pause:?}: {received}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_is_waited_for_as_long_as_its_limit() {
        let sent = b"POST /reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        for (reload_takes, status) in [
            (RELOAD_TIMEOUT - MILLISECOND, "200"),
            (RELOAD_TIMEOUT, "200"),
            (RELOAD_TIMEOUT + MILLISECOND, "504"),
        ] {
            let target = Target { reload_takes, ..Target::default() };
            let (received, after) = talk(target, 64 * 1024, sent, Duration::ZERO).await;
            assert_eq!(received.split(' ').nth(1), Some(status), "{reload_takes:?}: {received}");
            assert!(after <= RELOAD_TIMEOUT + MILLISECOND, "{after:?}");
        }
    }
}
