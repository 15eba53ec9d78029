//! `openapi.json` says what the interface does: its paths are the router's, and its schemas fit real
//! answers and real requests.

use super::answer::tests::{Target, answered};
use super::guard::tests::{asking, status};
use super::paths::{PATHS, Who};
use super::rollouts::tests::{Rollouts, with};
use crate::admin::Token;
use crate::admin::guard::Peer;
use crate::http::BodyLength;
use crate::rollout::control::Progress;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

/// What of `value` does not fit `schema`, for the few words that the document uses.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).expect(name);
        return misfits(document, target, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| misfits(document, choice, value, at).is_empty();
        let count = choices.iter().filter(fits).count();
        return if count == 1 { Vec::new() } else { vec![format!("{at}: {count} of `oneOf`")] };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut wrong = Vec::new();
    let fits = |wanted: &Value| {
        wanted == kind || wanted.as_array().is_some_and(|it| it.contains(&kind.into()))
    };
    if !fits(&schema["type"]) {
        wrong.push(format!("{at} is {kind}, not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        wrong.push(format!("{at} is {value}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(misfits(document, &schema["items"], item, &format!("{at}[{index}]")));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at} lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => wrong.extend(misfits(document, schema, inner, &at)),
            (None, Value::Bool(false)) => wrong.push(format!("{at} is not described")),
            (None, Value::Null) => {}
            (None, schema) => wrong.extend(misfits(document, schema, inner, &at)),
        }
    }
    wrong
}

#[test]
fn its_paths_and_methods_are_those_of_the_router() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let served = PATHS.iter().map(|it| format!("{} {}", it.method, it.pattern)).collect();
    assert_eq!(described, served);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_it_says_of_bodies_and_tokens_is_so() {
    let document = document();
    let token = Token::new("correct horse battery");
    for path in &PATHS {
        let operation = &document["paths"][path.pattern][path.method.to_lowercase()];
        let taken = operation["requestBody"]["content"].as_object();
        let taken = taken.and_then(|content| content.keys().next().cloned());
        assert_eq!(taken.as_deref(), path.body.media_type(), "{}", path.pattern);
        assert_eq!(operation["security"] == json!([]), path.who == Who::Anyone, "{}", path.pattern);
        let request = asking(path.method, &path.pattern.replace(['{', '}'], ""));
        let refused = status(&request, BodyLength::None, Peer::Owner, Some(&token)) == 401;
        assert_eq!(operation["responses"]["401"].is_object(), refused, "{}", path.pattern);
    }
}

#[tokio::test]
async fn real_answers_fit_its_schemas() {
    let document = document();
    let rolled_back =
        Progress::RolledBack { generation: 7, reason: "worse".to_owned(), by_judge: true };
    let states = [Progress::Stepping, Progress::Promoted { generation: 8 }, rolled_back];
    let mut targets = vec![with(Rollouts::default()), Target::default()];
    targets.extend(states.map(|progress| {
        let rollout = Some(super::rollouts::tests::status(progress));
        with(Rollouts { rollout, ..Rollouts::default() })
    }));
    let start = r#"{"filters": {"limit": {"config": {}}}}"#;
    for target in &targets {
        for path in PATHS.iter().filter(|path| path.speaks_json()) {
            let body = match path.pattern {
                "/filters/{name}/next" => "wasm",
                "/rollout" if path.method == "POST" => start,
                "/rollout/promote" => r#"{"rollout": 3}"#,
                _ => "",
            };
            let at = path.pattern.replace(['{', '}'], "");
            let answer = answered(target, path.method, &at, body).await;
            let responses =
                &document["paths"][path.pattern][path.method.to_lowercase()]["responses"];
            let response = &responses[answer.status.to_string()];
            assert!(response.is_object(), "{at}: {} is not described", answer.status);
            let response = match response["$ref"].as_str() {
                Some(name) => document.pointer(name.trim_start_matches('#')).unwrap(),
                None => response,
            };
            let schema = &response["content"][answer.content_type]["schema"];
            let value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(misfits(&document, schema, &value, &at), Vec::<String>::new());
        }
    }
}

#[test]
fn requests_that_it_describes_are_taken_and_others_are_not() {
    use super::asked;
    use crate::rollout::Plan;
    let document = document();
    let taken = |name: &str, body: &Value| {
        let bytes = body.to_string();
        match name {
            "Start" => asked::start(bytes.as_bytes(), Plan::default()).is_ok(),
            "Promote" => asked::promote(bytes.as_bytes()).is_ok(),
            _ => asked::back(bytes.as_bytes()).is_ok(),
        }
    };
    for (name, body, fits) in [
        (
            "Start",
            json!({
                "filters": { "a": { "config": {}, "version": "v2" } },
                "chains": [{ "listener": "in", "route": "all", "chain": ["a"] }],
                "steps": ["full"], "sticky": "client",
            }),
            true,
        ),
        ("Start", json!({ "filters": { "a": { "confg": {} } } }), false),
        ("Start", json!({ "chains": [{ "listener": "in", "route": "all" }] }), false),
        ("Start", json!({ "step": ["full"] }), false),
        ("Promote", json!({ "rollout": 3 }), true),
        ("Promote", json!({ "id": 3 }), false),
        ("Return", json!({}), true),
        ("Return", json!({ "generation": 3 }), true),
        ("Return", json!({ "filter": "limit" }), true),
        ("Return", json!({ "to": 3 }), false),
    ] {
        let schema = &document["components"]["schemas"][name];
        let wrong = misfits(&document, schema, &body, name);
        assert_eq!(wrong.is_empty(), fits, "{body}: {wrong:?}");
        assert_eq!(taken(name, &body), fits, "{body}");
    }
}
