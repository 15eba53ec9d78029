//! Which endpoint gets a request: by load, by expected time, by a hash; how much is under way at once;
//! and what becomes of requests when an endpoint goes.

use http::Response;
use pillion_tests::client::full;
use pillion_tests::{Client, Origin, Protocol, Sidecar, until, within};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Answers `name`, each time once it gets a permit of `gate`.
async fn gated(name: &'static str, gate: &Arc<Semaphore>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::serve(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("the gate is never closed").forget();
            Response::new(full(name))
        }
    })
    .await
}

/// Answers its name at once.
async fn named(name: &'static str) -> Origin {
    Origin::serve(move |_| async move { Response::new(full(name)) }).await
}

/// `GET /` on a connection of its own, in a task.
fn in_flight(address: SocketAddr) -> JoinHandle<(u16, String)> {
    tokio::spawn(async move {
        let mut client = Client::connect(address, Protocol::Http1).await;
        let reply = client.get("/").await;
        (reply.status, reply.text())
    })
}

/// Sends requests until one of them waits at `origin`.
async fn hold_one(sidecar: &Sidecar, origin: &Origin) -> JoinHandle<(u16, String)> {
    loop {
        let request = in_flight(sidecar.address());
        let held = until("a request to be held or answered", async || {
            (origin.requests() > 0 || request.is_finished()).then(|| origin.requests() > 0)
        })
        .await;
        if held {
            return request;
        }
    }
}

#[tokio::test]
async fn the_endpoint_with_fewer_requests_outstanding_gets_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let (busy, idle) = (gated("busy", &gate).await, named("idle").await);
    let setup = Sidecar::new().origin(&busy).origin(&idle).runtime("workers = 1");
    let sidecar = setup.upstream("balance = \"least_request\"").start().await;
    let held = hold_one(&sidecar, &busy).await;
    for _ in 0..30 {
        assert_eq!(sidecar.get("/").await.text(), "idle");
    }
    gate.add_permits(1);
    let answer = within("the held request", held).await.expect("no client panics");
    assert_eq!((answer, busy.requests()), ((200, "busy".to_owned()), 1));
}

#[tokio::test]
async fn the_endpoint_that_is_expected_to_answer_sooner_gets_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let (slow, fast) = (gated("slow", &gate).await, named("fast").await);
    let setup = Sidecar::new().origin(&slow).origin(&fast).runtime("workers = 1");
    let sidecar = setup.upstream("balance = \"p2c_ewma\"").start().await;
    let held = hold_one(&sidecar, &slow).await;
    for _ in 0..30 {
        assert_eq!(sidecar.get("/").await.text(), "fast");
    }
    gate.add_permits(1_000);
    within("the held request", held).await.expect("no client panics");
    // It took as long as all the others together, and nothing is outstanding now.
    for _ in 0..30 {
        sidecar.get("/").await;
    }
    assert!(slow.requests() < 6, "{} requests went to the slow one", slow.requests());
}

#[tokio::test]
async fn a_key_meets_the_same_endpoint_on_every_sidecar() {
    let names = ["a", "b", "c", "d", "e"];
    let mut origins = Vec::new();
    for name in names {
        origins.push(named(name).await);
    }
    let keys = "balance = \"maglev\"\nhash_key = \"header:x-user\"";
    let forth = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
    let back = origins.iter().rev().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
    let (forth, back) = (forth.upstream(keys).start().await, back.upstream(keys).start().await);
    let mut met = BTreeMap::new();
    for user in 0..40 {
        let fields = [("x-user", &*format!("user-{user}"))];
        let first = forth.get_with("/", &fields).await.text();
        for sidecar in [&forth, &back, &forth] {
            assert_eq!(sidecar.get_with("/", &fields).await.text(), first);
        }
        *met.entry(first).or_insert(0) += 1;
    }
    assert!(met.len() > 2, "{met:?}");
    let first = forth.get("/").await.text();
    assert_eq!(forth.get("/").await.text(), first, "without the field the client is the key");
}

#[tokio::test]
async fn no_more_requests_are_outstanding_than_there_may_be() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = gated("late", &gate).await;
    let setup = Sidecar::new().origin(&origin).runtime("workers = 2");
    let sidecar = setup.upstream_limits("requests_max = 3").start().await;
    let mut held: Vec<_> = Vec::new();
    for count in 1..=3 {
        held.push(in_flight(sidecar.address()));
        until("the request to arrive", async || (origin.requests() == count).then_some(())).await;
    }
    for _ in 0..5 {
        let reply = sidecar.get("/").await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
        assert_eq!(reply.header("proxy-status"), "pillion; error=connection_limit_reached");
    }
    let limit = ["limit=\"requests_max\""];
    assert_eq!(sidecar.metric("pillion_upstream_limit_reached_total", &limit).await, 5.0);
    assert_eq!(sidecar.metric("pillion_upstream_guarded", &limit).await, 3.0);
    gate.add_permits(1_000);
    for request in held {
        assert_eq!(within("a held request", request).await.expect("no client panics").0, 200);
    }
    sidecar.metric_is("pillion_upstream_guarded", &limit, |count| count == 0.0).await;
    assert_eq!(sidecar.get("/").await.status, 200);
    assert_eq!(origin.requests(), 4, "what was refused has not arrived");
}

#[tokio::test]
async fn no_more_requests_wait_for_a_connection_than_there_may_be() {
    let (address, _full) = Origin::unreachable().await;
    let setup = Sidecar::new().endpoint(address).runtime("workers = 2");
    let limits = "pending_max = 2\nconnect_timeout = \"60s\"";
    let sidecar = setup.upstream_limits(limits).start().await;
    let (first, second) = (in_flight(sidecar.address()), in_flight(sidecar.address()));
    let limit = ["limit=\"pending_max\""];
    sidecar.metric_is("pillion_upstream_guarded", &limit, |count| count == 2.0).await;
    let reply = sidecar.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("proxy-status"), "pillion; error=connection_limit_reached");
    first.abort();
    second.abort();
}

#[tokio::test]
async fn an_endpoint_that_is_taken_out_finishes_what_it_serves() {
    let gate = Arc::new(Semaphore::new(0));
    let (leaving, staying) = (gated("leaving", &gate).await, named("staying").await);
    let setup = Sidecar::new().origin(&leaving).origin(&staying).runtime("workers = 1");
    let sidecar = setup.upstream("balance = \"least_request\"").start().await;
    let held = hold_one(&sidecar, &leaving).await;
    sidecar.edit(&format!("\"{}\", ", leaving.address), "");
    sidecar.metric_is("pillion_generation", &[], |generation| generation == 2.0).await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("/").await.text(), "staying");
    }
    gate.add_permits(1);
    let answer = within("the held request", held).await.expect("no client panics");
    assert_eq!(answer, (200, "leaving".to_owned()));
    let labels = ["state=\"available\""];
    sidecar.metric_is("pillion_upstream_endpoints", &labels, |count| count == 1.0).await;
}
