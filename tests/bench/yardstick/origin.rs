//! An origin: reads the whole request, then answers 200.
//!
//! `/bytes/N` has N bytes; `/hold` sends a head and a first piece and keeps the rest until the
//! client leaves; anything else has a few words.

use crate::Failure;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

const WORDS: &[u8] = b"hello, hello, hello, hello, hello";
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// Accepts without end.
pub(crate) async fn serve(listen: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        spawn_local(async move {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Failure> {
    if !request.headers().contains_key(HOST) {
        return Err("a request has a host".into());
    }
    let (head, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let path = head.uri.path();
    let body = match path.strip_prefix("/bytes/").map(str::parse) {
        Some(length) => Plenty(length?).boxed(),
        None if path == "/hold" => Held(Some(WORDS)).boxed(),
        None => Full::new(Bytes::from_static(WORDS)).boxed(),
    };
    Ok(Response::new(body))
}

/// So many bytes, in pieces that are not copied.
struct Plenty(u64);

impl Body for Plenty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(PIECE.len() as u64);
        if length == 0 {
            return Poll::Ready(None);
        }
        self.0 -= length;
        let piece = Bytes::from_static(&PIECE[..length as usize]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// A first piece, and then nothing for as long as the client stays.
struct Held(Option<&'static [u8]>);

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
            // The connection polls for its end, and drops this body with it.
            None => Poll::Pending,
        }
    }
}
