//! Calls that go as they should: what a guest reads, edits and is told, and on which instance.

use super::*;

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
fn a_read_in_the_wrong_phase_traps_and_says_so() {
    let body = format!("(drop (call $status)) {PROCEED}");
    let filter = filter(spec(), &on_request(&[Import::Response], "", &body));
    let failure = request(&filter, &mut Box::default()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Trap);
    assert!(failure.message.contains("the response was read where there is none"));
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
fn a_filter_can_be_handed_to_another_thread() {
    let filter = filter(spec(), &trapping("unreachable"));
    let served = std::thread::spawn(move || request(&filter, &mut Box::default())).join().unwrap();
    assert_eq!(served, Ok(HeadDecision::Proceed));
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
