//! Next versions that are guests: what they do to themselves, and what they cannot do to others.

use super::*;

fn build(spec: FilterSpec, state: &State, component: &[u8]) -> WasmFilter {
    let code = wasm_testing::load(component).unwrap();
    let prepared = Prepared::build(spec, code, state, &numbers()).unwrap();
    prepared.instantiate_for_worker(usize::MAX).unwrap()
}

/// A player of a guest, with a millisecond or two for each hook.
fn guest(component: &[u8]) -> Player {
    let limits = Limits { time: Duration::from_millis(20), ..spec().limits };
    let state = State::new(Instant::now()).shadow();
    let filter = build(FilterSpec { limits, ..spec() }, &state, component);
    let filters = [Some(Rc::new(filter))];
    let next = candidate(&filters, &[Link { filter: 0, differs: true }]);
    Player::new(vec![next], Vec::new())
}

#[test]
fn a_guest_that_proceeds_is_the_same() {
    let (counts, differences, _) = counted(guest(&on_request(&[], "", PROCEED)), |queue| {
        (0..3).for_each(|_| forwarded(queue));
    });
    assert_eq!((counts.exchanges, counts.failures, differences.same), (3, 0, 3));
    assert!(counts.added_time.nanoseconds > 0);
}

#[test]
fn guests_that_trap_spin_or_want_all_memory_fail_and_the_next_exchange_finds_a_new_one() {
    let spin = "(loop $spin (br $spin)) unreachable";
    let greedy = "(loop $more (memory.grow (i32.const 10)) drop (br $more)) unreachable";
    for body in ["unreachable", spin, greedy] {
        let functions = format!(r#"(func (export "on-request") (result i32) {body})"#);
        let component = component(&[], "", &functions, LIFT);
        let (counts, differences, samples) = counted(guest(&component), |queue| {
            (0..2).for_each(|_| forwarded(queue));
        });
        assert_eq!((counts.exchanges, counts.failures, counts.errors), (2, 2, 2), "{body}");
        let expected = Differences { compared: 2, failed: 2, ..Differences::default() };
        assert_eq!(Differences { slower: 0, ..differences }, expected, "{body}");
        let expected = "filter `test` of the next version fails (2 times)";
        assert!(samples[0].ends_with(expected), "{}", samples[0]);
    }
}

#[test]
fn a_guest_that_edits_is_told_by_the_field() {
    let body = format!(
        "(call $set-header (i32.const 1024) (i32.const 3) (i32.const 1027) (i32.const 1)
           (i32.const 600))
         {PROCEED}"
    );
    let component = on_request(&[Import::Request], "x-av", &body);
    let (_, differences, samples) = counted(guest(&component), forwarded);
    assert_eq!((differences.compared, differences.headers), (1, 1));
    assert_eq!(samples, ["GET /a/b on inbound/app: other request fields `x-a`"]);
}

#[test]
fn a_guest_whose_body_hook_changes_bytes_is_told() {
    // Replaces every chunk by one byte.
    let functions = r#"(func (export "on-body") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 512) (i32.const 1))
        (i32.store (i32.const 516) (i32.const 1024)) (i32.store (i32.const 520) (i32.const 1))
        (i32.const 512))"#;
    let component = component(&[], "z", functions, LIFT_BODIES);
    let (_, differences, samples) = counted(guest(&component), forwarded);
    assert_eq!((differences.compared, differences.body), (1, 1));
    assert!(
        samples[0].contains("response body of 5 bytes, of the next version 3"),
        "{}",
        samples[0]
    );
}

#[test]
fn a_shadow_is_started_with_the_chains_that_differ_and_without_what_could_not_be_loaded() {
    let state = State::new(Instant::now()).shadow();
    let proceeds = build(spec(), &state, &on_request(&[], "", PROCEED));
    let trapping = r#"(func (export "on-request") (result i32) unreachable)"#;
    let trapping = build(spec(), &state, &component(&[], "", trapping, LIFT));
    let link = |filter, differs| Link { filter, differs };
    let chain = |route: &str, links: &[Link]| NextChain {
        listener: Arc::from("inbound"),
        route: Arc::from(route),
        links: links.to_vec(),
    };
    let shadow = Shadow::start(Setup {
        filters: vec![Some(proceeds), None, Some(trapping)],
        chains: vec![
            chain("app", &[link(0, true), link(1, true)]),
            chain("other", &[link(1, true), link(2, false)]),
        ],
        ignored: Vec::new(),
    });
    let shadow = shadow.unwrap();
    for route in ["other", "app"] {
        let recorder = shadow.recorder("inbound", route).unwrap();
        let mut exchange = Box::<Exchange>::default();
        let began = Instant::now();
        let mut recording = recorder.begin(&mut exchange, BodyLength::None, began).unwrap();
        recording.forwarded();
        recording.answered(&exchange.response, BodyLength::None);
        finish(recording, &exchange);
    }
    assert!(shadow.recorder("outbound", "app").is_none());
    let (counts, differences) = loop {
        let (counts, differences) = shadow.counts();
        if counts.exchanges == 1 {
            break (counts, differences);
        }
        std::thread::yield_now();
    };
    assert_eq!((differences.same, differences.skipped, counts.failures), (1, 1, 0));
    assert!(counts.memory_bytes > 0 && counts.memory_bytes < 1 << 20, "{}", counts.memory_bytes);
}

#[test]
fn lines_of_a_shadow_are_marked() {
    let body = format!("(call $write (i32.const 2) (i32.const 1024) (i32.const 5)) {PROCEED}");
    let component = on_request(&[Import::Log], "hello", &body);
    let state = State::new(Instant::now());
    let grants = crate::wasm::Grants { log: true, ..Default::default() };
    for (state, marked) in [(state.shadow(), true), (state, false)] {
        let filter = build(FilterSpec { grants: grants.clone(), ..spec() }, &state, &component);
        let text = wasm_testing::logged(|| {
            wasm_testing::request(&filter, &mut Box::default()).unwrap();
        });
        assert!(text.contains("hello"), "{text}");
        assert_eq!(text.contains("shadow=true"), marked, "{text}");
    }
}
