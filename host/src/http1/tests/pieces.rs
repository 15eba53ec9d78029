//! However bytes are cut, and whatever they are: the same result, and never a panic.

use super::bodies::read_body;
use super::{Random, Script, cut};
use crate::http::{RequestHead, ResponseHead};
use crate::http1::chunked::{Chunked, Step};
use crate::http1::*;
use bytes::{Bytes, BytesMut};
use http::Method;
use std::future::poll_fn;

const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nPOST http://b:1/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: y\r\n\r\nabc",
    "POST /x HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
     Connection: te, x-hop\r\nX-Hop: 1\r\nExpect: 100-continue\r\n\r\n\
     3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nSum: 1\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n",
];

const BAD: &[&str] = &[
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc",
    "GET / HTTP/1.1\r\nHo",
];

/// What a reader makes of a connection: every head, body and the end, as text.
async fn story(pieces: Vec<Bytes>) -> String {
    let mut reader = Reader::new(Script::sending(pieces).stream().0);
    let (mut head, limits) = (RequestHead::default(), HeadLimits::default());
    let mut story = String::new();
    loop {
        match poll_fn(|cx| reader.poll_request_head(cx, &mut head, &limits)).await {
            Ok(Some(framing)) => story += &format!("{head:?} {framing:?} "),
            Ok(None) => return story + "closed",
            Err(error) => return story + &format!("{error:?}"),
        }
        let seen = read_body(&mut reader).await;
        story += &format!("{:?} {:?} ", seen.data, seen.trailers);
        if let Err(error) = seen.end {
            return story + &format!("{error:?}");
        }
    }
}

#[tokio::test]
async fn pieces_make_no_difference() {
    let pipelined = GOOD.concat();
    let pipelined_bad: Vec<String> = BAD.iter().map(|bad| pipelined.clone() + bad).collect();
    let all = GOOD.iter().chain(BAD).copied();
    for text in all.chain([&*pipelined]).chain(pipelined_bad.iter().map(|text| &**text)) {
        let expected = story(vec![Bytes::copy_from_slice(text.as_bytes())]).await;
        for seed in 0..30 {
            let mut random = Random::new(seed);
            let piece_max = [1, 3, 20, 100][seed as usize % 4];
            let pieces = cut(text.as_bytes(), piece_max, &mut random);
            assert_eq!(story(pieces).await, expected, "{text:?} seed {seed}");
        }
    }
}

#[tokio::test]
async fn damaged_messages_never_panic_and_pieces_still_make_no_difference() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let mut text = GOOD.concat().into_bytes();
        for _ in 0..1 + random.below(4) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => text[at] = random.below(256) as u8,
                1 => text[at] = b"\r\n :,;\0\t0/"[random.below(10)],
                2 => drop(text.remove(at)),
                _ => {
                    let end = (at + random.below(30)).min(text.len());
                    let copy = text[at..end].to_vec();
                    text.splice(at..at, copy);
                }
            }
        }
        let expected = story(vec![Bytes::copy_from_slice(&text)]).await;
        let pieces = cut(&text, 1 + random.below(50), &mut random);
        assert_eq!(story(pieces).await, expected, "seed {seed}");
    }
}

#[test]
fn noise_never_panics() {
    let alphabet = b"GET / HTTP/1.1\r\n\r\nHost: a:\t \0\x7f\xff,;=0123456789abcdefchunked\r\n\r\n";
    let limits = HeadLimits::default();
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let length = random.below(200);
        let mut noise = match seed % 2 {
            0 => random.bytes(length),
            _ => (0..length).map(|_| alphabet[random.below(alphabet.len())]).collect(),
        };
        if seed % 3 == 0 {
            noise.splice(0..0, b"HTTP/1.1 200 OK\r\n".iter().copied());
        } else if seed % 3 == 1 {
            noise.splice(0..0, b"GET / HTTP/1.1\r\nHost: a\r\n".iter().copied());
        }
        let _ = parse_request(&noise, &mut RequestHead::default(), &limits);
        let _ = parse_response(&noise, &Method::GET, &mut ResponseHead::default(), &limits);
        let mut chunked = Chunked::new(&limits);
        let mut buffer = BytesMut::from(&noise[..]);
        while let Ok(Step::Data(data)) = chunked.step(&mut buffer) {
            assert!(!data.is_empty());
        }
    }
}
