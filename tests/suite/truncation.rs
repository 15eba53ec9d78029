//! An answer that ends too early reaches the client as an error of its connection or stream, never
//! as a complete one.

use http::Method;
use pillion_tests::client::empty;
use pillion_tests::{BodyExt, Origin, Protocol, Sidecar, within};

const CUT: &[&str] = &[
    "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly some",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly some\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly some",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly some\r\n0\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly some\r\nnonsense\r\n",
];

#[tokio::test]
async fn an_answer_cut_short_is_never_complete_for_an_http1_client() {
    for answer in CUT {
        let origin = Origin::bytes(*answer).await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let Some(head) = wire.head().await else { continue };
        if head.status() == 502 {
            continue;
        }
        let (body, _) = wire.rest().await;
        let text = String::from_utf8_lossy(&body);
        if head.lists("transfer-encoding", "chunked") {
            assert!(!text.ends_with("0\r\n\r\n"), "{answer:?} became complete: {text:?}");
        } else {
            let length: usize = head.field("content-length").unwrap().parse().unwrap();
            assert!(body.len() < length, "{answer:?} became complete: {text:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_cut_short_is_a_reset_for_a_client_whose_answer_ends_by_close() {
    let origin = Origin::bytes(CUT[0]).await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    // With a length the client sees that bytes are missing; without, only a reset tells.
    let (bytes, ending) = wire.rest().await;
    let text = String::from_utf8_lossy(&bytes);
    let tells = text.contains("content-length: 100") || text.contains(" 502 ");
    assert!(tells || ending == pillion_tests::wire::Ending::Reset, "{text:?} {ending:?}");
}

#[tokio::test]
async fn an_answer_cut_short_is_a_stream_error_for_an_http2_client_and_harms_no_other_stream() {
    for answer in CUT {
        let origin = Origin::script(move |mut wire, _| async move {
            while let Some(request) = wire.request().await {
                if request.head.first.contains("/good") {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await;
                } else {
                    wire.send(answer).await;
                    wire.finish().await;
                    wire.rest().await;
                    return;
                }
            }
        })
        .await;
        let sidecar = Sidecar::new().origin(&origin).start().await;
        let mut client = sidecar.connect(Protocol::Http2).await;
        let request = client.request(Method::GET, "/").body(empty()).unwrap();
        match client.try_fetch(request).await {
            Ok(reply) => assert_eq!(reply.status, 502, "{answer:?} became {:?}", reply.text()),
            Err(error) => assert!(!error.is_timeout(), "{error}"),
        }
        assert_eq!(client.get("/good").await.text(), "good", "{answer:?}");
    }
}

#[tokio::test]
async fn an_origin_that_resets_its_stream_ends_the_clients_answer_with_an_error() {
    let origin = Origin::serve(|_| async {
        let (mut sender, body) = pillion_tests::origin::streamed();
        tokio::spawn(async move {
            let _ = sender.send_data(bytes::Bytes::from_static(b"only some")).await;
            sender.abort("the test wants it so".into());
        });
        http::Response::new(body)
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).h2c().start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        let request = client.request(Method::GET, "/").body(empty()).unwrap();
        if let Ok(answer) = client.send(request).await
            && answer.status() == 200
        {
            let end = within("the end", answer.into_body().collect()).await;
            assert!(end.is_err(), "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn an_exchange_cut_short_is_counted_with_its_reason() {
    let origin = Origin::bytes(CUT[0]).await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wire.rest().await;
    let labels = ["error=\"http_response_incomplete\""];
    sidecar.metric_is("pillion_request_errors_total", &labels, |count| count == 1.0).await;
}
