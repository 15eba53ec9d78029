//! An upgraded connection is a tunnel: it opens after the request hooks, loses no byte around the
//! switch, and ends when one side does.

use pillion_tests::wire::Ending;
use pillion_tests::{Origin, Sidecar, Wire, within};

/// The example of RFC 6455 section 1.3.
pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Switches, says `hello` right behind the switch, and sends back what it gets.
pub(crate) async fn echoing() -> Origin {
    Origin::script(|mut wire, _| async move {
        let Some(head) = wire.head().await else { return };
        assert!(head.lists("connection", "upgrade"), "{head:?}");
        assert_eq!(head.field("upgrade"), Some("websocket"));
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        )
        .await;
        loop {
            let bytes = wire.exactly(4).await;
            if bytes.is_empty() {
                return;
            }
            wire.send(bytes).await;
        }
    })
    .await
}

/// Switches `wire` and reads the greeting.
pub(crate) async fn switch(wire: &mut Wire) {
    wire.send(HANDSHAKE).await;
    let head = wire.head().await.expect("the origin answers");
    assert_eq!(head.status(), 101, "{head:?}");
    assert!(head.lists("connection", "upgrade") && head.lists("upgrade", "websocket"), "{head:?}");
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(wire.exactly(5).await, b"hello");
}

/// The same with an origin that makes less of it.
async fn open(wire: &mut Wire) {
    wire.send(HANDSHAKE).await;
    assert_eq!(wire.head().await.expect("the origin answers").status(), 101);
    assert_eq!(wire.exactly(5).await, b"hello");
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_switch() {
    let origin = echoing().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    switch(&mut wire).await;
    for text in ["ping", "\0\r\n\u{7f}", "pong"] {
        wire.send(text).await;
        assert_eq!(wire.exactly(4).await, text.as_bytes());
    }
    wire.finish().await;
    assert_eq!(wire.ended().await, Ending::Closed);
}

#[tokio::test]
async fn bytes_sent_right_behind_the_request_are_not_lost() {
    let origin = echoing().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(format!("{HANDSHAKE}soon")).await;
    assert_eq!(wire.head().await.expect("the origin answers").status(), 101);
    assert_eq!(wire.exactly(9).await, b"hellosoon");
}

#[tokio::test]
async fn request_hooks_run_before_the_switch() {
    let origin = echoing().await;
    let headers = "config = { response = [{ set = { name = \"x-seen\", value = \"1\" } }] }";
    let sidecar = Sidecar::new().origin(&origin).builtin("headers", headers).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(HANDSHAKE).await;
    let head = wire.head().await.expect("the origin answers");
    assert_eq!((head.status(), head.field("x-seen")), (101, Some("1")));
}

#[tokio::test]
async fn an_origin_that_does_not_switch_answers_as_usual() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(HANDSHAKE).await;
    assert_eq!(wire.response().await.status(), 200);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 200);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let origin = Origin::bytes(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let reply = sidecar.get("/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.header("proxy-status"), "pillion; error=http_upgrade_failed");
}

#[tokio::test]
async fn the_end_of_one_side_ends_the_other() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.head().await;
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
        wire.send("bye").await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(HANDSHAKE).await;
    assert_eq!(wire.head().await.expect("the origin answers").status(), 101);
    let (rest, _) = wire.rest().await;
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn a_side_that_breaks_off_breaks_the_other_off() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let origin = Origin::script(move |mut wire, _| {
        let told = told.clone();
        async move {
            wire.head().await;
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\n\r\nhello",
            )
            .await;
            match &wire.exactly(4).await[..] {
                b"quit" => wire.reset(),
                _ => {
                    wire.send("here").await;
                    told.send(wire.rest().await.1).await.expect("the test listens");
                }
            }
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).tables("[access_log]").start().await;
    let mut wire = sidecar.wire().await;
    open(&mut wire).await;
    wire.send("quit").await;
    assert_eq!(wire.rest().await.1, Ending::Reset, "the client hears that it was cut short");
    let line = sidecar.output.line("\"status\":101").await;
    for part in ["\"complete\":false", "\"error\":\"http_response_incomplete\""] {
        assert!(line.contains(part), "{part} is not in {line}");
    }

    let mut wire = sidecar.wire().await;
    open(&mut wire).await;
    wire.send("stay").await;
    assert_eq!(wire.exactly(4).await, b"here");
    wire.reset();
    let ending = within("the end at the origin", heard.recv()).await;
    assert_eq!(ending, Some(Ending::Reset), "so does the origin");
    sidecar.output.line("\"error\":\"connection_terminated\"").await;
    for name in ["pillion_requests_active", "pillion_upstream_connections"] {
        sidecar.metric_is(name, &[], |now| now == 0.0).await;
    }
}
