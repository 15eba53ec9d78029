//! Bodies as a reader sees them: every way to frame one, every way to break one.

use super::{Random, Script, cut};
use crate::http::{BodyError, BodyLength, Fields, Frame, RequestHead, ResponseHead};
use crate::http1::chunked::{EXTENSION_BYTES_MAX, EXTENSIONS_BYTES_MAX};
use crate::http1::reader::FRAME_BYTES_MAX;
use crate::http1::*;
use bytes::Bytes;
use http::Method;
use std::future::poll_fn;

/// The frames of a body: data, trailers, how it ended.
pub(super) struct Seen {
    pub(super) data: Vec<u8>,
    pub(super) frames: usize,
    pub(super) trailers: Option<Fields>,
    pub(super) end: Result<(), BodyError>,
}

pub(super) async fn read_body(reader: &mut Reader) -> Seen {
    let mut seen = Seen { data: Vec::new(), frames: 0, trailers: None, end: Ok(()) };
    loop {
        match poll_fn(|cx| reader.poll_frame(cx)).await {
            Ok(Frame::Data(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= FRAME_BYTES_MAX);
                seen.data.extend_from_slice(&bytes);
                seen.frames += 1;
            }
            Ok(Frame::Trailers(fields)) => seen.trailers = Some(fields),
            Ok(Frame::End) => {
                assert!(reader.body_done());
                return seen;
            }
            Err(error) => {
                seen.end = Err(error);
                return seen;
            }
        }
    }
}

/// Reads a chunked request body that comes in one piece, byte by byte, and cut at random: all give
/// the same.
async fn chunked_with(body: &[u8], limits: &HeadLimits) -> Seen {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = [&head[..], body].concat();
    let mut random = Random::new(body.len() as u64);
    let mut results: Vec<Seen> = Vec::new();
    for piece_max in [usize::MAX, 1, 7, 300] {
        let pieces = match piece_max {
            usize::MAX => vec![Bytes::copy_from_slice(&whole)],
            most => cut(&whole, most, &mut random),
        };
        let mut reader = Reader::new(Script::sending(pieces).stream().0);
        let mut head = RequestHead::default();
        let framing = poll_fn(|cx| reader.poll_request_head(cx, &mut head, limits)).await.unwrap();
        assert_eq!(framing.unwrap().body, BodyLength::Unknown);
        let seen = read_body(&mut reader).await;
        if let Some(first) = results.first() {
            assert_eq!(seen.data, first.data);
            assert_eq!(format!("{:?}", seen.end), format!("{:?}", first.end));
            assert_eq!(lines(&seen.trailers), lines(&first.trailers));
        }
        results.push(seen);
    }
    results.swap_remove(0)
}

async fn chunked(body: &str) -> Seen {
    chunked_with(body.as_bytes(), &HeadLimits::default()).await
}

fn lines(fields: &Option<Fields>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    fields.iter().flat_map(|fields| fields.iter().map(owned).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn chunks_are_joined_and_trailers_kept() {
    let seen =
        chunked("5\r\nhello\r\n1;a=b\r\n \r\n0005 ; x\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    assert_eq!(seen.data, b"hello world");
    assert_eq!(lines(&seen.trailers), [(b"x-sum".to_vec(), b"1".to_vec())]);
    assert!(seen.end.is_ok());
    assert_eq!(seen.frames, 1, "small chunks that have arrived make one frame");
    let seen = chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n").await;
    assert_eq!(seen.data.len(), 20);
    assert!(seen.trailers.is_none() && seen.end.is_ok());
}

#[tokio::test]
async fn malformed_chunks_are_refused() {
    let extension = "x".repeat(EXTENSION_BYTES_MAX);
    let too_long = format!("1;{extension}\r\na\r\n0\r\n\r\n");
    for (body, message) in [
        ("\r\n", "a chunk has no size"),
        ("x\r\n", "a chunk has no size"),
        ("-1\r\n", "a chunk has no size"),
        (" 1\r\na\r\n", "a chunk has no size"),
        ("0x1\r\na\r\n", "a chunk size is not a number"),
        ("1 \r\na\r\n", "a chunk size is not a number"),
        ("1 1\r\na\r\n", "a chunk size is not a number"),
        ("1\na\r\n", "a chunk size is not a number"),
        ("00000000000000001\r\na\r\n", "a chunk size has more than 16 digits"),
        ("1;a\nb\r\n", "a chunk size does not end in CR LF"),
        ("1;a\rb\r\n", "a chunk extension holds a control byte"),
        ("1;\0\r\n", "a chunk extension holds a control byte"),
        (&too_long, "a chunk extension is too long"),
        ("1\r\nab\r\n", "a chunk does not end in CR LF"),
        ("1\r\na\n", "a chunk does not end in CR LF"),
        ("1\r\na\rb", "a chunk does not end in CR LF"),
        ("0\r\nx: y\n\r\n", "a trailer line does not end in CR LF"),
        ("0\r\n\n", "a trailer line does not end in CR LF"),
        ("0\r\nx: a\rb\r\n\r\n", "a trailer holds a bare CR"),
        ("0\r\nx: \0\r\n\r\n", "a trailer holds a control byte"),
        ("0\r\nx: y\r\n z\r\n\r\n", "a trailer is folded"),
        ("0\r\nx\r\n\r\n", "a trailer has no valid name"),
        ("0\r\nx : y\r\n\r\n", "a trailer's name is followed by a blank"),
    ] {
        match chunked(body).await.end {
            Err(BodyError::Malformed(found)) => {
                assert_eq!(found, message, "{body:?}");
            }
            other => panic!("{body:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_stops_is_never_complete() {
    let whole = "5\r\nhello\r\n0\r\nx: y\r\n\r\n";
    for end in 0..whole.len() {
        let seen = chunked(&whole[..end]).await;
        assert!(matches!(seen.end, Err(BodyError::Truncated)), "{end}");
        assert!(b"hello".starts_with(&seen.data));
    }
    assert!(chunked(whole).await.end.is_ok());
}

#[tokio::test]
async fn the_size_of_a_chunk_has_64_bits() {
    let seen = chunked("ffffffffffffffff\r\nabc").await;
    assert_eq!(seen.data, b"abc");
    assert!(matches!(seen.end, Err(BodyError::Truncated)));
}

#[tokio::test]
async fn chunk_extensions_are_bounded() {
    for (length, fits) in [
        (EXTENSION_BYTES_MAX - 1, true),
        (EXTENSION_BYTES_MAX, true),
        (EXTENSION_BYTES_MAX + 1, false),
    ] {
        // With the longest size, too.
        for size in ["1", "0000000000000001"] {
            let body = format!("{size};{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 1));
            assert_eq!(chunked(&body).await.end.is_ok(), fits, "{length} {size}");
        }
    }
    let one = format!("1;{}\r\na\r\n", "x".repeat(EXTENSION_BYTES_MAX - 1));
    let all = one.repeat(EXTENSIONS_BYTES_MAX / EXTENSION_BYTES_MAX);
    let one_below = format!("{}1;{}\r\na\r\n0\r\n\r\n", &all[one.len()..], "x".repeat(254));
    assert!(chunked(&one_below).await.end.is_ok());
    assert!(chunked(&format!("{all}0\r\n\r\n")).await.end.is_ok());
    let end = chunked(&format!("{all}0;\r\n\r\n")).await.end;
    assert!(
        matches!(end, Err(BodyError::Malformed("the chunk extensions are too long"))),
        "{end:?}"
    );
}

#[tokio::test]
async fn trailer_limits_hold() {
    let limits = HeadLimits { trailer_bytes: 100, trailer_fields: 3, ..HeadLimits::default() };
    for (bytes, fits) in [(99, true), (100, true), (101, false)] {
        let body = format!("0\r\nx: {}\r\n\r\n", "y".repeat(bytes - "x: \r\n\r\n".len()));
        let seen = chunked_with(body.as_bytes(), &limits).await;
        assert_eq!(seen.end.is_ok(), fits, "{bytes}");
        if !fits {
            assert!(matches!(seen.end, Err(BodyError::TrailersTooLarge("trailer_bytes"))));
        }
    }
    for (fields, fits) in [(2, true), (3, true), (4, false)] {
        let body = format!("0\r\n{}\r\n", "x: y\r\n".repeat(fields));
        let seen = chunked_with(body.as_bytes(), &limits).await;
        assert_eq!(seen.end.is_ok(), fits, "{fields}");
        if !fits {
            assert!(matches!(seen.end, Err(BodyError::TrailersTooLarge("trailer_fields"))));
        }
    }
    // Without an end, the section is refused where it exceeds the limit.
    let endless = format!("0\r\nx: {}", "y".repeat(200));
    let seen = chunked_with(endless.as_bytes(), &limits).await;
    assert!(matches!(seen.end, Err(BodyError::TrailersTooLarge("trailer_bytes"))));
}

#[tokio::test]
async fn trailers_cannot_frame_or_route() {
    let seen = chunked(
        "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nContent_Length: 1\r\n\
         Authorization: x\r\nSet-Cookie: x\r\nX-Forwarded-For: x\r\nKept: 1\r\n\r\n",
    )
    .await;
    assert_eq!(lines(&seen.trailers), [(b"kept".to_vec(), b"1".to_vec())]);
    let seen = chunked("0\r\nHost: b\r\n\r\n").await;
    assert!(seen.trailers.is_none() && seen.end.is_ok());
}

async fn answer(method: Method, script: Script) -> (Reader, ResponseFraming) {
    let mut reader = Reader::new(script.stream().0);
    let (mut head, limits) = (ResponseHead::default(), HeadLimits::default());
    let framing = poll_fn(|cx| reader.poll_response_head(cx, &method, &mut head, &limits)).await;
    (reader, framing.unwrap())
}

fn one_piece(text: &[u8]) -> Script {
    Script::sending([Bytes::copy_from_slice(text)])
}

#[tokio::test]
async fn an_exact_body_ends_at_its_length() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 204 X\r\n\r\n";
    let (mut reader, _) = answer(Method::GET, one_piece(text)).await;
    let seen = read_body(&mut reader).await;
    assert_eq!(seen.data, b"hello");
    assert!(matches!(poll_fn(|cx| reader.poll_frame(cx)).await, Ok(Frame::End)));
    assert!(reader.began());
    let (mut head, limits) = (ResponseHead::default(), HeadLimits::default());
    let next = poll_fn(|cx| reader.poll_response_head(cx, &Method::GET, &mut head, &limits)).await;
    assert_eq!((next.unwrap().body, head.status), (BodyLength::None, 204));
    assert!(!reader.began() && reader.body_done());

    let short = one_piece(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell");
    let (mut reader, _) = answer(Method::GET, short).await;
    assert!(matches!(read_body(&mut reader).await.end, Err(BodyError::Truncated)));
}

#[tokio::test]
async fn a_body_until_the_end_of_the_connection_ends_with_it_and_not_with_a_reset() {
    let text = b"HTTP/1.0 200 OK\r\n\r\nhello";
    let (mut reader, framing) = answer(Method::GET, one_piece(text)).await;
    assert!(framing.until_close);
    let seen = read_body(&mut reader).await;
    assert_eq!((&seen.data[..], seen.end.is_ok()), (&b"hello"[..], true));

    let (mut reader, _) = answer(Method::GET, one_piece(text).then_resetting()).await;
    assert!(matches!(read_body(&mut reader).await.end, Err(BodyError::Truncated)));
}

#[tokio::test]
async fn a_large_body_passes_whatever_the_pieces() {
    let mut random = Random::new(7);
    let body = random.bytes(1_000_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let whole = [head.as_bytes(), &body].concat();
    for piece_max in [1_000, 20_000, 1_000_000] {
        let pieces = cut(&whole, piece_max, &mut random);
        let (mut reader, _) = answer(Method::GET, Script::sending(pieces)).await;
        let seen = read_body(&mut reader).await;
        assert!(seen.data == body && seen.end.is_ok(), "{piece_max}");
    }
}

#[tokio::test]
async fn a_closed_connection_tells_where_it_closed() {
    let limits = HeadLimits::default();
    for (text, reset) in [("", false), ("", true), ("\r\n", false), ("\r", false)] {
        let script = one_piece(text.as_bytes());
        let script = if reset { script.then_resetting() } else { script };
        let mut reader = Reader::new(script.stream().0);
        let mut head = RequestHead::default();
        let next = poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await;
        assert!(matches!(next, Ok(None)), "{text:?} {reset}");
    }
    for reset in [false, true] {
        let script = |text: &[u8]| {
            let script = one_piece(text);
            if reset { script.then_resetting() } else { script }
        };
        let mut reader = Reader::new(script(b"GET / HT").stream().0);
        let mut head = RequestHead::default();
        let next = poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await;
        assert!(matches!(next, Err(ReadError::Truncated)));

        let mut head = ResponseHead::default();
        let mut reader = Reader::new(script(b"").stream().0);
        let get = Method::GET;
        let next = poll_fn(|cx| reader.poll_response_head(cx, &get, &mut head, &limits)).await;
        assert!(matches!(next, Err(ReadError::Closed)));
        let mut reader = Reader::new(script(b"H").stream().0);
        let next = poll_fn(|cx| reader.poll_response_head(cx, &get, &mut head, &limits)).await;
        assert!(matches!(next, Err(ReadError::Truncated)));
    }
}

#[tokio::test]
async fn a_head_is_not_looked_for_within_a_body() {
    let text = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let (mut reader, _) = answer(Method::GET, one_piece(text)).await;
    let (mut head, limits) = (ResponseHead::default(), HeadLimits::default());
    let next = poll_fn(|cx| reader.poll_response_head(cx, &Method::GET, &mut head, &limits)).await;
    assert!(matches!(next, Err(ReadError::BodyUnread)));
    let mut head = RequestHead::default();
    let next = poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await;
    assert!(matches!(next, Err(ReadError::BodyUnread)));
}

#[tokio::test]
async fn an_error_stays_the_same_error() {
    let limits = HeadLimits::default();
    let mut head = RequestHead::default();
    for text in ["GET / HTTP/1.1\r\n\r\n", "GET /\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"] {
        let mut reader = Reader::new(one_piece(text.as_bytes()).stream().0);
        let mut errors = Vec::new();
        for _ in 0..2 {
            let next = poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await;
            errors.push(format!("{:?}", next.unwrap_err()));
        }
        assert_eq!(errors[0], errors[1]);
    }
}

#[tokio::test]
async fn a_connection_shows_what_it_speaks() {
    let almost = &PREFACE[..23];
    for (text, opening) in [
        (&PREFACE[..], Opening::Http2),
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"[..], Opening::Http2),
        (b"PRI * HTTP/1.1\r\n", Opening::Http1),
        (b"G", Opening::Http1),
        (almost, Opening::Http1),
        (b"", Opening::Closed),
    ] {
        for piece_max in [1, 100] {
            let pieces = cut(text, piece_max, &mut Random::new(1));
            let mut reader = Reader::new(Script::sending(pieces).stream().0);
            assert_eq!(poll_fn(|cx| reader.poll_opening(cx)).await.unwrap(), opening);
            assert!(text.starts_with(&reader.take_buffered()));
            assert!(!reader.began());
        }
    }
}

#[tokio::test]
async fn an_idle_connection_waits_for_a_byte_or_the_end() {
    let mut reader = Reader::new(one_piece(b"x").stream().0);
    assert!(poll_fn(|cx| reader.poll_idle(cx)).await.unwrap());
    assert!(reader.began());
    assert!(poll_fn(|cx| reader.poll_idle(cx)).await.unwrap());
    assert_eq!(reader.take_buffered(), "x");
    assert!(!poll_fn(|cx| reader.poll_idle(cx)).await.unwrap());
}

#[tokio::test]
async fn a_tunnel_starts_with_what_came_behind_the_head() {
    let text = b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n0\r\n\r\nraw";
    let (mut reader, framing) = answer(Method::GET, one_piece(text)).await;
    assert_eq!(framing.body, BodyLength::None);
    reader.tunnel();
    let seen = read_body(&mut reader).await;
    assert_eq!(seen.data, b"0\r\n\r\nraw");
    assert!(seen.end.is_ok());
}
