//! What a guest may use up: time, memory, stack, parts, handles, lines, bytes over the boundary.

use super::*;

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
fn a_guest_that_calls_itself_without_end_traps() {
    let functions = format!(
        r#"(func $down (param i32)
             (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))))
           (func (export "on-request") (result i32)
             (call $down (i32.const 1000))
             (call $header (i32.const 1024) (i32.const 1) (i32.const 600))
             (if (i32.load8_u (i32.const 600)) (then (call $down (i32.const -1))))
             {PROCEED})"#
    );
    let filter = filter(spec(), &component(&[Import::Request], "x", &functions, LIFT));
    let message = assert_survives(&filter, FailureKind::Trap);
    assert!(message.contains("stack"), "{message}");
}

#[test]
fn the_parts_of_a_component_have_a_limit() {
    // Two modules are there without those that are added.
    for (parts, fine) in [(PARTS_MAX - 1, true), (PARTS_MAX, true), (PARTS_MAX + 1, false)] {
        let more = "(core instance (instantiate $empty))".repeat(parts - 2);
        let exports = format!("(core module $empty) {more} {LIFT}");
        let functions = format!(r#"(func (export "on-request") (result i32) {PROCEED})"#);
        let built = prepare(spec(), &component(&[], "", &functions, &exports));
        assert_eq!(built.is_ok(), fine, "{parts}");
        if let Err(refused) = built {
            assert!(matches!(refused, LoadError::Start { .. }), "{refused:?}");
        }
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
        Instant::now() - Duration::from_millis(10),
        Duration::from_millis(5),
        &mut Box::default(),
        |hooks, store| {
            // As if its time had passed before the guest's first instruction.
            (0..100).for_each(|_| engine.increment_epoch());
            hooks.head(Hook::OnRequest, store)
        },
    );
    assert!(answer.is_ok(), "{answer:?}");
}
