//! What guests may do, and what happens to those that do something else; one promise a file.

mod bodies;
mod calls;
mod direct;
mod failures;
mod forms;
mod limits;
mod loading;
mod replacement;
mod state;
mod wanted;

use super::component::LoadError;
use super::filter::WasmFilter;
use super::limits::PARTS_MAX;
use super::prepared::{FilterSpec, Grants, Isolation, Limits, Prepared};
use super::replacement::MAKE_TIME_MAX;
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
