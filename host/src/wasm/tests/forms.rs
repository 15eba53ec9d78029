//! A filter cannot tell in which form it is run: every guest, played in both, has the same effects.

use super::*;
use crate::capability::Script;
use crate::capability::kv::KvGrant;
use crate::capability::rate_limit::Policy;
use crate::chain::{BodyPass, Chain, Direction, Progress};
use crate::wasm::cache::Compiler;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

#[derive(Clone, Copy, Debug, PartialEq)]
enum RunAs {
    Component,
    Module,
}

/// Everything granted, and so little time that a spinning guest does not hold up the tests.
fn granted() -> FilterSpec {
    let grants = Grants {
        log: true,
        clock: true,
        random: true,
        metrics: true,
        kv: Some(KvGrant::default()),
        rate_limit: Some(Policy {
            requests: 10,
            per: Duration::from_secs(3600),
            burst: 5,
            keys: 10,
        }),
    };
    let limits = Limits { time: Duration::from_millis(200), ..spec().limits };
    FilterSpec { grants, limits, ..spec() }
}

fn prepared(guest: &str, form: RunAs) -> Result<Arc<Prepared>, LoadError> {
    let compiler = match form {
        RunAs::Component => Compiler::in_process_as_components(),
        RunAs::Module => Compiler::in_process(),
    };
    let component = std::fs::read(pillion_tests::guests::path(guest)).unwrap();
    let code = compiler.unwrap().load(guest, &component)?;
    // The same time and the same random bytes for both.
    let script = Arc::new(Script::new(UNIX_EPOCH, 1));
    Prepared::build(granted(), code, &State::scripted(script), &numbers())
}

/// What comes of three exchanges, in words.
fn effects(guest: &str, form: RunAs) -> String {
    let prepared = match prepared(guest, form) {
        Ok(prepared) => prepared,
        Err(error) => return format!("refused: {error}"),
    };
    assert_eq!(prepared.runs_directly(), form == RunAs::Module, "{guest}");
    let filter = Rc::new(prepared.instantiate_for_worker(0).unwrap());
    let chain = Chain::new(vec![filter]);
    let mut told = String::new();
    let log = logged(|| {
        for (answer, body) in [("", "hello"), ("wait", "rest"), ("skip", "!"), ("respond", "p")] {
            told += &exchange(&chain, answer, body);
        }
    });
    // Times differ, and so do the first words of an engine's own message.
    let lines = log.lines().filter_map(|line| line.split_once("filter")).map(|(_, line)| line);
    let lines: Vec<&str> = lines.map(|l| l.split("detail=").next().unwrap_or(l)).collect();
    format!("{told}{lines:#?}")
}

/// Plays one exchange with bodies and trailers through the chain.
fn exchange(chain: &Chain, answer: &str, body: &str) -> String {
    let mut exchange = Box::<Exchange>::default();
    exchange.begin_at(UNIX_EPOCH);
    let request = &mut exchange.request;
    request.authority.push_str("app.example");
    request.target.push_str("/some/path?q=1");
    for (name, value) in [
        ("x-many", &b"one"[..]),
        ("x-many", b"two"),
        ("x-bytes", b"\xfe\xff"),
        ("x-remove", b"1"),
        ("x-answer", answer.as_bytes()),
    ] {
        request.fields.append(Name::known(name), value);
    }
    let mut told = String::new();
    let mut progress = Progress::default();
    told += &format!("request: {:?}\n", kinds(chain.request_head(&mut exchange, &mut progress)));
    told += &bodies(chain, &mut exchange, &mut progress, Direction::Request, body);
    let trailers = trailers();
    told += &format!("{:?}\n", chain.request_trailers(&mut exchange, &mut progress, trailers));
    exchange.response.status = 200;
    exchange.response.fields.append(Name::known("x-remove"), b"1");
    told += &format!("response: {:?}\n", kinds(chain.response_head(&mut exchange, &mut progress)));
    told += &bodies(chain, &mut exchange, &mut progress, Direction::Response, body);
    let trailers = self::trailers();
    told += &format!("{:?}\n", chain.response_trailers(&mut exchange, &mut progress, trailers));
    let outcome = Outcome {
        status: Some(200),
        complete: false,
        error: Some("connection_terminated"),
        request_bytes: 5,
        response_bytes: 1 << 40,
        duration: Duration::from_nanos(123_456_789_012),
        upstream: Some(Duration::from_millis(7)),
    };
    chain.complete(&mut exchange, &progress, &outcome);
    let notes: Vec<_> = exchange.notes().collect();
    told += &format!("{:?}\n{:?}\n{notes:#?}\n", exchange.request, exchange.response);
    told += &format!("{:?} {progress:?}\n", exchange.log_lines);
    told
}

fn kinds(verdict: crate::chain::Verdict) -> String {
    format!("{verdict:?}")
}

fn bodies(
    chain: &Chain,
    exchange: &mut Box<Exchange>,
    progress: &mut Progress,
    direction: Direction,
    body: &str,
) -> String {
    let Some(mut hooks) = BodyPass::new(chain, progress, direction) else {
        return "no body hooks\n".to_owned();
    };
    let mut output = Vec::new();
    let chunks =
        [Bytes::copy_from_slice(body.as_bytes()), Bytes::from_static(b"more"), Bytes::new()];
    let mut passed = Vec::new();
    for (nth, chunk) in chunks.into_iter().enumerate() {
        let answer = hooks.push(chain, exchange, progress, chunk, nth == 2, &mut output);
        let over = answer != crate::chain::Passed::Forward;
        passed.push(answer);
        if over {
            break;
        }
    }
    format!("{passed:?} {output:?}\n")
}

fn trailers() -> crate::http::Fields {
    let mut trailers = crate::http::Fields::default();
    trailers.append(Name::known("x-sum"), b"\xff1");
    trailers.append(Name::known("x-remove"), b"1");
    trailers
}

#[test]
fn every_guest_does_the_same_as_a_component_and_as_its_module() {
    for guest in &pillion_tests::guests::NAMES {
        let [component, module] = [RunAs::Component, RunAs::Module].map(|as_| effects(guest, as_));
        assert_eq!(component, module, "{guest}");
        if *guest == "everything" {
            // It got to the end of every hook.
            for note in ["limit", "drawn", "request-trailers", "response-trailers", "outcome"] {
                assert!(module.contains(&format!("\"{note}\",")), "{note}: {module}");
            }
        }
        assert_eq!(component.starts_with("refused"), *guest == "config-error", "{component}");
    }
}

#[test]
fn a_component_of_another_shape_is_run_as_it_is() {
    let prepared = prepare(spec(), &on_request(&[Import::Request], "", PROCEED)).unwrap();
    assert!(!prepared.runs_directly());
}
