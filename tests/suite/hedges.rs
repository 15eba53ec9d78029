//! A second attempt joins one that takes too long: at another endpoint, only where it can do no harm,
//! within the budget of repetitions. The first answer wins, and the other attempt is given up.

use http::{Method, Response, StatusCode};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::Body;
use pillion_tests::sidecar::Setup;
use pillion_tests::{BodyExt, Origin, Protocol, Sidecar, until, within};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

/// A second attempt comes at once, and as many may as the test wants.
const FREELY: &str = "backoff = { base = \"1ms\", max = \"1ms\" }, \
                      budget = { ratio = \"100%\", min_per_second = 1000 }, \
                      hedge = { after = \"20ms\" }";

/// Two endpoints, of which the first gets the first request.
fn between(first: &Origin, second: &Origin, keys: &str) -> Setup {
    let setup = Sidecar::new().origin(first).origin(second).runtime("workers = 1");
    setup.upstream(&format!("retry = {{ {keys}{FREELY} }}"))
}

/// Answers one request for each permit, with `status`, and tells who it is.
async fn holding(status: u16, gate: &Arc<Semaphore>, name: &'static str) -> Origin {
    let gate = gate.clone();
    Origin::serve(move |request| {
        let gate = gate.clone();
        async move {
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            gate.acquire().await.expect("it is never closed").forget();
            let mut answer = Response::new(full(format!("{name} {}", body.len())));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a test says a status");
            answer
        }
    })
    .await
}

async fn ready(status: u16, name: &'static str) -> Origin {
    holding(status, &Arc::new(Semaphore::new(1_000)), name).await
}

async fn never() -> Origin {
    Origin::serve(|_| std::future::pending::<Response<Body>>()).await
}

async fn hedges(sidecar: &Sidecar, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    sidecar.metric("pillion_upstream_hedges_total", &[&label]).await
}

async fn refused(sidecar: &Sidecar, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    sidecar.metric("pillion_upstream_retries_refused_total", &[&label]).await
}

#[tokio::test]
async fn the_second_attempt_answers_where_the_first_takes_too_long() {
    for protocol in ["http1", "h2c"] {
        let (slow, quick) = (never().await, ready(200, "second").await);
        let setup = between(&slow, &quick, "");
        let sidecar = setup.upstream(&format!("protocol = \"{protocol}\"")).start().await;
        for down in [Protocol::Http1, Protocol::Http2] {
            let mut client = sidecar.connect(down).await;
            for _ in 0..2 {
                let reply = client.get("/").await;
                assert_eq!((reply.status, reply.text()), (200, "second 0".to_owned()));
            }
        }
        assert!(slow.requests() > 0, "{protocol}");
        assert_eq!(hedges(&sidecar, "won").await, slow.requests() as f64, "{protocol}");
        let cause = ["cause=\"hedge\""];
        let begun = sidecar.metric("pillion_upstream_retries_total", &cause).await;
        assert_eq!(begun, slow.requests() as f64, "{protocol}");
        let guarded = ["limit=\"retries_max\""];
        sidecar.metric_is("pillion_upstream_guarded", &guarded, |now| now == 0.0).await;
    }
}

#[tokio::test]
async fn the_attempt_that_lost_is_given_up() {
    for protocol in ["http1", "h2c"] {
        let left = Arc::new(Notify::new());
        let tell = left.clone();
        // Whoever waits there is dropped with its stream, or with its connection.
        let slow = Origin::serve(move |_| {
            let gone = Gone(tell.clone());
            async move {
                let answer = std::future::pending::<Response<Body>>().await;
                drop(gone);
                answer
            }
        })
        .await;
        let quick = ready(200, "second").await;
        let setup = between(&slow, &quick, "");
        let sidecar = setup.upstream(&format!("protocol = \"{protocol}\"")).start().await;
        assert_eq!(sidecar.get("/").await.text(), "second 0");
        within("the first endpoint to be left", left.notified()).await;
    }
}

/// Tells when it is dropped.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn the_first_attempt_still_answers_where_it_is_first() {
    let gate = Arc::new(Semaphore::new(0));
    let (slow, slower) = (holding(200, &gate, "first").await, never().await);
    let sidecar = between(&slow, &slower, "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let asked = tokio::spawn(async move { client.get("/").await });
    until("a second attempt", async || (slower.requests() == 1).then_some(())).await;
    gate.add_permits(1);
    assert_eq!(asked.await.expect("the client does not panic").text(), "first 0");
    assert_eq!((hedges(&sidecar, "lost").await, hedges(&sidecar, "won").await), (1.0, 0.0));
    let guarded = ["limit=\"retries_max\""];
    sidecar.metric_is("pillion_upstream_guarded", &guarded, |now| now == 0.0).await;
}

#[tokio::test]
async fn an_attempt_that_fails_waits_for_the_other_whichever_it_is() {
    for (fails, status, result) in [("first", 200, "won"), ("second", 200, "failed")] {
        let gates = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
        let statuses = if fails == "first" { [503, status] } else { [status, 503] };
        let origins = [
            holding(statuses[0], &gates[0], "first").await,
            holding(statuses[1], &gates[1], "second").await,
        ];
        let keys = "on = [\"503\"], attempts = 2, ";
        let sidecar = between(&origins[0], &origins[1], keys).start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        let asked = tokio::spawn(async move { client.get("/").await });
        until("two attempts", async || {
            (origins.iter().all(|origin| origin.requests() == 1)).then_some(())
        })
        .await;
        let (failing, other) = if fails == "first" { (0, 1) } else { (1, 0) };
        gates[failing].add_permits(1);
        if fails == "second" {
            sidecar.metric_is("pillion_upstream_hedges_total", &["failed"], |it| it == 1.0).await;
        }
        assert!(!asked.is_finished(), "{fails}");
        gates[other].add_permits(1);
        let reply = asked.await.expect("the client does not panic");
        assert_eq!(reply.status, 200, "{fails}");
        assert_eq!(hedges(&sidecar, result).await, 1.0, "{fails}");
        assert_eq!(sidecar.metric("pillion_upstream_retries_total", &[]).await, 1.0, "{fails}");
    }
}

#[tokio::test]
async fn the_last_failure_decides_when_both_attempts_fail() {
    for attempts in [2, 3] {
        let gate = Arc::new(Semaphore::new(0));
        let (slow, quick) = (holding(503, &gate, "first").await, ready(503, "second").await);
        let keys = format!("on = [\"503\"], attempts = {attempts}, ");
        let sidecar = between(&slow, &quick, &keys).start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        let asked = tokio::spawn(async move { client.get("/").await });
        sidecar.metric_is("pillion_upstream_hedges_total", &["failed"], |it| it == 1.0).await;
        assert!(!asked.is_finished(), "the first attempt is still under way");
        gate.add_permits(10);
        let reply = asked.await.expect("the client does not panic");
        assert_eq!(reply.status, 503);
        let all = slow.requests() + quick.requests();
        assert_eq!(all, attempts, "a second attempt is one of `attempts`");
        assert_eq!(refused(&sidecar, "attempts").await, 1.0);
    }
}

#[tokio::test]
async fn only_what_makes_no_difference_is_attempted_twice() {
    for (method, any, twice) in [
        (Method::GET, false, true),
        (Method::PUT, false, true),
        (Method::DELETE, false, true),
        (Method::POST, false, false),
        (Method::PATCH, false, false),
        (Method::POST, true, true),
    ] {
        let gate = Arc::new(Semaphore::new(0));
        let (slow, quick) = (holding(200, &gate, "first").await, ready(200, "second").await);
        let sidecar = between(&slow, &quick, &format!("any_method = {any}, ")).start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        let request = client.request(method.clone(), "/").body(full("body"));
        let request = request.expect("the request is valid");
        let asked = tokio::spawn(async move { client.fetch(request).await });
        until("the first attempt", async || (slow.requests() == 1).then_some(())).await;
        if !twice {
            // Another request has been served meanwhile, in two attempts.
            let mut other = sidecar.connect(Protocol::Http1).await;
            assert_eq!(other.get("/").await.text(), "second 0");
            assert_eq!(quick.requests(), 1, "{method} {any}");
            gate.add_permits(10);
        }
        let reply = asked.await.expect("the client does not panic");
        let expected = if twice { "second 4" } else { "first 4" };
        assert_eq!(reply.text(), expected, "{method} {any}");
    }
}

#[tokio::test]
async fn a_body_that_is_kept_is_sent_to_both_and_one_that_is_not_to_one() {
    for (length, twice) in [(4_095, true), (4_096, true), (4_097, false)] {
        for protocol in ["http1", "h2c"] {
            let gate = Arc::new(Semaphore::new(0));
            let (slow, quick) = (holding(200, &gate, "first").await, ready(200, "second").await);
            let keys = "any_method = true, replay_buffer = \"4KiB\", ";
            let setup = between(&slow, &quick, keys);
            let sidecar = setup.upstream(&format!("protocol = \"{protocol}\"")).start().await;
            let mut client = sidecar.connect(Protocol::Http2).await;
            let asked = tokio::spawn(async move { client.post("/", vec![b'x'; length]).await });
            if !twice {
                sidecar.metric_is(REFUSED, &["reason=\"body\""], |it| it == 1.0).await;
                gate.add_permits(1);
            }
            let name = if twice { "second" } else { "first" };
            let reply = asked.await.expect("the client does not panic");
            assert_eq!(reply.text(), format!("{name} {length}"), "{protocol}");
        }
    }
}

const REFUSED: &str = "pillion_upstream_retries_refused_total";

#[tokio::test]
async fn a_request_that_is_not_whole_is_not_attempted_twice() {
    let (slow, quick) = (never().await, ready(200, "second").await);
    let sidecar = between(&slow, &quick, "any_method = true, ").start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbo").await;
    until("the first attempt", async || (slow.requests() == 1).then_some(())).await;
    // A whole one comes and goes meanwhile: its first attempt is at the other endpoint.
    assert_eq!(sidecar.get("/").await.text(), "second 0");
    assert_eq!(sidecar.metric("pillion_upstream_hedges_total", &[]).await, 0.0);
    wire.send("dy").await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.text()), (200, "second 4".to_owned()));
    assert_eq!(hedges(&sidecar, "won").await, 1.0);
}

#[tokio::test]
async fn second_attempts_take_from_the_budget_and_count_among_repetitions() {
    let gate = Arc::new(Semaphore::new(0));
    let (slow, other) = (holding(200, &gate, "first").await, holding(200, &gate, "second").await);
    for (keys, limits, reason) in [
        ("budget = { ratio = \"0%\", min_per_second = 0 }", "", "budget"),
        ("budget = { ratio = \"100%\" }", "retries_max = 1", "retries_max"),
    ] {
        let retry = format!("retry = {{ {keys}, hedge = {{ after = \"1ms\" }} }}");
        let setup = Sidecar::new().origin(&slow).origin(&other).runtime("workers = 1");
        let sidecar = setup.upstream(&retry).upstream_limits(limits).start().await;
        let before = slow.requests() + other.requests();
        let allowed = usize::from(reason == "retries_max");
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let mut client = sidecar.connect(Protocol::Http1).await;
            asked.spawn(async move { client.get("/").await });
        }
        let refusals = [&*format!("reason=\"{reason}\"")];
        let all = 2.0 - allowed as f64;
        sidecar.metric_is(REFUSED, &refusals, |it| it == all).await;
        until("the attempts", async || {
            (slow.requests() + other.requests() == before + 2 + allowed).then_some(())
        })
        .await;
        gate.add_permits(2 + allowed);
        while let Some(reply) = asked.join_next().await {
            assert_eq!(reply.expect("no client panics").status, 200);
        }
    }
}

#[tokio::test]
async fn there_is_no_second_attempt_without_another_endpoint() {
    let gate = Arc::new(Semaphore::new(0));
    let only = holding(200, &gate, "only").await;
    let keys = format!("retry = {{ {FREELY} }}");
    let sidecar = Sidecar::new().origin(&only).upstream(&keys).start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let asked = tokio::spawn(async move { client.get("/").await });
    sidecar.metric_is(REFUSED, &["reason=\"endpoint\""], |it| it == 1.0).await;
    gate.add_permits(1);
    assert_eq!(asked.await.expect("the client does not panic").text(), "only 0");
    assert_eq!(only.requests(), 1);
}

#[tokio::test]
async fn a_connection_that_is_not_made_is_joined_by_another() {
    let (unreachable, _lasts) = Origin::unreachable().await;
    let quick = ready(200, "second").await;
    let setup = Sidecar::new().endpoint(unreachable).origin(&quick).runtime("workers = 1");
    let setup = setup.upstream(&format!("retry = {{ {FREELY} }}"));
    let sidecar = setup.upstream_limits("connect_timeout = \"5m\"").start().await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/").await.text(), "second 0");
    }
    assert!(hedges(&sidecar, "won").await >= 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_both_attempts() {
    let (one, two) = (never().await, never().await);
    let sidecar = between(&one, &two, "").start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("two attempts", async || (one.requests() + two.requests() == 2).then_some(())).await;
    drop(wire);
    sidecar.metric_is("pillion_upstream_connections", &[], |open| open == 0.0).await;
    assert_eq!(hedges(&sidecar, "lost").await, 1.0);
    let guarded = ["limit=\"retries_max\""];
    sidecar.metric_is("pillion_upstream_guarded", &guarded, |now| now == 0.0).await;
}

#[tokio::test]
async fn an_answer_of_the_second_attempt_passes_whole_with_its_filters() {
    let slow = never().await;
    let large = Origin::serve(|_| async {
        let mut answer = Response::new(full(vec![b'x'; 1_000_000]));
        answer.headers_mut().insert("x-from", http::HeaderValue::from_static("second"));
        answer
    })
    .await;
    let keys = "config = { response = [{ set = { name = \"x-by\", value = \"filter\" } }] }";
    let setup = between(&slow, &large, "").builtin("headers", keys);
    let sidecar = setup.start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        for _ in 0..2 {
            let request = client.request(Method::GET, "/").body(empty());
            let reply = client.fetch(request.expect("the request is valid")).await;
            assert_eq!((reply.header("x-from"), reply.header("x-by")), ("second", "filter"));
            assert_eq!(reply.body.len(), 1_000_000);
        }
    }
}
