//! HTTP/2 without TLS, by prior knowledge, on either side: streams, windows, cancellation, goodbyes.

use bytes::Bytes;
use http::{Method, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::streamed;
use pillion_tests::process::resident_kib;
use pillion_tests::{Frames, Origin, Protocol, Seen, Sidecar, frames, until, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

#[tokio::test]
async fn every_pair_of_protocols_speaks() {
    let origin = Origin::echo().await;
    for (setup, upstream) in [
        (Sidecar::new().origin(&origin), "HTTP/1.1"),
        (Sidecar::new().origin(&origin).h2c(), "HTTP/2.0"),
    ] {
        let sidecar = setup.start().await;
        for downstream in [Protocol::Http1, Protocol::Http2] {
            let reply = sidecar.connect(downstream).await.post("/a?b", "text").await;
            let seen = reply.seen();
            assert_eq!((seen.version.as_str(), seen.target.as_str()), (upstream, "/a?b"));
            assert_eq!((seen.authority.as_str(), seen.body.as_str()), ("app.test", "text"));
            if upstream == "HTTP/2.0" {
                assert_eq!(seen.scheme, "http");
                assert_eq!(seen.header("host"), None, "`:authority` says it");
            }
        }
    }
}

#[tokio::test]
async fn an_offer_to_upgrade_to_http2_is_not_taken() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    .await;
    let answer = wire.response().await;
    assert_eq!(answer.status(), 200, "RFC 9113 section 3.1: obsolete, and ignored");
    assert!(!answer.text().contains("http2-settings"), "{}", answer.text());
}

#[tokio::test]
async fn a_stream_that_the_client_gives_up_is_given_up_upstream() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (told, mut heard) = mpsc::channel(4);
        let origin = Origin::serve(move |_| {
            let told = told.clone();
            async move {
                let (mut sender, body) = streamed();
                tokio::spawn(async move {
                    while sender.send_data(Bytes::from_static(b"more")).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                    told.send(()).await.expect("the test listens");
                });
                Response::new(body)
            }
        })
        .await;
        let setup = Sidecar::new().origin(&origin);
        let setup = if protocol == Protocol::Http2 { setup.h2c() } else { setup };
        let sidecar = setup.start().await;
        let mut client = sidecar.connect(Protocol::Http2).await;
        let request = client.request(Method::GET, "/").body(empty()).unwrap();
        let answer = client.send(request).await.expect("the head comes first");
        drop(answer);
        within("the origin to be told", heard.recv()).await;
        assert!(client.is_open(), "only the stream is over");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_stands_still_alone_and_costs_no_memory() {
    let origin = Origin::serve(|request| async move {
        if request.uri().path() == "/short" {
            return Response::new(full("short"));
        }
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            for _ in 0..4096 {
                if sender.send_data(piece.clone()).await.is_err() {
                    break;
                }
            }
        });
        Response::new(body)
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).h2c().start().await;
    let before = resident_kib(sidecar.id());
    let mut client = sidecar.connect(Protocol::Http2).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        let request = client.request(Method::GET, "/long").body(empty()).unwrap();
        unread.push(client.send(request).await.expect("the head comes first"));
    }
    for _ in 0..50 {
        assert_eq!(client.get("/short").await.text(), "short");
    }
    let grown = resident_kib(sidecar.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
}

#[tokio::test]
async fn streams_over_the_limit_wait_for_those_before_them() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::serve(move |_| {
        let (now, most) = (Arc::clone(&counted), Arc::clone(&highest));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Response::new(full("x"))
        }
    })
    .await;
    let limits = "h2_streams = 3";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    // The settings have arrived with the first answer.
    assert_eq!(client.get("/").await.status, 200);
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut client = client.another();
        streams.spawn(async move { client.get("/").await.status });
    }
    assert_eq!(streams.join_all().await, [200; 30]);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
}

#[tokio::test]
async fn an_old_connection_is_told_goodbye_and_loses_no_request() {
    let origin = Origin::echo().await;
    let limits = "connection_lifetime = \"1s\"";
    let sidecar = Sidecar::new().origin(&origin).listener_limits(limits).start().await;
    let mut http2 = sidecar.connect(Protocol::Http2).await;
    let mut http1 = sidecar.connect(Protocol::Http1).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    within("both connections to be closed in order", async {
        for client in [&mut http2, &mut http1] {
            while client.is_open() {
                pace.tick().await;
                let request = client.request(Method::GET, "/").body(empty()).unwrap();
                match client.try_fetch(request).await {
                    Ok(reply) => assert_eq!(reply.status, 200),
                    // It was closed between the question whether it is open and the request.
                    Err(error) => assert!(error.is_closed() || error.is_canceled(), "{error:?}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn garbage_behind_the_preface_closes_the_connection_and_nothing_else() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for garbage in [
        // A frame of 16 MiB; data on stream 0; headers on an even stream; a window update of
        // nothing; a settings frame of the wrong length.
        [&settings[..], &[255, 255, 255, 0, 0, 0, 0, 0, 1]].concat(),
        [&settings[..], &[0, 0, 1, 0, 0, 0, 0, 0, 0, 1]].concat(),
        [&settings[..], &[0, 0, 1, 1, 4, 0, 0, 0, 2, 0x82]].concat(),
        [&settings[..], &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
        vec![0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5],
    ] {
        let mut wire = sidecar.wire().await;
        wire.send([&preface[..], &garbage].concat()).await;
        wire.rest().await;
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(sidecar.connect(Protocol::Http2).await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_fragment_in_a_path_is_taken_off_unseen() {
    // RFC 9113 section 8.3.1 allows none, and HTTP/1 gets 400 for it. Below, the `h2` crate makes a
    // URI of `:path` and drops the fragment, before anything of ours sees it.
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut client = Frames::connect(sidecar.address(), &[]).await;
    let block = [&frames::GET[..2], b"\x04\x06/a?b#c", &frames::GET[3..]].concat();
    let (end, headers) = (frames::END_STREAM, frames::END_HEADERS);
    client.send(frames::HEADERS, headers | end, 1, &block).await;
    let body = client.until(|it| it.kind == frames::DATA && !it.payload.is_empty()).await;
    let seen: Seen = serde_json::from_slice(&body.payload).expect("the origin answers in JSON");
    assert_eq!(seen.target, "/a?b");
}

#[tokio::test]
async fn an_origin_that_says_goodbye_loses_no_request() {
    // Each connection of this origin serves one request and is then told goodbye.
    let origin = Origin::goodbye().await;
    let sidecar = Sidecar::new().origin(&origin).h2c().runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    until("the connections to be counted", async || (origin.connections() >= 2).then_some(()))
        .await;
}
