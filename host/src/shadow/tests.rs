//! What a shadow makes of exchanges, with filters of a few lines and with guests.

use super::compare::Kind;
use super::queue::{Message, Queue};
use super::record::{BODY_BYTES_MAX, Finish, Record, Recorder, Recording};
use super::replay::{Played, Player};
use super::testing::{self, player};
use super::{Link, NextChain, SAMPLES_MAX, Setup, Shadow, Tally, candidate, replay_all};
use crate::capability::State;
use crate::chain::testing::{Calls, Scripted, filter, refusal, trap};
use crate::chain::{BodyDecision, Direction, Exchange, HeadDecision, LocalResponse, Members};
use crate::http::{BodyLength, Fields, Frame, Name};
use crate::rollout::judge::{Counts, Differences};
use crate::wasm::testing as wasm_testing;
use crate::wasm::testing::{
    Import, LIFT, LIFT_BODIES, PROCEED, component, numbers, on_request, spec,
};
use crate::wasm::{FilterSpec, Limits, Prepared, WasmFilter};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const X: Name<'static> = Name::known("x-a");

/// An exchange of the running version, told as its chain saw it.
struct Told {
    request_body: Option<Vec<&'static str>>,
    answer_body: Vec<&'static str>,
    status: u16,
    edit: fn(&mut Exchange),
}

impl Default for Told {
    fn default() -> Self {
        Told { request_body: None, answer_body: vec!["he", "llo"], status: 200, edit: |_| {} }
    }
}

fn entering(queue: &Arc<Queue>, length: BodyLength) -> (Box<Exchange>, Box<Recording>) {
    let mut exchange = Box::<Exchange>::default();
    exchange.request.target.push_str("/a/b?token=secret");
    exchange.request.authority.push('h');
    exchange.listener = Arc::from("inbound");
    exchange.route = Arc::from("app");
    let recorder = Recorder::new(queue.clone(), 0);
    let recording = recorder.begin(&mut exchange, length, Instant::now()).expect("there is room");
    (exchange, recording)
}

fn frames(chunks: &[&'static str]) -> impl Iterator<Item = Frame> {
    let data = |chunk: &&'static str| Frame::Data(Bytes::from_static(chunk.as_bytes()));
    chunks.iter().map(data).chain([Frame::End])
}

fn finish(mut recording: Box<Recording>, exchange: &Exchange) {
    recording.ended(Direction::Response, None);
    recording.finish(exchange, Finish::default());
}

impl Told {
    /// The chain let it through; `edit` is what it changed in the heads.
    fn forwarded(self, queue: &Arc<Queue>) {
        let Told { request_body, answer_body, status, edit } = self;
        let length = request_body.as_ref().map_or(BodyLength::None, |_| BodyLength::Unknown);
        let (mut exchange, mut recording) = entering(queue, length);
        recording.forwarded();
        for frame in request_body.iter().flat_map(|chunks| frames(chunks)) {
            recording.arrived(Direction::Request, &frame, false);
        }
        exchange.response.status = status;
        recording.answered(&exchange.response, BodyLength::Unknown);
        for frame in frames(&answer_body) {
            recording.arrived(Direction::Response, &frame, false);
        }
        edit(&mut exchange);
        finish(recording, &exchange);
    }
}

/// The chain answered `status` with a body before it had read the request's.
fn answered(queue: &Arc<Queue>, status: u16, body: &'static str) {
    let (mut exchange, mut recording) = entering(queue, BodyLength::Unknown);
    recording.replaced();
    exchange.response.status = status;
    recording.left(Direction::Response, body.as_bytes());
    recording.ended(Direction::Response, None);
    finish(recording, &exchange);
}

/// The record of one exchange.
fn told(tell: impl FnOnce(&Arc<Queue>)) -> Box<Record> {
    let (queue, records) = Queue::new();
    tell(&queue);
    match records.try_recv() {
        Ok(Message::Replay(record)) => record,
        Ok(Message::Stop) | Err(_) => panic!("a record"),
    }
}

/// What `player` makes of one exchange.
fn played(player: &mut Player, tell: impl FnOnce(&Arc<Queue>)) -> Option<Played> {
    player.play(&told(tell))
}

/// The kind and the line of the difference, if there is one.
fn difference(filters: Vec<Scripted>, tell: impl FnOnce(&Arc<Queue>)) -> Option<(Kind, String)> {
    testing::difference(&told(tell), filters)
}

fn forwarded(queue: &Arc<Queue>) {
    Told::default().forwarded(queue);
}

fn a() -> Scripted {
    filter("a", &Calls::default())
}

fn responds(status: u16) -> Scripted {
    a().request(move |_| Ok(HeadDecision::Respond(Box::new(refusal(status)))))
}

fn edits(name: &'static str, value: &'static str) -> Scripted {
    a().request(move |exchange| {
        let edited = exchange.set_field(
            crate::chain::exchange::Message::Request,
            name.as_bytes(),
            value.as_bytes(),
        );
        edited.map(|()| HeadDecision::Proceed).map_err(|_| trap())
    })
}

#[test]
fn a_version_that_does_the_same_is_the_same() {
    assert_eq!(difference(vec![], forwarded), None);
    assert_eq!(difference(vec![a().head(HeadDecision::Proceed)], forwarded), None);
    let passes = || a().body(|_, _, _, _| Ok(BodyDecision::Pass));
    let body = || Told { request_body: Some(vec!["1", "2"]), ..Told::default() };
    assert_eq!(difference(vec![passes()], |queue| body().forwarded(queue)), None);
    let holds = a().body(|_, _, _, _| Ok(BodyDecision::Hold)).head(HeadDecision::WaitForBody);
    assert_eq!(difference(vec![holds], |queue| body().forwarded(queue)), None);
    assert_eq!(difference(vec![responds(403)], |queue| answered(queue, 403, "")), None);
}

#[test]
fn the_next_version_sees_what_the_running_one_saw() {
    let calls = Calls::default();
    let mut watcher = filter("w", &calls).head(HeadDecision::Proceed);
    watcher = watcher.body(|_, _, _, _| Ok(BodyDecision::Pass));
    (watcher.trailers, watcher.complete) = (true, true);
    let trailers = || {
        let mut trailers = Fields::default();
        trailers.append(Name::known("x-t"), b"1");
        Frame::Trailers(trailers)
    };
    let tell = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) = entering(queue, BodyLength::Unknown);
        recording.forwarded();
        for frame in [Frame::Data(Bytes::from_static(b"up")), trailers()] {
            recording.arrived(Direction::Request, &frame, false);
        }
        exchange.response.status = 200;
        recording.answered(&exchange.response, BodyLength::Unknown);
        for frame in [Frame::Data(Bytes::from_static(b"down")), trailers()] {
            recording.arrived(Direction::Response, &frame, false);
        }
        finish(recording, &exchange);
    };
    let (kind, line) = difference(vec![watcher], tell).expect("it adds a trailer");
    assert_eq!(kind, Kind::Headers);
    assert_eq!(
        line,
        "GET /a/b on inbound/app: other request trailer fields `x-seen`; \
         other response trailer fields `x-seen`"
    );
    let seen = [
        "w request",
        "w RequestBody up false",
        "w RequestBody  true",
        "w request trailers",
        "w response",
        "w ResponseBody down false",
        "w ResponseBody  true",
        "w response trailers",
        "w complete",
    ];
    assert_eq!(*calls.borrow(), seen);
}

#[test]
fn other_fields_are_named_and_their_values_are_not() {
    let found = difference(vec![edits("x-a", "secret")], forwarded);
    let line = "GET /a/b on inbound/app: other request fields `x-a`".to_owned();
    assert_eq!(found, Some((Kind::Headers, line)));
    let same = |queue: &Arc<Queue>| {
        let edit = |exchange: &mut Exchange| exchange.request.fields.append(X, b"secret");
        Told { edit, ..Told::default() }.forwarded(queue);
    };
    assert_eq!(difference(vec![edits("X-A", "secret")], same), None, "names have no case");
    let found = difference(vec![edits("x-a", "other")], same);
    assert_eq!(found.map(|(kind, _)| kind), Some(Kind::Headers));
    assert_eq!(difference(vec![edits("date", "now")], forwarded), None, "it is to be ignored");
}

#[test]
fn the_order_of_the_values_of_one_field_counts_and_that_of_fields_does_not() {
    let running = |names: &'static [(&str, &str)]| {
        move |queue: &Arc<Queue>| {
            let (mut exchange, mut recording) = entering(queue, BodyLength::None);
            recording.forwarded();
            exchange.response.status = 200;
            recording.answered(&exchange.response, BodyLength::None);
            for (name, value) in names {
                let name = Name::parse(name.as_bytes()).unwrap();
                exchange.response.fields.append(name, value.as_bytes());
            }
            finish(recording, &exchange);
        }
    };
    let adds = || {
        a().response(|exchange| {
            for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
                let name = Name::parse(name.as_bytes()).unwrap();
                exchange.response.fields.append(name, value.as_bytes());
            }
            Ok(HeadDecision::Proceed)
        })
    };
    assert_eq!(difference(vec![adds()], running(&[("b", "2"), ("a", "1"), ("a", "3")])), None);
    let found = difference(vec![adds()], running(&[("b", "2"), ("a", "3"), ("a", "1")]));
    assert_eq!(found.unwrap().1, "GET /a/b on inbound/app: other response fields `a`");
}

#[test]
fn another_method_or_target_is_a_difference_of_the_head() {
    let turned = a().request(|exchange| {
        exchange.set_target("/a/b?token=other").map_err(|_| trap())?;
        exchange.set_method(b"PUT").map_err(|_| trap())?;
        Ok(HeadDecision::Proceed)
    });
    let line = "GET /a/b on inbound/app: other request method, query".to_owned();
    assert_eq!(difference(vec![turned], forwarded), Some((Kind::Headers, line)));
}

#[test]
fn another_status_is_told() {
    let refuses = a().response(|exchange| {
        exchange.set_status(503).map_err(|_| trap())?;
        Ok(HeadDecision::Proceed)
    });
    let line = "GET /a/b on inbound/app: status 200, of the next version 503".to_owned();
    assert_eq!(difference(vec![refuses], forwarded), Some((Kind::Status, line)));
}

#[test]
fn an_answer_of_one_version_against_none_of_the_other_is_a_difference_of_status() {
    let found = difference(vec![responds(403)], forwarded).unwrap();
    assert_eq!(found.0, Kind::Status);
    assert!(found.1.ends_with("forwards the request, the next one answers 403"), "{}", found.1);
    let found = difference(vec![], |queue| answered(queue, 401, "no")).unwrap();
    assert_eq!(found.0, Kind::Status);
    assert!(found.1.ends_with("answers 401, the next one forwards the request"), "{}", found.1);
    let found = difference(vec![responds(403)], |queue| answered(queue, 401, "")).unwrap();
    assert!(found.1.ends_with("answers 401, the next one answers 403"), "{}", found.1);
}

#[test]
fn a_response_in_place_of_the_upstreams_is_compared_too() {
    let replaces = |body: &'static str| {
        a().response(move |_| {
            let body = body.as_bytes().to_vec();
            let reply = LocalResponse { status: 200, body, ..refusal(200) };
            Ok(HeadDecision::Respond(Box::new(reply)))
        })
    };
    let running = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) = entering(queue, BodyLength::None);
        recording.forwarded();
        exchange.response.status = 502;
        recording.answered(&exchange.response, BodyLength::Unknown);
        recording.arrived(Direction::Response, &Frame::Data(Bytes::from_static(b"x")), false);
        recording.left(Direction::Response, b"x");
        recording.replaced();
        exchange.response.status = 200;
        recording.arrived(Direction::Response, &Frame::Data(Bytes::from_static(b"new")), false);
        recording.left(Direction::Response, b"new");
        recording.ended(Direction::Response, None);
        finish(recording, &exchange);
    };
    assert_eq!(difference(vec![replaces("new")], running), None);
    let found = difference(vec![replaces("newer")], running).unwrap();
    assert_eq!(found.0, Kind::Body);
    let found = difference(vec![], running).unwrap();
    assert_eq!(found.0, Kind::Status);
    // The running version answered in mid-body; the next one still waits for more.
    let holds = a().body(|_, _, _, _| Ok(BodyDecision::Hold)).head(HeadDecision::WaitForBody);
    let found = difference(vec![holds], running).unwrap();
    assert!(found.1.ends_with("answers 200, the next one forwards the response"), "{}", found.1);
}

#[test]
fn another_body_is_told_by_its_length() {
    let upper = || a().body(|_, _, chunk, _| Ok(BodyDecision::Replace(chunk.to_ascii_uppercase())));
    let found = difference(vec![upper()], forwarded).unwrap();
    let line = "GET /a/b on inbound/app: other response body, 5 bytes in both".to_owned();
    assert_eq!(found, (Kind::Body, line));
    let cuts = || a().body(|_, _, _, _| Ok(BodyDecision::Replace(Vec::new())));
    let found = difference(vec![cuts()], forwarded).unwrap();
    assert!(found.1.ends_with("response body of 5 bytes, of the next version 0"), "{}", found.1);
    let body = |queue: &Arc<Queue>| {
        let request_body = Some(vec!["abc"]);
        Told { request_body, answer_body: vec![], ..Told::default() }.forwarded(queue);
    };
    let found = difference(vec![cuts()], body).unwrap();
    assert!(found.1.ends_with("request body of 3 bytes, of the next version 0"), "{}", found.1);
}

#[test]
fn a_failure_counts_for_those_that_differ_and_where_the_running_version_has_none() {
    let fails = || a().request(|_| Err(trap()));
    let found = difference(vec![fails()], forwarded).unwrap();
    assert_eq!(found.0, Kind::Failed);
    assert!(found.1.ends_with(": filter `a` of the next version fails"), "{}", found.1);
    let found = difference(vec![fails().open()], forwarded).unwrap();
    assert_eq!(found.0, Kind::Failed, "also where the exchange goes on without it");
    let mut late = a();
    late.complete = true;
    assert_eq!(difference(vec![late], forwarded), None);

    let mut next = player(vec![fails()]);
    next.candidates[0].differs = Members::default();
    assert!(played(&mut next, forwarded).is_none(), "what follows is not known");
    let mut next = player(vec![fails().open()]);
    next.candidates[0].differs = Members::default();
    let same = played(&mut next, forwarded).unwrap();
    assert!(same.difference.is_none() && !same.failed);
}

#[test]
fn two_failures_are_the_same_and_one_that_is_mended_is_a_difference() {
    let failing = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) = entering(queue, BodyLength::None);
        recording.failed();
        recording.ended(Direction::Response, None);
        exchange.response.status = 500;
        recording.finish(&exchange, Finish { failed: true, ..Finish::default() });
    };
    assert_eq!(difference(vec![a().request(|_| Err(trap()))], failing), None);
    let found = difference(vec![], failing).unwrap();
    assert_eq!(found.0, Kind::Status);
    assert!(found.1.ends_with("version fails, the next one forwards the request"), "{}", found.1);
}

#[test]
fn without_a_body_heads_are_compared_unless_the_body_decides() {
    let long = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) =
            entering(queue, BodyLength::Exact(BODY_BYTES_MAX as u64 + 1));
        recording.forwarded();
        recording.arrived(Direction::Request, &Frame::Data(Bytes::from_static(b"much")), true);
        exchange.response.status = 200;
        recording.answered(&exchange.response, BodyLength::Exact(BODY_BYTES_MAX as u64 + 1));
        recording.arrived(Direction::Response, &Frame::Data(Bytes::from_static(b"much")), true);
        recording.left(Direction::Response, b"other");
        finish(recording, &exchange);
    };
    let passes = || a().body(|_, _, _, _| Ok(BodyDecision::Pass));
    assert_eq!(difference(vec![passes()], long), None);
    let found = difference(vec![edits("x-a", "1")], long);
    assert_eq!(found.map(|(kind, _)| kind), Some(Kind::Headers));
    let waits = || passes().head(HeadDecision::WaitForBody);
    assert!(played(&mut player(vec![waits()]), long).is_none());
    let waits = || passes().response(|_| Ok(HeadDecision::WaitForBody));
    assert!(played(&mut player(vec![waits()]), long).is_none());
}

#[test]
fn a_request_that_was_answered_before_its_end_is_played_as_far_as_it_is_known() {
    let early = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) = entering(queue, BodyLength::Unknown);
        recording.forwarded();
        recording.arrived(Direction::Request, &Frame::Data(Bytes::from_static(b"some")), false);
        exchange.response.status = 200;
        recording.answered(&exchange.response, BodyLength::None);
        finish(recording, &exchange);
    };
    let passes = || a().body(|_, _, _, _| Ok(BodyDecision::Pass));
    assert_eq!(difference(vec![passes()], early), None);
    let holds = a().body(|_, _, _, _| Ok(BodyDecision::Hold)).head(HeadDecision::WaitForBody);
    assert!(played(&mut player(vec![holds]), early).is_none(), "the rest decides");
}

#[test]
fn a_head_request_has_no_body_to_compare() {
    let head = |queue: &Arc<Queue>| {
        let (mut exchange, mut recording) = entering(queue, BodyLength::None);
        recording.replaced();
        exchange.response.status = 403;
        recording.left(Direction::Response, b"kept back");
        recording.ended(Direction::Response, None);
        finish(recording, &exchange);
    };
    let mut record = told(head);
    record.request.head.method = http::Method::HEAD;
    assert!(player(vec![responds(403)]).play(&record).unwrap().difference.is_none());
}

#[test]
fn slower_is_more_than_twice_and_a_tenth_of_a_millisecond_more() {
    let micro = Duration::from_micros(1);
    let takes = |time: Duration| {
        a().request(move |exchange| {
            exchange.filter = 0;
            exchange.add_filter_time(time);
            Ok(HeadDecision::Proceed)
        })
    };
    for (running, next_takes, slower) in [
        (10 * micro, 110 * micro, false),
        (10 * micro, 111 * micro, true),
        (200 * micro, 400 * micro, false),
        (200 * micro, 401 * micro, true),
    ] {
        let mut record = told(forwarded);
        record.filter_time = running;
        let played = player(vec![takes(next_takes)]).play(&record).unwrap();
        assert_eq!(played.slower, slower, "{running:?} {next_takes:?}");
        assert_eq!(played.time, next_takes);
    }
}

/// What a shadow of `player` counts of what `tell` tells.
fn counted(mut player: Player, tell: impl Fn(&Arc<Queue>)) -> (Counts, Differences, Vec<String>) {
    let (queue, records) = Queue::new();
    let tally = Arc::<Tally>::default();
    tell(&queue);
    replay_all(&mut player, &|| 7, &queue, records.try_iter(), &tally);
    let shadow = Shadow { routes: Vec::new(), queue, tally };
    let (counts, differences) = shadow.counts();
    (counts, differences, shadow.samples())
}

#[test]
fn what_was_played_adds_up() {
    let sometimes = a().request(|exchange| {
        let asked = exchange.request.fields.len();
        if asked == 0 { Ok(HeadDecision::Proceed) } else { Err(trap()) }
    });
    let (counts, differences, samples) = counted(player(vec![sometimes]), |queue| {
        forwarded(queue);
        Told { status: 503, ..Told::default() }.forwarded(queue);
        answered(queue, 403, "");
        drop(entering(queue, BodyLength::None));
    });
    assert_eq!((counts.exchanges, counts.errors, counts.failures), (3, 1, 0));
    assert_eq!((counts.local_replies, counts.memory_bytes), (0, 7));
    assert_eq!(counts.added_time.count(), 3);
    let expected =
        Differences { compared: 3, skipped: 1, same: 2, status: 1, ..Differences::default() };
    assert_eq!(differences, expected);
    assert_eq!(samples.len(), 1);
}

#[test]
fn as_many_samples_as_fit_are_kept_the_latest_last() {
    for told in [SAMPLES_MAX - 1, SAMPLES_MAX, SAMPLES_MAX + 1] {
        let (_, differences, samples) = counted(player(vec![]), |queue| {
            (0..told).for_each(|nth| answered(queue, 400 + nth as u16, ""));
        });
        assert_eq!(differences.status, told as u64);
        assert_eq!(samples.len(), told.min(SAMPLES_MAX));
        let last = samples.last().unwrap();
        assert!(last.contains(&format!("answers {}", 399 + told)), "{last}");
    }
}

#[test]
fn what_differs_in_the_same_words_is_told_once() {
    let (_, differences, samples) = counted(player(vec![]), |queue| {
        for status in [401, 402, 401, 401] {
            answered(queue, status, "");
        }
    });
    assert_eq!((differences.status, samples.len()), (4, 2));
    assert!(samples[0].contains("answers 402") && !samples[0].contains("times"), "{samples:?}");
    assert!(
        samples[1].contains("answers 401") && samples[1].ends_with(" (3 times)"),
        "{samples:?}"
    );
}

#[test]
fn a_shadow_that_is_to_end_plays_nothing_more() {
    let (queue, records) = Queue::new();
    forwarded(&queue);
    queue.stop();
    let tally = Arc::<Tally>::default();
    replay_all(&mut player(vec![]), &|| 0, &queue, records.try_iter(), &tally);
    assert_eq!(Shadow { routes: Vec::new(), queue, tally }.counts().0.exchanges, 0);
}

#[test]
fn the_thread_of_a_shadow_plays_and_ends_with_it() {
    let (played, seen) = channel();
    let route = (Arc::from("inbound"), Arc::from("app"));
    let shadow = Shadow::spawn(vec![route], move || {
        let tells = a().request(move |_| {
            played.send(()).unwrap();
            Ok(HeadDecision::Proceed)
        });
        (player(vec![tells]), || 0)
    });
    let shadow = shadow.unwrap();
    assert!(shadow.recorder("inbound", "other").is_none());
    let recorder = shadow.recorder("inbound", "app").unwrap();
    for _ in 0..2 {
        forwarded(&shadow.queue);
        seen.recv().unwrap();
    }
    assert!(shadow.counts().0.exchanges >= 1, "the first is counted before the second is played");
    drop(shadow);
    assert!(seen.recv().is_err(), "its filters are gone");
    // Workers may hold their end for longer.
    let (mut exchange, queue) = (Box::<Exchange>::default(), recorder);
    let late = queue.begin(&mut exchange, BodyLength::None, Instant::now());
    finish(late.expect("there is room"), &exchange);
}

mod guests;
