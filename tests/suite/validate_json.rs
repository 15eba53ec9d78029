//! `validate-json` over real sockets: the origin hears of valid bodies only, and gets them as they came.

use bytes::Bytes;
use http::Method;
use pillion_tests::client::full;
use pillion_tests::origin::streamed;
use pillion_tests::{Origin, Protocol, Sidecar};

const CONFIG: &str = "config = { schema = \"${file:order.json}\", max_bytes = 1000 }";
const SCHEMA: &str = r#"{"type": "object", "required": ["item"]}"#;

#[tokio::test]
async fn the_origin_hears_of_valid_bodies_only() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).file("order.json", SCHEMA);
    let sidecar = setup.builtin("validate-json", CONFIG).start().await;
    let large = format!("{{\"item\": \"{}\"}}", "x".repeat(1_000));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (body, status) in
            [(r#"{"item": 1}"#, 200), ("{", 400), ("{}", 422), (large.as_str(), 413)]
        {
            let heard = origin.requests();
            let mut client = sidecar.connect(protocol).await;
            let request =
                client.request(Method::POST, "/").header("content-type", "application/json");
            let reply = client.fetch(request.body(full(body.to_owned())).unwrap()).await;
            assert_eq!(reply.status, status, "{protocol:?} {body}");
            assert_eq!(origin.requests() - heard, usize::from(status == 200), "{body}");
            if status == 200 {
                assert_eq!(reply.seen().body, body);
                assert_eq!(reply.seen().header("content-length"), Some("11"));
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_grows_too_long_is_answered_before_it_ends() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).file("order.json", SCHEMA);
    let sidecar = setup.builtin("validate-json", CONFIG).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        let (mut sender, body) = streamed();
        let request = client.request(Method::POST, "/").header("content-type", "application/json");
        let request = request.body(body).unwrap();
        let answer = tokio::spawn(async move { client.send(request).await });
        sender.send_data(Bytes::from(vec![b' '; 1_001])).await.expect("the body is read");
        let response =
            answer.await.expect("the client does not panic").expect("there is an answer");
        assert_eq!(response.status(), 413, "{protocol:?}");
        // The body ends only here.
        drop(sender);
    }
    assert_eq!(origin.requests(), 0);
}
