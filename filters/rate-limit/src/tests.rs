//! The hooks against the SDK's fake host: who is refused, what is told, and what is counted.

use std::time::Duration;

use pillion_sdk::testing::{Host, Loaded, Request, Response, json};
use serde_json::Value;

use super::*;

const REQUESTS: &str = "rate_limit_requests_total";

/// Two requests a minute, two at once.
fn host() -> Host {
    Host::new().rate_limit(2, Duration::from_secs(60), 2)
}

fn load(host: &Host, config: Value) -> Loaded<RateLimit> {
    host.load::<RateLimit>(config).expect("the configuration is valid")
}

fn get() -> Request {
    Request::get("/a")
}

fn status(filter: &Loaded<RateLimit>, request: Request) -> Option<u16> {
    let exchange = filter.request(request);
    assert_eq!(exchange.failure(), None);
    exchange.local_response().map(|reply| reply.status)
}

fn mistake(config: Value) -> (String, String) {
    let error = host().load::<RateLimit>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

#[test]
fn a_request_over_the_limit_is_refused_until_the_next_token() {
    let host = host();
    let filter = load(&host, json!({}));
    assert_eq!(status(&filter, get()), None);
    assert_eq!(status(&filter, get()), None);
    assert_eq!(status(&filter, get()), Some(429));
    host.advance(Duration::from_millis(29_999));
    assert_eq!(status(&filter, get()), Some(429));
    host.advance(Duration::from_millis(1));
    assert_eq!(status(&filter, get()), None);
    assert_eq!(status(&filter, get()), Some(429));
}

#[test]
fn a_refusal_tells_when_to_come_back() {
    let host = host();
    let filter = load(&host, json!({"name": "per-client"}));
    for _ in 0..2 {
        assert_eq!(status(&filter, get()), None);
    }
    host.advance(Duration::from_millis(500));
    let exchange = filter.request(get());
    let reply = exchange.local_response().unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after").as_deref(), Some("30"));
    assert_eq!(reply.header("ratelimit-policy").as_deref(), Some("\"per-client\";q=2;w=60"));
    assert_eq!(reply.header("ratelimit").as_deref(), Some("\"per-client\";r=0;t=30"));
    assert_eq!(reply.header("content-type").as_deref(), Some("application/problem+json"));
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["status"], 429);
    assert_eq!(body["violated-policies"], json!(["per-client"]));
}

#[test]
fn allowed_responses_tell_the_limit_on_demand_beside_that_of_the_upstream() {
    let host = host();
    let filter = load(&host, json!({"fields": "always"}));
    let upstream = || Response::new(200).header("ratelimit", "\"app\";r=7");
    let answered = filter.request(get()).answer(upstream());
    let response = answered.response();
    assert_eq!(response.header_all("ratelimit-policy"), ["\"default\";q=2;w=60"]);
    assert_eq!(response.header_all("ratelimit"), ["\"app\";r=7", "\"default\";r=1;t=30"]);
    let answered = filter.request(get()).answer(Response::new(304));
    assert_eq!(answered.response().header_all("ratelimit"), ["\"default\";r=0;t=30"]);
}

#[test]
fn responses_are_seen_only_where_they_tell_the_limit() {
    for (config, seen) in [
        (json!({}), false),
        (json!({"fields": "always"}), true),
        (json!({"fields": "always", "mode": "shadow"}), false),
        (json!({"fields": "never"}), false),
    ] {
        let wanted = load(&host(), config.clone()).wanted_hooks();
        assert_eq!(wanted.has(Hooks::ON_RESPONSE), seen, "{config}");
        assert!(wanted.has(Hooks::ON_REQUEST), "{config}");
    }
}

#[test]
fn by_default_only_refusals_tell_the_limit_and_never_is_never() {
    for fields in ["refused", "never"] {
        let filter = load(&host(), json!({"fields": fields}));
        let answered = filter.request(get()).answer(Response::new(200));
        assert_eq!(answered.response().headers, []);
        filter.request(get());
        let exchange = filter.request(get());
        let reply = exchange.local_response().unwrap();
        assert_eq!(reply.header("ratelimit").is_some(), fields == "refused");
        assert_eq!(reply.header("ratelimit-policy").is_some(), fields == "refused");
        assert_eq!(reply.header("retry-after").as_deref(), Some("30"));
    }
}

#[test]
fn every_key_has_a_bucket_of_its_own() {
    let blue = || get().header("x-tenant", "blue");
    let green = || get().header("x-tenant", "green");
    let elsewhere = || Request::get("/b?q=1").header("x-tenant", "blue");
    let other_client = || blue().client_address("198.51.100.7");
    for (key, shares) in [
        (json!("client"), [true, true, false]),
        (json!("header:X-Tenant"), [false, true, true]),
        (json!("path"), [true, false, true]),
        (json!(["client", "header:x-tenant"]), [false, true, false]),
        (json!(["header:x-tenant", "path"]), [false, false, true]),
    ] {
        let requests = [green(), elsewhere(), other_client()];
        for (request, shares) in requests.into_iter().zip(shares) {
            let filter = load(&host(), json!({"key": key}));
            filter.request(blue());
            filter.request(blue());
            let refused = status(&filter, request.clone()).is_some();
            assert_eq!(refused, shares, "{key} {request:?}");
        }
    }
}

#[test]
fn clients_of_one_ipv6_network_share_a_bucket() {
    let from = |address: &str| get().client_address(address);
    for (prefix, refused) in [(64, true), (128, false)] {
        let filter = load(&host(), json!({"ipv6_prefix": prefix}));
        filter.request(from("2001:db8::1"));
        filter.request(from("2001:db8::1"));
        assert_eq!(status(&filter, from("2001:db8::2")).is_some(), refused, "{prefix}");
        assert_eq!(status(&filter, from("2001:db8:0:1::1")), None, "{prefix}");
    }
}

#[test]
fn requests_that_lack_the_header_share_skip_or_are_refused() {
    let statuses = |missing: &str| {
        let filter = load(&host(), json!({"key": "header:x-tenant", "missing": missing}));
        [(); 3].map(|()| status(&filter, get()))
    };
    assert_eq!(statuses("share"), [None, None, Some(429)]);
    assert_eq!(statuses("skip"), [None, None, None]);
    assert_eq!(statuses("refuse"), [Some(400), Some(400), Some(400)]);

    let filter = load(&host(), json!({"key": "header:x-tenant", "missing": "refuse"}));
    let exchange = filter.request(get());
    assert_eq!(exchange.local_response().unwrap().body_text(), "the field `x-tenant` is missing\n");
}

#[test]
fn skipped_requests_tell_no_limit() {
    let config = json!({"key": "header:x-tenant", "missing": "skip", "fields": "always"});
    let answered = load(&host(), config).request(get()).answer(Response::new(200));
    assert_eq!(answered.response().headers, []);
}

#[test]
fn shadow_mode_only_counts() {
    let host = host();
    let filter = load(&host, json!({"mode": "shadow", "fields": "always"}));
    for _ in 0..3 {
        let exchange = filter.request(get());
        assert!(exchange.local_response().is_none());
        assert_eq!(exchange.answer(Response::new(200)).response().headers, []);
    }
    assert_eq!(host.metric(REQUESTS, &["allowed"]), Some(2.0));
    assert_eq!(host.metric(REQUESTS, &["would_refuse"]), Some(1.0));
    assert_eq!(host.metric(REQUESTS, &["refused"]), None);

    let config = json!({"mode": "shadow", "key": "header:x-tenant", "missing": "refuse"});
    assert_eq!(status(&load(&host, config), get()), None);
    assert_eq!(host.metric(REQUESTS, &["would_refuse"]), Some(2.0));
}

#[test]
fn every_outcome_is_counted() {
    let host = host();
    let filter = load(&host, json!({"key": "header:x-tenant", "missing": "skip"}));
    for _ in 0..3 {
        filter.request(get().header("x-tenant", "blue"));
    }
    filter.request(get());
    for (outcome, count) in [("allowed", 2.0), ("refused", 1.0), ("skipped", 1.0)] {
        assert_eq!(host.metric(REQUESTS, &[outcome]), Some(count), "{outcome}");
    }
}

#[test]
fn buckets_outlive_the_instance() {
    let host = host();
    let first = load(&host, json!({}));
    first.request(get());
    first.request(get());
    let second = load(&host, json!({"fields": "always"}));
    assert_eq!(status(&second, get()), Some(429));
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let (key, message) = mistake(json!({"key": ["client", "tenant"]}));
    assert_eq!(key, "key");
    assert_eq!(
        message,
        "`tenant` is not a part of a key, expected `client`, `header:<name>`, `path`, `method` or \
         `authority`"
    );
    let (key, message) = mistake(json!({"key": []}));
    assert_eq!((key.as_str(), message.as_str()), ("key", "has no part: name at least one"));
    assert_eq!(mistake(json!({"key": ["client", 1]})).0, "key[1]");
    let (key, message) = mistake(json!({"key": 7}));
    assert_eq!(key, "key");
    assert!(message.ends_with("expected a string or a list of strings"), "{message}");
    assert_eq!(mistake(json!({"missing": "ignore"})).0, "missing");
    assert_eq!(mistake(json!({"keys": "client"})).0, "keys");
    for bits in [0, 129] {
        let (key, message) = mistake(json!({"ipv6_prefix": bits}));
        assert_eq!(key, "ipv6_prefix");
        assert_eq!(message, format!("`{bits}` is not a number of bits from 1 to 128"));
    }
    for name in ["", "a b", "a\"b", &"a".repeat(65)] {
        let (key, message) = mistake(json!({"name": name}));
        assert_eq!(key, "name");
        assert!(message.ends_with("use 1 to 64 letters, digits, `-`, `_` and `.`"), "{message}");
    }
}

#[test]
fn values_at_the_edges_are_accepted() {
    for config in [
        json!({"ipv6_prefix": 1}),
        json!({"ipv6_prefix": 2}),
        json!({"ipv6_prefix": 127}),
        json!({"ipv6_prefix": 128}),
        json!({"name": "a"}),
        json!({"name": "a".repeat(63)}),
        json!({"name": "a".repeat(64)}),
    ] {
        assert!(host().load::<RateLimit>(config.clone()).is_ok(), "{config}");
    }
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    let config = file["filter"]["limit"]["config"].clone();
    assert!(config.is_object(), "{file}");
    if let Err(error) = host().load::<RateLimit>(config) {
        panic!("{error}");
    }
}
