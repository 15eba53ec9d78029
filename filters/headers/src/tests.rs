//! The hooks against the SDK's fake host: what rules do to messages, and what is said of mistakes.

use pillion_sdk::testing::{Exchange, Host, Request, Response, json};
use serde_json::Value;

use super::*;

fn send(config: Value, request: Request) -> Exchange<Headers> {
    let filter = Host::new().load::<Headers>(config).expect("the configuration is valid");
    filter.request(request)
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<Headers>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

fn get() -> Request {
    Request::get("/api/users?sort=name").header("x-tenant", "blue")
}

fn on_request(rule: Value, request: Request) -> Exchange<Headers> {
    send(json!({"request": [rule]}), request)
}

#[test]
fn no_rules_change_nothing() {
    let exchange = send(json!({}), get());
    assert_eq!(exchange.forwarded().headers.len(), 1);
    let answered = exchange.answer(Response::new(200).header("server", "app"));
    assert_eq!(answered.response().headers.len(), 1);
}

#[test]
fn a_side_without_rules_is_not_seen() {
    let rules = json!([{"remove": {"name": "x-tenant"}}]);
    for (config, wanted) in [
        (json!({}), Hooks::NONE),
        (json!({"request": rules}), Hooks::ON_REQUEST),
        (json!({"response": rules}), Hooks::ON_RESPONSE),
        (json!({"request": rules, "response": rules}), Hooks::ON_REQUEST.with(Hooks::ON_RESPONSE)),
    ] {
        let filter = Host::new().load::<Headers>(config.clone()).unwrap();
        assert_eq!(filter.wanted_hooks(), wanted, "{config}");
    }
}

#[test]
fn set_puts_one_line_in_place_of_all() {
    let rule = json!({"set": {"name": "X-Tenant", "value": "red"}});
    let exchange = on_request(rule, get().header("x-tenant", "green"));
    assert_eq!(exchange.forwarded().header_all("x-tenant"), ["red"]);
}

#[test]
fn append_adds_a_line() {
    let rule = json!({"append": {"name": "x-tenant", "value": "red"}});
    let exchange = on_request(rule, get());
    assert_eq!(exchange.forwarded().header_all("x-tenant"), ["blue", "red"]);
}

#[test]
fn remove_takes_every_line() {
    let rule = json!({"remove": {"name": "x-tenant"}});
    let exchange = on_request(rule.clone(), get().header("x-tenant", "green"));
    assert_eq!(exchange.forwarded().header("x-tenant"), None);
    let exchange = on_request(rule, Request::get("/"));
    assert_eq!(exchange.failure(), None);
}

#[test]
fn rename_moves_every_line_in_place_of_those_that_were_there() {
    let rule = json!({"rename": {"name": "x-tenant", "to": "x-team"}});
    let request = get().header("x-tenant", "green").header("x-team", "old");
    let exchange = on_request(rule.clone(), request);
    assert_eq!(exchange.forwarded().header_all("x-team"), ["blue", "green"]);
    assert_eq!(exchange.forwarded().header("x-tenant"), None);

    let exchange = on_request(rule, Request::get("/").header("x-team", "old"));
    assert_eq!(exchange.forwarded().header_all("x-team"), ["old"]);
}

#[test]
fn rename_keeps_the_exact_bytes_of_a_single_line() {
    let rule = || json!({"rename": {"name": "x-raw", "to": "x-kept"}});
    let exchange = on_request(rule(), Request::get("/").header("x-raw", b"a\xffb".to_vec()));
    assert_eq!(exchange.forwarded().headers[0].value, b"a\xffb");

    let request = Request::get("/").header("x-raw", b"\xff".to_vec()).header("x-raw", "b");
    let exchange = on_request(rule(), request);
    assert_eq!(exchange.forwarded().header_all("x-kept"), ["\u{fffd}", "b"]);
}

#[test]
fn rules_see_what_those_before_them_did() {
    let config = json!({"request": [
        {"rename": {"name": "x-tenant", "to": "x-team"}},
        {"set": {"name": "x-copy", "value": "${header.x-team}/${header.x-tenant:-none}"}},
        {"remove": {"name": "x-team"}, "when": {"header": {"name": "x-copy"}}},
    ]});
    let exchange = send(config, get());
    assert_eq!(exchange.forwarded().header("x-copy").as_deref(), Some("blue/none"));
    assert_eq!(exchange.forwarded().header("x-team"), None);
}

#[test]
fn values_hold_what_the_request_holds() {
    let value = "${client.address} ${method} ${scheme} ${authority} ${path} ${query} ${protocol} \
                 ${header.x-tenant} ${note.auth.user} ${note.auth.role:-guest} $$";
    let rule = || json!({"set": {"name": "x-all", "value": value}});
    let expected =
        "203.0.113.9 GET https shop.example /api/users sort=name HTTP/2 blue ann guest $";
    let request = get()
        .client_address("203.0.113.9")
        .scheme("https")
        .authority("shop.example")
        .protocol("HTTP/2")
        .note("auth.user", "ann");
    let exchange = send(json!({"request": [rule()], "response": [rule()]}), request);
    assert_eq!(exchange.forwarded().header("x-all").as_deref(), Some(expected));
    let answered = exchange.answer(Response::new(200));
    assert_eq!(answered.response().header("x-all").as_deref(), Some(expected));
}

#[test]
fn a_rule_applies_only_under_its_condition() {
    let applies = |when: Value| {
        let rule = json!({"set": {"name": "x-hit", "value": "1"}, "when": when});
        on_request(rule, get()).forwarded().header("x-hit").is_some()
    };
    for (when, expected) in [
        (json!({}), true),
        (json!({"method": "GET"}), true),
        (json!({"method": ["HEAD", "GET"]}), true),
        (json!({"method": "POST"}), false),
        (json!({"path": "/api/users"}), true),
        (json!({"path": "/api"}), false),
        (json!({"path_prefix": "/api"}), true),
        (json!({"path_prefix": "/ap"}), false),
        (json!({"header": {"name": "X-Tenant"}}), true),
        (json!({"header": {"name": "x-tenant", "value": "blue"}}), true),
        (json!({"header": {"name": "x-tenant", "value": "red"}}), false),
        (json!({"header": {"name": "x-tenant", "present": true}}), true),
        (json!({"header": {"name": "x-tenant", "present": false}}), false),
        (json!({"header": {"name": "x-other", "present": false}}), true),
        (json!({"method": "GET", "path_prefix": "/other"}), false),
    ] {
        assert_eq!(applies(when.clone()), expected, "{when}");
    }
}

#[test]
fn response_rules_test_request_and_response() {
    let config = json!({"response": [
        {
            "set": {"name": "cache-control", "value": "no-store"},
            "when": {
                "path_prefix": "/api",
                "response_header": {"name": "cache-control", "present": false},
            },
        },
        {"rename": {"name": "server", "to": "x-origin-server"}},
        {"append": {"name": "vary", "value": "x-tenant"}, "when": {"header": {"name": "x-tenant"}}},
    ]});
    let upstream = Response::new(200).header("server", "app").header("vary", "accept");
    let answered = send(config.clone(), get()).answer(upstream);
    let response = answered.response();
    assert_eq!(response.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(response.header("server"), None);
    assert_eq!(response.header("x-origin-server").as_deref(), Some("app"));
    assert_eq!(response.header_all("vary"), ["accept", "x-tenant"]);

    let upstream = Response::new(200).header("cache-control", "max-age=60");
    let answered = send(config.clone(), get()).answer(upstream);
    assert_eq!(answered.response().header_all("cache-control"), ["max-age=60"]);

    let answered = send(config, Request::get("/other")).answer(Response::new(200));
    assert_eq!(answered.response().header("cache-control"), None);
    assert_eq!(answered.response().header("vary"), None);
}

#[test]
fn an_edit_that_the_host_refuses_is_a_failure() {
    let rule = json!({"append": {"name": "x-one-more", "value": "1"}});
    let full = (0..100).fold(Request::get("/"), |request, _| request.header("x-a", "1"));
    let exchange = on_request(rule, full);
    let failure = exchange.failure().expect("a head holds 100 fields");
    assert!(failure.contains("x-one-more"), "{failure}");
}

#[test]
fn mistakes_are_reported_at_their_key() {
    let plain = json!({"set": {"name": "x-a", "value": "1"}});
    let third = |rule: Value| json!({"request": [plain, plain, rule]});
    for (rule, key, message) in [
        (
            json!({"set": {"name": "Content-Length", "value": "1"}}),
            "request[2].set.name",
            "`content-length` belongs to the host and cannot be edited",
        ),
        (
            json!({"set": {"name": "x a", "value": "1"}}),
            "request[2].set.name",
            "`x a` is not a field name: use letters, digits and `-`",
        ),
        (
            json!({"append": {"name": "x-a", "value": "${metod}"}}),
            "request[2].append.value",
            "unknown variable `metod`, expected `client.address`, `method`, `scheme`, \
             `authority`, `path`, `query`, `protocol`, `header.<name>` or `note.<key>`",
        ),
        (
            json!({"remove": {"name": "host"}}),
            "request[2].remove.name",
            "`host` belongs to the host and cannot be edited",
        ),
        (
            json!({"rename": {"name": "te", "to": "x-te"}}),
            "request[2].rename.name",
            "`te` belongs to the host and cannot be edited",
        ),
        (
            json!({"rename": {"name": "x-te", "to": ":path"}}),
            "request[2].rename.to",
            "`:path` belongs to the host and cannot be edited",
        ),
        (
            json!({"rename": {"name": "x-a", "to": "X-A"}}),
            "request[2].rename.to",
            "is the same as `name`",
        ),
        (
            json!({"when": {}}),
            "request[2]",
            "has no edit: add `set`, `append`, `remove` or `rename`",
        ),
        (
            json!({"remove": {"name": "x-a"}, "set": {"name": "x-a", "value": "1"}}),
            "request[2]",
            "has more than one of `set`, `append`, `remove` and `rename`: make each a rule of its \
             own",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"path": "api"}}),
            "request[2].when.path",
            "`api` does not begin with `/`",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"path_prefix": "/a?b"}}),
            "request[2].when.path_prefix",
            "a path has neither `?` nor `#`: the query is not compared",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"path": "/a", "path_prefix": "/a"}}),
            "request[2].when.path_prefix",
            "stands beside `path`: keep one of them",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"method": ["GET", "G T"]}}),
            "request[2].when.method",
            "`G T` is not a method",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"header": {"name": ""}}}),
            "request[2].when.header.name",
            "a field name must not be empty",
        ),
        (
            json!({"remove": {"name": "x-a"},
                "when": {"header": {"name": "x-b", "value": "1", "present": true}}}),
            "request[2].when.header.present",
            "stands beside `value`: keep one of them",
        ),
        (
            json!({"remove": {"name": "x-a"}, "when": {"response_header": {"name": "x-b"}}}),
            "request[2].when.response_header",
            "a rule for the request cannot look at the response",
        ),
    ] {
        assert_eq!(mistake(third(rule)), (key.to_owned(), message.to_owned()));
    }
    let (key, _) = mistake(json!({"response": [{"set": {"name": "te", "value": ""}}]}));
    assert_eq!(key, "response[0].set.name");
}

#[test]
fn unknown_keys_and_wrong_types_are_reported_at_their_key() {
    for (config, key) in [
        (json!({"requests": []}), "requests"),
        (json!({"request": [{"sett": {}}]}), "request[0].sett"),
        (json!({"request": [{"set": {"name": "x-a"}}]}), "request[0].set"),
        (json!({"request": [{"set": {"name": "x-a", "value": 1}}]}), "request[0].set.value"),
        (json!({"request": [{"when": {"paths": "/"}}]}), "request[0].when.paths"),
        (json!({"request": [{"when": {"method": 1}}]}), "request[0].when.method"),
        (json!({"request": [{"when": {"method": ["GET", 1]}}]}), "request[0].when.method[1]"),
        (json!({"request": {}}), "request"),
    ] {
        assert_eq!(mistake(config.clone()).0, key, "{config}");
    }
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    let config = file["filter"]["headers"]["config"].clone();
    assert!(config.is_object(), "{file}");
    if let Err(error) = Host::new().load::<Headers>(config) {
        panic!("{error}");
    }
}
