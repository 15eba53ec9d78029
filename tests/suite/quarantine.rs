//! A filter that fails most of what it sees is kept from running; a probe brings it back.

use pillion_tests::{Origin, Sidecar, until};

const QUARANTINED: &str = "pillion_filter_quarantined";

async fn poison(sidecar: &Sidecar, count: usize) -> Vec<u16> {
    let mut client = sidecar.connect(pillion_tests::Protocol::Http1).await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        let request = client.request(http::Method::GET, "/").header("x-poison", "1");
        let request = request.body(pillion_tests::client::empty()).expect("the request is valid");
        statuses.push(client.fetch(request).await.status);
    }
    statuses
}

#[tokio::test]
async fn a_closed_filter_in_quarantine_refuses_until_its_probe_succeeds() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("panic", "").start().await;
    assert_eq!(sidecar.metric(QUARANTINED, &["filter=\"panic\""]).await, 0.0);
    assert_eq!(poison(&sidecar, 60).await, [500; 60]);
    assert_eq!(sidecar.metric(QUARANTINED, &["filter=\"panic\""]).await, 1.0);
    let ran = sidecar.log.messages("a filter failed").len();
    assert!(ran < 60, "the last ones did not run: {ran}");
    sidecar.log.line("is in quarantine").await;

    until("a probe to succeed", async || (sidecar.get("/").await.status == 200).then_some(()))
        .await;
    sidecar.log.line("is out of quarantine").await;
    assert_eq!(sidecar.metric(QUARANTINED, &["filter=\"panic\""]).await, 0.0);
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn an_open_filter_in_quarantine_is_passed_over() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).guest("panic", "fail_policy = \"open\"");
    let sidecar = setup.start().await;
    assert_eq!(poison(&sidecar, 60).await, [200; 60]);
    assert_eq!(sidecar.metric(QUARANTINED, &["filter=\"panic\""]).await, 1.0);
    let failures = sidecar.metric("pillion_filter_failures_total", &["kind=\"unavailable\""]).await;
    assert!(failures > 0.0, "what fail-open lets through shows on a graph");
}

#[tokio::test]
async fn fewer_than_half_of_the_calls_are_no_ground_for_quarantine() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("panic", "").start().await;
    let mut client = sidecar.connect(pillion_tests::Protocol::Http1).await;
    for _ in 0..40 {
        assert_eq!(poison(&sidecar, 1).await, [500]);
        for _ in 0..2 {
            assert_eq!(client.get("/").await.status, 200);
        }
    }
    assert_eq!(sidecar.metric(QUARANTINED, &["filter=\"panic\""]).await, 0.0);
}
