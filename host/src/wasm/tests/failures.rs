//! A failure costs its own exchange, leaves one line that says why, and a healthy successor.

use super::*;

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
fn what_a_failed_instance_had_of_memory_is_told() {
    let filter = filter(spec(), &trapping("(drop (memory.grow (i32.const 100))) unreachable"));
    assert_eq!(request(&filter, &mut Box::default()), Ok(HeadDecision::Proceed));
    let before = filter.prepared().memory_bytes();
    assert_eq!(failure(&filter).0, FailureKind::Trap);
    assert_eq!(filter.prepared().memory_bytes(), before + (100 << 16));
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
fn a_filter_that_mostly_fails_is_kept_from_running() {
    let filter = filter(spec(), &trapping("unreachable"));
    for _ in 0..crate::wasm::health::CALLS_MIN {
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
