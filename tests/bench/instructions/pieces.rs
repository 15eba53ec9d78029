//! Pieces of the hot path, each run so many times on the main thread.

use crate::callgrind::{Callgrind, of_one_round};
use crate::filters::{self, THREE};
use pillion::chain::exchange::Message;
use pillion::chain::{Chain, Exchange, Phase, Progress, Verdict};
use pillion::http::{BodyLength, Protocol, ResponseHead, forwarding};
use pillion::http1::{self, HeadLimits, ResponseKind, Writer};
use pillion::io::Stream;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::task::{Context, Waker};

const READ_REQUEST: &str = "read a request head of 12 fields";
const READ_RESPONSE: &str = "read a response head of 8 fields";
const WRITE_HEADS: &str = "write both heads";
const EDIT: &str = "mark a request, then set, append and remove a field";
const NO_OP: &str = "a chain of one no-op filter";
const ALL_THREE: &str = "a chain of trace, headers and rate-limit";

/// Every piece.
pub(crate) const NAMES: &[&str] =
    &[READ_REQUEST, READ_RESPONSE, WRITE_HEADS, EDIT, NO_OP, ALL_THREE];

/// Rounds of the short run; the long one has three times as many.
const ROUNDS: u64 = 500;

const REQUEST: &[u8] = b"GET /v1/orders/8125?expand=lines HTTP/1.1\r\nhost: orders.test\r\n\
user-agent: bench/1.0 (x86-64; one connection)\r\naccept: application/json, text/plain;q=0.5\r\n\
accept-encoding: gzip, br\r\naccept-language: en-GB,en;q=0.8\r\ncache-control: no-cache\r\n\
cookie: session=9f86d081884c7d659a2feaa0c55ad015; theme=dark\r\nreferer: https://shop.test/cart\r\n\
authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0NSJ9.\r\nx-tenant: acme\r\n\
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-priority: 3\r\n\r\n";

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
content-type: application/json\r\ncontent-length: 33\r\ncache-control: private, max-age=0\r\n\
etag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\nvary: accept-encoding\r\n\
x-content-type-options: nosniff\r\n\r\n";

/// Counts the instructions of one round of a piece.
pub(crate) fn count(callgrind: &Callgrind, name: &str, cache: &Path) -> Result<u64, String> {
    let total = |rounds: u64| -> Result<(u64, u64), String> {
        let profile = format!("{}-{rounds}", name.replace([' ', ','], "-"));
        let rounds_text = rounds.to_string();
        let cache = cache.to_string_lossy();
        let mut command = callgrind.command(&profile, &["piece", name, &rounds_text, &cache])?;
        let status = command.status().map_err(|error| format!("valgrind: {error}"))?;
        if !status.success() {
            return Err(format!("`{name}` ended with {status}"));
        }
        Ok((callgrind.total(&profile)?, rounds))
    };
    Ok(of_one_round(total(ROUNDS)?, total(3 * ROUNDS)?))
}

/// Runs a piece.
pub(crate) fn run(name: &str, rounds: &str, cache: &Path) -> Result<(), String> {
    let rounds: u64 = rounds.parse().map_err(|_| format!("`{rounds}` is not a number"))?;
    let mut round: Box<dyn FnMut()> = match name {
        READ_REQUEST => read_request(),
        READ_RESPONSE => read_response(),
        WRITE_HEADS => write_heads(),
        EDIT => edit(),
        NO_OP => chain(filters::chain(&["noop"], cache)?),
        ALL_THREE => chain(filters::chain(&THREE, cache)?),
        _ => return Err(format!("there is no piece `{name}`")),
    };
    for _ in 0..rounds {
        round();
    }
    Ok(())
}

fn read_request() -> Box<dyn FnMut()> {
    let (mut exchange, limits) = (Exchange::default(), HeadLimits::default());
    Box::new(move || {
        exchange.clear();
        let read = http1::parse_request(black_box(REQUEST), &mut exchange.request, &limits);
        let read = black_box(read);
        assert!(matches!(read, Ok(Some((length, _))) if length == REQUEST.len()));
    })
}

fn read_response() -> Box<dyn FnMut()> {
    let (mut head, limits) = (ResponseHead::default(), HeadLimits::default());
    Box::new(move || {
        head.clear();
        let method = http::Method::GET;
        let read = http1::parse_response(black_box(RESPONSE), &method, &mut head, &limits);
        assert!(matches!(black_box(read), Ok(Some((length, _))) if length == RESPONSE.len()));
    })
}

fn write_heads() -> Box<dyn FnMut()> {
    let exchange = received();
    let nowhere = || Stream::over(tokio::io::join(tokio::io::empty(), tokio::io::sink()));
    let (mut up, mut down) = (Writer::new(nowhere()), Writer::new(nowhere()));
    let kind = ResponseKind { has_body: true, keep_alive: true, protocol: Protocol::Http11 };
    Box::new(move || {
        let mut context = Context::from_waker(Waker::noop());
        up.request_head(black_box(&exchange.request), BodyLength::None);
        assert!(up.poll_flush(&mut context).is_ready());
        assert!(down.response_head(black_box(&exchange.response), BodyLength::Exact(0), kind));
        assert!(down.poll_flush(&mut context).is_ready());
    })
}

fn edit() -> Box<dyn FnMut()> {
    let origin = received();
    let mut exchange = received();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Box::new(move || {
        exchange.clear();
        exchange.request.clone_from(black_box(&origin.request));
        forwarding::mark_request(&mut exchange.request, peer, None, &[]);
        exchange.phase = Phase::RequestHead;
        let edited = [
            exchange.set_field(Message::Request, b"x-tenant", b"globex"),
            exchange.append_field(Message::Request, b"x-seen", b"GET /v1/orders"),
            exchange.remove_field(Message::Request, b"cookie").map(drop),
        ];
        assert!(black_box(edited).iter().all(Result::is_ok));
    })
}

fn chain(chain: Chain) -> Box<dyn FnMut()> {
    let origin = received();
    let mut exchange = Box::new(received());
    Box::new(move || {
        exchange.clear();
        exchange.request.clone_from(black_box(&origin.request));
        exchange.client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut progress = Progress::default();
        let passed = chain.request_head(&mut exchange, &mut progress);
        assert_eq!(passed, Verdict::Proceed);
        exchange.response.clone_from(black_box(&origin.response));
        let passed = chain.response_head(&mut exchange, &mut progress);
        assert_eq!(passed, Verdict::Proceed);
    })
}

/// An exchange with both heads.
fn received() -> Exchange {
    let (mut exchange, limits) = (Exchange::default(), HeadLimits::default());
    let request = http1::parse_request(REQUEST, &mut exchange.request, &limits);
    assert!(matches!(request, Ok(Some(_))), "{request:?}");
    let method = exchange.request.method.clone();
    let response = http1::parse_response(RESPONSE, &method, &mut exchange.response, &limits);
    assert!(matches!(response, Ok(Some(_))), "{response:?}");
    exchange
}
