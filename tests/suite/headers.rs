//! The fields of a message: what belongs to one hop stays there, the rest passes, and this hop tells
//! that it was one (RFC 9110 section 7.6, RFC 7239).

use pillion_tests::{Origin, Protocol, Sidecar};

#[tokio::test]
async fn fields_of_one_hop_do_not_reach_the_origin() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Private, close-not\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Private: secret\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nX-Public: seen\r\n\r\n",
    )
    .await;
    let answer = wire.response().await;
    let seen: pillion_tests::Seen = serde_json::from_slice(&answer.body).unwrap();
    for gone in ["keep-alive", "proxy-connection", "x-private", "upgrade", "te"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-public"), Some("seen"));
}

#[tokio::test]
async fn fields_of_one_hop_do_not_reach_the_client() {
    let origin = Origin::bytes(
        "HTTP/1.1 200 OK\r\nconnection: x-private, keep-alive\r\nkeep-alive: timeout=9\r\n\
         x-private: secret\r\nx-public: seen\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let reply = sidecar.connect(protocol).await.get("/").await;
        for gone in ["connection", "keep-alive", "x-private", "upgrade"] {
            assert!(!reply.headers.contains_key(gone), "{protocol:?} {gone}");
        }
        assert_eq!(reply.header("x-public"), "seen");
    }
}

#[tokio::test]
async fn both_messages_tell_that_they_came_through_a_proxy() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let reply = sidecar.get_with("/", &[("via", "1.0 fred")]).await;
    assert_eq!(reply.header("via"), "1.1 pillion");
    assert_eq!(reply.seen().header("via"), Some("1.0 fred, 1.1 pillion"));
    let seen = sidecar.connect(Protocol::Http2).await.get("/").await.seen();
    assert_eq!(seen.header("via"), Some("2.0 pillion"));
}

#[tokio::test]
async fn the_origin_learns_who_the_client_is_and_not_what_it_claims() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let claims = [
        ("x-forwarded-for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.example"),
    ];
    let seen = sidecar.get_with("/", &claims).await.seen();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["app.test"]);
    assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;host=\"app.test\";proto=http"]);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let origin = Origin::echo().await;
    let trust = "trusted_proxies = [\"127.0.0.0/8\"]";
    let sidecar = Sidecar::new().origin(&origin).listener(trust).start().await;
    let claims = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")];
    let seen = sidecar.get_with("/", &claims).await.seen();
    assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn the_host_that_was_asked_for_reaches_the_origin_over_every_protocol() {
    let origin = Origin::echo().await;
    for setup in [Sidecar::new().origin(&origin), Sidecar::new().origin(&origin).h2c()] {
        let sidecar = setup.start().await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let seen = sidecar.connect(protocol).await.get("/").await.seen();
            assert_eq!(seen.authority, "app.test", "{protocol:?}");
        }
        // RFC 9112 section 3.2.2: the target wins over the field.
        let mut wire = sidecar.wire().await;
        wire.send("GET http://real.test/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
        let seen: pillion_tests::Seen =
            serde_json::from_slice(&wire.response().await.body).unwrap();
        assert_eq!((seen.authority.as_str(), seen.target.as_str()), ("real.test", "/x?y"));
    }
}

#[tokio::test]
async fn an_answer_has_one_date() {
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let reply = sidecar.get("/").await;
    assert!(reply.header("date").ends_with(" GMT"), "{:?}", reply.headers);

    let own = "Sun, 06 Nov 1994 08:49:37 GMT";
    let origin =
        Origin::bytes(format!("HTTP/1.1 200 OK\r\ndate: {own}\r\ncontent-length: 0\r\n\r\n")).await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let reply = sidecar.get("/").await;
    assert_eq!(reply.headers.get_all("date").iter().collect::<Vec<_>>(), [own]);
}

#[tokio::test]
async fn several_lines_of_a_field_stay_several_and_in_order() {
    let origin = Origin::bytes(
        "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx-a: 1\r\nset-cookie: b=2; path=/\r\n\
         content-length: 0\r\n\r\n",
    )
    .await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let reply = sidecar.connect(protocol).await.get("/").await;
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2; path=/"], "{protocol:?}");
    }
}

#[tokio::test]
async fn names_that_pass_for_framing_fields_do_not_reach_the_origin() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let aliases = [("content_length", "9"), ("transfer_encoding", "chunked"), ("x_custom", "1")];
    let seen = sidecar.get_with("/", &aliases).await.seen();
    assert_eq!((seen.header("content_length"), seen.header("transfer_encoding")), (None, None));
    assert_eq!(seen.header("x_custom"), Some("1"));
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_field_for_an_origin_that_speaks_http1() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = client
        .request(http::Method::GET, "/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(pillion_tests::client::empty())
        .unwrap();
    assert_eq!(client.fetch(request).await.seen().all("cookie"), ["a=1; b=2"]);
}
