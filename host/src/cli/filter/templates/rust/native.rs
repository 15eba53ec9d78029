//! The filter as plain Rust, against the SDK's fake host. `cargo test` runs these.

use @crate@::Hello;
use pillion_sdk::testing::{Host, Request, Response, json};

#[test]
fn every_request_is_greeted() {
    let filter = Host::new().load::<Hello>(json!({})).expect("it needs no configuration");
    let exchange = filter.request(Request::get("/"));
    assert_eq!(exchange.forwarded().header("x-hello"), Some("world".to_owned()));
}

#[test]
fn a_greeting_of_the_client_is_replaced() {
    let filter = Host::new().load::<Hello>(json!({})).expect("it needs no configuration");
    let exchange = filter.request(Request::get("/").header("x-hello", "moon"));
    assert_eq!(exchange.forwarded().header_all("x-hello"), ["world"]);
    assert_eq!(exchange.answer(Response::new(200)).response().status, 200);
}
