//! The rules of the chain, with filters of a few lines.

use super::exchange::{Message, NOTE_BYTES_MAX, NOTES_MAX};
use super::testing::{Calls, Scripted, chain, filter, refusal, trap};
use super::*;
use crate::http::edit;
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;

fn in_phase(phase: Phase) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.phase = phase;
    exchange
}

/// Runs a body through, chunk by chunk; the last one is marked.
fn pass(
    chain: &Chain,
    exchange: &mut Box<Exchange>,
    progress: &mut Progress,
    direction: Direction,
    chunks: &[&'static str],
) -> (Passed, String) {
    let mut pass = BodyPass::new(chain, progress, direction).expect("a filter wants the body");
    let mut output = Vec::new();
    for (nth, chunk) in chunks.iter().enumerate() {
        let last = nth + 1 == chunks.len();
        let chunk = Bytes::from_static(chunk.as_bytes());
        let passed = pass.push(chain, exchange, progress, chunk, last, &mut output);
        if passed != Passed::Forward {
            return (passed, text(&output));
        }
    }
    (Passed::Forward, text(&output))
}

fn text(output: &[Bytes]) -> String {
    String::from_utf8(output.concat()).unwrap()
}

#[test]
fn requests_go_in_order_and_responses_in_reverse() {
    let calls = Calls::default();
    let chain = chain(vec![
        filter("a", &calls).head(HeadDecision::Proceed),
        filter("b", &calls).head(HeadDecision::Proceed),
    ]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    assert_eq!(chain.request_head(&mut exchange, &mut progress), Verdict::Proceed);
    assert_eq!(chain.response_head(&mut exchange, &mut progress), Verdict::Proceed);
    assert_eq!(*calls.borrow(), ["a request", "b request", "b response", "a response"]);
}

#[test]
fn a_response_of_a_filter_is_seen_by_those_before_it() {
    let calls = Calls::default();
    let mut last = filter("c", &calls).head(HeadDecision::Proceed);
    last.complete = true;
    let mut middle = filter("b", &calls).head(HeadDecision::Respond(Box::new(refusal(403))));
    middle.complete = true;
    let chain = chain(vec![filter("a", &calls).head(HeadDecision::Proceed), middle, last]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    let verdict = chain.request_head(&mut exchange, &mut progress);
    assert_eq!(verdict, Verdict::Respond(refusal(403)));
    assert_eq!(chain.response_head(&mut exchange, &mut progress), Verdict::Proceed);
    chain.complete(&mut exchange, &progress, &Outcome::default());
    assert_eq!(*calls.borrow(), ["a request", "b request", "a response", "b complete"]);
}

#[test]
fn a_response_hook_may_answer_and_the_rest_sees_that() {
    let calls = Calls::default();
    let chain = chain(vec![
        filter("a", &calls).response(|_| Ok(HeadDecision::Proceed)),
        filter("b", &calls).response(|_| Ok(HeadDecision::Respond(Box::new(refusal(502))))),
        filter("c", &calls).response(|_| Ok(HeadDecision::Proceed)),
    ]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    let first = chain.response_head(&mut exchange, &mut progress);
    assert_eq!(first, Verdict::Respond(refusal(502)));
    assert_eq!(chain.response_head(&mut exchange, &mut progress), Verdict::Proceed);
    assert_eq!(*calls.borrow(), ["c response", "b response", "a response"]);
}

#[test]
fn a_closed_failure_ends_the_pass_and_an_open_one_takes_the_filter_out() {
    let calls = Calls::default();
    let fails = |name| filter(name, &calls).head(HeadDecision::Proceed).request(|_| Err(trap()));
    let closed = chain(vec![fails("a"), filter("b", &calls).head(HeadDecision::Proceed)]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    assert_eq!(closed.request_head(&mut exchange, &mut progress), Verdict::Failed);
    assert_eq!(*calls.borrow(), ["a request"]);
    assert_eq!(progress.failed, Members::from_iter([0]));

    calls.borrow_mut().clear();
    let open = chain(vec![fails("a").open(), filter("b", &calls).head(HeadDecision::Proceed)]);
    let mut progress = Progress::default();
    assert_eq!(open.request_head(&mut exchange, &mut progress), Verdict::Proceed);
    assert_eq!(open.response_head(&mut exchange, &mut progress), Verdict::Proceed);
    assert_eq!(*calls.borrow(), ["a request", "b request", "b response"]);
    let failed = open.complete(&mut exchange, &progress, &Outcome::default());
    assert_eq!(failed, Members::from_iter([0]), "told although it is out");
}

#[test]
fn a_body_goes_through_the_filters_that_want_it() {
    let calls = Calls::default();
    let upper = |_: &mut Exchange, _: &[u8], chunk: &[u8], _| {
        Ok(BodyDecision::Replace(chunk.to_ascii_uppercase()))
    };
    let twice = |_: &mut Exchange, _: &[u8], chunk: &[u8], _| {
        Ok(BodyDecision::Replace([chunk, chunk].concat()))
    };
    let chain = chain(vec![
        filter("a", &calls).head(HeadDecision::Proceed).body(upper),
        filter("b", &calls).head(HeadDecision::SkipBody).body(twice),
        filter("c", &calls).body(twice),
    ]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    let (passed, out) =
        pass(&chain, &mut exchange, &mut progress, Direction::Request, &["xy", "z", ""]);
    assert_eq!((passed, out.as_str()), (Passed::Forward, "XYXYZZ"));
    assert_eq!(calls.borrow()[2], "a RequestBody xy false");
    assert_eq!(calls.borrow().last().unwrap(), "c RequestBody  true");
}

#[test]
fn what_is_held_comes_out_in_order_or_is_replaced() {
    let calls = Calls::default();
    let hold = |_: &mut Exchange, _: &[u8], _: &[u8], _| Ok(BodyDecision::Hold);
    let kept = chain(vec![filter("a", &calls).body(hold)]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    kept.request_head(&mut exchange, &mut progress);
    let passed = pass(&kept, &mut exchange, &mut progress, Direction::Request, &["ab", "cd", "e"]);
    assert_eq!(passed, (Passed::Forward, "abcde".into()), "hold with the last chunk passes");

    let count = |_: &mut Exchange, held: &[u8], chunk: &[u8], last: bool| {
        Ok(if last {
            BodyDecision::Replace(format!("{}", held.len() + chunk.len()).into_bytes())
        } else {
            BodyDecision::Hold
        })
    };
    let counted = chain(vec![filter("a", &calls).body(count)]);
    let mut progress = Progress::default();
    counted.request_head(&mut exchange, &mut progress);
    let passed =
        pass(&counted, &mut exchange, &mut progress, Direction::Request, &["ab", "cd", "e"]);
    assert_eq!(passed, (Passed::Forward, "5".into()));
}

#[test]
fn more_than_the_limit_is_not_held() {
    let calls = Calls::default();
    let hold = |_: &mut Exchange, _: &[u8], _: &[u8], _| Ok(BodyDecision::Hold);
    for (chunks, expected) in [
        (&["123456789", ""][..], Passed::Forward),
        (&["1234567890", ""][..], Passed::Forward),
        (&["1234567890", "1", ""][..], Passed::Failed),
    ] {
        let chain = chain(vec![filter("a", &calls).body(hold)]);
        let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
        chain.request_head(&mut exchange, &mut progress);
        let passed = pass(&chain, &mut exchange, &mut progress, Direction::Request, chunks);
        assert_eq!(passed.0, expected, "{chunks:?}");
    }
    let open = chain(vec![filter("a", &calls).body(hold).open()]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    open.request_head(&mut exchange, &mut progress);
    let chunks = &["1234567890", "1", "2", ""];
    let passed = pass(&open, &mut exchange, &mut progress, Direction::Request, chunks);
    assert_eq!(passed, (Passed::Forward, "123456789012".into()));
}

#[test]
fn a_head_is_kept_back_until_the_body_hook_lets_go() {
    let calls = Calls::default();
    let until_last = |exchange: &mut Exchange, _: &[u8], _: &[u8], last: bool| {
        exchange.set_field(Message::Request, b"x-done", b"1").map_err(|_| trap())?;
        Ok(if last { BodyDecision::Pass } else { BodyDecision::Hold })
    };
    let mut waiting = filter("a", &calls).head(HeadDecision::WaitForBody);
    waiting.on_request_body = Some(Box::new(until_last));
    let chain = chain(vec![waiting]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    let mut pass = BodyPass::new(&chain, &progress, Direction::Request).unwrap();
    let mut output = Vec::new();
    for (chunk, last, kept) in [("a", false, true), ("b", true, false)] {
        assert!(pass.keeps_head());
        let chunk = Bytes::from_static(chunk.as_bytes());
        let passed = pass.push(&chain, &mut exchange, &mut progress, chunk, last, &mut output);
        assert_eq!(passed, Passed::Forward);
        assert_eq!(pass.keeps_head(), kept);
    }
    assert_eq!(text(&output), "ab");
    assert_eq!(calls.borrow()[1], "a RequestHead a false", "the head is editable while it is kept");
}

#[test]
fn a_body_hook_may_answer() {
    let calls = Calls::default();
    let reject = |_: &mut Exchange, _: &[u8], _: &[u8], _| Ok(BodyDecision::Respond(refusal(413)));
    let chain = chain(vec![
        filter("a", &calls).head(HeadDecision::Proceed),
        filter("b", &calls).head(HeadDecision::Proceed).body(reject),
    ]);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    let passed = pass(&chain, &mut exchange, &mut progress, Direction::Request, &["x", ""]);
    assert_eq!(passed, (Passed::Respond(refusal(413)), String::new()));
    chain.response_head(&mut exchange, &mut progress);
    assert_eq!(calls.borrow().last().unwrap(), "a response", "and those before it see the answer");
}

#[test]
fn chunks_are_cut_to_the_size_of_a_hook() {
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let seen = sizes.clone();
    let note = move |_: &mut Exchange, _: &[u8], chunk: &[u8], last: bool| {
        seen.borrow_mut().push((chunk.len(), last));
        Ok(BodyDecision::Pass)
    };
    let calls = Calls::default();
    let chain = chain(vec![filter("a", &calls).body(note)]);
    let max = body::CHUNK_BYTES_MAX;
    for (bytes, expected) in [
        (max - 1, vec![(max - 1, true)]),
        (max, vec![(max, true)]),
        (max + 1, vec![(max, false), (1, true)]),
    ] {
        sizes.borrow_mut().clear();
        let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
        chain.request_head(&mut exchange, &mut progress);
        let mut pass = BodyPass::new(&chain, &progress, Direction::Response).unwrap();
        let mut output = Vec::new();
        let chunk = Bytes::from(vec![b'x'; bytes]);
        pass.push(&chain, &mut exchange, &mut progress, chunk, true, &mut output);
        assert_eq!(*sizes.borrow(), expected);
        assert_eq!(output.concat().len(), bytes);
    }
}

#[test]
fn trailers_are_edited_in_the_order_of_the_message() {
    let calls = Calls::default();
    let mut filters = vec![filter("a", &calls), filter("b", &calls)];
    filters.iter_mut().for_each(|filter| filter.trailers = true);
    let chain = chain(filters);
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    chain.response_head(&mut exchange, &mut progress);
    let seen = |fields: &crate::http::Fields| {
        fields
            .iter()
            .map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    let up = chain.request_trailers(&mut exchange, &mut progress, Default::default()).unwrap();
    assert_eq!(seen(&up), ["a", "b"]);
    let down = chain.response_trailers(&mut exchange, &mut progress, Default::default()).unwrap();
    assert_eq!(seen(&down), ["b", "a"]);
}

#[test]
fn the_reply_to_a_failure_over_trailers_is_seen_by_the_filters_before_it() {
    let calls = Calls::default();
    let of = |name| Scripted { trailers: true, ..filter(name, &calls).head(HeadDecision::Proceed) };
    let chain = chain(["a", "b", "c"].map(of).into());
    let (mut exchange, mut progress) = (Box::<Exchange>::default(), Progress::default());
    chain.request_head(&mut exchange, &mut progress);
    let mut trailers = crate::http::Fields::default();
    // Room for the line of the first filter, and not for that of the second.
    for _ in 1..edit::TRAILER_FIELDS_MAX {
        trailers.append(crate::http::Name::known("x"), b"");
    }
    assert!(chain.request_trailers(&mut exchange, &mut progress, trailers).is_err());
    calls.borrow_mut().clear();
    chain.response_head(&mut exchange, &mut progress);
    assert_eq!(*calls.borrow(), ["a response"]);
}

#[test]
fn a_message_is_edited_only_in_its_phase() {
    let mut exchange = in_phase(Phase::Outside);
    exchange.response.status = 200;
    for (phase, request, response, trailers) in [
        (Phase::Outside, false, false, false),
        (Phase::RequestHead, true, false, false),
        (Phase::RequestBody, false, false, false),
        (Phase::RequestTrailers, false, false, true),
        (Phase::ResponseHead, false, true, false),
        (Phase::ResponseBody, false, false, false),
        (Phase::ResponseTrailers, false, false, true),
        (Phase::Complete, false, false, false),
    ] {
        exchange.phase = phase;
        let outcome = |allowed| if allowed { Ok(()) } else { Err(EditError::WrongPhase) };
        for (message, allowed) in [
            (Message::Request, request),
            (Message::Response, response),
            (Message::Trailers, trailers),
        ] {
            assert_eq!(exchange.set_field(message, b"a", b"b"), outcome(allowed), "{phase:?}");
        }
        assert_eq!(exchange.set_method(b"PUT"), outcome(request));
        assert_eq!(exchange.set_status(404), outcome(response));
    }
}

#[test]
fn edits_have_limits() {
    let mut exchange = in_phase(Phase::RequestHead);
    let room = edit::HEAD_BYTES_MAX - 5;
    for (bytes, expected) in
        [(room - 1, Ok(())), (room, Ok(())), (room + 1, Err(EditError::LimitExceeded))]
    {
        let value = vec![b'v'; bytes];
        assert_eq!(exchange.set_field(Message::Request, b"a", &value), expected, "{bytes}");
    }
    exchange.remove_field(Message::Request, b"a").unwrap();
    for nth in 0..edit::HEAD_FIELDS_MAX {
        let name = format!("x-{nth}");
        assert_eq!(exchange.append_field(Message::Request, name.as_bytes(), b""), Ok(()));
    }
    assert_eq!(exchange.append_field(Message::Request, b"z", b""), Err(EditError::LimitExceeded));
    assert_eq!(exchange.set_field(Message::Request, b"x-0", b"again"), Ok(()));

    let long = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(exchange.set_target(&long(edit::TARGET_BYTES_MAX - 1)), Ok(()));
    assert_eq!(exchange.set_target(&long(edit::TARGET_BYTES_MAX)), Ok(()));
    assert_eq!(
        exchange.set_target(&long(edit::TARGET_BYTES_MAX + 1)),
        Err(EditError::LimitExceeded)
    );

    let mut exchange = in_phase(Phase::RequestHead);
    for _ in 0..edit::EDITS_MAX {
        assert_eq!(exchange.set_field(Message::Request, b"a", b"b"), Ok(()));
    }
    assert_eq!(exchange.set_field(Message::Request, b"a", b"b"), Err(EditError::LimitExceeded));
    exchange.clear();
    exchange.phase = Phase::RequestTrailers;
    let room = edit::TRAILER_BYTES_MAX - 5;
    for (bytes, expected) in
        [(room - 1, Ok(())), (room, Ok(())), (room + 1, Err(EditError::LimitExceeded))]
    {
        let value = vec![b'v'; bytes];
        assert_eq!(exchange.set_field(Message::Trailers, b"a", &value), expected, "{bytes}");
    }
    exchange.remove_field(Message::Trailers, b"a").unwrap();
    for nth in 0..edit::TRAILER_FIELDS_MAX {
        let name = format!("x-{nth}");
        assert_eq!(exchange.append_field(Message::Trailers, name.as_bytes(), b""), Ok(()));
    }
    assert_eq!(exchange.append_field(Message::Trailers, b"z", b""), Err(EditError::LimitExceeded));
}

#[test]
fn the_host_keeps_its_own_fields() {
    let mut exchange = in_phase(Phase::RequestHead);
    for name in
        ["content-length", "Transfer-Encoding", "host", "connection", ":path", "content_length"]
    {
        let refused = exchange.set_field(Message::Request, name.as_bytes(), b"1");
        assert_eq!(refused, Err(EditError::HostOwned), "{name}");
    }
    assert_eq!(exchange.set_field(Message::Request, b"a b", b"1"), Err(EditError::InvalidName));
    assert_eq!(exchange.set_field(Message::Request, b"a", b"1\r\n"), Err(EditError::InvalidValue));
    for bad in [&b"CONNECT"[..], b"", b"A B", b"HEAD"] {
        assert_eq!(exchange.set_method(bad), Err(EditError::InvalidValue));
    }
    exchange.request.method = http::Method::HEAD;
    assert_eq!(exchange.set_method(b"GET"), Err(EditError::InvalidValue));
    assert_eq!(exchange.set_method(b"HEAD"), Ok(()));
    assert_eq!(exchange.set_scheme("ftp"), Err(EditError::InvalidValue));
    assert_eq!(exchange.set_authority("a b"), Err(EditError::InvalidValue));
    assert_eq!(exchange.set_target("a"), Err(EditError::InvalidValue));
    exchange.phase = Phase::ResponseHead;
    exchange.response.status = 200;
    for bad in [99, 101, 199, 204, 304, 600] {
        assert_eq!(exchange.set_status(bad), Err(EditError::InvalidValue), "{bad}");
    }
    for good in [200, 201, 599] {
        assert_eq!(exchange.set_status(good), Ok(()), "{good}");
    }
}

#[test]
fn notes_have_limits() {
    let mut exchange = Exchange::default();
    assert_eq!(exchange.set_note("k", "v"), Err(NoteError::WrongPhase));
    exchange.phase = Phase::RequestHead;
    for (bytes, expected) in [
        (NOTE_BYTES_MAX - 2, Ok(())),
        (NOTE_BYTES_MAX - 1, Ok(())),
        (NOTE_BYTES_MAX, Err(NoteError::LimitExceeded)),
    ] {
        assert_eq!(exchange.set_note("k", &"v".repeat(bytes)), expected);
    }
    for nth in 1..NOTES_MAX {
        assert_eq!(exchange.set_note(&format!("{nth}"), "v"), Ok(()));
    }
    assert_eq!(exchange.set_note("one more", "v"), Err(NoteError::LimitExceeded));
    assert_eq!(exchange.set_note("k", "again"), Ok(()));
    assert_eq!(exchange.note("k"), Some("again"));
    assert_eq!(exchange.notes().count(), NOTES_MAX);
    exchange.clear();
    assert_eq!(exchange.notes().count(), 0);
}
