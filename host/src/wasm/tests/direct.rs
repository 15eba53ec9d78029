//! What a module that runs directly may hand over, and what becomes of one that hands over nonsense.

use super::*;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component of one module with `on-request`. When the request has a field `x`, `poison` runs, and
/// `realloc` is the body of the allocator; else it proceeds.
fn module(realloc: &str, poison: &str) -> Vec<u8> {
    module_with("", realloc, poison)
}

/// The same, with more in the module.
fn module_with(more: &str, realloc: &str, poison: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "pillion:filter/request@0.1.0" "header" (func $header (param i32 i32 i32)))
          (import "pillion:filter/request@0.1.0" "header-all" (func $all (param i32 i32 i32)))
          (import "pillion:filter/request@0.1.0" "method" (func $method (param i32)))
          (import "pillion:filter/request@0.1.0" "set-header"
            (func $set (param i32 i32 i32 i32 i32)))
          (import "pillion:filter/request@0.1.0" "remove-header"
            (func $remove (param i32 i32 i32)))
          (import "pillion:filter/log@0.1.0" "write" (func $log (param i32 i32 i32)))
          (import "pillion:filter/kv@0.1.0" "set"
            (func $put (param i32 i32 i32 i32 i32 i64 i32)))
          (import "pillion:filter/metrics@0.1.0" "report"
            (func $report (param i32 i32 i32 f64 i32)))
          (memory (export "memory") 2)
          {more}
          (data (i32.const 1024) "x")
          (data (i32.const 1040) "\ff\fe")
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
          (func (export "pillion:filter/on-request@0.1.0#on-request") (result i32)
            (call $remove (i32.const 1024) (i32.const 1) (i32.const 600))
            (if (i32.load8_u (i32.const 601)) (then {poison}))
            (i32.const 512)))"#
    );
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = Resolve::default();
    let contract = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/v0.1.0");
    resolve.push_dir(contract).unwrap();
    let world = "package test:test;
        world test {
            import pillion:filter/request@0.1.0;
            import pillion:filter/log@0.1.0;
            import pillion:filter/kv@0.1.0;
            import pillion:filter/metrics@0.1.0;
            export pillion:filter/on-request@0.1.0;
        }";
    let package = resolve.push_str("test.wit", world).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

fn granted() -> FilterSpec {
    let grants = Grants {
        log: true,
        metrics: true,
        kv: Some(crate::capability::kv::KvGrant::default()),
        ..Grants::default()
    };
    let limits = Limits { time: Duration::from_millis(500), ..spec().limits };
    FilterSpec { grants, limits, ..spec() }
}

/// Room that is always at the same place.
const ROOM: &str = "(i32.const 65536)";

/// An answer to respond with one field, whose pairs stand at 2048.
const RESPOND: &str = "(i32.store8 (i32.const 512) (i32.const 3))
    (i32.store16 (i32.const 516) (i32.const 200))
    (i32.store (i32.const 520) (i32.const 2048)) (i32.store (i32.const 524) (i32.const 1))
    (i32.store (i32.const 528) (i32.const 0)) (i32.store (i32.const 532) (i32.const 0))";

#[test]
fn nonsense_of_a_module_costs_its_own_exchange() {
    let end = 2 * 65536;
    let respond = |more: &str| format!("{RESPOND} {more} (return (i32.const 512))");
    let cases = [
        // Answers.
        ("(return (i32.const -4))".to_owned(), "reaches beyond"),
        (format!("(return (i32.const {}))", end), "reaches beyond"),
        ("(return (i32.const 514))".to_owned(), "not aligned"),
        ("(i32.store8 (i32.const 512) (i32.const 4))".to_owned(), "no case"),
        (respond("(i32.store (i32.const 520) (i32.const 2047))"), "not aligned"),
        (respond("(i32.store (i32.const 524) (i32.const 10000))"), "reaches beyond"),
        (respond("(i32.store (i32.const 524) (i32.const -1))"), "larger than"),
        (respond("(i32.store (i32.const 532) (i32.const 50000000))"), "larger than"),
        (respond("(i32.store (i32.const 532) (i32.const 200000))"), "reaches beyond"),
        (
            respond("(i32.store (i32.const 2048) (i32.const 1040)) (i32.store (i32.const 2052) (i32.const 2))"),
            "not UTF-8",
        ),
        // Parameters.
        ("(call $header (i32.const -1) (i32.const 1) (i32.const 600))".to_owned(), "reaches beyond"),
        ("(call $header (i32.const 1024) (i32.const -1) (i32.const 600))".to_owned(), "reaches beyond"),
        ("(call $header (i32.const 1040) (i32.const 2) (i32.const 600))".to_owned(), "not UTF-8"),
        ("(call $set (i32.const 1024) (i32.const 1) (i32.const 1040) (i32.const 2) (i32.const 600))".to_owned(), "not UTF-8"),
        ("(call $log (i32.const 5) (i32.const 1024) (i32.const 1))".to_owned(), "no case"),
        ("(call $put (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 2) (i64.const 0) (i32.const 600))".to_owned(), "no case"),
        ("(call $report (i32.const 0) (i32.const 1025) (i32.const 1) (f64.const 0) (i32.const 600))".to_owned(), "not aligned"),
        ("(call $report (i32.const 0) (i32.const 131068) (i32.const 1) (f64.const 0) (i32.const 600))".to_owned(), "reaches beyond"),
        // Places of results.
        ("(call $method (i32.const 601))".to_owned(), "not aligned"),
        (format!("(call $method (i32.const {}))", end - 4), "reaches beyond"),
        (format!("(call $remove (i32.const 1024) (i32.const 1) (i32.const {}))", end - 1), "reaches beyond"),
    ];
    for (poison, why) in cases {
        let filter = filter(granted(), &module(ROOM, &poison));
        assert!(filter.prepared().runs_directly());
        let message = assert_survives(&filter, FailureKind::InvalidOutput);
        assert!(message.contains(why), "{poison}: {message}");
    }
}

#[test]
fn an_allocator_gives_room_within_its_memory_and_calls_nothing() {
    let method = "(call $method (i32.const 600))";
    let all =
        "(call $set (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 600))
        (call $all (i32.const 1024) (i32.const 1) (i32.const 600))";
    for (realloc, poison, kind, why) in [
        ("(i32.const 131070)", method, FailureKind::InvalidOutput, "beyond"),
        ("(i32.const -1)", method, FailureKind::InvalidOutput, "beyond"),
        ("(i32.const 2049)", all, FailureKind::InvalidOutput, "not aligned"),
        ("unreachable", method, FailureKind::Trap, "unreachable"),
        ("(loop (br 0)) (i32.const 0)", method, FailureKind::Deadline, "longer"),
        ("(call $method (i32.const 600)) (i32.const 2048)", method, FailureKind::Trap, "allocator"),
        (
            "(call $log (i32.const 0) (i32.const 1024) (i32.const 1)) (i32.const 2048)",
            method,
            FailureKind::Trap,
            "allocator",
        ),
    ] {
        let filter = filter(granted(), &module(realloc, poison));
        assert!(filter.prepared().runs_directly());
        let message = assert_survives(&filter, kind);
        assert!(message.contains(why), "{realloc}: {message}");
    }
}

#[test]
fn what_is_well_formed_goes_through() {
    let read = "(call $method (i32.const 608))
        (call $set (i32.const 1024) (i32.const 1) (i32.load (i32.const 608))
          (i32.load (i32.const 612)) (i32.const 600))";
    let filter = filter(granted(), &module(ROOM, read));
    let mut exchange = poisoned();
    assert_eq!(request(&filter, &mut exchange), Ok(HeadDecision::Proceed));
    assert_eq!(exchange.request.fields.get(Name::known("x")), Some(&b"GET"[..]));
}

#[test]
fn only_the_sdk_is_spared_the_word_that_an_answer_without_memory_was_read() {
    let told = r#"(func (export "cabi_post_pillion:filter/on-request@0.1.0#on-request") (param i32)
        unreachable)"#;
    let ours = r#"(@custom "pillion-sdk" "pillion-sdk 0.1.0 (Rust)")"#;
    let other = r#"(@custom "pillion-sdk" "pillion-sdk 0.1.0 (Zig)")"#;
    for (mark, spared) in [(ours, true), (other, false), ("", false)] {
        let filter = filter(granted(), &module_with(&format!("{told}{mark}"), ROOM, RESPOND));
        assert!(filter.prepared().runs_directly());
        let answer = request(&filter, &mut Box::default());
        match spared {
            true => assert_eq!(answer, Ok(HeadDecision::Proceed)),
            false => assert_eq!(answer.unwrap_err().kind, FailureKind::Trap, "{mark}"),
        }
        // A response has a list and bytes.
        assert_eq!(failure(&filter).0, FailureKind::Trap, "{mark}");
    }
}
