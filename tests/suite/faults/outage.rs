//! Everything fails at once: what the upstream sees is bounded by the retry budget, to the request.

use http::{Response, StatusCode};
use pillion_tests::client::full;
use pillion_tests::{Client, Origin, Protocol, Sidecar};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const CLIENTS: usize = 10;
/// Of each client.
const REQUESTS: usize = 20;
/// A fifth of the requests, and one for each second of the minute that a deposit is good for.
const REPETITIONS: usize = CLIENTS * REQUESTS / 5 + 60;

const RETRY: &str = "retry = { on = [\"connect\", \"reset\", \"503\"], attempts = 10, \
                     backoff = { base = \"1ms\", max = \"1ms\" }, \
                     budget = { ratio = \"20%\", min_per_second = 1, ttl = \"1m\" } }";

/// So many requests of clients of both protocols, all at once; each has to have `status`.
async fn all_at_once(address: SocketAddr, status: u16) {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let speaks = if number % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
        clients.spawn(async move {
            let mut client = Client::connect(address, speaks).await;
            for _ in 0..REQUESTS {
                assert_eq!(client.get("/").await.status, status);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client panics");
    }
}

async fn retries(sidecar: &Sidecar) -> f64 {
    sidecar.metric("pillion_upstream_retries_total", &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_all_answer_503_see_no_more_than_the_budget_and_serve_again_at_once() {
    let status = Arc::new(AtomicU16::new(503));
    let mut origins = Vec::new();
    for _ in 0..3 {
        let status = Arc::clone(&status);
        let origin = Origin::serve(move |_| {
            let status = StatusCode::from_u16(status.load(Ordering::SeqCst));
            async move {
                let mut answer = Response::new(full("x"));
                *answer.status_mut() = status.expect("a test says a status");
                answer
            }
        });
        origins.push(origin.await);
    }
    for protocol in ["http1", "h2c"] {
        status.store(503, Ordering::SeqCst);
        let seen = || origins.iter().map(Origin::requests).sum::<usize>();
        let before = seen();
        let setup = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
        let setup = setup.upstream(RETRY).upstream(&format!("protocol = \"{protocol}\""));
        let sidecar = setup.runtime("workers = 2").start().await;
        all_at_once(sidecar.address(), 503).await;
        assert_eq!(seen() - before, CLIENTS * REQUESTS + REPETITIONS, "{protocol}");
        assert_eq!(retries(&sidecar).await, REPETITIONS as f64, "{protocol}");

        status.store(200, Ordering::SeqCst);
        all_at_once(sidecar.address(), 200).await;
        assert_eq!(retries(&sidecar).await, REPETITIONS as f64, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_all_break_off_see_no_more_than_the_budget() {
    let breaking = async || {
        Origin::script(|mut wire, _| async move {
            wire.request().await;
            wire.reset();
        })
        .await
    };
    let origins = [breaking().await, breaking().await, breaking().await];
    let setup = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
    let sidecar = setup.upstream(RETRY).runtime("workers = 2").start().await;
    all_at_once(sidecar.address(), 502).await;
    let seen: usize = origins.iter().map(Origin::connections).sum();
    assert_eq!(seen, CLIENTS * REQUESTS + REPETITIONS);
    assert_eq!(retries(&sidecar).await, REPETITIONS as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_all_refuse_are_tried_no_more_often_than_the_budget_allows() {
    let mut setup = Sidecar::new().upstream(RETRY).runtime("workers = 2");
    for _ in 0..3 {
        setup = setup.endpoint(Origin::refusing().await);
    }
    let sidecar = setup.start().await;
    all_at_once(sidecar.address(), 502).await;
    assert_eq!(retries(&sidecar).await, REPETITIONS as f64);
    let refused = ["error=\"connection_refused\""];
    // One for each request.
    let failures = (CLIENTS * REQUESTS) as f64;
    sidecar.metric_is("pillion_upstream_failures_total", &refused, |count| count == failures).await;
    for name in ["pillion_requests_active", "pillion_upstream_guarded"] {
        sidecar.metric_is(name, &[], |now| now == 0.0).await;
    }
}
