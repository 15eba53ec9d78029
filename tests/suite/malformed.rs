//! Malformed messages get the documented answer and a closed connection; framing is never repaired
//! by guessing (RFC 9112 sections 2.2, 3, 5, 6 and 7).

use pillion_tests::wire::Ending;
use pillion_tests::{Origin, Sidecar};

/// A request, the status of its answer.
const REQUESTS: &[(&str, u16)] = &[
    // Two ways to say how long the body is.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    // A coding that is not exactly `chunked`.
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    // A length that is not digits.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 3\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc", 400),
    // Bytes that end lines elsewhere.
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", 400),
    ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    // Fields.
    ("GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n folded: first\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
    // The host.
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
    // The request line.
    ("GET /#fragment HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\r\nHost: a\r\n\r\n", 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.2.3\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n", 417),
    ("\u{16}\u{3}\u{1}\0\u{5}hello, this looks like TLS\r\n\r\n", 400),
];

#[tokio::test]
async fn a_malformed_request_is_answered_and_its_connection_closed() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for (request, status) in REQUESTS {
        let mut wire = sidecar.wire().await;
        wire.send(request).await;
        // A well-formed one behind it must not be served.
        wire.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = wire.response().await;
        assert_eq!(answer.status(), *status, "{request:?} was answered {answer:?}");
        assert!(answer.head.lists("connection", "close"), "{request:?}: {answer:?}");
        let word = answer.head.field("proxy-status");
        assert_eq!(word, Some("pillion; error=http_request_error"), "{request:?}");
        let (rest, _) = wire.rest().await;
        assert!(rest.is_empty(), "{request:?} was followed by {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(origin.requests(), 0, "none of them is for the origin");
    assert_eq!(sidecar.get("/").await.status, 200, "the next client is served");
}

/// Chunked bodies that break a rule once they have begun.
const BODIES: &[&str] = &[
    "x\r\n",
    "-1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "\r\n",
    "fffffffffffffffff\r\na",
    "1;a=\"\n\"\r\na\r\n0\r\n\r\n",
    "0\r\nx-a : b\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
];

#[tokio::test]
async fn a_malformed_chunked_body_never_reaches_the_origin_as_complete() {
    let origin = Origin::script(|mut wire, _| async move {
        while let Some(request) = wire.request().await {
            let status = if request.complete { "200 Complete" } else { "200 Incomplete" };
            wire.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for body in BODIES {
        let mut wire = sidecar.wire().await;
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        wire.send(body).await;
        let (answer, _) = wire.rest().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?} was answered {answer:?}");
    }
}

/// Answers of an upstream that cannot be trusted, and the word for each.
const ANSWERS: &[(&str, &str)] = &[
    ("nonsense\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\ncontent-length: one\r\n\r\na", "http_protocol_error"),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "http_protocol_error",
    ),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\nx-a : b\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\nx-a: b\r\n folded\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\nx-a: b\0\r\ncontent-length: 0\r\n\r\n", "http_protocol_error"),
    ("HTTP/1.1 200 OK\r\nx-a: b", "connection_terminated"),
];

#[tokio::test]
async fn a_malformed_answer_becomes_502() {
    for (answer, word) in ANSWERS {
        let origin = Origin::bytes(*answer).await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let reply = sidecar.get("/").await;
        assert_eq!(reply.status, 502, "{answer:?}");
        assert_eq!(reply.header("proxy-status"), format!("pillion; error={word}"), "{answer:?}");
    }
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_tolerated() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 200);
    assert_eq!(wire.ended().await, Ending::Closed);
}
