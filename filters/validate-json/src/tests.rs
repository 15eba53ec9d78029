//! The hooks against the SDK's fake host: which bodies go on, and what is answered to the others.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use pillion_sdk::testing::{Exchange, Host, Loaded, Request};
use serde_json::Value;

use super::*;

fn load(config: Value) -> Loaded<ValidateJson> {
    Host::new().load::<ValidateJson>(config).expect("the configuration is valid")
}

fn post(body: impl AsRef<[u8]>) -> Request {
    Request::post("/").header("content-type", "application/json").body(body)
}

fn status(exchange: &Exchange<ValidateJson>) -> Option<u16> {
    assert_eq!(exchange.failure(), None);
    exchange.local_response().map(|reply| reply.status)
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<ValidateJson>(config).expect_err("there is a mistake");
    (error.key, error.message)
}

#[test]
fn a_body_goes_on_as_it_came_or_not_at_all() {
    let filter = load(json!({"schema": r#"{"type": "object"}"#}));
    let whole = br#"{ "a" : 1 }"#;
    let request = post("").chunks(whole.chunks(3));
    assert_eq!(filter.request(request).forwarded().body, whole);
    for (body, expected) in
        [("{", 400), ("[]", 422), ("{\"a\":1,\"a\":2}", 400), ("\u{feff}{}", 400)]
    {
        assert_eq!(status(&filter.request(post(body))), Some(expected), "{body}");
    }
}

#[test]
fn a_refusal_tells_the_place() {
    let filter = load(json!({"schema": r#"{"items": {"required": ["a\n"]}}"#}));
    let exchange = filter.request(post("[{}]"));
    let reply = exchange.local_response().unwrap();
    assert_eq!(reply.header("content-type").as_deref(), Some("application/problem+json"));
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["pointer"], "/0");
    assert_eq!(problem["detail"], "lacks the property `a\n`");
}

#[test]
fn what_is_told_has_a_bound() {
    let filter = load(json!({"schema": r#"{"additionalProperties": false}"#}));
    for (length, told) in [(1_022, 1_023), (1_023, 1_024), (1_024, 1_024)] {
        let exchange = filter.request(post(json!({"x".repeat(length): 1}).to_string()));
        let reply = exchange.local_response().unwrap();
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(problem["pointer"].as_str().map(str::len), Some(told), "{length}");
    }
    assert_eq!(cut(&"ä".repeat(600)).len(), 1_024);
    assert_eq!(cut(&format!("x{}", "ä".repeat(600))).len(), 1_023);
}

#[test]
fn a_body_has_a_bound() {
    let filter = load(json!({"max_bytes": 100}));
    let sized = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    for (length, expected) in [(99, None), (100, None), (101, Some(413))] {
        assert_eq!(status(&filter.request(post(sized(length)))), expected, "{length}");
        let text = sized(length);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
        assert_eq!(status(&filter.request(post("").chunks(pieces))), expected, "{length}");
    }
    for bytes in [1, 2, 1_048_575, 1_048_576] {
        load(json!({"max_bytes": bytes}));
    }
    for bytes in [0, 1_048_577] {
        assert_eq!(mistake(json!({"max_bytes": bytes})).0, "max_bytes");
    }
}

#[test]
fn other_types_go_on_or_are_refused() {
    let text = || Request::post("/").header("content-type", "text/plain").body("{");
    assert_eq!(status(&load(json!({})).request(text())), None);
    let strict = load(json!({"others": "refuse"}));
    assert_eq!(status(&strict.request(text())), Some(415));
    assert_eq!(status(&strict.request(Request::post("/").body("{}"))), Some(415));
    assert_eq!(status(&strict.request(Request::get("/"))), None);
    let encoded = post("x").header("content-encoding", "gzip");
    assert_eq!(status(&load(json!({})).request(encoded)), Some(415));
}

#[test]
fn a_schema_that_cannot_be_read_is_refused_with_the_place() {
    for (schema, message) in [
        ("{", "is not JSON: "),
        ("[]", "`#` a schema is a table, `true` or `false`"),
        (r#"{"pattern": "a"}"#, "`#/pattern` is not supported"),
        (r#"{"items": {"type": "text"}}"#, "`#/items/type` \"text\" is not a type"),
        (r#"{"$ref": "https://a.example/b"}"#, "`#/$ref` leads elsewhere"),
        (r##"{"$ref": "#/$defs/a"}"##, "`#/$defs/a` there is no such schema"),
        (r#"{"anyOf": []}"#, "`#/anyOf` is not a list of schemas"),
        (r#"{"properties": []}"#, "`#/properties` is not a table of schemas"),
        (r#"{"required": [1]}"#, "`#/required` is not a list of names"),
        (r#"{"enum": 1}"#, "`#/enum` is not a list of values"),
        (r#"{"minItems": -1}"#, "`#/minItems` -1 is not a count"),
        (r#"{"minimum": "1"}"#, "`#/minimum` \"1\" is not a number"),
    ] {
        let (key, told) = mistake(json!({"schema": schema}));
        assert_eq!(key, "schema");
        assert!(told.starts_with(message), "{schema}: {told}");
    }
    assert_eq!(mistake(json!({"types": ["json"]})).0, "types[0]");
    assert_eq!(mistake(json!({"others": "drop"})).0, "others");
    assert_eq!(mistake(json!({"scheme": ""})).0, "scheme");
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    let mut config = file["filter"]["orders"]["config"].clone();
    assert_eq!(config["schema"], "${file:./order.json}", "the host puts the file's text there");
    let (_, schema) = readme.split_once("```json\n").expect("there is a schema");
    config["schema"] = schema.split_once("```").expect("it ends").0.to_owned().into();
    load(config);
}
