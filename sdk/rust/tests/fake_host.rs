//! The fake host keeps the rules of the real one: phases, limits, and what becomes of bodies.

use std::{cell::RefCell, time::Duration};

use pillion_sdk::{
    EditErrorKind, NoteError,
    prelude::*,
    testing::{self, Exchange, Host, Loaded, json},
};

type Hook<R> = fn(&mut Request) -> Result<R>;
type BodyHook<M> = fn(&mut M, Chunk<'_>) -> Result<BodyDecision>;

/// A filter whose hooks are chosen by the test.
struct Scripted {
    request: Hook<Decision>,
    request_body: BodyHook<Request>,
    response: fn(&mut Response) -> Result<Decision>,
    response_body: BodyHook<Response>,
    trailers: fn(&mut Trailers) -> Result<()>,
}

const PROCEED: Scripted = Scripted {
    request: |_| Ok(Decision::Proceed),
    request_body: |_, _| Ok(BodyDecision::Pass),
    response: |_| Ok(Decision::Proceed),
    response_body: |_, _| Ok(BodyDecision::Pass),
    trailers: |_| Ok(()),
};

thread_local! {
    static SCRIPT: RefCell<Scripted> = const { RefCell::new(PROCEED) };
}

#[filter]
impl Filter for Scripted {
    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(SCRIPT.replace(PROCEED))
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        (self.request)(request)
    }

    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        (self.request_body)(request, chunk)
    }

    fn on_request_trailers(&mut self, _: &Request, trailers: &mut Trailers) -> Result<()> {
        (self.trailers)(trailers)
    }

    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        (self.response)(response)
    }

    fn on_response_body(
        &mut self,
        _: &Request,
        response: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        (self.response_body)(response, chunk)
    }

    fn on_complete(&mut self, request: &Request, outcome: &Outcome) -> Result<()> {
        log::info!("{} {:?} {}", request.path(), outcome.status, outcome.request_bytes);
        Ok(())
    }
}

fn load(script: Scripted) -> Loaded<Scripted> {
    SCRIPT.set(script);
    Host::new().load(json!({})).expect("the filter takes any configuration")
}

fn get(request: Hook<Decision>) -> Exchange<Scripted> {
    load(Scripted { request, ..PROCEED }).request(testing::Request::get("/a?b"))
}

fn post(body: &str, request: Hook<Decision>, hook: BodyHook<Request>) -> Exchange<Scripted> {
    let chunks = body.split('|').map(str::to_owned);
    load(Scripted { request, request_body: hook, ..PROCEED })
        .request(testing::Request::post("/a").chunks(chunks))
}

#[test]
fn a_request_is_read_and_edited() {
    let exchange = get(|request| {
        assert_eq!((request.path(), request.query()), ("/a".to_owned(), Some("b".to_owned())));
        request.set_header("X-A", " 1 ")?;
        request.append_header("x-a", "2")?;
        assert_eq!(request.header_all("X-a"), ["1", "2"]);
        request.set_path_with_query("/c")?;
        request.set_method("PUT")?;
        request.set_authority("b.example:81")?;
        assert!(!request.remove_header("x-none")?);
        Ok(Decision::Proceed)
    });
    let forwarded = exchange.forwarded();
    assert_eq!(forwarded.headers[0], Field::new("x-a", "1"));
    assert_eq!(
        (&*forwarded.method, &*forwarded.path_with_query, &*forwarded.authority),
        ("PUT", "/c", "b.example:81")
    );
}

#[test]
fn an_error_of_a_hook_is_a_failure_that_names_hook_and_field() {
    let exchange = get(|request| {
        request.set_header("content-length", "1")?;
        Ok(Decision::Proceed)
    });
    assert_eq!(
        exchange.failure(),
        Some(
            "hook `on-request` failed: failed to set field `content-length` of the request: \
             the field belongs to the host"
        )
    );
    assert!(exchange.local_response().is_none());
}

#[test]
fn edits_are_limited_to_256_an_exchange() {
    let exchange = get(|request| {
        for _ in 0..256 {
            request.set_header("x-a", "1")?;
        }
        let error = request.set_header("x-a", "1").unwrap_err();
        assert_eq!(error.kind(), EditErrorKind::LimitExceeded);
        Ok(Decision::Proceed)
    });
    assert!(exchange.failure().is_none());
}

#[test]
fn a_forwarded_head_cannot_be_edited_from_the_body_hook() {
    let hook: BodyHook<Request> = |request, chunk| {
        let edit = request.set_header("x-last", &chunk.is_last().to_string());
        Ok(match edit.map_err(|error| error.kind()) {
            Ok(()) => BodyDecision::Pass,
            Err(EditErrorKind::WrongPhase) => BodyDecision::Replace(b"late".to_vec()),
            Err(kind) => return Err(Error::new(kind.to_string())),
        })
    };
    let exchange = post("a|b", |_| Ok(Decision::Proceed), hook);
    assert_eq!(exchange.forwarded().body_text(), "latelate");
    // The first answer that is not `Hold` lets the head go.
    let exchange = post("a|b", |_| Ok(Decision::WaitForBody), hook);
    assert_eq!(exchange.forwarded().body_text(), "alate");
    assert_eq!(exchange.forwarded().header("x-last"), Some("false".to_owned()));
}

#[test]
fn held_bytes_come_back_and_go_out_with_the_next_pass() {
    let hook: BodyHook<Request> = |_, chunk| {
        let held = chunk.held();
        assert_eq!(chunk.held_len(), held.len() as u64);
        Ok(match chunk.bytes() {
            b"pass" => BodyDecision::Pass,
            b"swap" => BodyDecision::Replace([b"<", &*chunk.held_and_this(), b">"].concat()),
            _ => BodyDecision::Hold,
        })
    };
    let proceed: Hook<Decision> = |_| Ok(Decision::Proceed);
    assert_eq!(post("a|b|pass|c", proceed, hook).forwarded().body_text(), "abpassc");
    assert_eq!(post("a|swap|b|", proceed, hook).forwarded().body_text(), "<aswap>b");
    let skip: Hook<Decision> = |_| Ok(Decision::SkipBody);
    assert_eq!(post("a|swap", skip, hook).forwarded().body_text(), "aswap");
}

#[test]
fn held_and_replaced_bytes_are_limited_to_one_mebibyte() {
    let hold: BodyHook<Request> = |_, _| Ok(BodyDecision::Hold);
    let replace: BodyHook<Request> =
        |_, chunk| Ok(BodyDecision::Replace(vec![0; chunk.bytes()[0] as usize + (1 << 20) - 50]));
    for (over, fails) in [(-1_i32, false), (0, false), (1, true)] {
        let length = usize::try_from((1 << 20) + over).unwrap();
        // The empty chunk at the end: the last one is never held.
        let body = "x".repeat(length) + "|";
        let exchange = post(&body, |_| Ok(Decision::Proceed), hold);
        assert_eq!(exchange.failure().is_some(), fails, "held {over}");
        let body = char::from(u8::try_from(50 + over).unwrap()).to_string();
        let exchange = post(&body, |_| Ok(Decision::Proceed), replace);
        assert_eq!(exchange.failure().is_some(), fails, "replaced {over}");
    }
}

#[test]
fn local_responses_are_checked_by_the_host() {
    let exchange = get(|_| Ok(LocalResponse::text(403, "no").header("X-Why", "because").into()));
    let reply = exchange.local_response().unwrap();
    assert_eq!((reply.status, &*reply.body_text()), (403, "no"));
    assert_eq!(reply.headers[1], Field::new("x-why", "because"));
    let exchange = get(|_| Ok(LocalResponse::new(99).into()));
    assert_eq!(
        exchange.failure(),
        Some("its local response has status 99; 200 to 599 are allowed")
    );
    let exchange =
        post("a|b", |_| Ok(Decision::Proceed), |_, _| Ok(LocalResponse::new(413).into()));
    assert_eq!(exchange.local_response().unwrap().status, 413);
}

#[test]
fn a_response_is_edited_and_its_body_answered_only_while_the_head_waits() {
    let answer =
        |script, response| load(script).request(testing::Request::get("/")).answer(response);
    let respond: BodyHook<Response> = |_, _| Ok(LocalResponse::new(502).into());
    let upstream = testing::Response::new(200).header("Server", "a").body("b");
    let wait =
        Scripted { response: |_| Ok(Decision::WaitForBody), response_body: respond, ..PROCEED };
    assert_eq!(answer(wait, upstream.clone()).response().status, 502);
    let late = Scripted { response_body: respond, ..PROCEED };
    assert!(answer(late, upstream.clone()).failure().unwrap().contains("head is on its way"));
    let edit = Scripted {
        response: |response| {
            response.set_status(404)?;
            assert_eq!(response.set_status(204).unwrap_err().kind(), EditErrorKind::InvalidValue);
            assert!(response.remove_header("server")?);
            Ok(Decision::Proceed)
        },
        ..PROCEED
    };
    let answered = answer(edit, upstream);
    assert_eq!((answered.response().status, answered.response().headers.len()), (404, 0));
    assert_eq!(answered.response().body_text(), "b");
}

#[test]
fn trailers_are_edited_in_their_hook() {
    let script = Scripted {
        trailers: |trailers| {
            trailers.set_header("x-sum", "2")?;
            let refused = trailers.set_header("Transfer-Encoding", "chunked").unwrap_err();
            assert_eq!(refused.kind(), EditErrorKind::HostOwned);
            Ok(())
        },
        ..PROCEED
    };
    let request = testing::Request::post("/").body("a").trailer("X-Sum", "1");
    let exchange = load(script).request(request);
    assert_eq!(exchange.forwarded().trailers, [Field::new("x-sum", "2")]);
}

#[test]
fn notes_and_log_lines_have_limits() {
    let exchange = get(|request| {
        for index in 0..64 {
            request.set_note(&format!("scripted.{index}"), "v")?;
        }
        assert_eq!(request.set_note("scripted.64", "v"), Err(NoteError::LimitExceeded));
        for (length, fits) in [(1023, true), (1024, true), (1025, false)] {
            let value = "v".repeat(length - "scripted.0".len());
            assert_eq!(request.set_note("scripted.0", &value).is_ok(), fits);
        }
        Ok(Decision::Proceed)
    });
    assert_eq!(exchange.note("scripted.63"), Some("v".to_owned()));

    SCRIPT.set(Scripted {
        request: |_| {
            for line in 0..30 {
                log::warn!("line {line}\n{}", "é".repeat(1000));
            }
            Ok(Decision::Proceed)
        },
        ..PROCEED
    });
    let host = Host::new();
    host.load::<Scripted>(json!({})).unwrap().request(testing::Request::get("/"));
    let logs = host.logs();
    assert_eq!(logs.len(), 20);
    assert!(logs[19].text.starts_with("line 19\\né") && logs[19].text.ends_with('…'));
}

#[test]
fn time_stands_still_within_an_exchange_and_random_numbers_follow_the_seed() {
    let host = Host::new().at(Duration::from_secs(7)).seed(1);
    SCRIPT.set(Scripted {
        request: |request| {
            request.set_note("n", &format!("{:?} {}", clock::now(), random::number()))?;
            assert!(clock::monotonic() < clock::monotonic());
            assert_eq!(random::bytes(9).len(), 9);
            Ok(Decision::Proceed)
        },
        response: |response| {
            response.set_header("x-now", &format!("{:?}", clock::now()))?;
            Ok(Decision::Proceed)
        },
        ..PROCEED
    });
    let filter = host.load::<Scripted>(json!({})).unwrap();
    let exchange = filter.request(testing::Request::get("/"));
    let first = exchange.note("n");
    host.advance(Duration::from_secs(1));
    let mut answered = exchange.answer(testing::Response::new(200));
    assert_eq!(answered.response().header("x-now"), Some("7s".to_owned()));
    let outcome = answered.complete().unwrap();
    assert!(outcome.duration >= Duration::from_secs(1));
    assert_eq!(host.logs()[0].text, "/ Some(200) 0");
    SCRIPT.set(Scripted {
        request: |request| {
            request.set_note("n", &format!("{:?} {}", clock::now(), random::number()))?;
            Ok(Decision::Proceed)
        },
        ..PROCEED
    });
    let same = Host::new().at(Duration::from_secs(7)).seed(1).load::<Scripted>(json!({})).unwrap();
    assert_eq!(same.request(testing::Request::get("/")).note("n"), first);
}

#[test]
fn a_filter_without_configuration_refuses_keys() {
    let error = Host::new().load::<Scripted>(json!({"a": 1})).err().unwrap();
    assert_eq!(error.to_string(), "`a`: unknown field `a`, there are no fields");
}

#[test]
#[should_panic(expected = "no grant `rate-limit`")]
fn buckets_need_a_grant() {
    get(|_| {
        rate_limit::take("a", 1);
        Ok(Decision::Proceed)
    });
}

#[test]
fn a_response_that_can_have_no_body_has_none_and_calls_no_body_hook() {
    for (method, status, bytes) in
        [("GET", 200, 1), ("GET", 204, 0), ("GET", 304, 0), ("HEAD", 200, 0)]
    {
        let script = Scripted {
            response_body: |response, _| {
                response.set_header("x-late", "1").expect_err("the head is gone");
                log::info!("called");
                Ok(BodyDecision::Pass)
            },
            ..PROCEED
        };
        let filter = load(script);
        let upstream = testing::Response::new(status).body("b").trailer("x-sum", "1");
        let mut answered = filter.request(testing::Request::new(method, "/")).answer(upstream);
        let trailers = answered.response().trailers.len();
        assert_eq!((answered.response().body.len(), trailers), (bytes, bytes), "{method} {status}");
        assert_eq!(filter.host().logs().len(), bytes);
        assert_eq!(answered.complete().unwrap().response_bytes, bytes as u64);

        let local = Scripted {
            request: |request| {
                let status = request.path_with_query()[1..].parse().expect("a status");
                Ok(LocalResponse::new(status).body("b").into())
            },
            ..PROCEED
        };
        let exchange = load(local).request(testing::Request::new(method, &format!("/{status}")));
        assert_eq!(exchange.local_response().unwrap().body.len(), bytes, "{method} {status}");
    }
}

#[test]
fn an_instance_that_fails_is_replaced() {
    SCRIPT.set(Scripted { request: |_| Err(Error::new("no")), ..PROCEED });
    let filter = Host::new().load::<Scripted>(json!({})).unwrap();
    let mut exchange = filter.request(testing::Request::get("/"));
    assert_eq!(exchange.failure(), Some("hook `on-request` failed: no"));
    // Its successor, which the filter's `new` makes of another script, hears of the end.
    let outcome = exchange.outcome();
    assert_eq!((outcome.status, outcome.response_bytes), (Some(500), 36));
    assert_eq!(outcome.error.as_deref(), Some("proxy_internal_error"));
    exchange.complete(&outcome).unwrap();
    assert_eq!(filter.host().logs()[0].text, "/ Some(500) 0");
    assert!(filter.request(testing::Request::get("/")).failure().is_none());
}

#[test]
fn a_failure_after_the_head_breaks_the_response_off() {
    let fail: BodyHook<Response> = |_, chunk| match chunk.bytes() {
        b"fail" => Err(Error::new("no")),
        _ => Ok(BodyDecision::Pass),
    };
    let answer = |response| {
        let upstream = testing::Response::new(200).chunks(["four", "fail", ""]);
        let script = Scripted { response, response_body: fail, ..PROCEED };
        load(script).request(testing::Request::get("/")).answer(upstream)
    };
    let late = answer(|_| Ok(Decision::Proceed));
    assert!(late.is_broken_off() && late.failure().is_some());
    let outcome = late.outcome();
    assert_eq!((outcome.status, outcome.complete, outcome.response_bytes), (Some(200), false, 4));

    let script = Scripted { response: |_| Err(Error::new("no")), ..PROCEED };
    let early =
        load(script).request(testing::Request::get("/")).answer(testing::Response::new(200));
    assert!(!early.is_broken_off() && early.failure().is_some());
    assert_eq!((early.outcome().status, early.outcome().complete), (Some(500), true));
}

#[test]
fn everything_that_was_noted_and_reported_can_be_listed() {
    SCRIPT.set(Scripted {
        request: |request| {
            request.set_note("b", "2")?;
            request.set_note("a", "1")?;
            metrics::Gauge::define("level", "", &["l"])?.set(0.5, &["x"])?;
            let sizes = metrics::Histogram::define("sizes", "", &[])?;
            sizes.observe(1.0, &[])?;
            sizes.observe(2.0, &[])?;
            Ok(Decision::Proceed)
        },
        ..PROCEED
    });
    let filter = Host::new().load::<Scripted>(json!({})).unwrap();
    let exchange = filter.request(testing::Request::get("/"));
    assert_eq!(exchange.notes().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    let of = |name: &str, labels: &[&str], value, observations| testing::Series {
        name: name.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        value,
        observations,
    };
    let listed = filter.host().series();
    assert_eq!(listed, [of("level", &["x"], 0.5, None), of("sizes", &[], 3.0, Some(2))]);
}
