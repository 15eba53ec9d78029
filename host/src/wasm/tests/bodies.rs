//! Chunks in and out, what is held, and what may still be answered.

use super::*;

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
