//! How the sidecar reaches its upstreams: in turn, over kept connections, and with a plain word for
//! each way it can fail.

use http::Response;
use pillion_tests::client::{empty, full};
use pillion_tests::{Origin, Protocol, Sidecar};
use std::collections::BTreeMap;

#[tokio::test]
async fn endpoints_take_turns() {
    let origins = [Origin::echo().await, Origin::echo().await, Origin::echo().await];
    let setup = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
    let sidecar = setup.runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..30 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let shares: Vec<_> = origins.iter().map(Origin::requests).collect();
    assert_eq!(shares, [10, 10, 10]);
}

#[tokio::test]
async fn connections_to_the_origin_are_used_again() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    for _ in 0..10 {
        // A connection of its own each: what is kept is the one to the origin.
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    assert_eq!((origin.requests(), origin.connections()), (10, 1));
    let reused = sidecar.metric("pillion_upstream_connections_reused_total", &[]).await;
    assert_eq!(reused, 9.0);
}

#[tokio::test]
async fn one_connection_carries_many_requests_to_an_http2_origin() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).h2c().runtime("workers = 1");
    let sidecar = setup.start().await;
    let client = sidecar.connect(Protocol::Http2).await;
    assert_eq!(client.another().get("/").await.status, 200);
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut client = client.another();
        streams.spawn(async move { client.get("/").await.status });
    }
    while let Some(status) = streams.join_next().await {
        assert_eq!(status.expect("no client panics"), 200);
    }
    assert_eq!((origin.requests(), origin.connections()), (51, 1));
}

/// Answers the first request of a connection, and closes at the second without a byte of an answer.
async fn closing_at_the_second() -> Origin {
    Origin::script(|mut wire, connection| async move {
        if wire.request().await.is_none() {
            return;
        }
        let text = connection.to_string();
        let length = text.len();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")).await;
        wire.request().await;
    })
    .await
}

#[tokio::test]
async fn an_idempotent_request_survives_the_death_of_a_kept_connection() {
    let origin = closing_at_the_second().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    assert_eq!(client.get("/").await.text(), "1");
    assert_eq!(client.get("/").await.text(), "2", "a new connection, without a visible failure");
}

#[tokio::test]
async fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    let origin = closing_at_the_second().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    assert_eq!(client.get("/").await.text(), "1");
    let reply = client.post("/", "once").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.header("proxy-status"), "pillion; error=connection_terminated");
}

#[tokio::test]
async fn a_request_on_a_fresh_connection_is_never_sent_twice() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.request().await;
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let reply = sidecar.get("/").await;
    assert_eq!((reply.status, origin.connections()), (502, 1));
    assert_eq!(reply.header("proxy-status"), "pillion; error=connection_terminated");
}

#[tokio::test]
async fn a_connection_that_the_origin_wants_closed_is_not_used_again() {
    let origin = Origin::serve(|_| async {
        let mut answer = Response::new(full("x"));
        answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        answer
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 3);
    assert!(client.is_open(), "the client's connection is another matter");
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_no_answer_to_the_next_request() {
    let origin = Origin::script(|mut wire, _| async move {
        while wire.request().await.is_some() {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine";
            let stray = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nothers";
            wire.send(format!("{answer}{stray}")).await;
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    for _ in 0..5 {
        assert_eq!(sidecar.get("/").await.text(), "mine");
    }
}

#[tokio::test]
async fn every_failure_of_an_upstream_has_its_status_and_word() {
    let refusing = Origin::refusing().await;
    let (unreachable, _full) = Origin::unreachable().await;
    let silent = Origin::silent().await;
    let resetting = Origin::script(|mut wire, _| async move {
        wire.request().await;
        wire.reset();
    })
    .await;
    let limits = "connect_timeout = \"300ms\"\nresponse_timeout = \"300ms\"";
    for (address, status, word) in [
        (refusing, 502, "connection_refused"),
        (unreachable, 504, "connection_timeout"),
        (silent.address, 504, "http_response_timeout"),
        (resetting.address, 502, "connection_terminated"),
    ] {
        let sidecar = Sidecar::new().endpoint(address).upstream_limits(limits).start().await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut client = sidecar.connect(protocol).await;
            let reply = client.get("/").await;
            assert_eq!(reply.status, status, "{word}");
            assert_eq!(reply.header("proxy-status"), format!("pillion; error={word}"));
            let body = reply.text();
            assert!(!body.contains("127.0.0.1"), "the inside stays inside: {body}");
        }
        let labels = [format!("error=\"{word}\"")];
        let failures = sidecar.metric("pillion_upstream_failures_total", &[&labels[0]]).await;
        assert!(failures >= 2.0, "{word}: {failures}");
    }
}

#[tokio::test]
async fn the_upstream_of_another_route_is_not_touched_by_a_failure() {
    let origin = Origin::echo().await;
    let refusing = Origin::refusing().await;
    let sidecar = Sidecar::with(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:0\"\n\
         [[listener.route]]\nmatch = {{ path_prefix = \"/down\" }}\nupstream = \"down\"\n\
         [[listener.route]]\nupstream = \"app\"\n\
         [upstream.app]\nendpoints = [\"@APP@\"]\n\
         [upstream.down]\nendpoints = [\"{refusing}\"]\n"
    ))
    .origin(&origin)
    .start()
    .await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let mut statuses = BTreeMap::new();
    for target in ["/", "/down", "/", "/down/x", "/"] {
        *statuses.entry(client.get(target).await.status).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 3), (502, 2)]));
    let request = client.request(http::Method::DELETE, "/").body(empty()).unwrap();
    assert_eq!(client.fetch(request).await.status, 200);
}
