//! Every limit on messages and connections: one below and at it a request passes, one above it gets
//! the documented answer.

use http::{Method, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::wire::Ending;
use pillion_tests::{Client, Origin, Protocol, Sidecar, until};
use std::sync::Arc;
use tokio::sync::Barrier;

/// A request whose head has exactly `length` bytes, the empty line included.
fn head_of(length: usize) -> String {
    let frame = "GET / HTTP/1.1\r\nHost: a\r\nX-Pad: \r\n\r\n";
    let pad = "p".repeat(length - frame.len());
    format!("GET / HTTP/1.1\r\nHost: a\r\nX-Pad: {pad}\r\n\r\n")
}

/// A request with exactly `count` fields.
fn fields_of(count: usize) -> String {
    let more: String = (1..count).map(|n| format!("X-{n}: v\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n")
}

/// A request whose target has exactly `length` bytes.
fn target_of(length: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(length - 1))
}

async fn status_of(sidecar: &Sidecar, request: &str) -> u16 {
    let mut wire = sidecar.wire().await;
    wire.send(request).await;
    let answer = wire.response().await;
    if answer.status() != 200 {
        let (rest, _) = wire.rest().await;
        assert!(rest.is_empty(), "nothing is served behind a refusal");
    }
    answer.status()
}

#[tokio::test]
async fn the_default_limits_of_a_request_head_hold() {
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for (what, request, status) in [
        ("32 KiB less a byte", head_of(32 * 1024 - 1), 200),
        ("32 KiB", head_of(32 * 1024), 200),
        ("32 KiB and a byte", head_of(32 * 1024 + 1), 431),
        ("a mebibyte", head_of(1024 * 1024), 431),
        ("99 fields", fields_of(99), 200),
        ("100 fields", fields_of(100), 200),
        ("101 fields", fields_of(101), 431),
        ("a target of 8 KiB less a byte", target_of(8 * 1024 - 1), 200),
        ("a target of 8 KiB", target_of(8 * 1024), 200),
        ("a target of 8 KiB and a byte", target_of(8 * 1024 + 1), 414),
    ] {
        assert_eq!(status_of(&sidecar, &request).await, status, "{what}");
    }
}

#[tokio::test]
async fn the_limits_of_a_request_head_can_be_set() {
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let limits = "head_bytes = \"2KiB\"\nhead_fields = 5\ntarget_bytes = 200";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    for (request, status) in [
        (head_of(2048), 200),
        (head_of(2049), 431),
        (fields_of(5), 200),
        (fields_of(6), 431),
        (target_of(200), 200),
        (target_of(201), 414),
    ] {
        assert_eq!(status_of(&sidecar, &request).await, status, "{} bytes", request.len());
    }
}

#[tokio::test]
async fn the_trailers_of_a_request_are_limited() {
    let origin = Origin::echo().await;
    let limits = "trailer_fields = 3\ntrailer_bytes = 200";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let ask = async |trailers: &str| {
        let mut wire = sidecar.wire().await;
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        wire.send(format!("1\r\na\r\n0\r\n{trailers}\r\n")).await;
        wire.response().await.status()
    };
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    assert_eq!(ask(&fields(2)).await, 200);
    assert_eq!(ask(&fields(3)).await, 200);
    assert_eq!(ask(&fields(4)).await, 431);
    for (bytes, status) in [(199, 200), (200, 200), (201, 431)] {
        // The empty line behind it counts too.
        let trailer = format!("X: {}\r\n", "v".repeat(bytes - 7));
        assert_eq!(ask(&trailer).await, status, "{bytes} bytes");
    }
}

#[tokio::test]
async fn the_head_of_an_answer_is_limited() {
    let answer = |pad: usize| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-pad: {}\r\n\r\n", "p".repeat(pad));
        let length = head.len();
        (head, length)
    };
    let frame = answer(0).1;
    let fields = |count: usize| {
        let more: String = (1..count).map(|n| format!("x-{n}: v\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{more}\r\n")
    };
    for (what, answer, status) in [
        ("32 KiB less a byte", answer(32 * 1024 - frame - 1).0, 200),
        ("32 KiB", answer(32 * 1024 - frame).0, 200),
        ("32 KiB and a byte", answer(32 * 1024 - frame + 1).0, 502),
        ("99 fields", fields(99), 200),
        ("100 fields", fields(100), 200),
        ("101 fields", fields(101), 502),
    ] {
        let origin = Origin::bytes(answer).await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let got = wire.response().await;
        assert_eq!(got.status(), status, "{what}");
        if status == 502 {
            let word = "pillion; error=http_response_header_section_size";
            assert_eq!(got.head.field("proxy-status"), Some(word), "{what}");
        }
    }
}

#[tokio::test]
async fn the_trailers_of_an_answer_are_limited() {
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: v\r\n")).collect::<String>();
    let bytes = |count: usize| format!("x: {}\r\n", "v".repeat(count - 7));
    for (what, trailers, whole) in [
        ("2 fields", fields(2), true),
        ("3 fields", fields(3), true),
        ("4 fields", fields(4), false),
        ("199 bytes", bytes(199), true),
        ("200 bytes", bytes(200), true),
        ("201 bytes", bytes(201), false),
    ] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let origin = Origin::bytes(format!("{head}1\r\na\r\n0\r\n{trailers}\r\n")).await;
        let limits = "trailer_fields = 3\ntrailer_bytes = 200";
        let sidecar = Sidecar::new().origin(&origin).upstream_limits(limits).start().await;
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n").await;
        // Too long ones may be found before or after the head of the answer has left.
        let complete = match wire.head().await {
            Some(head) if head.status() == 200 => wire.body(head, false).await.complete,
            _ => false,
        };
        assert_eq!(complete, whole, "{what}");
    }
}

#[tokio::test]
async fn the_interim_answers_to_a_request_are_limited() {
    for (count, status) in [(15, 200), (16, 200), (17, 502)] {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
        let answer = format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let origin = Origin::bytes(answer).await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let last = loop {
            let answer = wire.response().await;
            if answer.status() != 103 {
                break answer.status();
            }
        };
        assert_eq!(last, status, "{count} interim answers");
    }
}

#[tokio::test]
async fn the_unused_connections_to_an_origin_are_limited() {
    for (limit, opened) in [(1, 3), (2, 2), (3, 2)] {
        let pair = Arc::new(Barrier::new(2));
        let origin = Origin::serve(move |_| {
            let pair = Arc::clone(&pair);
            async move {
                // Both requests are on their way at once.
                pair.wait().await;
                Response::new(full("x"))
            }
        })
        .await;
        let limits = format!("keepalive_connections = {limit}\nkeepalive_timeout = \"1h\"");
        let setup = Sidecar::new().origin(&origin).upstream_limits(&limits);
        let sidecar = setup.runtime("workers = 1").start().await;
        let mut first = sidecar.connect(Protocol::Http1).await;
        let mut second = sidecar.connect(Protocol::Http1).await;
        for _ in 0..2 {
            let (one, other) = tokio::join!(first.get("/"), second.get("/"));
            assert_eq!((one.status, other.status), (200, 200));
            let kept = f64::from(limit.min(2));
            sidecar.metric_is("pillion_upstream_connections", &[], |open| open == kept).await;
        }
        assert_eq!(origin.connections(), opened, "keepalive_connections = {limit}");
    }
}

#[tokio::test]
async fn an_http2_header_list_is_limited() {
    // One that sets no limit of its own on what the sidecar adds.
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    for (length, fine) in [(16 * 1024, true), (40 * 1024, false), (16 * 1024, true)] {
        let request = client
            .request(Method::GET, "/")
            .header("x-pad", "p".repeat(length))
            .body(empty())
            .unwrap();
        // A refusal is an answer or a reset, by the size of the excess; never the origin's answer.
        match client.try_fetch(request).await {
            Ok(reply) => assert_eq!(reply.status, if fine { 200 } else { 431 }, "{length}"),
            Err(error) => assert!(!fine, "{length}: {error}"),
        }
    }
    for (count, status) in [(99, 200), (100, 200), (101, 431)] {
        let fill = |request: http::request::Builder, n| request.header(format!("x-{n}"), "v");
        let request = (0..count).fold(client.request(Method::GET, "/"), fill);
        let reply = client.fetch(request.body(empty()).unwrap()).await;
        assert_eq!(reply.status, status, "{count} fields");
    }
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_says_that_the_connection_closes() {
    let origin = Origin::echo().await;
    let replies = "config = { mood = \"repl\" }";
    let routes = "match = { path_prefix = \"/known\" }";
    let setup = Sidecar::new().origin(&origin).guest("mood", replies).route(routes);
    let sidecar = setup.start().await;
    for (path, status) in [("/known", 500), ("/unknown", 404)] {
        let mut wire = sidecar.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = wire.response().await;
        assert_eq!(answer.status(), status);
        assert!(!answer.head.lists("connection", "close"), "{answer:?}");
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n");
        wire.send(head).await;
        let answer = wire.response().await;
        assert_eq!(answer.status(), status);
        assert!(answer.head.lists("connection", "close"), "{answer:?}");
        assert_eq!(wire.ended().await, Ending::Closed);
    }
}

#[tokio::test]
async fn a_connection_is_closed_in_order_after_its_last_request() {
    let origin = Origin::echo().await;
    let limits = "requests_per_connection = 3";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    for n in 1..=3 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = wire.response().await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.lists("connection", "close"), n == 3, "request {n}");
    }
    assert_eq!(wire.ended().await, Ending::Closed);

    let mut client = sidecar.connect(Protocol::Http2).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    client.closed().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_and_counted() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("connections_max = 2").start().await;
    let mut kept: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = sidecar.connect(Protocol::Http1).await;
        assert_eq!(client.get("/").await.status, 200);
        kept.push(client);
    }
    let mut third = sidecar.wire().await;
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (bytes, _) = third.rest().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 503 "), "{text}");
    let refused = "pillion_downstream_connections_refused_total";
    sidecar.metric_is(refused, &[], |count| count == 1.0).await;
    for client in &mut kept {
        assert_eq!(client.get("/").await.status, 200, "those that were there go on");
    }
    kept.clear();
    until("a place to be free again", async || {
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        wire.rest().await.0.starts_with(b"HTTP/1.1 200 ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_over_the_connections_of_an_endpoint_are_told_to_come_again() {
    let origin = Origin::silent().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .runtime("workers = 1")
        .upstream_limits("connections_max = 2")
        .start()
        .await;
    let mut waiting = Vec::new();
    for n in 1..=2 {
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        waiting.push(wire);
        until("the origin to be asked", async || (origin.connections() == n).then_some(())).await;
    }
    let reply = sidecar.get("/").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_client_that_resets_streams_in_a_row_loses_its_connection() {
    let origin = Origin::silent().await;
    let limits = "h2_resets = 20";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let client = sidecar.connect(Protocol::Http2).await;
    until("the sidecar to give the connection up", async || {
        let mut stream = client.another();
        let request = stream.request(Method::GET, "/").body(empty()).unwrap();
        // Dropping the answer that is not there yet resets the stream.
        let early = std::time::Duration::from_millis(5);
        let _ = tokio::time::timeout(early, stream.send(request)).await;
        (!client.is_open()).then_some(())
    })
    .await;
    assert_eq!(sidecar.admin("/livez").await.status, 200);
}

#[tokio::test]
async fn the_edits_and_notes_of_an_exchange_are_limited() {
    let origin = Origin::echo().await;
    // The limits of time are not what this is about.
    let keys = "limits = { time = \"2s\", exchange_time = \"5s\" }";
    let sidecar = Sidecar::new().origin(&origin).guest("greedy", keys).start().await;
    let edits = "failed to set field `x-edited` of the request: ";
    for (field, limit, taken_beyond, refusal) in
        [("x-edits", 256, 256, edits), ("x-notes", 64, 64, ""), ("x-note-bytes", 1024, 0, "")]
    {
        for asked in [limit - 1, limit, limit + 1] {
            let reply = sidecar.get_with("/", &[(field, &asked.to_string())]).await;
            let text = reply.text();
            if asked <= limit {
                let taken = if taken_beyond == 0 { 1 } else { asked };
                assert_eq!(text, taken.to_string(), "{field}: {asked}");
            } else {
                let expected = format!("{taken_beyond}: {refusal}");
                assert!(text.starts_with(&expected) && text.contains("exceed"), "{field}: {text}");
            }
        }
    }
}
