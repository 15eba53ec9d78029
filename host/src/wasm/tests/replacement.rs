//! A new instance that takes long to make does not keep the worker from its other requests.

use super::*;
use crate::wasm::limits::thread_time;

/// Traps when the request has a field `x`; needs long in `configure`.
fn slow(rounds: u64) -> Vec<u8> {
    let functions = format!(
        r#"(func (export "configure") (param i32 i32) (result i32)
             (local $left i64)
             (local.set $left (i64.const {rounds}))
             (loop $again
               (local.set $left (i64.sub (local.get $left) (i64.const 1)))
               (br_if $again (i64.ne (local.get $left) (i64.const 0))))
             (i32.const 800))
           (func (export "on-request") (result i32)
             (call $header (i32.const 1024) (i32.const 1) (i32.const 600))
             (if (i32.load8_u (i32.const 600)) (then unreachable))
             {PROCEED})"#
    );
    component(&[Import::Request], "x", &functions, &format!("{LIFT} {LIFT_CONFIGURE}"))
}

/// Processor time of this thread.
fn spent(work: impl FnOnce()) -> Duration {
    let start = thread_time().unwrap();
    work();
    thread_time().unwrap() - start
}

#[test]
fn what_is_slow_to_make_is_made_off_the_worker() {
    let mut prepared = None;
    let rounds = 500_000_000;
    let took = spent(|| prepared = Some(prepare(spec(), &slow(rounds)).unwrap()));
    let prepared = prepared.unwrap();
    assert!(prepared.is_slow_to_make(), "{took:?}");
    let filter = prepared.instantiate_for_worker(0).unwrap();
    let stats = prepared.stats();
    assert_eq!(failure(&filter).0, FailureKind::Trap);
    let mut refused = 0;
    let log = logged(|| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < end, "no new instance");
            let mut answer = None;
            let time = spent(|| answer = Some(request(&filter, &mut Box::default())));
            assert!(time < took / 2, "a call took {time:?} on this thread");
            match answer.unwrap() {
                Ok(decision) => return assert_eq!(decision, HeadDecision::Proceed),
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::Unavailable);
                    assert_eq!(failure.message, "a new instance is being made");
                    refused += 1;
                }
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(stats.failures(FailureKind::Unavailable), refused);
    assert_eq!((stats.instances_created(), stats.instances_retired()), (2, 1));
    assert_eq!(log, "", "what is refused meanwhile is counted only");
}

#[test]
fn what_is_quick_to_make_is_made_at_once() {
    let prepared = prepare(spec(), &slow(1)).unwrap();
    assert!(!prepared.is_slow_to_make());
    let filter = prepared.instantiate_for_worker(0).unwrap();
    assert_survives(&filter, FailureKind::Trap);
}

#[test]
fn what_is_slow_is_told_by_the_processor_time_of_the_first() {
    let mut prepared = std::sync::Arc::into_inner(prepare(spec(), &slow(1)).unwrap()).unwrap();
    let instant = Duration::from_nanos(1);
    for (time, slow) in
        [(MAKE_TIME_MAX - instant, false), (MAKE_TIME_MAX, false), (MAKE_TIME_MAX + instant, true)]
    {
        prepared.make_time = time;
        assert_eq!(prepared.is_slow_to_make(), slow, "{time:?}");
    }
    prepared.isolation = Isolation::PerRequest;
    assert!(!prepared.is_slow_to_make(), "there is nothing to be had ahead of time");
}
