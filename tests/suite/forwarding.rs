//! What goes through arrives as it was sent, while it is being sent, and no faster than it is taken.

use bytes::Bytes;
use http::{Method, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, streamed};
use pillion_tests::process::resident_kib;
use pillion_tests::wire::{Ending, Message};
use pillion_tests::{BodyExt, Client, Origin, Protocol, Sidecar, Wire, within};
use std::time::Duration;
use tokio::sync::mpsc;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn methods_targets_and_bodies_arrive_as_sent() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for protocol in BOTH {
        let mut client = sidecar.connect(protocol).await;
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            let target = "/a%2Fb/../c;p=1?q=%20&&r=?/";
            let method = Method::from_bytes(method.as_bytes()).expect("it is a token");
            let body = if method == Method::GET { empty() } else { full("some bytes") };
            let length = if method == Method::GET { 0 } else { 10 };
            let request = client.request(method.clone(), target).body(body).unwrap();
            let seen = client.fetch(request).await.seen();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method.as_str(), target));
            assert_eq!(seen.body_bytes, length, "{protocol:?} {method}");
        }
    }
}

#[tokio::test]
async fn a_body_of_a_mebibyte_arrives_whole_both_ways() {
    let origin = Origin::serve(|request| async {
        let body = request.into_body().collect().await.expect("the body arrives").to_bytes();
        Response::new(full(body))
    })
    .await;
    let text: Bytes = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    for upstream in BOTH {
        let setup = Sidecar::new().origin(&origin);
        let setup = if upstream == Protocol::Http2 { setup.h2c() } else { setup };
        let sidecar = setup.start().await;
        for protocol in BOTH {
            let reply = sidecar.connect(protocol).await.post("/", text.clone()).await;
            assert!(reply.body == text, "{protocol:?} to {upstream:?}: {} bytes", reply.body.len());
        }
    }
}

#[tokio::test]
async fn a_request_body_reaches_the_origin_while_the_client_is_still_sending() {
    for upstream in BOTH {
        let (told, mut heard) = mpsc::channel::<Bytes>(8);
        let origin = Origin::serve(move |request| {
            let told = told.clone();
            async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    // The end of an HTTP/2 body may be a frame without bytes.
                    let data = frame.into_data().unwrap_or_default();
                    if !data.is_empty() {
                        told.send(data).await.expect("the test listens");
                    }
                }
                Response::new(full("done"))
            }
        })
        .await;
        let setup = Sidecar::new().origin(&origin);
        let setup = if upstream == Protocol::Http2 { setup.h2c() } else { setup };
        let sidecar = setup.start().await;
        for protocol in BOTH {
            let mut client = sidecar.connect(protocol).await;
            let (mut sender, body) = streamed();
            let request = client.request(Method::POST, "/").body(body).unwrap();
            let answer = tokio::spawn(async move { client.fetch(request).await });
            for piece in ["first", "second"] {
                sender.send_data(Bytes::from(piece)).await.expect("the request goes on");
                let heard = within("the origin to hear a piece", heard.recv()).await;
                assert_eq!(heard.as_deref(), Some(piece.as_bytes()), "{protocol:?}");
            }
            drop(sender);
            assert_eq!(answer.await.expect("the client does not panic").text(), "done");
        }
    }
}

#[tokio::test]
async fn an_answer_reaches_the_client_while_the_origin_is_still_sending() {
    for upstream in BOTH {
        let (bodies, mut body_senders) = mpsc::channel(8);
        let origin = Origin::serve(move |_| {
            let (sender, body) = streamed();
            let bodies = bodies.clone();
            async move {
                bodies.send(sender).await.expect("the test listens");
                Response::new(body)
            }
        })
        .await;
        let setup = Sidecar::new().origin(&origin);
        let setup = if upstream == Protocol::Http2 { setup.h2c() } else { setup };
        let sidecar = setup.start().await;
        for protocol in BOTH {
            let mut client = sidecar.connect(protocol).await;
            let request = client.request(Method::GET, "/").body(empty()).unwrap();
            let mut answer = client.send(request).await.expect("the head comes first");
            let mut sender = body_senders.recv().await.expect("the origin was asked");
            for piece in ["first", "second"] {
                sender.send_data(Bytes::from(piece)).await.expect("the answer goes on");
                let frame = within("a piece", answer.body_mut().frame()).await;
                let data = frame.expect("there is more").expect("it is whole").into_data();
                assert_eq!(data.expect("it is data"), piece.as_bytes(), "{protocol:?}");
            }
            drop(sender);
            let end = within("the end", answer.body_mut().collect()).await;
            assert!(end.expect("the answer ends in order").to_bytes().is_empty());
        }
    }
}

/// What the kernel's socket buffers on the way may take before a sender has to wait.
const KERNEL_BUFFERS_MAX: u64 = 32 << 20;
/// Far more than those, and than what the sidecar may take.
const ENDLESS: usize = 256 << 20;
const PIECE: usize = 64 << 10;
/// No progress for this long means that the other side takes no more.
const STANDSTILL: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_origin_and_costs_no_memory() {
    let (told, mut heard) = mpsc::channel(1);
    let origin = Origin::script(move |mut wire, _| {
        let told = told.clone();
        async move {
            if wire.request().await.is_none() {
                return;
            }
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {ENDLESS}\r\n\r\n")).await;
            let sent = wire.push(&vec![b'x'; PIECE], ENDLESS / PIECE, STANDSTILL).await;
            told.send(sent).await.expect("the test listens");
            wire.rest().await;
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let before = resident_kib(sidecar.id());
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.expect("the head comes").status(), 200);
    let sent = within("the origin to stop", heard.recv()).await.expect("the origin tells");
    assert!(sent < KERNEL_BUFFERS_MAX, "the origin could send {sent} bytes");
    let grown = resident_kib(sidecar.id()).saturating_sub(before);
    assert!(grown < 4096, "memory grew by {grown} KiB");
}

#[tokio::test]
async fn an_origin_that_reads_nothing_stops_the_client_and_costs_no_memory() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.head().await;
        // Holds the connection, unread, until the sidecar ends it.
        std::future::pending::<()>().await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let before = resident_kib(sidecar.id());
    let mut wire = sidecar.wire().await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {ENDLESS}\r\n\r\n")).await;
    let sent = wire.push(&vec![b'x'; PIECE], ENDLESS / PIECE, STANDSTILL).await;
    assert!(sent < KERNEL_BUFFERS_MAX, "the client could send {sent} bytes");
    let grown = resident_kib(sidecar.id()).saturating_sub(before);
    assert!(grown < 4096, "memory grew by {grown} KiB");
}

/// An origin whose answer's body tells the request's trailers, and that sends one of its own.
async fn trailing_origin(protocol: Protocol) -> Origin {
    match protocol {
        Protocol::Http1 => {
            Origin::script(|mut wire, _| async move {
                while let Some(request) = wire.request().await {
                    let seen = format!("{:?}", request.trailers);
                    let head =
                        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n";
                    let length = seen.len();
                    let body = format!("\r\n{length:x}\r\n{seen}\r\n0\r\nx-sum: of answer\r\n\r\n");
                    wire.send(format!("{head}{body}")).await;
                }
            })
            .await
        }
        Protocol::Http2 => {
            Origin::serve(|request| async {
                let body = request.into_body().collect().await.expect("the body arrives");
                let trailers = body.trailers().cloned().unwrap_or_default();
                let pairs: Vec<_> = trailers
                    .iter()
                    .map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned()))
                    .collect();
                Response::new(with_trailer(format!("{pairs:?}"), "of answer"))
            })
            .await
        }
    }
}

fn with_trailer(text: String, value: &'static str) -> Body {
    let (mut sender, body) = streamed();
    tokio::spawn(async move {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static(value));
        // The reader may be gone; the test sees what is missing.
        let _ = sender.send_data(Bytes::from(text)).await;
        let _ = sender.send_trailers(trailers).await;
    });
    body
}

#[tokio::test]
async fn trailers_pass_both_ways_between_every_pair_of_protocols() {
    for upstream in BOTH {
        let origin = trailing_origin(upstream).await;
        let setup = Sidecar::new().origin(&origin);
        let setup = if upstream == Protocol::Http2 { setup.h2c() } else { setup };
        let sidecar = setup.start().await;

        let mut wire = sidecar.wire().await;
        wire.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: of request\r\n\r\n",
        )
        .await;
        let answer = wire.response().await;
        assert!(answer.text().contains("x-sum\", \"of request"), "{upstream:?} {}", answer.text());
        let trailer = ("x-sum".to_owned(), "of answer".to_owned());
        assert_eq!(answer.trailers, [trailer], "HTTP/1 to {upstream:?}");

        let mut client = sidecar.connect(Protocol::Http2).await;
        let body = with_trailer("hi".to_owned(), "of request");
        let request =
            client.request(Method::POST, "/").header("te", "trailers").body(body).unwrap();
        let reply = client.fetch(request).await;
        assert!(reply.text().contains("x-sum\", \"of request"), "{upstream:?} {}", reply.text());
        assert_eq!(reply.trailers["x-sum"], "of answer", "HTTP/2 to {upstream:?}");
    }
}

#[tokio::test]
async fn an_answer_to_head_has_its_length_and_no_body() {
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n").await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = wire.response_to_head().await;
    assert_eq!(answer.head.field("content-length"), Some("12345"));
    // The connection is in step: the next answer follows at once.
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(wire.response_to_head().await.status(), 200);
    assert_eq!(wire.ended().await, Ending::Closed);

    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = client.request(Method::HEAD, "/").body(empty()).unwrap();
    let reply = client.fetch(request).await;
    assert_eq!((reply.header("content-length"), reply.body.len()), ("12345", 0));
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_leave_the_connection_in_step() {
    for answer in [
        "HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 77\r\n\r\n",
    ] {
        let origin = Origin::bytes(answer).await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let mut wire = sidecar.wire().await;
        for _ in 0..2 {
            wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let got = wire.response().await;
            assert!(answer.contains(&got.status().to_string()), "{got:?}");
            assert_eq!(got.head.field("transfer-encoding"), None);
        }
        let reply = sidecar.connect(Protocol::Http2).await.get("/").await;
        assert!(reply.body.is_empty() && answer.contains(&reply.status.to_string()));
    }
}

#[tokio::test]
async fn a_client_that_expects_continue_gets_it_before_it_sends_its_body() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.status(), 100);
    wire.send("body").await;
    let answer = wire.response().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("\"body_bytes\":4"), "{}", answer.text());
}

#[tokio::test]
async fn a_client_that_expects_continue_of_a_silent_origin_gets_ours_in_the_end() {
    let origin = Origin::script(|mut wire, _| async move {
        let request = wire.request().await.expect("it comes with its body");
        let length = request.body.len();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-got: {length}\r\n\r\n")).await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.response().await.status(), 100);
    wire.send("body").await;
    assert_eq!(wire.response().await.head.field("x-got"), Some("4"));
}

#[tokio::test]
async fn a_refusal_instead_of_continue_reaches_the_client_that_expects_it() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno").await;
        wire.rest().await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_that_is_still_sending() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        wire.rest().await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin").await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
}

#[tokio::test]
async fn interim_answers_pass_before_the_final_one() {
    let origin = Origin::bytes(
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for link in ["</a.css>", "</b.css>"] {
        let interim = wire.response().await;
        assert_eq!((interim.status(), interim.head.field("link")), (103, Some(link)));
    }
    assert_eq!(wire.response().await.text(), "hi");
    // RFC 9110 section 15.2: never to an HTTP/1.0 client.
    let mut old = sidecar.wire().await;
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(old.response().await.status(), 200);
}

#[tokio::test]
async fn an_old_client_gets_an_answer_without_chunks_and_a_close() {
    let origin = Origin::bytes(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
    )
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = wire.response().await;
    assert_eq!(answer.head.field("transfer-encoding"), None);
    assert_eq!((answer.text().as_str(), answer.complete), ("onetwo", true));
}

#[tokio::test]
async fn an_answer_that_ends_by_close_is_whole_and_leaves_the_client_connected() {
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = wire.response().await;
        assert!(answer.complete && answer.head.lists("transfer-encoding", "chunked"));
        assert_eq!(answer.text(), "until the end");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    let requests: String = (0..20)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"))
        .collect();
    wire.send(requests).await;
    for n in 0..20 {
        let text = wire.response().await.text();
        assert!(text.contains(&format!("\"target\":\"/{n}\"")), "{n}: {text}");
    }
}

#[tokio::test]
async fn the_framing_of_a_body_is_kept() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let ask = async |framing: &str| -> Message {
        let mut wire: Wire = sidecar.wire().await;
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        wire.response().await
    };
    let exact = ask("Content-Length: 3\r\n\r\nabc").await.text();
    assert!(exact.contains("[\"content-length\",\"3\"]"), "{exact}");
    assert!(!exact.contains("transfer-encoding"), "{exact}");
    let chunked = ask("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await.text();
    assert!(chunked.contains("[\"transfer-encoding\",\"chunked\"]"), "{chunked}");
    assert!(chunked.contains("\"body\":\"abc\""), "{chunked}");
}

#[tokio::test]
async fn many_streams_of_one_connection_are_served_at_once() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let client = sidecar.connect(Protocol::Http2).await;
    let mut streams = tokio::task::JoinSet::new();
    for n in 0..80 {
        let mut client: Client = client.another();
        streams.spawn(async move { (n, client.get(&format!("/{n}")).await) });
    }
    while let Some(stream) = streams.join_next().await {
        let (n, reply) = stream.expect("no client panics");
        assert_eq!(reply.seen().target, format!("/{n}"));
    }
}
