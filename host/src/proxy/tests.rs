//! What the data path tells a shadow of an exchange: played to the same chain again, it must come to
//! the same, whatever the chain does.

use super::ends::{Responder, Source};
use super::forward::Timers;
use super::record::Record;
use super::route::{Listener, Route, Way};
use super::service::{Request, serve};
use super::split::Destination;
use crate::chain::exchange::Message;
use crate::chain::testing::{Calls, Scripted, chain, filter, refusal, trap};
use crate::chain::{BodyDecision, Exchange, HeadDecision};
use crate::config::{self, ListenerLimits, PathMatch, UpstreamLimits};
use crate::dns::Addresses;
use crate::http1::{HeadLimits, Reader, Writer};
use crate::http2::Http2Limits;
use crate::io::Stream;
use crate::overload::Admission;
use crate::shadow::compare::Kind;
use crate::shadow::testing::{Records, difference, recorder};
use crate::telemetry::Metrics;
use crate::upstream::{Endpoints, States, Upstream};
use crate::worker::Gate;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nhost: h\r\nx-in: 1\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
const CHUNKED: &str = "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                       2\r\nbo\r\n2\r\ndy\r\n0\r\nx-t: 1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-out: 1\r\n\r\nhello";
const TRAILED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n";
const NOTHING: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";

/// Answers one request after its end, then closes. None: nothing listens there.
fn origin(answer: Option<&'static str>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    if let Some(answer) = answer {
        std::thread::spawn(move || {
            let (mut connection, _) = socket.accept().unwrap();
            let (mut seen, mut some) = (Vec::new(), [0; 4096]);
            let whole = |seen: &[u8]| {
                let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
                let Some(head) = text.find("\r\n\r\n") else { return false };
                match text.find("content-length: ") {
                    Some(at) => {
                        let digits = text[at + 16..].split("\r\n").next().unwrap();
                        text.len() == head + 4 + digits.parse::<usize>().unwrap()
                    }
                    None if text.contains("chunked") => {
                        text[head..].contains("\r\n0\r\n") && text.ends_with("\r\n\r\n")
                    }
                    None => true,
                }
            };
            while !whole(&seen) {
                match connection.read(&mut some).unwrap() {
                    0 => return,
                    count => seen.extend_from_slice(&some[..count]),
                }
            }
            connection.write_all(answer.as_bytes()).unwrap();
        });
    }
    address
}

fn listener(filters: Vec<Scripted>, address: SocketAddr) -> (Listener, Records) {
    let metrics = Metrics::new(1, SystemTime::now());
    let limits = UpstreamLimits::default();
    let (name, protocol) = ("app".into(), config::Protocol::Http1);
    let policy = config::Policy::default();
    let upstream =
        config::Upstream { name, endpoints: Vec::new(), protocol, tls: None, policy, limits };
    let stats = metrics.upstream("app");
    let state = States::default().of(&upstream.name, &[address], &stats);
    let (addresses, endpoints) = (Addresses::fixed(&[address]), Rc::<Endpoints>::default());
    let upstream = Upstream::new(&upstream, addresses, None, endpoints, state, stats, 0);
    let (recorder, records) = recorder();
    let route = Route {
        config: config::Route {
            name: "route".into(),
            hosts: Vec::new(),
            path: PathMatch::Any,
            methods: Vec::new(),
            headers: Vec::new(),
            peers: Vec::new(),
            chain: Vec::new(),
            next_chain: None,
            destination: config::Destination::Upstream(0),
            mirror: None,
        },
        running: Way { chain: chain(filters), versions: None, side: None },
        next: None,
        destination: Destination::Upstream(Rc::new(upstream)),
        mirror: None,
        stats: metrics.route("inbound", "route"),
        shadow: Some(recorder),
    };
    let limits = ListenerLimits::default();
    let listener = Listener {
        name: "inbound".into(),
        generation: 1,
        trusted_proxies: Vec::new(),
        tls: None,
        head_limits: HeadLimits {
            bytes: limits.head_bytes,
            fields: limits.head_fields,
            target: limits.target_bytes,
            trailer_bytes: limits.trailer_bytes,
            trailer_fields: limits.trailer_fields,
        },
        limits,
        deadline: config::Deadline { grpc: true, header: None, max: Duration::from_secs(60) },
        admission: Admission::default(),
        passing: None,
        http2_limits: Rc::new(Http2Limits::default()),
        stats: metrics.listener("inbound"),
        unrouted: metrics.route("inbound", "-"),
        routes: vec![route],
    };
    (listener, records)
}

/// Sends a request through a chain to an origin; the response as the client got it.
async fn exchange(
    filters: Vec<Scripted>,
    request: &str,
    answer: Option<&'static str>,
) -> (String, Records) {
    let (listener, records) = listener(filters, origin(answer));
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(request.as_bytes()).await.unwrap();
    {
        let stream = Stream::over(server);
        let (mut reader, mut writer) = (Reader::new(stream.clone()), Writer::new(stream));
        let mut exchange = Box::<Exchange>::default();
        let head = poll_fn(|cx| {
            reader.poll_request_head(cx, &mut exchange.request, &listener.head_limits)
        });
        let framing = head.await.unwrap().expect("a request");
        let (mut keep_alive, gate) = (false, Gate::default());
        let request = Request {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            identity: None,
            length: framing.body,
            body: Source::Http1(&mut reader),
            responder: Responder::Http1 {
                writer: &mut writer,
                keep_alive: &mut keep_alive,
                gate: &gate,
            },
        };
        let record = Record { worker: 0, log: None };
        serve(&listener, &mut exchange, request, &mut Timers::default(), &record).await;
    }
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    (response, records)
}

fn a() -> Scripted {
    filter("a", &Calls::default())
}

/// Adds a field to both heads.
fn marks() -> Scripted {
    let mark = |message| {
        move |exchange: &mut Exchange| {
            let marked = exchange.append_field(message, b"x-mark", b"1");
            marked.map(|()| HeadDecision::Proceed).map_err(|_| trap())
        }
    };
    a().request(mark(Message::Request)).response(mark(Message::Response))
}

fn shouts() -> Scripted {
    a().body(|_, _, chunk, _| Ok(BodyDecision::Replace(chunk.to_ascii_uppercase())))
}

/// Keeps both heads back until the end of the bodies.
fn waits() -> Scripted {
    a().head(HeadDecision::WaitForBody).body(|_, _, _, _| Ok(BodyDecision::Hold))
}

fn answers() -> Scripted {
    a().request(|_| Ok(HeadDecision::Respond(Box::new(refusal(403)))))
}

fn answers_instead() -> Scripted {
    a().response(|_| Ok(HeadDecision::Respond(Box::new(refusal(418)))))
}

fn answers_at_the_body() -> Scripted {
    let body = |_: &mut Exchange, _: &[u8], _: &[u8], last| match last {
        true => Ok(BodyDecision::Respond(refusal(413))),
        false => Ok(BodyDecision::Hold),
    };
    a().head(HeadDecision::WaitForBody).body(body)
}

fn fails() -> Scripted {
    a().request(|_| Err(trap()))
}

fn fails_at_the_response() -> Scripted {
    a().response(|_| Err(trap()))
}

fn edits_trailers() -> Scripted {
    let mut filter = a();
    filter.trailers = true;
    filter
}

/// A chain, to be made twice.
type Make = fn() -> Vec<Scripted>;

const CHAINS: [Make; 12] = [
    Vec::new,
    || vec![marks()],
    || vec![shouts()],
    || vec![waits()],
    || vec![marks(), waits(), shouts()],
    || vec![marks(), answers()],
    || vec![marks(), answers_instead()],
    || vec![waits(), answers_instead()],
    || vec![marks(), answers_at_the_body()],
    || vec![marks(), fails()],
    || vec![marks(), fails_at_the_response(), marks()],
    || vec![edits_trailers(), fails().open()],
];

#[tokio::test]
async fn what_a_chain_did_it_does_again_in_a_replay() {
    for (nth, make) in CHAINS.iter().enumerate() {
        for request in [GET, POST, CHUNKED] {
            for answer in [Some(OK), Some(TRAILED), Some(NOTHING), None] {
                let (response, records) = exchange(make(), request, answer).await;
                let case = format!("chain {nth}, {request}, {answer:?}: {response}");
                let record = records.take().unwrap_or_else(|| panic!("no record: {case}"));
                assert_eq!(difference(&record, make()), None, "{case}");
                assert_eq!(records.skipped(), 0);
            }
        }
    }
}

#[tokio::test]
async fn what_another_chain_does_is_seen() {
    let cases: [(Make, Make, &str, Kind); 10] = [
        (CHAINS[0], CHAINS[1], GET, Kind::Headers),
        (CHAINS[1], CHAINS[0], GET, Kind::Headers),
        (CHAINS[0], CHAINS[2], POST, Kind::Body),
        (CHAINS[2], CHAINS[3], POST, Kind::Body),
        (CHAINS[0], CHAINS[5], GET, Kind::Status),
        (CHAINS[5], CHAINS[0], GET, Kind::Status),
        (CHAINS[6], CHAINS[0], GET, Kind::Status),
        (CHAINS[8], CHAINS[0], POST, Kind::Status),
        (CHAINS[0], CHAINS[9], GET, Kind::Failed),
        (CHAINS[10], CHAINS[1], GET, Kind::Status),
    ];
    for (nth, (running, next, request, kind)) in cases.into_iter().enumerate() {
        let (response, records) = exchange(running(), request, Some(OK)).await;
        let record = records.take().expect("it was recorded");
        let found = difference(&record, next());
        assert_eq!(found.map(|(kind, _)| kind), Some(kind), "case {nth}: {response}");
    }
}

#[tokio::test]
async fn a_record_has_what_came_and_what_went() {
    let (response, records) = exchange(vec![marks(), shouts()], CHUNKED, Some(OK)).await;
    assert!(response.contains("HELLO"), "{response}");
    let record = records.take().expect("it was recorded");
    let chunks: Vec<&[u8]> = record.request.body.chunks().collect();
    assert_eq!(chunks.concat(), b"body");
    assert_eq!(record.sent_body().whole(), Some(&b"BODY"[..]));
    assert_eq!(record.delivered_body().whole(), Some(&b"HELLO"[..]));
    let answer = record.answer.as_ref().expect("the origin answered");
    assert_eq!(answer.body.whole(), Some(&b"hello"[..]));
    let names = |fields: &crate::http::Fields| -> Vec<String> {
        fields.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    };
    let forwarded = record.forwarded.as_ref().expect("it was forwarded");
    assert!(names(&forwarded.fields).contains(&"x-mark".to_owned()));
    assert!(!names(&record.request.head.fields).contains(&"x-mark".to_owned()));
    assert!(names(&record.request.head.fields).contains(&"via".to_owned()), "after the marks");
    assert!(names(&record.delivered.fields).contains(&"x-mark".to_owned()));
    assert!(!names(&answer.head.fields).contains(&"x-mark".to_owned()));
    assert_eq!(record.outcome.status, Some(200));
    assert!(record.outcome.complete && !record.failed);
}

#[tokio::test]
async fn an_exchange_that_broke_is_skipped() {
    let (_, records) = exchange(vec![marks()], GET, Some(CUT)).await;
    assert!(records.take().is_none());
    assert_eq!(records.skipped(), 1);
    let (_, records) = exchange(vec![waits()], GET, Some(CUT)).await;
    assert!(records.take().is_none());
    assert_eq!(records.skipped(), 1, "also where a filter held the head");
}

#[tokio::test]
async fn a_stream_is_handed_over_with_its_heads() {
    let (response, records) = exchange(vec![marks()], GET, Some(EVENTS)).await;
    assert!(response.contains("data: 1"), "{response}");
    let record = records.take().expect("it was recorded");
    assert!(record.delivered_body().is_given_up());
    assert_eq!(difference(&record, vec![marks()]), None);
    assert_eq!(difference(&record, vec![]).map(|(kind, _)| kind), Some(Kind::Headers));
    assert_eq!(records.skipped(), 0);
    let grpc = POST.replace("host: h", "host: h\r\ncontent-type: application/grpc");
    let (_, records) = exchange(vec![shouts()], &grpc, Some(OK)).await;
    let record = records.take().expect("it was recorded");
    assert!(record.request.body.is_given_up() && record.delivered_body().is_given_up());
}
