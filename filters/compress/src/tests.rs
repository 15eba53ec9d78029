//! The hooks against the SDK's fake host: which responses are compressed, and what else changes.

use alloc::string::String;
use alloc::vec::Vec;

use miniz_oxide::inflate::decompress_to_vec;
use pillion_sdk::testing::{Exchange, Host, Loaded, Reply, Request, Response, json};
use serde_json::Value;

use super::*;
use crate::streams::STREAMS_MAX;
use alloc::format;

fn load(config: Value) -> Loaded<Compress> {
    Host::new().load::<Compress>(config).expect("the configuration is valid")
}

fn get() -> Request {
    Request::get("/").header("accept-encoding", "gzip")
}

fn text(length: usize) -> Response {
    Response::new(200).header("content-type", "text/plain").body("a".repeat(length))
}

fn begin(filter: &Loaded<Compress>) -> Exchange<Compress> {
    filter.request(get())
}

/// The reply of an exchange that is over.
fn reply(filter: &Loaded<Compress>, request: Request, response: Response) -> Reply {
    let mut answered = filter.request(request).answer(response);
    let reply = answered.response().clone();
    answered.complete().unwrap();
    reply
}

fn body(reply: &Reply) -> Vec<u8> {
    assert_eq!(reply.header("content-encoding").as_deref(), Some("gzip"));
    let end = reply.body.len() - 8;
    decompress_to_vec(&reply.body[10..end]).expect("it is valid DEFLATE")
}

fn mistake(config: Value) -> (String, String) {
    let error = Host::new().load::<Compress>(config).expect_err("the configuration has a mistake");
    (error.key, error.message)
}

#[test]
fn a_body_is_compressed_from_so_many_bytes_on() {
    let filter = load(json!({"min_bytes": 100}));
    let small = reply(&filter, get(), text(99));
    assert_eq!((small.header("content-encoding"), small.body.len()), (None, 99));
    assert_eq!(small.header("vary").as_deref(), Some("accept-encoding"));
    for length in [100, 101] {
        assert_eq!(body(&reply(&filter, get(), text(length))).len(), length);
    }
    let pieces = Response::new(200).header("content-type", "text/plain").chunks(["a"; 100]);
    assert_eq!(body(&reply(&filter, get(), pieces)).len(), 100);
}

#[test]
fn the_fields_that_tell_of_the_bytes_change_with_them() {
    let filter = load(json!({}));
    let tagged = || text(1_000).header("etag", "\"v1\"").header("accept-ranges", "bytes");
    let whole = reply(&filter, get(), tagged());
    assert_eq!(whole.header("etag").as_deref(), Some("W/\"v1\""));
    assert_eq!(whole.header("accept-ranges"), None);
    let plain = reply(&filter, Request::get("/"), tagged());
    assert_eq!(plain.header("etag").as_deref(), Some("\"v1\""));
    assert_eq!(plain.header("accept-ranges").as_deref(), Some("bytes"));
    assert_eq!(plain.header("vary").as_deref(), Some("accept-encoding"));
}

#[test]
fn a_copy_is_found_again_under_its_weak_tag() {
    let filter = load(json!({}));
    let fresh = || Response::new(304).header("etag", "\"v1\"");
    let ask = |tag: &str| get().header("if-none-match", tag);
    let weak = reply(&filter, ask("\"v0\", W/\"v1\""), fresh());
    assert_eq!(weak.header("etag").as_deref(), Some("W/\"v1\""));
    assert_eq!(weak.header("vary").as_deref(), Some("accept-encoding"));
    let strong = reply(&filter, ask("\"v1\""), fresh());
    assert_eq!(strong.header("etag").as_deref(), Some("\"v1\""));
    assert_eq!(strong.header("vary"), None);
}

#[test]
fn a_request_can_forbid_it_and_head_has_no_body() {
    let filter = load(json!({}));
    let forbidden = get().header("cache-control", "no-transform");
    assert_eq!(reply(&filter, forbidden, text(1_000)).header("content-encoding"), None);
    let head = Request::new("HEAD", "/").header("accept-encoding", "gzip");
    let head = reply(&filter, head, Response::new(200).header("content-type", "text/plain"));
    assert_eq!(head.header("content-encoding"), None);
    assert_eq!(head.header("vary").as_deref(), Some("accept-encoding"));
}

#[test]
fn events_do_not_wait() {
    let filter = load(json!({}));
    let events = Response::new(200).header("content-type", "text/event-stream").chunks(["a", "b"]);
    assert_eq!(body(&reply(&filter, get(), events)), b"ab");
}

#[test]
fn responses_beyond_the_bound_go_on_as_they_are() {
    let filter = load(json!({}));
    let compressed = |answered: &pillion_sdk::testing::Answered<Compress>| {
        answered.response().header("content-encoding").is_some()
    };
    let mut open = Vec::new();
    for number in 1..=STREAMS_MAX + 1 {
        let answered = begin(&filter).answer(text(1_000));
        assert_eq!(compressed(&answered), number <= STREAMS_MAX, "{number}");
        open.push(answered);
    }
    open.remove(0).complete().unwrap();
    assert!(compressed(&begin(&filter).answer(text(1_000))));
}

#[test]
fn bytes_are_counted_on_both_sides() {
    let host = Host::new();
    let filter = host.load::<Compress>(json!({})).unwrap();
    let sent = reply(&filter, get(), text(10_000)).body.len();
    reply(&filter, Request::get("/"), text(10_000));
    assert_eq!(host.metric("compress_in_bytes_total", &[]), Some(10_000.0));
    assert_eq!(host.metric("compress_out_bytes_total", &[]), Some(sent as f64));
}

#[test]
fn values_have_bounds() {
    for level in [1, 2, 3, 4] {
        load(json!({"level": level}));
    }
    for level in [0, 5, 256] {
        assert_eq!(
            mistake(json!({"level": level})).1,
            format!("`{level}` is not a level from 1 to 4")
        );
    }
    for bytes in [0, 16_383, 16_384] {
        load(json!({"min_bytes": bytes}));
    }
    assert_eq!(mistake(json!({"min_bytes": 16_385})).0, "min_bytes");
    load(json!({"max_bytes": 1}));
    assert_eq!(mistake(json!({"max_bytes": 0})).0, "max_bytes");
    assert_eq!(mistake(json!({"types": ["text/*", "json"]})).0, "types[1]");
    assert_eq!(mistake(json!({"type": []})).0, "type");
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let readme = include_str!("../README.md");
    let (_, example) = readme.split_once("```toml\n").expect("there is an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let file: Value = toml::from_str(example).expect("it is TOML");
    load(file["filter"]["compress"]["config"].clone());
}
