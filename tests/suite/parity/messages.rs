//! Random exchanges: what a client sends and what an upstream answers.

use super::dice::Dice;
use pillion::config::case::{Answer, Expect, Payload, Request, Step};
use std::time::Duration;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "X-OWN"];
const PATHS: [&str; 9] =
    ["/", "/api", "/api/x", "/apix?", "/api?x=1&y=%20", "/a//b?q?r", "*", "/%zz", "/other?x-a"];
const AUTHORITIES: [&str; 5] = ["app.example", "APP.example:80", "[::1]:8080", "127.0.0.1", "a_b"];
const PROTOCOLS: [&str; 3] = ["HTTP/1.0", "HTTP/1.1", "HTTP/2"];
const CLIENTS: [&str; 5] =
    ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "::ffff:192.0.2.1"];
const STATUSES: [u16; 10] = [200, 200, 200, 201, 203, 204, 205, 304, 404, 503];
const TRACE_PARENTS: [&str; 8] = [
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more",
    "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c",
];
const TRACE_STATES: [&str; 6] = ["a=1,b=2", "", "a=1,,b=2", "a", "t@v=x, b=2", "a=1,a=2"];
const B3: [&str; 6] = [
    "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    "64fe8b2a57d3eff7-e457b5a2e4d86bd1-d-05e3ac9a4f6e3b90",
    "0",
    "d",
    "zz-e457b5a2e4d86bd1",
    "",
];
const IDS: [&str; 4] = ["80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1", "0", "x"];
const REQUEST_IDS: [&str; 4] = ["mine", "not fit", "a/b:c=d", ""];
pub(super) const NAMES: [&str; 8] =
    ["x-a", "x-b", "x-tenant", "x-many", "cookie", "x-remove", "server", "content-type"];
const VALUES: [&[u8]; 7] = [b"a", b"b", b"two words", b"", b"\xff\xfe", "ä€".as_bytes(), b"a,b"];

/// Bytes of the largest chunk that a hook is called with.
const CHUNK_BYTES: usize = 64 * 1024;

/// One exchange.
pub(super) fn step(dice: &mut Dice) -> Step {
    let secure = dice.chance(30);
    let request = Request {
        method: dice.pick(&METHODS).parse().expect("it is a method"),
        path: dice.text(&PATHS),
        secure,
        authority: dice.text(&AUTHORITIES),
        protocol: dice.pick(&PROTOCOLS),
        client: dice.pick(&CLIENTS).parse().expect("it is an address"),
        listener: dice.text(&["inbound", "outbound"]),
        headers: request_fields(dice),
        payload: payload(dice),
        notes: dice
            .some(3, |dice| (dice.text(&["auth.user", "other"]), dice.text(&["u", "", "ä"]))),
    };
    let upstream = Answer {
        status: dice.pick(&STATUSES),
        headers: fields(dice, 6),
        payload: payload(dice),
        delay: Duration::from_micros(dice.pick(&[0, 0, 7, 1_500_000])),
    };
    let advance = Duration::from_micros(dice.pick(&[0, 0, 1, 999, 50_000, 400_000, 5_000_000]));
    Step { advance, repeat: 1, request, upstream, expect: Expect::default() }
}

fn request_fields(dice: &mut Dice) -> Vec<(String, Vec<u8>)> {
    let mut all = fields(dice, 6);
    let special: [(&str, &[&str]); 8] = [
        ("traceparent", &TRACE_PARENTS),
        ("tracestate", &TRACE_STATES),
        ("b3", &B3),
        ("x-b3-traceid", &IDS),
        ("x-b3-spanid", &IDS),
        ("x-b3-sampled", &["1", "0", "true", "x"]),
        ("x-request-id", &REQUEST_IDS),
        ("x-answer", &["respond", "skip", "wait", "proceed"]),
    ];
    for (name, values) in special {
        if dice.chance(30) {
            all.push((name.to_owned(), dice.pick(values).as_bytes().to_vec()));
        }
    }
    // A head near its limits: 100 fields, 32 KiB.
    if dice.chance(4) {
        let end = all.len() + dice.below(12);
        all.extend((end..96).map(|at| (format!("x-fill-{at}"), b"fill".to_vec())));
    } else if dice.chance(4) {
        all.push(("x-large".to_owned(), vec![b'l'; 31_000 + dice.below(1500)]));
    }
    all
}

fn fields(dice: &mut Dice, end: usize) -> Vec<(String, Vec<u8>)> {
    dice.some(end, |dice| (dice.text(&NAMES), dice.pick(&VALUES).to_vec()))
}

fn payload(dice: &mut Dice) -> Payload {
    if dice.chance(40) {
        return Payload::default();
    }
    let chunks = match dice.below(200) {
        // Around what a filter may hold: 1 MiB.
        0 => {
            let over = dice.below(3);
            let filled = |length| [&b"h"[..], &vec![b'.'; length - 1]].concat();
            (0..16).map(|_| filled(CHUNK_BYTES)).chain((0..over).map(|_| filled(1))).collect()
        }
        _ => dice.some(5, chunk),
    };
    let trailers = match dice.chance(40) {
        true => fields(dice, 5).into_iter().chain([("x-sum".to_owned(), b"1".to_vec())]).collect(),
        false => Vec::new(),
    };
    Payload { chunks: Some(chunks), trailers }
}

/// Its first byte tells the guests what to do with it.
fn chunk(dice: &mut Dice) -> Vec<u8> {
    let length = match dice.below(150) {
        0 => CHUNK_BYTES - 1 + dice.below(2),
        1..10 => 0,
        _ => 1 + dice.below(20),
    };
    let mut chunk = vec![b'.'; length];
    if let Some(first) = chunk.first_mut() {
        *first = dice.pick(b"aaabchhhrrxyz!p");
    }
    chunk
}
