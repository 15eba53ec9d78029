//! `compress` over real sockets: what clients unpack is what the origin sent, however it is framed, and
//! nothing waits.

use bytes::Bytes;
use http::{Method, Request, Response};
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use miniz_oxide::inflate::decompress_to_vec;
use pillion_tests::client::empty;
use pillion_tests::origin::{Body, BodySender, streamed};
use pillion_tests::{BodyExt, Client, Origin, Protocol, Sidecar, within};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// So many bytes of text that is not all the same.
fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + ((at * at / 7 + at / 1000) % 23) as u8).collect()
}

/// An origin that answers with a body of the type and length that the path names: `/text/html/1000`.
async fn origin() -> Origin {
    Origin::serve(|request| async move {
        let (content_type, length) =
            request.uri().path()[1..].rsplit_once('/').expect("type and length");
        let body = pillion_tests::client::full(text(length.parse().expect("a length")));
        let response = Response::builder().header("content-type", content_type);
        response.header("etag", "\"v1\"").body(body).expect("a valid response")
    })
    .await
}

fn ask(client: &Client, target: &str) -> Request<Body> {
    let request = client.request(Method::GET, target).header("accept-encoding", "gzip, br");
    request.body(empty()).expect("a valid request")
}

/// What is in a gzip stream, whose checksum and length are looked at.
fn unpack(stream: &[u8]) -> Vec<u8> {
    let (rest, trailer) = stream.split_at(stream.len() - 8);
    let bytes = decompress_to_vec(&rest[10..]).expect("it is valid DEFLATE");
    assert_eq!(trailer[4..], (bytes.len() as u32).to_le_bytes());
    bytes
}

#[tokio::test]
async fn what_a_client_unpacks_is_what_the_origin_sent() {
    let origin = origin().await;
    // Many hooks a body: on a machine that is busy, the time by the wall adds up.
    let limits = "limits = { exchange_time = \"10s\" }";
    let sidecar = Sidecar::new().origin(&origin).builtin("compress", limits).start().await;
    for protocol in BOTH {
        let mut client = sidecar.connect(protocol).await;
        // Beyond `max_bytes` too, within the limits of time that are there by default.
        for length in [512, 70_000, 3_000_000] {
            let request = ask(&client, &format!("/text/html/{length}"));
            let reply = client.fetch(request).await;
            assert_eq!(reply.header("content-encoding"), "gzip", "{protocol:?}");
            assert_eq!((reply.header("content-length"), reply.header("etag")), ("", "W/\"v1\""));
            assert!(reply.body.len() < length);
            assert!(unpack(&reply.body) == text(length), "{protocol:?} {length}");
        }
        for target in ["/text/html/511", "/image/png/9000"] {
            let request = ask(&client, target);
            let reply = client.fetch(request).await;
            assert_eq!(reply.header("content-encoding"), "", "{target}");
            assert_eq!(reply.header("content-length"), reply.body.len().to_string(), "{target}");
        }
    }
}

#[tokio::test]
async fn responses_that_come_at_the_same_time_stay_apart() {
    let origin = origin().await;
    let setup = Sidecar::new().origin(&origin).runtime("workers = 1").builtin("compress", "");
    let sidecar = setup.start().await;
    let client = sidecar.connect(Protocol::Http2).await;
    let mut replies = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut client = client.another();
        replies.spawn(async move {
            let length = 200_000 + number * 1_000;
            let request = ask(&client, &format!("/text/plain/{length}"));
            (client.fetch(request).await, length)
        });
    }
    for (reply, length) in replies.join_all().await {
        assert!(unpack(&reply.body) == text(length), "{length}");
    }
}

#[tokio::test]
async fn an_event_can_be_read_before_the_next_one_comes() {
    let (bodies, mut senders) = tokio::sync::mpsc::channel::<BodySender>(1);
    let origin = Origin::serve(move |_| {
        let (sender, body) = streamed();
        let bodies = bodies.clone();
        async move {
            bodies.send(sender).await.expect("the test listens");
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).builtin("compress", "").start().await;
    for protocol in BOTH {
        let mut client = sidecar.connect(protocol).await;
        let request = ask(&client, "/");
        let mut response = client.send(request).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let mut sender = senders.recv().await.expect("the origin was asked");
        let mut stream = Vec::new();
        for event in ["data: one\n\n", "data: two\n\n"] {
            sender.send_data(Bytes::from(event)).await.expect("the body is read");
            let mut out = [0; 64];
            let told = loop {
                let frame = within("an event", response.frame()).await.unwrap().unwrap();
                stream.extend_from_slice(&frame.into_data().unwrap());
                let so_far = stream.get(10..).unwrap_or_default();
                let mut state = DecompressorOxide::new();
                let (_, _, length) =
                    decompress(&mut state, so_far, &mut out, 0, TINFL_FLAG_HAS_MORE_INPUT);
                if out[..length].ends_with(event.as_bytes()) {
                    break length;
                }
            };
            assert!(told == 11 || told == 22, "{told}");
        }
    }
}
