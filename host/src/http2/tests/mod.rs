//! Whole connections over an in-memory pipe: one side ours, the other the raw `h2` crate or frames
//! written by hand. Time is paused: it moves only when nothing else can.

mod client;
mod flood;
mod server;

use super::*;
use crate::http::{BodyError, BodyLength, Fields, Frame, Name, RequestHead, ResponseHead};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::task::LocalSet;

/// Runs `test` with paused time and room for local tasks. A test that hangs fails after an hour of
/// that time.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let limit = Duration::from_secs(24 * 3600);
        tokio::time::timeout(limit, test).await.expect("the test hangs")
    })
}

fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 * 1024)
}

fn limits() -> Rc<Http2Limits> {
    Rc::new(Http2Limits::default())
}

fn fields(lines: &[(&'static str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(Name::known(name), value.as_bytes());
    }
    fields
}

fn value(fields: &Fields, name: &'static str) -> Option<String> {
    fields.get(Name::known(name)).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// A body read to its end.
#[derive(Debug, Default)]
struct Read {
    bytes: Vec<u8>,
    trailers: Option<Fields>,
}

async fn read_all(body: &mut BodyReader) -> Result<Read, BodyError> {
    let mut read = Read::default();
    loop {
        match poll_fn(|cx| body.poll_frame(cx)).await? {
            Frame::Data(bytes) => {
                assert!(!bytes.is_empty());
                read.bytes.extend_from_slice(&bytes);
            }
            Frame::Trailers(fields) => read.trailers = Some(fields),
            Frame::End => return Ok(read),
        }
    }
}

async fn flush(writer: &mut BodyWriter) -> Result<(), BodyError> {
    poll_fn(|cx| writer.poll_flush(cx)).await
}

/// Lets every other task run until none can go on, without moving time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What `future` is worth if it is ready once the other tasks have come to rest.
async fn ready_now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    settle().await;
    poll_fn(|cx| match std::pin::Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn ok_head() -> ResponseHead {
    ResponseHead { status: 200, fields: Fields::default(), upgrade: None }
}

fn get(path: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.authority.push_str("a.test");
    head.target.push_str(path);
    head
}
