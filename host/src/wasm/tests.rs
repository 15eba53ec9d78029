//! What guests may do, and what happens to those that do something else.

use super::component::LoadError;
use super::filter::WasmFilter;
use super::prepared::{Isolation, Limits, Prepared};
use super::testing::{
    Import, LIFT, LIFT_BODIES, LIFT_CONFIGURE, LIFT_ENDS, PROCEED, component, filter, load, logged,
    numbers, on_request, prepare, request, spec,
};
use crate::capability::State;
use crate::chain::{
    BodyDecision, Exchange, FailureKind, Filter, HeadDecision, Hook, Hooks, Outcome, Phase,
};
use crate::http::Name;
use crate::telemetry::Decision;
use std::time::{Duration, Instant};

/// Traps when the request has a field `x`, else proceeds.
fn trapping(trap: &str) -> Vec<u8> {
    let body = format!(
        "(call $header (i32.const 1024) (i32.const 1) (i32.const 600))
         (if (i32.load8_u (i32.const 600)) (then {trap}))
         {PROCEED}"
    );
    on_request(&[Import::Request], "x", &body)
}

fn poisoned() -> Box<Exchange> {
    let mut exchange = Box::<Exchange>::default();
    exchange.request.fields.append(Name::known("x"), b"1");
    exchange
}

fn failure(filter: &WasmFilter) -> (FailureKind, String) {
    let failure = request(filter, &mut poisoned()).unwrap_err();
    (failure.kind, failure.message)
}

/// Makes one poisoned call, checks what it came to, and that the next one is healthy.
fn assert_survives(filter: &WasmFilter, kind: FailureKind) -> String {
    let (found, message) = failure(filter);
    assert_eq!(found, kind, "{message}");
    assert_eq!(request(filter, &mut Box::default()), Ok(HeadDecision::Proceed));
    assert_eq!(filter.prepared().stats().failures(kind), 1);
    message
}

#[test]
fn a_guest_reads_and_edits_the_request() {
    let body = format!(
        r#"(local $value i32)
        (call $header (i32.const 1024) (i32.const 4) (i32.const 600))
        (call $set-header (i32.const 1028) (i32.const 5)
          (i32.load (i32.const 604)) (i32.load (i32.const 608)) (i32.const 700))
        (if (i32.load8_u (i32.const 700)) (then unreachable))
        {PROCEED}"#
    );
    let filter = filter(spec(), &on_request(&[Import::Request], "x-inx-out", &body));
    assert_eq!(filter.hooks(), Hooks::default().with(Hook::OnRequest));
    let mut exchange = Box::<Exchange>::default();
    exchange.request.fields.append(Name::known("x-in"), b"a\xffb");
    assert_eq!(request(&filter, &mut exchange), Ok(HeadDecision::Proceed));
    let out = exchange.request.fields.get(Name::known("x-out"));
    assert_eq!(out, Some("a\u{fffd}b".as_bytes()));
    assert!(exchange.filter_time_used() > Duration::ZERO);
    let stats = filter.prepared().stats();
    assert_eq!(stats.durations(Hook::OnRequest).count(), 1);
    assert_eq!(stats.decisions(Decision::Proceed), 1);
}

#[test]
fn an_instance_serves_many_exchanges() {
    let filter = filter(spec(), &trapping("unreachable"));
    for _ in 0..100 {
        assert_eq!(request(&filter, &mut Box::default()), Ok(HeadDecision::Proceed));
    }
    let stats = filter.prepared().stats().clone();
    assert_eq!((stats.instances_created(), stats.instances()), (1, 1));
    drop(filter);
    assert_eq!(stats.instances(), 0);
}

#[test]
fn a_trap_costs_its_own_exchange_alone_and_leaves_one_line() {
    let filter = filter(spec(), &trapping("unreachable"));
    let text = logged(|| {
        assert_survives(&filter, FailureKind::Trap);
    });
    let version = filter.prepared().version();
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in [
        "ERROR",
        "filter=test",
        &format!("version={version}"),
        r#"hook="on-request""#,
        r#"reason="trap""#,
        "unreachable",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(filter.prepared().stats().instances_created(), 2);
    assert_eq!(filter.prepared().stats().instances(), 1);
}

#[test]
fn a_spinning_guest_ends_at_its_deadline() {
    let mut spec = spec();
    spec.limits = Limits::default();
    let filter = filter(spec, &trapping("(loop $for_ever (br $for_ever))"));
    let mut exchange = poisoned();
    let failure = request(&filter, &mut exchange).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline);
    // Never earlier; how much later depends on the machine.
    assert!(exchange.filter_time_used() >= Limits::default().time);
    assert_eq!(request(&filter, &mut Box::default()), Ok(HeadDecision::Proceed));
}

#[test]
fn an_exchange_has_its_own_time() {
    let spec = spec();
    let limit = spec.limits.exchange_time;
    let filter = filter(spec, &trapping("unreachable"));
    let mut exchange = Box::<Exchange>::default();
    exchange.add_filter_time(limit - Duration::from_nanos(1));
    assert_eq!(request(&filter, &mut exchange), Ok(HeadDecision::Proceed));
    assert_eq!(request(&filter, &mut exchange).unwrap_err().kind, FailureKind::Deadline);
    // It was not called: its instance lives.
    assert_eq!(filter.prepared().stats().instances_created(), 1);
}

#[test]
fn memory_has_a_limit() {
    // Two pages are there; the guest grows by as many as its request's method has letters.
    let grow = "(call $method (i32.const 600))
        (if (i32.eq (memory.grow (i32.sub (i32.load (i32.const 604)) (i32.const 2))) (i32.const -1))
          (then unreachable))";
    let component = trapping(grow);
    let mut spec = spec();
    spec.limits.memory_bytes = 10 * 65536;
    for (pages, allowed) in [(9, true), (10, true), (11, false)] {
        let filter = filter(spec.clone(), &component);
        let mut exchange = poisoned();
        exchange.request.method = "M".repeat(pages).parse().unwrap();
        let decision = request(&filter, &mut exchange);
        match allowed {
            true => assert_eq!(decision, Ok(HeadDecision::Proceed), "{pages}"),
            false => assert_eq!(decision.unwrap_err().kind, FailureKind::Memory, "{pages}"),
        }
        assert_eq!(request(&filter, &mut Box::default()), Ok(HeadDecision::Proceed));
    }
}

#[test]
fn a_component_that_begins_too_large_is_refused() {
    let mut spec = spec();
    spec.limits.memory_bytes = 65536;
    let refused = prepare(spec, &on_request(&[], "", PROCEED)).err().unwrap();
    let LoadError::Start { why, .. } = &refused else { panic!("{refused:?}") };
    assert!(why.contains("64 KiB of memory"), "{why}");
}

/// Answers `respond`; the record stands at 512.
fn responding(status: u32, name: &str, body_bytes: usize) -> Vec<u8> {
    let body = format!(
        "(i32.store8 (i32.const 512) (i32.const 3))
         (i32.store16 (i32.const 516) (i32.const {status}))
         (i32.store (i32.const 520) (i32.const 640)) (i32.store (i32.const 524) (i32.const 1))
         (i32.store (i32.const 528) (i32.const 2048))
         (i32.store (i32.const 532) (i32.const {body_bytes}))
         (i32.store (i32.const 640) (i32.const 1024))
         (i32.store (i32.const 644) (i32.const {}))
         (i32.store (i32.const 648) (i32.const 1024)) (i32.store (i32.const 652) (i32.const 1))
         (i32.const 512)",
        name.len()
    );
    on_request(&[], name, &body)
}

#[test]
fn a_local_response_is_checked() {
    let answer = |status, name: &str, body| {
        request(&filter(spec(), &responding(status, name, body)), &mut Box::default())
    };
    let max = Limits::default().local_reply_bytes;
    for (status, name, body) in
        [(200, "a", 0), (599, "x-y", max - 1), (200, "date", max), (404, "A", 3)]
    {
        let Ok(HeadDecision::Respond(response)) = answer(status, name, body) else {
            panic!("{status} {name} {body}")
        };
        assert_eq!((u32::from(response.status), response.body.len()), (status, body));
        assert_eq!(response.headers[0].0, name);
    }
    for (status, name, body, why) in [
        (199, "a", 0, "status 199"),
        (600, "a", 0, "status 600"),
        (200, "a b", 0, "`a b`, which is no name"),
        (200, "Content-Length", 0, "belongs to the host"),
        (200, "a", max + 1, "over the limit `local_reply`"),
    ] {
        let failure = answer(status, name, body).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidOutput);
        assert!(failure.message.contains(why), "{why} in {}", failure.message);
    }
}

#[test]
fn nonsense_over_the_boundary_is_invalid_output() {
    for (decision, body) in [
        ("(i32.const 513)", "a pointer that is not aligned"),
        ("(i32.const -8)", "a pointer out of memory"),
        ("(i32.store8 (i32.const 512) (i32.const 9)) (i32.const 512)", "no such case"),
    ] {
        let filter = filter(spec(), &on_request(&[], "", decision));
        let failure = request(&filter, &mut Box::default()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidOutput, "{body}: {}", failure.message);
    }
}

#[test]
fn an_answer_too_large_to_take_is_invalid_output() {
    let body = "(drop (memory.grow (i32.const 160)))
         (i32.store8 (i32.const 512) (i32.const 3)) (i32.store16 (i32.const 516) (i32.const 200))
         (i32.store (i32.const 528) (i32.const 2048))
         (i32.store (i32.const 532) (i32.const 8000000)) (i32.const 512)";
    let filter = filter(spec(), &on_request(&[], "", body));
    let failure = request(&filter, &mut Box::default()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidOutput, "{}", failure.message);
}

#[test]
fn a_read_in_the_wrong_phase_traps_and_says_so() {
    let body = format!("(drop (call $status)) {PROCEED}");
    let filter = filter(spec(), &on_request(&[Import::Response], "", &body));
    let failure = request(&filter, &mut Box::default()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.message.contains("the response was read where there is none"));
}

#[test]
fn the_last_words_of_a_panic_are_in_its_line() {
    let body = format!(
        "(call $write (call $get-stderr) (i32.const 1024) (i32.const 10) (i32.const 600))
         unreachable {PROCEED}"
    );
    let filter = filter(spec(), &on_request(&[Import::Stderr], "boom: /x\\0ay", &body));
    let text = logged(|| {
        let failure = request(&filter, &mut Box::default()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Trap);
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r"its last words: boom: /x\ny"), "{text}");
}

#[test]
fn standard_error_of_a_call_that_succeeds_is_logged() {
    let body = format!(
        "(call $write (call $get-stderr) (i32.const 1024) (i32.const 4) (i32.const 600)) {PROCEED}"
    );
    let filter = filter(spec(), &on_request(&[Import::Stderr], "fine", &body));
    let text = logged(|| {
        request(&filter, &mut Box::default()).unwrap();
    });
    assert!(text.contains("INFO") && text.contains("fine"), "{text}");
}

#[test]
fn a_wasi_function_that_is_not_there_traps_with_its_name() {
    let body = format!("(drop (call $socket)) {PROCEED}");
    let filter = filter(spec(), &on_request(&[Import::Stderr], "", &body));
    let failure = request(&filter, &mut Box::default()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trap);
    let expected = "`wasi:sockets/network` `instance` was called: filters have no files or sockets";
    assert!(failure.message.contains(expected), "{}", failure.message);
}

#[test]
fn handles_have_a_limit() {
    let flood = |count: u32| {
        let body = format!(
            "(local $left i32) (local.set $left (i32.const {count}))
             (loop $more (drop (call $get-stderr))
               (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             {PROCEED}"
        );
        request(&filter(spec(), &on_request(&[Import::Stderr], "", &body)), &mut Box::default())
    };
    assert_eq!(flood(1023), Ok(HeadDecision::Proceed));
    assert_eq!(flood(1024), Ok(HeadDecision::Proceed));
    assert_eq!(flood(1025).unwrap_err().kind, FailureKind::InvalidOutput);
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let body = format!(
        "(local $left i32) (local.set $left (i32.const 10000))
         (loop $more (call $write (i32.const 2) (i32.const 1024) (i32.const 4))
           (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         {PROCEED}"
    );
    let mut spec = spec();
    spec.grants.log = true;
    let filter = filter(spec, &on_request(&[Import::Log], "line", &body));
    let text = logged(|| {
        request(&filter, &mut Box::default()).unwrap();
    });
    assert_eq!(text.lines().count(), 20);
    assert_eq!(filter.prepared().stats().log_lines_dropped(), 9980);
}

#[test]
fn a_capability_without_a_grant_is_refused() {
    let guest = on_request(&[Import::Log], "", PROCEED);
    let refused = prepare(spec(), &guest).err().unwrap();
    assert!(matches!(refused, LoadError::NotGranted { .. }));
    assert_eq!(
        refused.to_string(),
        "filter `test` imports the capability `log`, which it is not granted; to grant it, add \
         `grants = { log = true }` to its table"
    );
}

#[test]
fn what_is_no_filter_is_refused_with_the_reason() {
    let message = |bytes: &[u8]| load(bytes).err().unwrap().to_string();
    assert!(message(b"garbage").contains("is not a WebAssembly component"));
    assert!(message(b"").contains("is not a WebAssembly component"));
    let module = wat::parse_str("(module)").unwrap();
    assert!(message(&module).contains("is a core WebAssembly module"));
    let empty = wat::parse_str("(component)").unwrap();
    assert_eq!(message(&empty), "filter `test` exports no hook; was `#[filter]` forgotten?");
    let mut torn = on_request(&[], "", PROCEED);
    torn.truncate(torn.len() - 20);
    assert_eq!(message(&torn), "failed to compile component `test`");
    for (over, refused) in [(-1, "is not a"), (0, "is not a"), (1, "has at most 64 MiB")] {
        let bytes = super::compile::COMPONENT_BYTES_MAX.saturating_add_signed(over);
        assert!(message(&vec![0; bytes]).contains(refused), "{over}");
    }
}

#[test]
fn another_version_of_the_contract_is_refused() {
    let guest = component(
        &[],
        "",
        &format!(r#"(func (export "on-request") (result i32) {PROCEED})"#),
        &LIFT.replace("@0.1.0", "@0.2.0"),
    );
    let refused = load(&guest).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "filter `test` is made for another version of the contract: it has \
         `pillion:filter/on-request@0.2.0`, and this Pillion speaks version 0.1.0; build it with an \
         SDK of that version"
    );
}

#[test]
fn a_hook_with_another_signature_is_refused() {
    let exports = r#"
        (func $on-request (param "x" u32) (canon lift (core func $guest "on-request")))
        (instance $hook (export "on-request" (func $on-request)))
        (export "pillion:filter/on-request@0.1.0" (instance $hook))"#;
    let guest = component(&[], "", r#"(func (export "on-request") (param i32))"#, exports);
    let refused = prepare(spec(), &guest).err().unwrap();
    let LoadError::WrongSignature { hook: Hook::OnRequest, .. } = refused else {
        panic!("{refused:?}")
    };
    let without = component(
        &[],
        "",
        &format!(r#"(func (export "on-request") (result i32) {PROCEED})"#),
        &LIFT.replace(r#"(export "on-request" (func"#, r#"(export "on-reqest" (func"#),
    );
    let refused = load(&without).err().unwrap().to_string();
    assert!(refused.contains("has no function of that name"), "{refused}");
}

#[test]
fn an_unknown_import_is_refused() {
    let exports =
        format!(r#"(import "other:world/thing@1.0.0" (instance $o (export "f" (func)))) {LIFT}"#);
    let functions = format!(r#"(func (export "on-request") (result i32) {PROCEED})"#);
    let guest = component(&[], "", &functions, &exports);
    let refused = prepare(spec(), &guest).err().unwrap();
    assert!(
        matches!(&refused, LoadError::UnknownImport { import, .. } if import.starts_with("other:")),
        "{refused}"
    );
}

#[test]
fn a_function_the_contract_does_not_have_is_refused() {
    let exports = format!(
        r#"(import "pillion:filter/notes@0.1.3" (instance $o (export "f" (func)))) {LIFT}"#
    );
    let functions = format!(r#"(func (export "on-request") (result i32) {PROCEED})"#);
    let guest = component(&[], "", &functions, &exports);
    let refused = prepare(spec(), &guest).err().unwrap().to_string();
    assert!(refused.contains("`pillion:filter/notes@0.1.3`"), "{refused}");
}

/// Refuses its configuration if it is longer than `{}`.
fn configured() -> Vec<u8> {
    let functions = format!(
        r#"(func (export "configure") (param i32 i32) (result i32)
             (if (i32.gt_u (local.get 1) (i32.const 100)) (then (loop $spin (br $spin))))
             (if (i32.eq (local.get 1) (i32.const 2)) (then (return (i32.const 512))))
             (i32.store8 (i32.const 700) (i32.const 1))
             (i32.store (i32.const 704) (i32.const 1024)) (i32.store (i32.const 708) (i32.const 3))
             (i32.store (i32.const 712) (i32.const 1027)) (i32.store (i32.const 716) (i32.const 3))
             (i32.const 700))
           (func (export "on-request") (result i32) {PROCEED})"#
    );
    component(&[], "keybad", &functions, &format!("{LIFT}{LIFT_CONFIGURE}"))
}

#[test]
fn a_refused_configuration_is_reported_with_its_key() {
    let guest = configured();
    prepare(spec(), &guest).unwrap();
    let mut other = spec();
    other.config_json = r#"{"key":1}"#.to_owned();
    let refused = prepare(other, &guest).err().unwrap();
    let LoadError::Refused { key, message, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((key.as_str(), message.as_str()), ("key", "bad"));
    assert_eq!(refused.to_string(), "filter `test` refuses its configuration: `key`: bad");
}

#[test]
fn configure_has_a_deadline() {
    let mut slow = spec();
    slow.config_json = " ".repeat(101);
    slow.limits.configure_time = Duration::from_millis(10);
    let refused = prepare(slow, &configured()).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "filter `test` failed in `configure`: it took longer than the limit `configure_time` of 10 ms"
    );
}

#[test]
fn a_new_instance_for_every_exchange() {
    // Traps if its memory was used before.
    let body = format!(
        "(if (i32.load (i32.const 800)) (then unreachable))
         (i32.store (i32.const 800) (i32.const 1)) {PROCEED}"
    );
    let mut spec = spec();
    spec.isolation = Isolation::PerRequest;
    let filter = filter(spec, &on_request(&[], "", &body));
    let stats = filter.prepared().stats().clone();
    let mut exchange = Box::<Exchange>::default();
    for _ in 0..3 {
        exchange.clear();
        assert_eq!(request(&filter, &mut exchange), Ok(HeadDecision::Proceed));
        assert_eq!(stats.instances(), 1);
    }
    assert_eq!(request(&filter, &mut exchange).unwrap_err().kind, FailureKind::Trap);
    exchange.clear();
    assert_eq!((stats.instances_created(), stats.instances()), (3, 0));
}

#[test]
fn a_filter_that_mostly_fails_is_kept_from_running() {
    let filter = filter(spec(), &trapping("unreachable"));
    for _ in 0..super::health::CALLS_MIN {
        assert_eq!(failure(&filter).0, FailureKind::Trap);
    }
    let stats = filter.prepared().stats();
    assert!(stats.quarantined());
    let text = logged(|| {
        assert_eq!(failure(&filter).0, FailureKind::Unavailable);
    });
    assert_eq!(text, "");
    assert_eq!(stats.failures(FailureKind::Unavailable), 1);
}

#[test]
fn sixteen_poisoned_exchanges_cost_no_other() {
    let filter = filter(spec(), &trapping("unreachable"));
    for number in 0..200 {
        let decision = match number % 12 {
            0 if number < 192 => failure(&filter).0 == FailureKind::Trap,
            _ => request(&filter, &mut Box::default()) == Ok(HeadDecision::Proceed),
        };
        assert!(decision, "{number}");
    }
    assert_eq!(filter.prepared().stats().failures(FailureKind::Trap), 16);
}

#[test]
fn a_thread_that_was_kept_from_running_costs_its_guest_nothing() {
    let code =
        load(&on_request(&[], "", "(loop (br_if 0 (i32.const 0))) (i32.const 512)")).unwrap();
    let engine = code.runtime.engine().clone();
    let state = State::new(Instant::now());
    let prepared = Prepared::build(spec(), code, &state, &numbers()).unwrap();
    let presence = prepared.code.runtime.presence();
    let mut instance = prepared.instantiate(&presence, 0).unwrap();
    let answer = instance.call(
        &presence,
        Hook::OnRequest,
        Duration::from_millis(5),
        &mut Box::default(),
        |hooks, store| {
            // As if every tick of the deadline had passed before the guest's first instruction.
            (0..100).for_each(|_| engine.increment_epoch());
            hooks.on_request.unwrap().call(store, ())
        },
    );
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn a_filter_can_be_handed_to_another_thread() {
    let filter = filter(spec(), &trapping("unreachable"));
    let served = std::thread::spawn(move || request(&filter, &mut Box::default())).join().unwrap();
    assert_eq!(served, Ok(HeadDecision::Proceed));
}

/// A filter of both bodies.
fn on_body(imports: &[Import], body: &str, body_bytes: usize) -> WasmFilter {
    let functions = format!(r#"(func (export "on-body") (param i32 i32 i32) (result i32) {body})"#);
    let mut spec = spec();
    spec.limits.body_bytes = body_bytes;
    filter(spec, &component(imports, "", &functions, LIFT_BODIES))
}

/// Puts the chunk it got in its own place.
const ECHO: &str = "(i32.store8 (i32.const 512) (i32.const 1))
    (i32.store (i32.const 516) (local.get 0)) (i32.store (i32.const 520) (local.get 1))
    (i32.const 512)";

#[test]
fn a_body_chunk_goes_in_and_out_up_to_the_limit() {
    let filter = on_body(&[], ECHO, 8);
    let mut exchange = Box::<Exchange>::default();
    for (chunk, allowed) in [(&b"1234567"[..], true), (b"12345678", true), (b"123456789", false)] {
        let answers = [
            filter.on_request_body(&mut exchange, b"", chunk, true),
            filter.on_response_body(&mut exchange, b"", chunk, false),
        ];
        for answer in answers {
            match answer {
                Ok(decision) => {
                    assert!(allowed);
                    assert_eq!(decision, BodyDecision::Replace(chunk.to_vec()));
                }
                Err(failure) => {
                    assert!(!allowed);
                    assert_eq!(failure.kind, FailureKind::BodyLimit, "{}", failure.message);
                }
            }
        }
    }
    assert_eq!(filter.prepared().stats().instances_created(), 1);
}

#[test]
fn the_whole_chunk_of_a_pass_crosses_the_boundary() {
    let filter = on_body(&[], ECHO, 1024 * 1024);
    let chunk: Vec<u8> = (0..crate::chain::body::CHUNK_BYTES_MAX).map(|at| at as u8).collect();
    let answer = filter.on_request_body(&mut Box::default(), b"", &chunk, false);
    assert_eq!(answer, Ok(BodyDecision::Replace(chunk)));
}

#[test]
fn held_bytes_are_seen_in_their_own_hook_alone() {
    let body = "(call $held (i32.const 516))
        (if (i64.ne (call $held-length) (i64.extend_i32_u (i32.load (i32.const 520))))
          (then unreachable))
        (i32.store8 (i32.const 512) (i32.const 1)) (i32.const 512)";
    let filter = on_body(&[Import::RequestBody], body, 100);
    let exchange = &mut Box::default();
    let replaced = |with: &[u8]| Ok(BodyDecision::Replace(with.to_vec()));
    assert_eq!(filter.on_request_body(exchange, b"held", b"x", false), replaced(b"held"));
    assert_eq!(filter.on_request_body(exchange, b"", b"x", true), replaced(b""));
    assert_eq!(filter.on_response_body(exchange, b"other", b"x", true), replaced(b""));
}

#[test]
fn a_response_on_its_way_cannot_be_replaced_by_a_local_one() {
    let body = "(i32.store8 (i32.const 512) (i32.const 3))
        (i32.store16 (i32.const 516) (i32.const 403)) (i32.const 512)";
    let filter = on_body(&[], body, 100);
    let mut exchange = Box::<Exchange>::default();
    exchange.phase = Phase::ResponseHead;
    let early = filter.on_response_body(&mut exchange, b"", b"x", false);
    assert!(matches!(early, Ok(BodyDecision::Respond(response)) if response.status == 403));
    exchange.phase = Phase::ResponseBody;
    let late = filter.on_response_body(&mut exchange, b"", b"x", false).unwrap_err();
    assert_eq!(late.kind, FailureKind::InvalidOutput);
    exchange.phase = Phase::RequestBody;
    assert!(filter.on_request_body(&mut exchange, b"", b"x", false).is_ok());
}

#[test]
fn a_body_that_would_be_held_beyond_the_limit_is_logged_with_its_hook() {
    let filter = on_body(&[], "(i32.store8 (i32.const 512) (i32.const 2)) (i32.const 512)", 100);
    filter.on_response_body(&mut Box::default(), b"", b"x", false).unwrap();
    let text = logged(|| assert_eq!(filter.body_overflow().kind, FailureKind::BodyLimit));
    assert!(text.contains(r#"hook="on-response-body" reason="body_limit""#), "{text}");
    assert_eq!(filter.prepared().stats().failures(FailureKind::BodyLimit), 1);
}

#[test]
fn trailers_are_there_in_their_hooks_and_the_outcome_at_the_end() {
    // `on-complete` traps if it can read a trailer, or if the outcome is not 200, complete.
    let functions = r#"
        (func (export "on-trailers")
          (call $trailer (i32.const 1024) (i32.const 4) (i32.const 600))
          (if (i32.eqz (i32.load8_u (i32.const 600))) (then unreachable))
          (call $append-trailer (i32.const 1028) (i32.const 5) (i32.load (i32.const 604))
            (i32.load (i32.const 608)) (i32.const 600))
          (if (i32.load8_u (i32.const 600)) (then unreachable)))
        (func (export "on-complete")
          (param i32 i32 i32 i32 i32 i32 i64 i64 i64 i32 i64)
          (call $trailer (i32.const 1024) (i32.const 4) (i32.const 600))
          (if (i32.load8_u (i32.const 600)) (then unreachable))
          (if (i32.ne (local.get 1) (i32.const 200)) (then unreachable))
          (if (i32.eqz (local.get 2)) (then unreachable))
          (if (i64.ne (local.get 8) (i64.const 1500)) (then unreachable)))"#;
    let filter = filter(spec(), &component(&[Import::Trailers], "x-inx-out", functions, LIFT_ENDS));
    let mut exchange = Box::<Exchange>::default();
    for phase in [Phase::RequestTrailers, Phase::ResponseTrailers] {
        exchange.phase = phase;
        exchange.trailers.clear();
        exchange.trailers.append(Name::known("x-in"), b"1");
        match phase {
            Phase::RequestTrailers => filter.on_request_trailers(&mut exchange).unwrap(),
            _ => filter.on_response_trailers(&mut exchange).unwrap(),
        }
        assert_eq!(exchange.trailers.get(Name::known("x-out")), Some(&b"1"[..]));
    }
    exchange.phase = Phase::Complete;
    let mut outcome = Outcome {
        status: Some(200),
        complete: true,
        duration: Duration::from_nanos(1500),
        ..Outcome::default()
    };
    filter.on_complete(&mut exchange, &outcome).unwrap();
    outcome.status = None;
    assert_eq!(filter.on_complete(&mut exchange, &outcome).unwrap_err().kind, FailureKind::Trap);
}
