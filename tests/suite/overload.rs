//! Requests beyond what may be under way wait in a bounded queue, or get 503 with `retry-after`.

use pillion_tests::client::full;
use pillion_tests::sidecar::Setup;
use pillion_tests::{Client, Origin, Protocol, Reply, Sidecar, until};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// An origin that answers one request for each permit.
async fn holding() -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let shared = gate.clone();
    let origin = Origin::serve(move |_| {
        let gate = shared.clone();
        async move {
            gate.acquire().await.expect("it is never closed").forget();
            http::Response::new(full("done"))
        }
    });
    (origin.await, gate)
}

fn with_overload(origin: &Origin, keys: &str) -> Setup {
    Sidecar::new()
        .runtime("workers = 2")
        .origin(origin)
        .listener(&format!("overload = {{ {keys} }}"))
}

/// A sidecar with such limits, and a request that is under way in it.
async fn busy(origin: &Origin, keys: &str) -> (Sidecar, JoinSet<(Reply, Client)>) {
    let sidecar = with_overload(origin, keys).start().await;
    let mut asked = JoinSet::new();
    begin(&sidecar, &mut asked).await;
    until("a request at the origin", async || (origin.requests() == 1).then_some(())).await;
    (sidecar, asked)
}

/// Sends a request over a connection of its own.
async fn begin(sidecar: &Sidecar, asked: &mut JoinSet<(Reply, Client)>) {
    let mut client = sidecar.connect(Protocol::Http1).await;
    asked.spawn(async move { (client.get("/").await, client) });
}

async fn queued(sidecar: &Sidecar, count: f64) {
    sidecar.metric_is("pillion_overload_queued", &[], |value| value == count).await;
}

fn assert_shed(reply: &Reply) {
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(reply.header("proxy-status"), "pillion; error=connection_limit_reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_the_limit_waits_and_what_is_beyond_the_queue_is_turned_away() {
    let (origin, gate) = holding().await;
    let keys = "requests_max = 2, queue_max = 1, queue_timeout = \"60s\"";
    let sidecar = with_overload(&origin, keys).start().await;
    let mut asked = JoinSet::new();
    for under_way in 1..=2 {
        begin(&sidecar, &mut asked).await;
        until("a request at the origin", async || (origin.requests() == under_way).then_some(()))
            .await;
    }
    begin(&sidecar, &mut asked).await;
    queued(&sidecar, 1.0).await;

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        assert_shed(&client.get("/").await);
        assert_shed(&client.get("/").await);
        assert!(client.is_open(), "{protocol:?}");
    }
    let full = ["reason=\"queue_full\"", "scope=\"listener:inbound\""];
    assert_eq!(sidecar.metric("pillion_overload_shed_total", &full).await, 4.0);
    let shed = ["error=\"connection_limit_reached\"", "route=\"inbound/1\""];
    sidecar.metric_is("pillion_request_errors_total", &shed, |value| value == 4.0).await;

    gate.add_permits(3);
    for (reply, _) in asked.join_all().await {
        assert_eq!((reply.status, &*reply.text()), (200, "done"));
    }
    sidecar.metric_is("pillion_overload_running", &[], |value| value == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_its_deadline() {
    let (origin, gate) = holding().await;
    let keys = "requests_max = 1, queue_max = 10, queue_timeout = \"200ms\"";
    let (sidecar, asked) = busy(&origin, keys).await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    assert_shed(&client.get("/").await);
    let late = ["reason=\"queue_timeout\""];
    assert_eq!(sidecar.metric("pillion_overload_shed_total", &late).await, 1.0);
    gate.add_permits(1);
    assert_eq!(asked.join_all().await[0].0.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_leaves_the_queue() {
    let (origin, gate) = holding().await;
    let keys = "requests_max = 1, queue_max = 10, queue_timeout = \"60s\"";
    let (sidecar, asked) = busy(&origin, keys).await;
    let mut leaving = JoinSet::new();
    begin(&sidecar, &mut leaving).await;
    queued(&sidecar, 1.0).await;
    leaving.shutdown().await;
    queued(&sidecar, 0.0).await;
    gate.add_permits(1);
    assert_eq!(asked.join_all().await[0].0.status, 200);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_is_exact_over_all_workers() {
    const LIMIT: usize = 5;
    let (origin, gate) = holding().await;
    let file = "overload = { requests_max = 5, queue_max = 0 }";
    let sidecar = Sidecar::new().runtime("workers = 2").runtime(file).origin(&origin).start().await;
    let mut asked = JoinSet::new();
    for _ in 0..4 * LIMIT {
        begin(&sidecar, &mut asked).await;
    }
    for _ in 0..3 * LIMIT {
        let (reply, _) = asked.join_next().await.expect("they were asked").expect("it ran");
        assert_shed(&reply);
    }
    assert_eq!(sidecar.metric("pillion_overload_running", &["scope=\"process\""]).await, 5.0);
    // A place is taken before the origin hears of the request.
    until("them at the origin", async || (origin.requests() == LIMIT).then_some(())).await;
    gate.add_permits(LIMIT);
    for (reply, _) in asked.join_all().await {
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_raises_the_limit_for_those_who_wait() {
    let (origin, gate) = holding().await;
    let keys = "requests_max = 1, queue_max = 10, queue_timeout = \"60s\"";
    let (sidecar, mut asked) = busy(&origin, keys).await;
    begin(&sidecar, &mut asked).await;
    queued(&sidecar, 1.0).await;
    sidecar.edit("requests_max = 1", "requests_max = 2");
    until("the second at the origin", async || (origin.requests() == 2).then_some(())).await;
    queued(&sidecar, 0.0).await;
    gate.add_permits(2);
    for (reply, _) in asked.join_all().await {
        assert_eq!(reply.status, 200);
    }
}
