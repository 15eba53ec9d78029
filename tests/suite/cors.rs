//! `cors` over real sockets: preflights end in the sidecar, and refusals of later filters can be read.

use http::Method;
use pillion_tests::client::empty;
use pillion_tests::{Origin, Protocol, Sidecar};

const KEYS: &str = "config = { origins = [\"https://*.example.com\"], credentials = true }";

#[tokio::test]
async fn a_preflight_ends_in_the_sidecar_and_a_request_goes_on() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).builtin("cors", KEYS).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        let preflight = client
            .request(Method::OPTIONS, "/")
            .header("origin", "https://a.example.com")
            .header("access-control-request-method", "POST")
            .body(empty())
            .unwrap();
        let reply = client.fetch(preflight).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{protocol:?}");
        assert_eq!(reply.header("access-control-allow-origin"), "https://a.example.com");
        assert_eq!(reply.header("access-control-allow-methods"), "GET, HEAD, POST");
    }
    assert_eq!(origin.requests(), 0);
    let reply = sidecar.get_with("/", &[("origin", "https://a.example.com")]).await;
    assert_eq!(reply.header("access-control-allow-origin"), "https://a.example.com");
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    assert_eq!((reply.header("vary"), origin.requests()), ("origin", 1));
}

#[tokio::test]
async fn the_refusal_of_a_later_filter_can_be_read_by_the_page() {
    let origin = Origin::echo().await;
    let limit = "grants = { rate-limit = { requests = 1, per = \"1h\" } }";
    let setup = Sidecar::new().origin(&origin).builtin("cors", KEYS).builtin("rate-limit", limit);
    let sidecar = setup.start().await;
    let fields = [("origin", "https://a.example.com")];
    sidecar.get_with("/", &fields).await;
    let refused = sidecar.get_with("/", &fields).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("access-control-allow-origin"), "https://a.example.com");
}
