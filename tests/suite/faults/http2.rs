//! Faults of upstreams that speak HTTP/2, frame by frame.

use super::{End, Fault, Faulty, all_have_their_answers};
use End::{Answer, Cut, Reply};
use pillion_tests::frames::{self, END_HEADERS, END_STREAM, Frames};
use pillion_tests::{Origin, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// One step of an upstream that has the head of a request. Behind the last one it takes the next request.
#[derive(Clone)]
enum Step {
    /// A frame of the request's stream.
    Frame(u8, u8, Vec<u8>),
    /// A frame of the connection.
    OfConnection(u8, Vec<u8>),
    /// Ends the stream with this code.
    ResetStream(u32),
    /// Ends the connection with this code; requests up to that of this one are taken, or none.
    GoAway { taken: bool, code: u32 },
    /// Bytes that need not be frames.
    Raw(Vec<u8>),
    /// Waits until the client has the head of the answer.
    HeadSeen,
    /// Ends its side of the connection, in order.
    Close,
    /// Ends the connection with a reset.
    Reset,
    /// Takes nothing more from the connection.
    Stand,
}
use Step::{Close, GoAway, HeadSeen, OfConnection, Raw, Reset, ResetStream, Stand};

fn headers(block: &[u8]) -> Step {
    Step::Frame(frames::HEADERS, END_HEADERS, block.to_vec())
}

fn last_headers(block: &[u8]) -> Step {
    Step::Frame(frames::HEADERS, END_HEADERS | END_STREAM, block.to_vec())
}

fn data(text: &str) -> Step {
    Step::Frame(frames::DATA, 0, text.into())
}

fn last_data(text: &str) -> Step {
    Step::Frame(frames::DATA, END_STREAM, text.into())
}

/// A field without compression.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("it is short");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().flat_map(|(name, value)| field(name, value));
    [frames::OK.to_vec(), fields.collect()].concat()
}

/// What the steps say was said; false: no more is to come on this connection.
async fn play(frames: &mut Frames, stream: u32, steps: &[Step], head_seen: &Notify) -> bool {
    for step in steps {
        match step {
            Step::Frame(kind, flags, payload) => {
                frames.send(*kind, *flags, stream, payload).await;
            }
            OfConnection(kind, payload) => frames.send(*kind, 0, 0, payload).await,
            ResetStream(code) => {
                frames.send(frames::RST_STREAM, 0, stream, &code.to_be_bytes()).await;
            }
            GoAway { taken, code } => {
                let last = if *taken { stream } else { 0 };
                let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                frames.send(frames::GOAWAY, 0, 0, &payload).await;
            }
            Raw(bytes) => frames.raw(bytes).await,
            HeadSeen => pillion_tests::within("the client to see", head_seen.notified()).await,
            Close | Reset | Stand => return false,
        }
    }
    true
}

async fn serve(wire: Wire, steps: &[Step], asked: &AtomicUsize, head_seen: &Notify) {
    let mut frames = Frames::accept(wire, &[]).await;
    while let Some(frame) = frames.next().await {
        if frame.kind == frames::SETTINGS && frame.flags & frames::ACK == 0 {
            frames.send(frames::SETTINGS, frames::ACK, 0, &[]).await;
        }
        if frame.kind != frames::HEADERS {
            continue;
        }
        asked.fetch_add(1, Ordering::SeqCst);
        if play(&mut frames, frame.stream, steps, head_seen).await {
            continue;
        }
        let mut wire = frames.into_wire();
        match steps.last() {
            Some(Reset) => wire.reset(),
            Some(Stand) => std::future::pending().await,
            _ => {
                wire.finish().await;
                wire.rest().await;
            }
        }
        return;
    }
}

async fn upstream(steps: Vec<Step>) -> Faulty {
    let (head_seen, asked) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default());
    let (told, counted) = (Arc::clone(&head_seen), Arc::clone(&asked));
    let origin = Origin::script(move |wire, _| {
        let (told, counted, steps) = (Arc::clone(&told), Arc::clone(&counted), steps.clone());
        async move { serve(wire, &steps, &counted, &told).await }
    })
    .await;
    Faulty {
        address: origin.address,
        head_seen,
        asked: Some(Box::new(move || asked.load(Ordering::SeqCst))),
        _origin: Box::new(origin),
    }
}

async fn play_all(table: Vec<Fault<Vec<Step>>>) {
    let mut upstreams = Vec::new();
    for fault in &table {
        upstreams.push(upstream(fault.script.clone()).await);
    }
    all_have_their_answers("h2c", &table, upstreams).await;
}

fn fault(
    name: &'static str,
    script: impl Into<Vec<Step>>,
    end: End,
    word: &'static str,
) -> Fault<Vec<Step>> {
    Fault::new(name, script.into(), end, word)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_in_any_phase_has_its_answer() {
    let gone = "connection_terminated";
    let cut = "http_response_incomplete";
    let ok = || headers(frames::OK);
    let early = || headers(&[0x08, 3, b'1', b'0', b'3']);
    play_all(vec![
        fault("no-error", [ResetStream(frames::NO_ERROR)], Reply(502), gone),
        fault("protocol-error", [ResetStream(frames::PROTOCOL_ERROR)], Reply(502), gone),
        fault("internal-error", [ResetStream(frames::INTERNAL_ERROR)], Reply(502), gone),
        fault("cancel", [ResetStream(frames::CANCEL)], Reply(502), gone),
        fault("calm", [ResetStream(frames::ENHANCE_YOUR_CALM)], Reply(502), gone),
        fault("unknown-code", [ResetStream(0xFFFF_FFFF)], Reply(502), gone),
        // It was not carried out, and has a body that is not kept.
        fault("refused", [ResetStream(frames::REFUSED_STREAM)], Reply(502), gone).post(10),
        fault("after-interim", [early(), ResetStream(frames::CANCEL)], Reply(502), gone),
        fault("before-body", [ok(), HeadSeen, ResetStream(frames::CANCEL)], Cut(200), cut),
        fault("no-error-before-body", [ok(), HeadSeen, ResetStream(0)], Cut(200), cut),
        fault(
            "within-body",
            [ok(), data("some"), HeadSeen, ResetStream(frames::INTERNAL_ERROR)],
            Cut(200),
            cut,
        ),
        fault("upload", [ResetStream(frames::INTERNAL_ERROR)], Reply(502), gone).post(500_000),
        // RFC 9113 section 8.1: the answer is whole, and the rest of the request is not wanted.
        fault(
            "upload-not-needed",
            [ok(), last_data("ok"), ResetStream(frames::NO_ERROR)],
            Answer(200),
            "",
        )
        .post(500_000),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_under_its_streams_has_its_answer() {
    let gone = "connection_terminated";
    let cut = "http_response_incomplete";
    let ok = || headers(frames::OK);
    let goaway = |taken, code| GoAway { taken, code };
    let failed = frames::INTERNAL_ERROR;
    play_all(vec![
        fault("closed-before-head", [Close], Reply(502), gone),
        fault("reset-before-head", [Reset], Reply(502), gone),
        fault("closed-within-frame", [Raw(vec![0, 0, 9, 1]), Close], Reply(502), gone),
        fault("closed-before-body", [ok(), HeadSeen, Close], Cut(200), cut),
        fault("closed-within-body", [ok(), data("some"), HeadSeen, Close], Cut(200), cut),
        fault("reset-within-body", [ok(), data("some"), HeadSeen, Reset], Cut(200), cut),
        fault("closed-within-upload", [Close], Reply(502), gone).post(500_000),
        fault("reset-within-upload", [Reset], Reply(502), gone).post(500_000),
        fault("goodbye-not-taken", [goaway(false, 0), Close], Reply(502), gone),
        fault("goodbye-not-taken-open", [goaway(false, 0)], Reply(502), gone),
        fault("goodbye-not-taken-upload", [goaway(false, 0)], Reply(502), gone).post(500_000),
        fault("goodbye-failed", [goaway(true, failed), Close], Reply(502), gone),
        fault("goodbye-and-answer", [goaway(true, 0), ok(), last_data("ok")], Answer(200), ""),
        fault(
            "goodbye-within-body",
            [ok(), data("some"), HeadSeen, goaway(true, failed), Close],
            Cut(200),
            cut,
        ),
        fault(
            "goodbye-within-body-and-the-rest",
            [ok(), data("some"), HeadSeen, goaway(true, 0), last_data("thing")],
            Answer(200),
            "",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_the_protocol_has_its_answer() {
    let wrong = "http_protocol_error";
    let ok = || headers(frames::OK);
    let early = || headers(&[0x08, 3, b'1', b'0', b'3']);
    let huge = [&[0, 0x50, 0, frames::DATA, 0, 0, 0, 0, 1][..], &[b'x'; 0x5000]].concat();
    let promise = [&[0, 0, 0, 2][..], frames::GET].concat();
    play_all(vec![
        fault(
            "http-1",
            [Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".into()), Close],
            Reply(502),
            wrong,
        ),
        fault("data-first", [last_data("ok")], Reply(502), wrong),
        fault("bad-compression", [last_headers(&[0x80])], Reply(502), wrong),
        fault("huge-frame", [Raw(huge)], Reply(502), wrong),
        fault(
            "pushed",
            [Step::Frame(frames::PUSH_PROMISE, END_HEADERS, promise)],
            Reply(502),
            wrong,
        ),
        fault(
            "window-of-nothing",
            [OfConnection(frames::WINDOW_UPDATE, vec![0; 4])],
            Reply(502),
            wrong,
        ),
        fault("no-status", [last_headers(&field("x-a", "b"))], Reply(502), wrong),
        fault("no-number", [last_headers(&[0x08, 2, b'2', b'x'])], Reply(502), wrong),
        fault("switched", [last_headers(&[0x08, 3, b'1', b'0', b'1'])], Reply(502), wrong),
        fault("last-interim", [last_headers(&[0x08, 3, b'1', b'0', b'3'])], Reply(502), wrong),
        fault("interim-without-end", vec![early(); 17], Reply(502), wrong),
        fault("uppercase", [last_headers(&with(&[("X-A", "b")]))], Reply(502), wrong),
        fault("of-connection", [last_headers(&with(&[("connection", "x")]))], Reply(502), wrong),
        fault(
            "chunked",
            [last_headers(&with(&[("transfer-encoding", "chunked")]))],
            Reply(502),
            wrong,
        ),
        fault(
            "two-lengths",
            [headers(&with(&[("content-length", "2"), ("content-length", "3")])), last_data("ok")],
            Reply(502),
            wrong,
        ),
        fault(
            "no-length",
            [headers(&with(&[("content-length", "x")])), last_data("ok")],
            Reply(502),
            wrong,
        ),
        fault(
            "too-short",
            [headers(&with(&[("content-length", "9")])), HeadSeen, last_data("some")],
            Cut(200),
            wrong,
        ),
        fault(
            "too-long",
            [headers(&with(&[("content-length", "2")])), HeadSeen, last_data("some")],
            Cut(200),
            wrong,
        ),
        fault(
            "second-head",
            [ok(), HeadSeen, headers(frames::OK), last_data("ok")],
            Cut(200),
            wrong,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stands_still_has_its_answer() {
    let ok = || headers(frames::OK);
    let short = "response_timeout = \"300ms\"\nidle_timeout = \"300ms\"";
    // Nothing but the ping would find out.
    let pings = "response_timeout = \"1h\"\nidle_timeout = \"1h\"\n\
                 h2_ping_interval = \"1s\"\nh2_ping_timeout = \"100ms\"";
    play_all(vec![
        fault("silent", [], Reply(504), "http_response_timeout").limits(short),
        fault(
            "body-stands-still",
            [ok(), data("some"), HeadSeen],
            Cut(200),
            "connection_read_timeout",
        )
        .limits(short),
        fault("upload-not-taken", [], Reply(504), "connection_write_timeout")
            .limits("idle_timeout = \"300ms\"")
            .post(500_000),
        fault("dead-before-head", [Stand], Reply(502), "connection_terminated").limits(pings),
        fault("dead-within-body", [ok(), HeadSeen, Stand], Cut(200), "http_response_incomplete")
            .limits(pings),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unusual_and_no_fault_is_an_answer() {
    let early = || headers(&[0x08, 3, b'1', b'0', b'3']);
    let several = [vec![early(); 16], vec![headers(frames::OK), last_data("ok")]].concat();
    let sum = field("x-sum", "7");
    play_all(vec![
        fault("several-interim", several, Answer(200), ""),
        fault(
            "unknown-frame",
            [OfConnection(0xEE, b"what".into()), last_headers(frames::OK)],
            Answer(200),
            "",
        ),
        fault("trailers", [headers(frames::OK), data("ok"), last_headers(&sum)], Answer(200), ""),
        // It ought to be a fault (RFC 9113 section 8.1); `h2` drops the field unseen.
        fault(
            "pseudo-trailers",
            [headers(frames::OK), data("some"), last_headers(frames::OK)],
            Answer(200),
            "",
        ),
        fault("empty-end", [headers(frames::OK), data("ok"), last_data("")], Answer(200), ""),
    ])
    .await;
}
