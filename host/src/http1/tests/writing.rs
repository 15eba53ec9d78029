//! What goes out: the exact text of heads, bodies that keep their promise, few writes, and back again
//! through a reader.

use super::bodies::read_body;
use super::{Random, Script, cut};
use crate::http::{BodyLength, Fields, Name, Protocol, RequestHead, ResponseHead};
use crate::http1::*;
use bytes::{Bytes, BytesMut};
use http::Method;
use std::future::poll_fn;

fn fields(lines: &[(&'static str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(Name::known(name), value.as_bytes());
    }
    fields
}

/// What `write` queued, sent in writes of at most `write_max` bytes, and their number.
async fn sent_in(write_max: usize, write: impl FnOnce(&mut Writer)) -> (BytesMut, usize) {
    let (stream, written, writes) = Script::taking(write_max).stream();
    let mut writer = Writer::new(stream);
    write(&mut writer);
    let queued = writer.queued();
    poll_fn(|cx| writer.poll_flush(cx)).await.unwrap();
    assert_eq!(writer.queued(), 0);
    let sent = written.borrow().clone();
    assert_eq!(sent.len(), queued);
    let writes = *writes.borrow();
    (sent, writes)
}

async fn sent(write: impl FnOnce(&mut Writer)) -> String {
    let (bytes, _) = sent_in(usize::MAX, write).await;
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn request() -> RequestHead {
    RequestHead {
        authority: "a.example:80".to_owned(),
        target: "/x?y".to_owned(),
        fields: fields(&[("X-A", "1"), ("x-b", "")]),
        ..RequestHead::default()
    }
}

const KEPT: ResponseKind =
    ResponseKind { has_body: true, keep_alive: true, protocol: Protocol::Http11 };

#[tokio::test]
async fn request_heads_are_written_for_this_hop() {
    let start = "GET /x?y HTTP/1.1\r\nhost: a.example:80\r\nx-a: 1\r\nx-b: \r\n";
    let plain = sent(|writer| writer.request_head(&request(), BodyLength::None)).await;
    assert_eq!(plain, format!("{start}\r\n"));
    let exact = sent(|writer| writer.request_head(&request(), BodyLength::Exact(0))).await;
    assert_eq!(exact, format!("{start}content-length: 0\r\n\r\n"));
    let chunked = sent(|writer| writer.request_head(&request(), BodyLength::Unknown)).await;
    assert_eq!(chunked, format!("{start}transfer-encoding: chunked\r\n\r\n"));

    let trailers = RequestHead { accepts_trailers: true, expects_continue: true, ..request() };
    let text = sent(|writer| writer.request_head(&trailers, BodyLength::None)).await;
    let rest = "expect: 100-continue\r\nte: trailers\r\nconnection: te\r\n\r\n";
    assert_eq!(text, format!("{start}{rest}"));

    let upgrade = RequestHead { upgrade: Some("websocket".into()), ..request() };
    let text = sent(|writer| writer.request_head(&upgrade, BodyLength::None)).await;
    assert_eq!(text, format!("{start}upgrade: websocket\r\nconnection: upgrade\r\n\r\n"));
    let both = RequestHead { accepts_trailers: true, ..upgrade };
    let text = sent(|writer| writer.request_head(&both, BodyLength::None)).await;
    assert!(text.ends_with("connection: te, upgrade\r\n\r\n"));
}

#[tokio::test]
async fn response_heads_frame_what_can_be_framed() {
    let old = ResponseKind { protocol: Protocol::Http10, ..KEPT };
    let headless = ResponseKind { has_body: false, ..KEPT };
    let closing = ResponseKind { keep_alive: false, ..KEPT };
    let (exact, unknown) = (BodyLength::Exact(5), BodyLength::Unknown);
    for (status, body, kind, line, rest, stays) in [
        (200, exact, KEPT, "200 OK", "content-length: 5\r\n", true),
        (200, unknown, KEPT, "200 OK", "transfer-encoding: chunked\r\n", true),
        (200, BodyLength::None, KEPT, "200 OK", "content-length: 0\r\n", true),
        (404, exact, closing, "404 Not Found", "content-length: 5\r\nconnection: close\r\n", false),
        (299, exact, KEPT, "299 ", "content-length: 5\r\n", true),
        (200, exact, old, "200 OK", "content-length: 5\r\nconnection: keep-alive\r\n", true),
        (200, unknown, old, "200 OK", "connection: close\r\n", false),
        (200, exact, headless, "200 OK", "content-length: 5\r\n", true),
        (200, unknown, headless, "200 OK", "", true),
        (200, BodyLength::None, headless, "200 OK", "", true),
        (304, exact, headless, "304 Not Modified", "", true),
        (204, exact, headless, "204 No Content", "", true),
        (204, BodyLength::None, KEPT, "204 No Content", "", true),
    ] {
        let head = ResponseHead { status, fields: fields(&[("x", "y")]), upgrade: None };
        let mut kept = false;
        let text = sent(|writer| kept = writer.response_head(&head, body, kind)).await;
        assert_eq!(text, format!("HTTP/1.1 {line}\r\nx: y\r\n{rest}\r\n"), "{status} {body:?}");
        assert_eq!(kept, stays);
    }
    let head =
        ResponseHead { status: 101, upgrade: Some("websocket".into()), ..ResponseHead::default() };
    let text = sent(|writer| {
        writer.response_head(&head, BodyLength::None, headless);
        writer.tunnel();
        writer.data(Bytes::from_static(b"raw")).unwrap();
    })
    .await;
    let line = "HTTP/1.1 101 Switching Protocols\r\n";
    assert_eq!(text, format!("{line}upgrade: websocket\r\nconnection: upgrade\r\n\r\nraw"));
    let text = sent(|writer| writer.interim(103, &fields(&[("link", "a")]))).await;
    assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n");
}

#[tokio::test]
async fn a_body_is_exactly_as_long_as_promised() {
    for (given, data, end) in [
        (4, Ok(()), Err(WriteError::TooShort)),
        (5, Ok(()), Ok(())),
        (6, Err(WriteError::TooLong), Err(WriteError::TooShort)),
    ] {
        sent(|writer| {
            writer.request_head(&request(), BodyLength::Exact(5));
            assert!(writer.unfinished());
            let before = writer.queued();
            assert_eq!(writer.data(Bytes::from(vec![b'x'; given])), data);
            assert_eq!(writer.queued(), before + if data.is_ok() { given } else { 0 });
            assert_eq!(writer.end(None), end);
            assert_eq!(writer.unfinished(), end.is_err());
        })
        .await;
    }
    sent(|writer| {
        writer.request_head(&request(), BodyLength::None);
        assert_eq!(writer.data(Bytes::new()), Ok(()));
        assert_eq!(writer.data(Bytes::from_static(b"x")), Err(WriteError::TooLong));
        assert_eq!(writer.end(Some(&fields(&[("x", "y")]))), Ok(()), "no place for trailers");
        // A second message after the first.
        writer.request_head(&request(), BodyLength::Unknown);
        assert!(writer.unfinished());
        writer.end(None).unwrap();
        assert_eq!(writer.data(Bytes::from_static(b"x")), Err(WriteError::TooLong));
    })
    .await;
}

#[tokio::test]
async fn chunks_and_trailers_are_written() {
    let text = sent(|writer| {
        writer.response_head(
            &ResponseHead { status: 200, ..ResponseHead::default() },
            BodyLength::Unknown,
            KEPT,
        );
        writer.data(Bytes::from_static(b"hello")).unwrap();
        writer.data(Bytes::new()).unwrap();
        writer.data(Bytes::from(vec![b'x'; 17])).unwrap();
        writer.end(Some(&fields(&[("Sum", "1")]))).unwrap();
    })
    .await;
    let body = text.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, format!("5\r\nhello\r\n11\r\n{}\r\n0\r\nsum: 1\r\n\r\n", "x".repeat(17)));
}

#[tokio::test]
async fn a_message_takes_one_write() {
    for size in [100, 100_000] {
        let (_, writes) = sent_in(usize::MAX, |writer| {
            writer.request_head(&request(), BodyLength::Unknown);
            writer.data(Bytes::from(vec![1; size])).unwrap();
            writer.end(None).unwrap();
        })
        .await;
        assert_eq!(writes, 1, "{size}");
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_an_error() {
    let (stream, _, _) = Script::taking(0).stream();
    let mut writer = Writer::new(stream);
    writer.interim(100, &Fields::default());
    let error = poll_fn(|cx| writer.poll_flush(cx)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let limits = HeadLimits::default();
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let parts: Vec<Vec<u8>> = (0..random.below(12))
            .map(|_| {
                let size = [1, 10, 1_000, 5_000, 70_000][random.below(5)];
                let size = 1 + random.below(size);
                random.bytes(size)
            })
            .collect();
        let whole = parts.concat();
        let trailers = (random.below(2) == 0).then(|| fields(&[("sum", "1"), ("x", "y")]));
        let length = match random.below(2) {
            0 => BodyLength::Exact(whole.len() as u64),
            _ => BodyLength::Unknown,
        };
        let head = RequestHead { method: Method::PUT, accepts_trailers: true, ..request() };
        let write_max = 1 + random.below(20_000);
        let (sent, _) = sent_in(write_max, |writer| {
            for _ in 0..2 {
                writer.request_head(&head, length);
                for part in &parts {
                    writer.data(Bytes::copy_from_slice(part)).unwrap();
                }
                writer.end(trailers.as_ref()).unwrap();
            }
        })
        .await;

        let piece_max = [20, 3_000, 100_000][random.below(3)];
        let mut reader =
            Reader::new(Script::sending(cut(&sent, piece_max, &mut random)).stream().0);
        for _ in 0..2 {
            let mut read = RequestHead::default();
            let framing = poll_fn(|cx| reader.poll_request_head(cx, &mut read, &limits)).await;
            assert_eq!(framing.unwrap().unwrap().body, length, "seed {seed}");
            let lines =
                |head: &RequestHead| format!("{:?}", head.fields.iter().collect::<Vec<_>>());
            assert_eq!(lines(&read), lines(&head));
            assert_eq!(
                (read.target, read.authority),
                (head.target.clone(), head.authority.clone())
            );
            let seen = read_body(&mut reader).await;
            assert!(seen.end.is_ok() && seen.data == whole, "seed {seed}");
            let expected = trailers.as_ref().filter(|_| length == BodyLength::Unknown);
            assert_eq!(seen.trailers.map(|t| t.len()), expected.map(Fields::len), "seed {seed}");
        }
        assert!(!poll_fn(|cx| reader.poll_idle(cx)).await.unwrap());
    }
}
