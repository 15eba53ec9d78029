//! The hooks against the SDK's fake host: what goes on to the upstream and back to the client.

use pillion_sdk::testing::{Exchange, Forwarded, Host, Request, Response, json};
use serde_json::Value;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn send(config: Value, request: Request) -> Exchange<Trace> {
    let filter = Host::new().load::<Trace>(config).expect("the configuration is valid");
    filter.request(request)
}

fn get() -> Request {
    Request::get("/")
}

fn valid() -> Request {
    get().header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
}

/// The context that was sent, which must be valid.
fn sent(forwarded: &Forwarded) -> TraceParent {
    let lines = forwarded.header_all("traceparent");
    TraceParent::from_lines(&lines).unwrap_or_else(|| panic!("{lines:?}"))
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<Trace>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

#[test]
fn a_valid_trace_goes_on_with_a_new_parent() {
    let exchange = send(json!({}), valid().header("tracestate", "rojo=1"));
    let context = sent(exchange.forwarded());
    assert_eq!(context.trace_id.as_str(), TRACE);
    assert_ne!(context.parent_id.as_str(), PARENT);
    assert!(context.sampled && !context.random);
    assert_eq!(exchange.forwarded().header_all("tracestate"), ["rojo=1"]);
}

#[test]
fn every_hop_has_a_parent_id_of_its_own() {
    let filter = Host::new().load::<Trace>(json!({})).unwrap();
    let first = sent(filter.request(valid()).forwarded());
    let second = sent(filter.request(valid()).forwarded());
    assert_ne!(first.parent_id, second.parent_id);
}

#[test]
fn without_a_valid_trace_a_new_one_begins_and_tracestate_goes() {
    for request in [
        get(),
        get().header("traceparent", format!("ff-{TRACE}-{PARENT}-01")),
        get().header("traceparent", ""),
        get().header("traceparent", b"\xff".to_vec()),
        valid().header("traceparent", format!("00-{TRACE}-{PARENT}-01")),
    ] {
        let exchange = send(json!({}), request.header("tracestate", "rojo=1"));
        let context = sent(exchange.forwarded());
        assert_ne!(context.trace_id.as_str(), TRACE);
        assert!(context.sampled && context.random);
        assert_eq!(exchange.forwarded().header("tracestate"), None);
    }
}

#[test]
fn tracestate_lines_are_combined_and_invalid_ones_removed() {
    let request = valid().header("tracestate", "a=1").header("tracestate", "b=2");
    let exchange = send(json!({}), request);
    assert_eq!(exchange.forwarded().header_all("tracestate"), ["a=1,b=2"]);
    let exchange = send(json!({}), valid().header("tracestate", "a"));
    assert_eq!(exchange.forwarded().header("tracestate"), None);
    assert_eq!(sent(exchange.forwarded()).trace_id.as_str(), TRACE);
}

#[test]
fn tracestate_is_cut_to_the_configured_length() {
    for (length, kept) in [(511, true), (512, true), (513, false)] {
        // Two entries of 250 characters, and a last one that fits or does not.
        let long = format!("k={}", "x".repeat(248));
        let list = format!("{long},{long},z={}", "y".repeat(length - 504));
        assert_eq!(list.len(), length);
        let request = valid().header("tracestate", list.clone());
        let exchange = send(json!({"tracestate_max": 512}), request);
        assert_eq!(exchange.forwarded().header("tracestate") == Some(list), kept, "{length}");
    }
}

#[test]
fn restart_ignores_what_the_caller_sent() {
    let config = json!({"incoming": "restart", "b3_in": true});
    let request = valid().header("tracestate", "a=1").header("b3", "0");
    let exchange = send(config, request);
    let context = sent(exchange.forwarded());
    assert_ne!(context.trace_id.as_str(), TRACE);
    assert!(context.sampled && context.random);
    assert_eq!(exchange.forwarded().header("tracestate"), None);
}

#[test]
fn the_ratio_holds_for_new_traces_only() {
    let none = || json!({"sample_ratio": 0});
    assert!(!sent(send(none(), get()).forwarded()).sampled);
    assert!(sent(send(none(), valid()).forwarded()).sampled);

    let filter = Host::new().load::<Trace>(json!({"sample_ratio": 0.25})).unwrap();
    let sampled = (0..1_000).filter(|_| sent(filter.request(get()).forwarded()).sampled).count();
    assert!((200..300).contains(&sampled), "{sampled}");
}

#[test]
fn b3_is_read_where_there_is_no_valid_traceparent() {
    let config = || json!({"b3_in": true});
    let single = || get().header("b3", format!("{TRACE}-{PARENT}-0"));
    for request in [single(), single().header("traceparent", "00-bad")] {
        let exchange = send(config(), request);
        let context = sent(exchange.forwarded());
        assert_eq!((context.trace_id.as_str(), context.sampled), (TRACE, false));
        assert_eq!(exchange.forwarded().header("b3"), None);
    }
    let multi = get()
        .header("X-B3-TraceId", TRACE)
        .header("X-B3-SpanId", PARENT)
        .header("X-B3-Sampled", "1");
    let exchange = send(config(), multi);
    assert_eq!(sent(exchange.forwarded()).trace_id.as_str(), TRACE);
    assert_eq!(exchange.forwarded().header("x-b3-traceid"), None);

    let both = valid().header("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0");
    assert_eq!(sent(send(config(), both).forwarded()).trace_id.as_str(), TRACE);
}

#[test]
fn b3_is_left_alone_by_default() {
    let value = format!("{TRACE}-{PARENT}-0");
    let exchange = send(json!({}), get().header("b3", value.clone()));
    assert_ne!(sent(exchange.forwarded()).trace_id.as_str(), TRACE);
    assert_eq!(exchange.forwarded().header("b3"), Some(value));
}

#[test]
fn b3_is_sent_in_the_configured_forms() {
    for (form, single, multi) in [
        ("single", true, false),
        ("multi", false, true),
        ("both", true, true),
        ("none", false, false),
    ] {
        let config = json!({"b3_in": true, "b3_out": form});
        let request = get()
            .header("b3", format!("{TRACE}-{PARENT}-d"))
            .header("x-b3-parentspanid", "05e3ac9a4f6e3b90");
        let exchange = send(config, request);
        let forwarded = exchange.forwarded();
        let span = sent(forwarded).parent_id;
        let expected = single.then(|| format!("{TRACE}-{}-d-{PARENT}", span.as_str()));
        assert_eq!(forwarded.header("b3"), expected, "{form}");
        for (name, value) in [
            ("x-b3-traceid", Some(TRACE)),
            ("x-b3-spanid", Some(span.as_str())),
            ("x-b3-parentspanid", Some(PARENT)),
            ("x-b3-sampled", None),
            ("x-b3-flags", Some("1")),
        ] {
            let expected = value.filter(|_| multi).map(str::to_owned);
            assert_eq!(forwarded.header(name), expected, "{form} {name}");
        }
    }
}

#[test]
fn a_new_trace_has_no_parent_in_b3() {
    let exchange = send(json!({"b3_out": "both", "sample_ratio": 0}), get());
    let forwarded = exchange.forwarded();
    let context = sent(forwarded);
    let single = format!("{}-{}-0", context.trace_id.as_str(), context.parent_id.as_str());
    assert_eq!(forwarded.header("b3"), Some(single));
    assert_eq!(forwarded.header("x-b3-sampled").as_deref(), Some("0"));
    assert_eq!(forwarded.header("x-b3-parentspanid"), None);
}

#[test]
fn a_fit_request_id_is_kept_and_any_other_replaced() {
    let kept = send(json!({}), get().header("x-request-id", "abc-1"));
    assert_eq!(kept.forwarded().header_all("x-request-id"), ["abc-1"]);
    for request in [
        get(),
        get().header("x-request-id", "a b"),
        get().header("x-request-id", ""),
        get().header("x-request-id", "a").header("x-request-id", "b"),
    ] {
        let host = Host::new().at(Duration::from_millis(0x017f_22e2_79b0));
        let exchange = host.load::<Trace>(json!({})).unwrap().request(request);
        let ids = exchange.forwarded().header_all("x-request-id");
        let [id] = &ids[..] else { panic!("{ids:?}") };
        assert!(id.starts_with("017f22e2-79b0-7"), "{id}");
        assert_eq!(id.len(), 36);
    }
}

#[test]
fn request_ids_can_be_replaced_or_left_alone() {
    let own = || get().header("x-request-id", "abc-1");
    let replaced = send(json!({"request_id": "replace"}), own());
    let ids = replaced.forwarded().header_all("x-request-id");
    assert!(ids.len() == 1 && ids[0] != "abc-1", "{ids:?}");
    let off = send(json!({"request_id": "off"}), own());
    assert_eq!(off.forwarded().header_all("x-request-id"), ["abc-1"]);
    let off = send(json!({"request_id": "off"}), get());
    assert_eq!(off.forwarded().header("x-request-id"), None);
}

#[test]
fn the_response_shows_the_ids_that_were_asked_for() {
    let upstream = || Response::new(200).header("x-request-id", "the app's own");
    let config = json!({"response": ["trace-id", "request-id"]});
    let answered = send(config, valid().header("x-request-id", "abc-1")).answer(upstream());
    assert_eq!(answered.response().header_all("x-trace-id"), [TRACE]);
    assert_eq!(answered.response().header_all("x-request-id"), ["abc-1"]);

    let config = json!({"response": ["request-id"]});
    let exchange = send(config, valid());
    let made = exchange.forwarded().header("x-request-id");
    let answered = exchange.answer(upstream());
    assert_eq!(answered.response().header("x-request-id"), made);
    assert_eq!(answered.response().header("x-trace-id"), None);

    let answered = send(json!({}), valid()).answer(upstream());
    assert_eq!(answered.response().header("x-request-id").as_deref(), Some("the app's own"));
    assert_eq!(answered.response().header("x-trace-id"), None);
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    for ratio in [-0.1, 1.1] {
        let (key, message) = mistake(json!({"sample_ratio": ratio}));
        assert_eq!(key, "sample_ratio");
        let expected =
            format!("invalid value: floating point `{ratio}`, expected a ratio from 0 to 1");
        assert_eq!(message, expected);
    }
    let (_, message) = mistake(json!({"sample_ratio": 2}));
    assert_eq!(message, "invalid value: integer `2`, expected a ratio from 0 to 1");
    let (_, message) = mistake(json!({"sample_ratio": -1}));
    assert_eq!(message, "invalid value: integer `-1`, expected a ratio from 0 to 1");
    let (_, message) = mistake(json!({"sample_ratio": "1"}));
    assert_eq!(message, "invalid type: string \"1\", expected a ratio from 0 to 1");
    for length in [511, 16_385] {
        let (key, message) = mistake(json!({"tracestate_max": length}));
        assert_eq!(key, "tracestate_max");
        assert_eq!(message, format!("`{length}` is not a length from 512 to 16384"));
    }
    let (key, message) = mistake(json!({"request_id": "off", "response": ["request-id"]}));
    assert_eq!(key, "response");
    assert_eq!(message, "asks for the request id, which `request_id` turns off");
    assert_eq!(mistake(json!({"b3": true})).0, "b3");
    assert_eq!(mistake(json!({"response": ["trace-id", "span-id"]})).0, "response[1]");
    assert_eq!(mistake(json!({"b3_out": "multiple"})).0, "b3_out");
}

#[test]
fn responses_are_seen_only_where_they_get_an_id() {
    for (response, seen) in
        [(json!([]), false), (json!(["trace-id"]), true), (json!(["request-id"]), true)]
    {
        let filter = Host::new().load::<Trace>(json!({"response": response})).unwrap();
        assert_eq!(filter.wanted_hooks().has(Hooks::ON_RESPONSE), seen, "{response}");
        assert!(filter.wanted_hooks().has(Hooks::ON_REQUEST), "{response}");
    }
}

#[test]
fn values_at_the_edges_are_accepted() {
    for config in [
        json!({"sample_ratio": 0}),
        json!({"sample_ratio": 1}),
        json!({"sample_ratio": 1.0}),
        json!({"tracestate_max": 512}),
        json!({"tracestate_max": 513}),
        json!({"tracestate_max": 16_383}),
        json!({"tracestate_max": 16_384}),
    ] {
        assert!(Host::new().load::<Trace>(config.clone()).is_ok(), "{config}");
    }
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    let config = file["filter"]["trace"]["config"].clone();
    assert!(config.is_object(), "{file}");
    if let Err(error) = Host::new().load::<Trace>(config) {
        panic!("{error}");
    }
}
