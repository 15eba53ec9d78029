//! One connection of the admin interface: read a request under limits, answer, read the next.
//!
//! It uses the HTTP/1 codec of the data path, and so refuses what that refuses. Everything that is
//! waited for has a limit, and nothing of a body is read before `guard` has let the request through.

use super::AdminTarget;
use super::answer::{self, Answer, refusal, text};
use super::guard::{self, Asked, Peer};
use super::paths::{BODY_BYTES_MAX, Body};
use super::server::STOP_TIMEOUT;
use super::token::Token;
use crate::http::head::response_has_body;
use crate::http::{BodyLength, Fields, Frame, Name, RequestHead, ResponseHead};
use crate::http1::{HeadLimits, ReadError, Reader, RequestFraming, ResponseKind, Writer};
use crate::io::Stream;
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// For a whole request, head and body, unless it uploads a component.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a component to arrive.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Components that are held at one time, from their first byte to the answer.
pub const UPLOADS_MAX: usize = 2;
/// How long a connection without a request is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// For the client to take a whole answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections share.
pub(super) struct Shared {
    target: Arc<dyn AdminTarget>,
    token: Option<Token>,
    uploads: Semaphore,
}

impl Shared {
    pub(super) fn new(target: Arc<dyn AdminTarget>, token: Option<Token>) -> Self {
        Shared { target, token, uploads: Semaphore::new(UPLOADS_MAX) }
    }
}

pub(super) struct Connection {
    reader: Reader,
    writer: Writer,
    peer: Peer,
    shared: Rc<Shared>,
    request: RequestHead,
    limits: HeadLimits,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Another,
    Close,
}

/// Why there is no request to answer.
enum Refused {
    /// This is answered instead.
    Answer(Answer),
    /// The connection is of no more use.
    Gone(io::Error),
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: Peer, shared: Rc<Shared>) -> Self {
        Connection {
            reader: Reader::new(stream.clone()),
            writer: Writer::new(stream),
            peer,
            shared,
            request: RequestHead::default(),
            limits: HeadLimits::default(),
        }
    }

    pub(super) async fn serve(mut self, mut stopping: watch::Receiver<bool>) {
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
        let deadline = Instant::now() + HEAD_TIMEOUT;
        let framing = match timeout_at(deadline, self.read_head()).await {
            Ok(Ok(Some(framing))) => framing,
            Ok(Ok(None)) => return Ok(Next::Close),
            Ok(Err(Refused::Answer(answer))) => return self.write(answer, Next::Close).await,
            Ok(Err(Refused::Gone(error))) => return Err(error),
            Err(_) => return self.write(late(), Next::Close).await,
        };
        let answer = match self.answer(framing, deadline).await {
            Ok(answer) | Err(Refused::Answer(answer)) => answer,
            Err(Refused::Gone(error)) => return Err(error),
        };
        // Where the next request begins is known only once this one was read to its end.
        let keeps = framing.keep_alive && self.reader.body_done();
        self.write(answer, if keeps { Next::Another } else { Next::Close }).await
    }

    /// The head, into `self.request`. None: there is no request.
    async fn read_head(&mut self) -> Result<Option<RequestFraming>, Refused> {
        let read = poll_fn(|cx| self.reader.poll_request_head(cx, &mut self.request, &self.limits));
        match read.await {
            Ok(framing) => Ok(framing),
            Err(ReadError::Head(error)) => {
                Err(Refused::Answer(text(error.status(), format!("{error}\n"))))
            }
            Err(ReadError::Io(error)) => Err(Refused::Gone(error)),
            Err(error) => Err(Refused::Gone(io::Error::other(error))),
        }
    }

    /// Lets the request in, reads its body, and does what it asks for.
    async fn answer(
        &mut self,
        framing: RequestFraming,
        deadline: Instant,
    ) -> Result<Answer, Refused> {
        let shared = self.shared.clone();
        let asked = guard::admit(&self.request, framing.body, self.peer, shared.token.as_ref());
        let asked = asked.map_err(Refused::Answer)?;
        // Held to the answer, as the component is.
        let (_upload, deadline) = match asked.path.body {
            Body::Component => (Some(upload(&shared)?), Instant::now() + UPLOAD_TIMEOUT),
            Body::Json | Body::Forgotten => (None, deadline),
        };
        if self.request.expects_continue && framing.body != BodyLength::None {
            self.writer.interim(100, &Fields::default());
            let written = timeout_at(deadline, poll_fn(|cx| self.writer.poll_flush(cx))).await;
            written.map_err(|_| Refused::Answer(late()))?.map_err(Refused::Gone)?;
        }
        let read = timeout_at(deadline, self.read_body(&asked, framing.body)).await;
        let body = read.unwrap_or_else(|_| Err(Refused::Answer(late())))?;
        Ok(answer::answer(&*shared.target, &self.request, asked, body).await)
    }

    /// The body; nothing where it is to be forgotten.
    async fn read_body(&mut self, asked: &Asked, length: BodyLength) -> Result<Bytes, Refused> {
        let bytes_max = asked.path.body.bytes_max();
        let json = asked.path.speaks_json();
        let (mut body, mut body_bytes) = (BytesMut::new(), 0);
        if let (BodyLength::Exact(bytes), Body::Component) = (length, asked.path.body) {
            // At most what `guard` lets through; the system gives the memory as it is written to.
            body.reserve(usize::try_from(bytes).map_or(bytes_max, |bytes| bytes.min(bytes_max)));
        }
        loop {
            match poll_fn(|cx| self.reader.poll_frame(cx)).await {
                Ok(Frame::Data(bytes)) => {
                    body_bytes += bytes.len();
                    if body_bytes > bytes_max {
                        let message = guard::too_large(bytes_max);
                        return Err(Refused::Answer(refusal(json, 413, &message, Vec::new())));
                    }
                    if asked.path.body != Body::Forgotten {
                        body.extend_from_slice(&bytes);
                    }
                }
                Ok(Frame::Trailers(_) | Frame::End) => return Ok(body.freeze()),
                Err(error) => {
                    let answer = refusal(json, 400, &error.to_string(), Vec::new());
                    return Err(Refused::Answer(answer));
                }
            }
        }
    }

    async fn write(&mut self, answer: Answer, next: Next) -> io::Result<Next> {
        let mut head = ResponseHead { status: answer.status, ..ResponseHead::default() };
        let mut field = |name, value: &str| head.fields.append(Name::known(name), value.as_bytes());
        field("content-type", answer.content_type);
        field("cache-control", "no-store");
        field("x-content-type-options", "nosniff");
        field("date", &httpdate::fmt_http_date(SystemTime::now()));
        if let Some((name, value)) = &answer.field {
            field(name, value);
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

fn late() -> Answer {
    text(408, "The request did not arrive in time.\n".to_owned())
}

/// The right to hold one more component.
fn upload(shared: &Shared) -> Result<SemaphorePermit<'_>, Refused> {
    shared.uploads.try_acquire().map_err(|_| {
        let message = format!("{UPLOADS_MAX} components are being taken already: try again.");
        Refused::Answer(refusal(true, 429, &message, Vec::new()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::answer::RELOAD_TIMEOUT;
    use super::super::answer::tests::Target;
    use super::super::rollouts::tests::Rollouts;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        let (mut client, server) = tokio::io::duplex(holds);
        let shared = Rc::new(Shared::new(Arc::new(target), None));
        let (_stop, stopping) = watch::channel(false);
        let serving = Connection::new(Stream::over(server), Peer::Owner, shared).serve(stopping);
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

    const UPLOAD: &str = "POST /filters/x/next HTTP/1.1\r\nhost: localhost\r\n\
                          content-type: application/wasm\r\ncontent-length: 4\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn an_upload_has_a_time_of_its_own() {
        for (pause, status) in
            [(UPLOAD_TIMEOUT - MILLISECOND, "200"), (UPLOAD_TIMEOUT + MILLISECOND, "408")]
        {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let rollouts = Some(Rollouts::default());
            let target = Arc::new(Target { rollouts, ..Target::default() });
            let shared = Rc::new(Shared::new(target, None));
            let (_stop, stopping) = watch::channel(false);
            let connection = Connection::new(Stream::over(server), Peer::Owner, shared);
            let talking = async {
                client.write_all(UPLOAD.as_bytes()).await.unwrap();
                tokio::time::sleep(pause).await;
                // It may be closed by now.
                let _ = client.write_all(b"wasm").await;
                let _ = client.shutdown().await;
                let mut received = String::new();
                client.read_to_string(&mut received).await.unwrap();
                received
            };
            let (received, ()) = tokio::join!(talking, connection.serve(stopping));
            assert_eq!(received.split(' ').nth(1), Some(status), "{pause:?}: {received}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_components_are_held_at_once() {
        let rollouts = Some(Rollouts::default());
        let target = Arc::new(Target { rollouts, ..Target::default() });
        let shared = Rc::new(Shared::new(target, None));
        let (_stop, stopping) = watch::channel(false);
        let serve = async |sent: &str| {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let connection = Connection::new(Stream::over(server), Peer::Owner, shared.clone());
            client.write_all(sent.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            connection.serve(stopping.clone()).await;
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            received
        };
        let whole = format!("{UPLOAD}wasm");
        for (held, status) in [(UPLOADS_MAX - 1, "200"), (UPLOADS_MAX, "429")] {
            let permits = shared.uploads.try_acquire_many(held as u32).unwrap();
            let received = serve(&whole).await;
            assert_eq!(received.split(' ').nth(1), Some(status), "{held}: {received}");
            drop(permits);
        }
        for _ in 0..=UPLOADS_MAX {
            assert!(serve(&whole).await.starts_with("HTTP/1.1 200 "), "each gives it back");
        }
    }
}
