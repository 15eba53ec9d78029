//! Every wait has an end: heads, bodies, answers and idle connections. Each test sets the one timeout
//! it is about and waits for the event, not for the time.

use pillion_tests::wire::Ending;
use pillion_tests::{Client, Frames, Origin, Protocol, Sidecar, frames, within};
use std::time::Duration;

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_408() {
    let origin = Origin::echo().await;
    let limits = "head_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: ").await;
    assert_eq!(wire.response().await.status(), 408);
    wire.rest().await;

    // Also behind a request that was fine.
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT").await;
    assert_eq!(wire.response().await.status(), 200);
    assert_eq!(wire.response().await.status(), 408);
    wire.rest().await;
}

#[tokio::test]
async fn a_head_that_comes_in_drips_does_not_get_more_time() {
    let origin = Origin::echo().await;
    let limits = "head_timeout = \"500ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    within("the sidecar to lose its patience", async {
        let mut drip = tokio::time::interval(Duration::from_millis(50));
        loop {
            drip.tick().await;
            // What a closed peer takes no more ends the loop.
            let taken = wire.push(b"X: y\r\n", 1, Duration::from_millis(20)).await;
            if taken == 0 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_http2_preface_that_does_not_end_closes_the_connection() {
    let origin = Origin::echo().await;
    // Nothing else would close it while the test waits.
    let limits = "head_timeout = \"300ms\"\nidle_timeout = \"1h\"\nh2_ping_interval = \"1h\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    // The settings behind the text belong to it (RFC 9113 section 3.4).
    let text = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for part in ["PRI * HT", &text[..22], text, &format!("{text}\0\0\0\u{4}\0")] {
        let mut wire = sidecar.wire().await;
        wire.send(part).await;
        wire.rest().await;
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let origin = Origin::echo().await;
    let limits = "idle_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut fresh = sidecar.wire().await;
    assert_eq!(fresh.ended().await, Ending::Closed);
    let mut used = sidecar.wire().await;
    used.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(used.response().await.status(), 200);
    assert_eq!(used.ended().await, Ending::Closed);
    let mut streams: Client = sidecar.connect(Protocol::Http2).await;
    assert_eq!(streams.get("/").await.status, 200);
    streams.closed().await;
}

#[tokio::test]
async fn a_request_body_that_stands_still_is_answered_408() {
    let origin = Origin::echo().await;
    let limits = "body_idle_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    let answer = wire.response().await;
    assert_eq!(answer.status(), 408);
    let word = Some("pillion; error=http_request_error");
    assert_eq!(answer.head.field("proxy-status"), word);
    wire.rest().await;
}

#[tokio::test]
async fn a_request_body_that_drips_is_answered_408() {
    let origin = Origin::echo().await;
    let limits = "body_rate_min = 1000\nbody_rate_grace = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
    let (mut answered, mut drips) = (None, 0);
    within("the sidecar to lose its patience", async {
        let mut drip = tokio::time::interval(Duration::from_millis(20));
        while answered.is_none() {
            drip.tick().await;
            wire.push(b"x", 1, Duration::from_millis(20)).await;
            drips += 1;
            let head = tokio::time::timeout(Duration::from_millis(5), wire.head()).await;
            answered = head.ok().map(|head| head.map_or(0, |head| head.status()));
        }
    })
    .await;
    assert!(matches!(answered, Some(408 | 0)), "{answered:?} after {drips} drips");
    assert!(drips > 5, "not before its grace is over");
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_connection_and_frees_the_origin() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let origin = Origin::script(move |mut wire, _| {
        let told = told.clone();
        async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
            // Ends when the sidecar closes; a standstill alone does not end it.
            wire.push(&vec![b'x'; 65536], 15_000, Duration::from_secs(60)).await;
            told.send(()).await.expect("the test listens");
        }
    })
    .await;
    let limits = "body_idle_timeout = \"500ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.expect("the head comes").status(), 200);
    within("the origin to be freed", heard.recv()).await;
    let (body, _) = wire.rest().await;
    assert!(body.len() < 1_000_000_000);
}

#[tokio::test]
async fn a_stream_whose_answer_is_not_taken_is_cancelled_alone() {
    let body = "x".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let origin = Origin::bytes(head + &body).await;
    let limits = "body_idle_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let window = [(frames::INITIAL_WINDOW_SIZE, 1000)];
    let mut client = Frames::connect(sidecar.address(), &window).await;
    let (end, headers) = (frames::END_STREAM, frames::END_HEADERS);
    client.send(frames::HEADERS, headers | end, 1, frames::GET).await;
    let reset = client.until(|it| it.kind == frames::RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (1, frames::CANCEL));
    client.settled().await;
    let labels = ["error=\"connection_write_timeout\""];
    sidecar.metric_is("pillion_request_errors_total", &labels, |count| count == 1.0).await;
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        wire.rest().await;
    })
    .await;
    let limits = "idle_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).upstream_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.complete), (200, false));
    let labels = ["error=\"connection_read_timeout\""];
    sidecar.metric_is("pillion_request_errors_total", &labels, |count| count == 1.0).await;
}

#[tokio::test]
async fn an_origin_that_takes_nothing_is_given_up() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let limits = "idle_timeout = \"500ms\"";
    let sidecar = Sidecar::new().origin(&origin).upstream_limits(limits).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").await;
    let sent = wire.push(&vec![b'x'; 65536], 15_000, Duration::from_secs(30)).await;
    assert!(sent < 1_000_000_000);
    let labels = ["error=\"connection_write_timeout\""];
    sidecar.metric_is("pillion_request_errors_total", &labels, |count| count == 1.0).await;
}

#[tokio::test]
async fn a_tunnel_has_a_longer_patience_of_its_own() {
    let origin = super::upgrade::echoing().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .listener_limits("body_idle_timeout = \"100ms\"\nidle_timeout = \"100ms\"")
        .upstream_limits("idle_timeout = \"100ms\"\nstream_idle_timeout = \"1500ms\"")
        .start()
        .await;
    let mut wire = sidecar.wire().await;
    super::upgrade::switch(&mut wire).await;
    let mut quiet = tokio::time::interval(Duration::from_millis(400));
    quiet.tick().await;
    quiet.tick().await;
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await, b"ping", "the other timeouts do not apply");
    wire.rest().await;
}

#[tokio::test]
async fn an_unused_connection_to_the_origin_is_closed_before_the_origin_would() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let origin = Origin::script(move |mut wire, _| {
        let told = told.clone();
        async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            told.send(wire.rest().await.1).await.expect("the test listens");
        }
    })
    .await;
    let limits = "keepalive_timeout = \"300ms\"";
    let sidecar = Sidecar::new().origin(&origin).upstream_limits(limits).start().await;
    assert_eq!(sidecar.get("/").await.status, 200);
    let ending = within("the sidecar to close", heard.recv()).await;
    assert_eq!(ending, Some(Ending::Closed));
}
