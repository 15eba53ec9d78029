//! The hooks against the SDK's fake host: what preflights and responses are told.

use pillion_sdk::testing::{Host, Loaded, Request, Response, json};
use serde_json::Value;

use super::*;

const APP: &str = "https://app.example";

fn load(config: Value) -> Loaded<Cors> {
    Host::new().load::<Cors>(config).expect("the configuration is valid")
}

fn preflight(origin: &str) -> Request {
    Request::new("OPTIONS", "/api")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<Cors>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    let filter = load(json!({
        "origins": [APP], "methods": ["GET", "PUT"], "headers": ["content-type"],
        "credentials": true, "max_age": 600, "private_network": true
    }));
    let request = preflight(APP).header("access-control-request-private-network", "true");
    let exchange = filter.request(request);
    let reply = exchange.local_response().unwrap();
    assert_eq!(reply.status, 204);
    for (name, value) in [
        (ALLOW_ORIGIN, APP),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-max-age", "600"),
        (ALLOW_CREDENTIALS, "true"),
        ("access-control-allow-private-network", "true"),
        ("vary", "origin"),
    ] {
        assert_eq!(reply.header(name).as_deref(), Some(value), "{name}");
    }
    let exchange = filter.request(preflight("https://evil.example"));
    let reply = exchange.local_response().unwrap();
    assert_eq!((reply.status, reply.header(ALLOW_ORIGIN)), (403, None));
}

#[test]
fn requests_that_are_no_preflights_go_on() {
    let filter = load(json!({"origins": [APP]}));
    let ask = "access-control-request-method";
    for request in [
        Request::new("OPTIONS", "/").header("origin", APP),
        Request::new("OPTIONS", "/").header(ask, "PUT"),
        Request::get("/").header("origin", APP).header(ask, "PUT"),
        preflight(APP).header("origin", "https://evil.example"),
    ] {
        assert!(filter.request(request.clone()).local_response().is_none(), "{request:?}");
    }
}

#[test]
fn a_response_tells_an_allowed_origin_and_nothing_to_others() {
    let filter = load(json!({"origins": [APP], "credentials": true, "expose": ["x-id"]}));
    let upstream = || Response::new(200).header(ALLOW_ORIGIN, "*").header(EXPOSE_HEADERS, "x-a");
    let answered = filter.request(Request::get("/").header("origin", APP)).answer(upstream());
    let reply = answered.response();
    assert_eq!(reply.header_all(ALLOW_ORIGIN), [APP]);
    assert_eq!(reply.header_all(ALLOW_CREDENTIALS), ["true"]);
    assert_eq!(reply.header_all(EXPOSE_HEADERS), ["x-id"]);
    assert_eq!(reply.header_all("vary"), ["origin"]);
    for request in [Request::get("/"), Request::get("/").header("origin", "https://b.example")] {
        let answered = filter.request(request).answer(upstream());
        assert_eq!(answered.response().headers.len(), 1, "{:?}", answered.response());
        assert_eq!(answered.response().header_all("vary"), ["origin"]);
    }
}

#[test]
fn any_origin_is_told_the_same_to_all() {
    let filter = load(json!({"origins": ["*"], "expose": ["*"]}));
    for request in [Request::get("/"), Request::get("/").header("origin", APP)] {
        let answered = filter.request(request).answer(Response::new(200));
        assert_eq!(answered.response().header_all(ALLOW_ORIGIN), ["*"]);
        assert_eq!(answered.response().header("vary"), None);
    }
}

#[test]
fn vary_is_not_said_twice() {
    let filter = load(json!({"origins": [APP]}));
    let answer = |vary: &str| {
        let answered =
            filter.request(Request::get("/")).answer(Response::new(200).header("vary", vary));
        answered.response().header_all("vary")
    };
    assert_eq!(answer("Accept, Origin"), ["Accept, Origin"]);
    assert_eq!(answer("*"), ["*"]);
    assert_eq!(answer("accept"), ["accept", "origin"]);
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    for (config, key) in [
        (json!({}), ""),
        (json!({"origins": []}), "origins"),
        (json!({"origins": ["*", APP]}), "origins[0]"),
        (json!({"origins": [APP, "app.example"]}), "origins[1]"),
        (json!({"origins": ["*"], "credentials": true}), "origins[0]"),
        (json!({"origins": ["null"], "credentials": true}), "origins"),
        (json!({"origins": [APP], "credentials": true, "methods": ["*"]}), "methods[0]"),
        (json!({"origins": [APP], "credentials": true, "headers": ["a", "*"]}), "headers[1]"),
        (json!({"origins": [APP], "credentials": true, "expose": ["*"]}), "expose[0]"),
        (json!({"origins": [APP], "methods": ["patch"]}), "methods[0]"),
        (json!({"origins": [APP], "headers": ["x y"]}), "headers[0]"),
        (json!({"origins": [APP], "expose": [""]}), "expose[0]"),
        (json!({"origins": [APP], "max_age": 86401}), "max_age"),
        (json!({"origins": [APP], "maxage": 1}), "maxage"),
    ] {
        assert_eq!(mistake(config.clone()).0, key, "{config}");
    }
    for seconds in [0, 86_399, 86_400] {
        load(json!({"origins": [APP], "max_age": seconds}));
    }
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    load(file["filter"]["cors"]["config"].clone());
}
