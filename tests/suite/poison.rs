//! A few poisoned requests never cost an innocent one.

use http::Method;
use pillion_tests::client::empty;
use pillion_tests::{Client, Origin, Protocol, Sidecar, within};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const HEALTHY: usize = 2_000;
const PER_SECOND: usize = 500;
const POISONED: usize = 16;

#[tokio::test]
async fn sixteen_poisoned_at_once_among_two_thousand_fail_exactly_sixteen() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("panic", "").start().await;

    let barrier = Arc::new(Barrier::new(POISONED + 1));
    let mut poisoned = JoinSet::new();
    for n in 0..POISONED {
        let mut client = sidecar.connect(Protocol::Http1).await;
        let barrier = Arc::clone(&barrier);
        poisoned.spawn(async move {
            let target = format!("/poisoned/{n}");
            let request = client.request(Method::GET, &target).header("x-poison", "1");
            let request = request.body(empty()).expect("the request is valid");
            barrier.wait().await;
            client.fetch(request).await.status
        });
    }

    let mut connections: Vec<Client> = Vec::new();
    for _ in 0..4 {
        connections.push(sidecar.connect(Protocol::Http2).await);
    }
    let mut healthy = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PER_SECOND as u32);
    for n in 0..HEALTHY {
        pace.tick().await;
        if n == HEALTHY / 4 {
            barrier.wait().await;
        }
        let mut client = connections[n % connections.len()].another();
        healthy.spawn(async move { client.get("/healthy").await.status });
    }

    let innocent = within("the healthy answers", healthy.join_all()).await;
    assert_eq!(innocent.iter().filter(|status| **status != 200).count(), 0, "{innocent:?}");
    let guilty = within("the poisoned answers", poisoned.join_all()).await;
    assert_eq!(guilty, [500; POISONED]);

    let mut failures = sidecar.log.messages("a filter failed");
    failures.retain(|event| event.field("filter") == "panic");
    assert_eq!(failures.len(), POISONED, "one line for each");
    for n in 0..POISONED {
        let text = format!("boom: /poisoned/{n}");
        let said = failures.iter().filter(|e| e.field("detail").contains(&text)).count();
        assert!(said >= 1, "{text}");
    }
    let labels = ["filter=\"panic\"", "kind=\"trap\""];
    let counted = sidecar.metric("pillion_filter_failures_total", &labels).await;
    assert_eq!(counted, POISONED as f64);
}
