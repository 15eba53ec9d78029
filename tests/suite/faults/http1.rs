//! Faults of upstreams that speak HTTP/1.1.

use super::{End, Fault, Faulty, all_have_their_answers};
use End::{Answer, Cut, Reply};
use pillion_tests::{Origin, Wire};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// One step of an upstream on one connection.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Reads the head of a request.
    Head,
    /// Reads a whole request.
    Request,
    /// Reads so many bytes of a body.
    Bytes(usize),
    Say(&'static str),
    /// The same, so many times.
    Repeat(&'static str, usize),
    /// The same, byte by byte.
    Slowly(&'static str),
    /// Again and again, a little at a time, for as long as somebody listens.
    Drip(&'static str),
    /// Waits until the client has the head of the answer.
    HeadSeen,
    /// Ends its side, in order.
    Close,
    /// Ends the connection with a reset.
    Reset,
}
use Step::{Bytes, Close, Drip, Head, HeadSeen, Repeat, Request, Reset, Say, Slowly};

/// Plays the steps; false: the connection is over.
async fn play(wire: &mut Wire, steps: &[Step], head_seen: &Notify) -> bool {
    for step in steps {
        match step {
            Head => {
                if wire.head().await.is_none() {
                    return false;
                }
            }
            Request => {
                if wire.request().await.is_none() {
                    return false;
                }
            }
            Bytes(length) => drop(wire.exactly(*length).await),
            Say(text) => wire.send(text).await,
            Repeat(text, times) => wire.send(text.repeat(*times)).await,
            Slowly(text) => {
                let mut drip = tokio::time::interval(Duration::from_millis(10));
                for byte in text.bytes() {
                    drip.tick().await;
                    wire.send([byte]).await;
                }
            }
            Drip(text) => {
                let (pause, patience) = (Duration::from_millis(20), Duration::from_secs(10));
                let mut drip = tokio::time::interval(pause);
                loop {
                    drip.tick().await;
                    if wire.push(text.as_bytes(), 1, patience).await == 0 {
                        break;
                    }
                }
            }
            HeadSeen => pillion_tests::within("the client to see", head_seen.notified()).await,
            Close => wire.finish().await,
            Reset => return false,
        }
    }
    true
}

/// Plays the steps on a connection, and once more for each request that comes on it afterwards.
async fn serve(mut wire: Wire, steps: &[Step], asked: &AtomicUsize, head_seen: &Notify) {
    asked.fetch_add(1, Ordering::SeqCst);
    if play(&mut wire, steps, head_seen).await && matches!(steps.first(), Some(Request)) {
        while let Some(_again) = wire.request().await {
            asked.fetch_add(1, Ordering::SeqCst);
            if !play(&mut wire, &steps[1..], head_seen).await {
                break;
            }
        }
    }
    match steps.last() {
        Some(Reset) => wire.reset(),
        _ => drop(wire.rest().await),
    }
}

pub(super) async fn upstream(steps: &'static [Step]) -> Faulty {
    let (head_seen, asked) = (Arc::<Notify>::default(), Arc::<AtomicUsize>::default());
    let (told, counted) = (Arc::clone(&head_seen), Arc::clone(&asked));
    let origin = Origin::script(move |wire, _| {
        let (told, counted) = (Arc::clone(&told), Arc::clone(&counted));
        async move { serve(wire, steps, &counted, &told).await }
    })
    .await;
    Faulty {
        address: origin.address,
        head_seen,
        asked: Some(Box::new(move || asked.load(Ordering::SeqCst))),
        _origin: Box::new(origin),
    }
}

type Row = (&'static str, &'static [Step], End, &'static str);

async fn play_all(table: impl IntoIterator<Item = Fault<&'static [Step]>>) {
    let table: Vec<_> = table.into_iter().collect();
    let mut upstreams = Vec::new();
    for fault in &table {
        upstreams.push(upstream(fault.script).await);
    }
    all_have_their_answers("http1", &table, upstreams).await;
}

fn fault((name, script, end, word): Row) -> Fault<&'static [Step]> {
    Fault::new(name, script, end, word)
}

const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The connection ends, in each phase of an exchange without a body.
const ENDINGS: &[Row] = &[
    ("closed-at-once", &[Close], Reply(502), "connection_terminated"),
    ("reset-at-once", &[Reset], Reply(502), "connection_terminated"),
    ("closed-within-request-head", &[Bytes(5), Close], Reply(502), "connection_terminated"),
    ("reset-within-request-head", &[Bytes(5), Reset], Reply(502), "connection_terminated"),
    ("closed-before-head", &[Request, Close], Reply(502), "connection_terminated"),
    ("reset-before-head", &[Request, Reset], Reply(502), "connection_terminated"),
    (
        "closed-within-status-line",
        &[Request, Say("HTTP/1.1 2"), Close],
        Reply(502),
        "http_response_incomplete",
    ),
    (
        "reset-within-status-line",
        &[Request, Say("HTTP/1.1 2"), Reset],
        Reply(502),
        "http_response_incomplete",
    ),
    (
        "closed-within-head",
        &[Request, Say("HTTP/1.1 200 OK\r\nx-a: b\r\n"), Close],
        Reply(502),
        "http_response_incomplete",
    ),
    (
        "reset-within-head",
        &[Request, Say("HTTP/1.1 200 OK\r\nx-a: b\r\n"), Reset],
        Reply(502),
        "http_response_incomplete",
    ),
    (
        "closed-after-interim",
        &[Request, Say("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), Close],
        Reply(502),
        "connection_terminated",
    ),
    (
        "reset-after-interim",
        &[Request, Say("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), Reset],
        Reply(502),
        "connection_terminated",
    ),
    (
        "closed-before-body",
        &[Request, Say(LENGTH), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "reset-before-body",
        &[Request, Say(LENGTH), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "closed-within-body",
        &[Request, Say(LENGTH), Say("some"), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "reset-within-body",
        &[Request, Say(LENGTH), Say("some"), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "closed-within-chunk-size",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n1"), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "closed-within-chunk",
        &[Request, Say(CHUNKED), Say("64\r\nsome"), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "reset-within-chunk",
        &[Request, Say(CHUNKED), Say("64\r\nsome"), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "closed-between-chunks",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n"), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "closed-within-trailers",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n0\r\nx-sum: 7\r\n"), HeadSeen, Close],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "reset-within-trailers",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n0\r\nx-sum: 7\r\n"), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
    (
        "reset-of-a-body-that-ends-by-close",
        &[Request, Say("HTTP/1.1 200 OK\r\n\r\nsome"), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
];

/// The faults of connections that end within an exchange.
pub(super) fn breaking() -> impl Iterator<Item = Fault<&'static [Step]>> {
    ENDINGS.iter().copied().map(fault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_in_any_phase_of_an_answer_has_its_answer() {
    play_all(breaking()).await;
}

/// The connection ends, or the answer comes, while the request is still coming.
const UPLOADS: &[Row] = &[
    (
        "answered-within-upload",
        &[
            Head,
            Bytes(100_000),
            Say("HTTP/1.1 413 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"),
            Close,
        ],
        Answer(413),
        "",
    ),
    ("closed-before-upload", &[Head, Close], Reply(502), "connection_terminated"),
    ("reset-before-upload", &[Head, Reset], Reply(502), "connection_terminated"),
    ("reset-within-upload", &[Head, Bytes(100_000), Reset], Reply(502), "connection_terminated"),
    (
        "reset-within-answer-and-upload",
        &[Head, Bytes(100_000), Say(LENGTH), Say("some"), HeadSeen, Reset],
        Cut(200),
        "http_response_incomplete",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_within_an_upload_has_its_answer() {
    play_all(UPLOADS.iter().copied().map(|row| fault(row).upload(200_000))).await;
}

#[tokio::test]
async fn a_client_that_waits_for_continue_hears_of_the_fault() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let gone = "pillion; error=connection_terminated";
    for (steps, continues, status, word) in [
        (&[Head, Close][..], false, 502, Some(gone)),
        (&[Head, Reset], false, 502, Some(gone)),
        (&[Head, Say(CONTINUE), Close], true, 502, Some(gone)),
        (&[Head, Say(CONTINUE), Reset], true, 502, Some(gone)),
        (&[Head, Say(CONTINUE), Bytes(4), Reset], true, 502, Some(gone)),
        (&[Head, Say(CONTINUE), Bytes(4), Say(OK)], true, 200, None),
        (&[Head, Repeat(CONTINUE, 16), Bytes(4), Say(OK)], true, 200, None),
        (&[Head, Repeat(CONTINUE, 17)], true, 502, Some("pillion; error=http_protocol_error")),
    ] {
        let upstream = upstream(steps).await;
        let sidecar = pillion_tests::Sidecar::new().endpoint(upstream.address).start().await;
        let mut wire = sidecar.wire().await;
        wire.send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n").await;
        wire.send("content-length: 4\r\n\r\n").await;
        let mut answer = wire.response().await;
        if continues {
            assert_eq!(answer.status(), 100);
            wire.send("body").await;
            answer = wire.response().await;
        }
        assert_eq!((answer.status(), answer.head.field("proxy-status")), (status, word));
        sidecar.metric_is("pillion_requests_active", &[], |now| now == 0.0).await;
    }
}

/// What is no HTTP/1.1, or not what was asked for.
const NONSENSE: &[Row] = &[
    ("http-0-9", &[Request, Say("<html>hello</html>\n"), Close], Reply(502), "http_protocol_error"),
    ("http-2", &[Request, Say("HTTP/2 200\r\n\r\n"), Close], Reply(502), "http_protocol_error"),
    ("icy", &[Request, Say("ICY 200 OK\r\n\r\nnoise")], Reply(502), "http_protocol_error"),
    ("ssh", &[Say("SSH-2.0-OpenSSH_9.2\r\n"), Request], Reply(502), "http_protocol_error"),
    (
        "tls-alert",
        &[Request, Say("\x15\x03\x03\x00\x02\x02\x28"), Close],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "bare-line-feeds",
        &[Request, Say("HTTP/1.1 200 OK\ncontent-length: 2\n\nok")],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "length-and-chunked",
        &[
            Request,
            Say(
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "two-lengths",
        &[Request, Say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok")],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "gzip-and-chunked",
        &[Request, Say("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "chunked-in-http-1-0",
        &[Request, Say("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "no-chunk-size",
        &[Request, Say(CHUNKED), HeadSeen, Say("some\r\n")],
        Cut(200),
        "http_protocol_error",
    ),
    (
        "chunk-too-long",
        &[Request, Say(CHUNKED), HeadSeen, Say("4\r\nsomewhat\r\n0\r\n\r\n")],
        Cut(200),
        "http_protocol_error",
    ),
    (
        "chunk-size-of-17-digits",
        &[Request, Say(CHUNKED), HeadSeen, Say("00000000000000004\r\nsome\r\n0\r\n\r\n")],
        Cut(200),
        "http_protocol_error",
    ),
    (
        "endless-chunk-extension",
        &[Request, Say(CHUNKED), HeadSeen, Say("4;"), Repeat("x", 300), Say("\r\nsome\r\n")],
        Cut(200),
        "http_protocol_error",
    ),
    (
        "endless-trailers",
        &[Request, Say(CHUNKED), Say("0\r\n"), HeadSeen, Repeat("x-a: b\r\n", 2_000)],
        Cut(200),
        "http_response_header_section_size",
    ),
    (
        "endless-status-line",
        &[Request, Say("HTTP/1.1 200 "), Repeat("O", 40_000)],
        Reply(502),
        "http_response_header_section_size",
    ),
    (
        "endless-field",
        &[Request, Say("HTTP/1.1 200 OK\r\nx-a: "), Repeat("b", 40_000)],
        Reply(502),
        "http_response_header_section_size",
    ),
    (
        "endless-fields",
        &[Request, Say("HTTP/1.1 200 OK\r\n"), Repeat("x: y\r\n", 1_000)],
        Reply(502),
        "http_response_header_section_size",
    ),
    (
        "endless-interim",
        &[Request, Drip("HTTP/1.1 102 Processing\r\n\r\n")],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "interim-with-a-length",
        &[Request, Say("HTTP/1.1 103 Early Hints\r\ncontent-length: 2\r\n\r\nok"), Say(OK)],
        Reply(502),
        "http_protocol_error",
    ),
    (
        "switch-unasked",
        &[Request, Say("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")],
        Reply(502),
        "http_upgrade_failed",
    ),
    (
        "switch-to-nothing",
        &[Request, Say("HTTP/1.1 101 Switching Protocols\r\n\r\n")],
        Reply(502),
        "http_upgrade_failed",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_has_its_answer() {
    play_all(NONSENSE.iter().copied().map(fault)).await;
}

/// What comes too slowly, or not at all. The upstream keeps its side open.
const SLOW: &[Row] = &[
    ("silent", &[Request], Reply(504), "http_response_timeout"),
    (
        "silent-after-interim",
        &[Request, Say("HTTP/1.1 103 Early Hints\r\n\r\n")],
        Reply(504),
        "http_response_timeout",
    ),
    ("head-stands-still", &[Request, Say("HTTP/1.1 2")], Reply(504), "http_response_timeout"),
    (
        "head-drips",
        &[Request, Say("HTTP/1.1 200 OK\r\nx-a: "), Drip("b")],
        Reply(504),
        "http_response_timeout",
    ),
    (
        "body-stands-still",
        &[Request, Say(LENGTH), Say("some"), HeadSeen],
        Cut(200),
        "connection_read_timeout",
    ),
    (
        "chunks-stand-still",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n"), HeadSeen],
        Cut(200),
        "connection_read_timeout",
    ),
    (
        "trailers-stand-still",
        &[Request, Say(CHUNKED), Say("4\r\nsome\r\n0\r\nx-sum"), HeadSeen],
        Cut(200),
        "connection_read_timeout",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_has_its_answer() {
    let limits = "response_timeout = \"300ms\"\nidle_timeout = \"300ms\"";
    play_all(SLOW.iter().copied().map(|row| fault(row).limits(limits))).await;
}

/// Bytes of a body that is longer than all the buffers on its way.
const LONG: usize = 32 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_not_taken_has_its_answer() {
    let limits = "idle_timeout = \"300ms\"";
    let row: Row = ("takes-nothing", &[Head], Reply(504), "connection_write_timeout");
    // It reads nothing, so that nothing goes on behind the buffers of the kernel.
    let taken: Row =
        ("takes-some", &[Head, Bytes(100_000)], Reply(504), "connection_write_timeout");
    let table = [row, taken].map(|row| fault(row).limits(limits).post(LONG));
    // `Wire::rest` would go on reading: these two wait for the end of the test.
    let mut upstreams = Vec::new();
    for fault in &table {
        upstreams.push(standing(fault.script).await);
    }
    all_have_their_answers("http1", &table, upstreams).await;
}

/// Plays its steps, and then stands still with the connection open.
async fn standing(steps: &'static [Step]) -> Faulty {
    let origin = Origin::script(move |mut wire, _| async move {
        for step in steps {
            match step {
                Bytes(length) => drop(wire.exactly(*length).await),
                _ => drop(wire.head().await),
            }
        }
        std::future::pending::<()>().await;
    })
    .await;
    let address = origin.address;
    Faulty { address, head_seen: Arc::default(), asked: None, _origin: Box::new(origin) }
}

/// Unusual, and to be understood.
const FINE: &[Row] = &[
    (
        "several-interim",
        &[Request, Repeat("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", 16), Say(OK)],
        Answer(200),
        "",
    ),
    (
        "continue-unasked",
        &[Request, Say("HTTP/1.1 100 Continue\r\n\r\n"), Say(OK)],
        Answer(200),
        "",
    ),
    ("drips", &[Request, Slowly(OK)], Answer(200), ""),
    (
        "drips-in-chunks",
        &[Request, Slowly(CHUNKED), Slowly("2;a=b\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")],
        Answer(200),
        "",
    ),
    ("no-reason", &[Request, Say("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok")], Answer(200), ""),
    ("old-and-closing", &[Request, Say("HTTP/1.0 200 OK\r\n\r\nok"), Close], Answer(200), ""),
    ("bytes-behind", &[Request, Say(OK), Say("HTTP/1.1 200 OK\r\n\r\n")], Answer(200), ""),
    ("failing", &[Request, Say("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno")], Answer(503), ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unusual_and_no_fault_is_an_answer() {
    play_all(FINE.iter().copied().map(fault)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_not_there_leaves_nothing_behind() {
    let refusing = Origin::refusing().await;
    let (black_hole, full) = Origin::unreachable().await;
    let limits = "connect_timeout = \"200ms\"";
    let table = [
        Fault::new("refused", (), Reply(502), "connection_refused"),
        Fault::new("refused-upload", (), Reply(502), "connection_refused").upload(200_000),
        Fault::new("black-hole", (), Reply(504), "connection_timeout").limits(limits),
        Fault::new("black-hole-upload", (), Reply(504), "connection_timeout")
            .limits(limits)
            .upload(200_000),
    ];
    let nowhere =
        |address| Faulty { address, head_seen: Arc::default(), asked: None, _origin: Box::new(()) };
    let upstreams = [refusing, refusing, black_hole, black_hole].map(nowhere).into();
    all_have_their_answers("http1", &table, upstreams).await;
    drop(full);
}
