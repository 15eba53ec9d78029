//! Endpoints that fail are left out, for as long and as many as may be; and those whose health checks
//! fail get nothing.

use http::Response;
use pillion_tests::client::full;
use pillion_tests::{BodyExt, Origin, Protocol, Sidecar};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

/// Answers `/healthz` with `health`, and everything else with `status`; counts the latter.
struct Tunable {
    origin: Origin,
    health: Arc<AtomicU16>,
    status: Arc<AtomicU16>,
    served: Arc<AtomicUsize>,
}

impl Tunable {
    async fn new() -> Tunable {
        let (health, status) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let served = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&health), Arc::clone(&status), Arc::clone(&served));
        let origin = Origin::serve(move |request| {
            let (health, status, served) = shared.clone();
            async move {
                let mut answer = Response::new(full("x"));
                let said = if request.uri().path() == "/healthz" {
                    health
                } else {
                    served.fetch_add(1, Ordering::SeqCst);
                    status
                };
                let said = http::StatusCode::from_u16(said.load(Ordering::SeqCst));
                *answer.status_mut() = said.expect("a test says a status");
                answer
            }
        })
        .await;
        Tunable { origin, health, status, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// So many requests, each on a connection of its own; how many were answered with 200.
async fn good(sidecar: &Sidecar, requests: usize) -> usize {
    let mut good = 0;
    for _ in 0..requests {
        good += usize::from(sidecar.get("/").await.status == 200);
    }
    good
}

const EJECTIONS: &str = "pillion_upstream_ejections_total";

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out_by_every_worker() {
    let origins = [Tunable::new().await, Tunable::new().await, Tunable::new().await];
    origins[1].status.store(500, Ordering::SeqCst);
    let setup = origins.iter().fold(Sidecar::new(), |setup, it| setup.origin(&it.origin));
    let outlier = "outlier = { consecutive_5xx = 4, ejection_time = \"1h\", \
                   ejection_time_max = \"1h\" }";
    let sidecar = setup.upstream(outlier).runtime("workers = 2").start().await;
    assert_eq!(good(&sidecar, 60).await, 56, "both workers together needed four errors");
    assert_eq!(origins[1].served(), 4);
    let cause = ["cause=\"consecutive_5xx\""];
    assert_eq!(sidecar.metric(EJECTIONS, &cause).await, 1.0);
    assert_eq!(sidecar.metric("pillion_upstream_endpoints", &["state=\"ejected\""]).await, 1.0);
    let endpoint = format!("endpoint=\"{}\"", origins[1].origin.address);
    let available = "pillion_upstream_endpoint_available";
    assert_eq!(sidecar.metric(available, &[&endpoint]).await, 0.0);
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_left_out() {
    let (refusing, origin) = (Origin::refusing().await, Origin::echo().await);
    let setup = Sidecar::new().endpoint(refusing).origin(&origin).runtime("workers = 1");
    let outlier = "outlier = { consecutive_gateway = 3, consecutive_5xx = 0 }";
    let sidecar = setup.upstream(outlier).start().await;
    assert_eq!(good(&sidecar, 30).await, 27);
    assert_eq!(sidecar.metric(EJECTIONS, &["cause=\"consecutive_gateway\""]).await, 1.0);
}

#[tokio::test]
async fn an_endpoint_comes_back_when_its_time_is_over() {
    let origins = [Tunable::new().await, Tunable::new().await];
    origins[0].status.store(503, Ordering::SeqCst);
    let setup = origins.iter().fold(Sidecar::new(), |setup, it| setup.origin(&it.origin));
    let outlier = "outlier = { consecutive_gateway = 1, ejection_time = \"300ms\" }";
    let sidecar = setup.upstream(outlier).runtime("workers = 1").start().await;
    good(&sidecar, 2).await;
    assert_eq!(sidecar.metric(EJECTIONS, &[]).await, 1.0);
    origins[0].status.store(200, Ordering::SeqCst);
    let available = ["state=\"available\""];
    sidecar.metric_is("pillion_upstream_endpoints", &available, |count| count == 2.0).await;
    let before = origins[0].served();
    assert_eq!(good(&sidecar, 10).await, 10);
    assert_eq!(origins[0].served(), before + 5);
}

#[tokio::test]
async fn an_endpoint_alone_is_never_left_out() {
    let origin = Tunable::new().await;
    origin.status.store(500, Ordering::SeqCst);
    let setup = Sidecar::new().origin(&origin.origin).runtime("workers = 1");
    let sidecar = setup.upstream("outlier = { consecutive_5xx = 1 }").start().await;
    good(&sidecar, 5).await;
    assert_eq!(origin.served(), 5);
    assert_eq!(sidecar.metric(EJECTIONS, &[]).await, 0.0);
    assert_eq!(sidecar.metric("pillion_upstream_ejections_withheld_total", &[]).await, 5.0);
    origin.status.store(200, Ordering::SeqCst);
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn when_most_endpoints_are_left_out_all_are_used() {
    let origins = [Tunable::new().await, Tunable::new().await, Tunable::new().await];
    origins.iter().for_each(|it| it.status.store(500, Ordering::SeqCst));
    let setup = origins.iter().fold(Sidecar::new(), |setup, it| setup.origin(&it.origin));
    let outlier = "outlier = { consecutive_5xx = 1, ejected_max = \"100%\" }";
    let sidecar = setup.upstream(outlier).runtime("workers = 1").start().await;
    good(&sidecar, 3).await;
    assert!(sidecar.metric("pillion_upstream_endpoints", &["state=\"ejected\""]).await >= 2.0);
    let before: Vec<usize> = origins.iter().map(Tunable::served).collect();
    good(&sidecar, 9).await;
    for (origin, before) in origins.iter().zip(before) {
        assert_eq!(origin.served(), before + 3);
    }
}

#[tokio::test]
async fn an_endpoint_whose_checks_fail_gets_nothing_until_they_succeed() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let origins = [Tunable::new().await, Tunable::new().await];
        origins[0].health.store(503, Ordering::SeqCst);
        let mut setup = origins.iter().fold(Sidecar::new(), |setup, it| setup.origin(&it.origin));
        if protocol == Protocol::Http2 {
            setup = setup.h2c();
        }
        let health = "health = { path = \"/healthz\", interval = \"20ms\" }";
        let sidecar = setup.upstream(health).runtime("workers = 2").start().await;
        let (endpoints, unhealthy) = ("pillion_upstream_endpoints", ["state=\"unhealthy\""]);
        sidecar.metric_is(endpoints, &unhealthy, |count| count == 1.0).await;
        let before = origins[0].served();
        assert_eq!(good(&sidecar, 20).await, 20);
        assert_eq!(origins[0].served(), before);

        origins[1].health.store(500, Ordering::SeqCst);
        sidecar.metric_is(endpoints, &unhealthy, |count| count == 2.0).await;
        let reply = sidecar.get("/").await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
        assert_eq!(reply.header("proxy-status"), "pillion; error=destination_unavailable");

        origins[0].health.store(204, Ordering::SeqCst);
        sidecar.metric_is(endpoints, &unhealthy, |count| count == 1.0).await;
        assert_eq!(good(&sidecar, 10).await, 10);
        assert_eq!(origins[0].served(), before + 10);
    }
}

#[tokio::test]
async fn a_connection_is_check_enough_where_the_file_says_so() {
    let (refusing, origin) = (Origin::refusing().await, Origin::echo().await);
    let setup = Sidecar::new().endpoint(refusing).origin(&origin).runtime("workers = 1");
    let health = "health = { check = \"tcp\", interval = \"20ms\" }";
    let sidecar = setup.upstream(health).start().await;
    let (endpoints, unhealthy) = ("pillion_upstream_endpoints", ["state=\"unhealthy\""]);
    sidecar.metric_is(endpoints, &unhealthy, |count| count == 1.0).await;
    assert_eq!(good(&sidecar, 10).await, 10);
    let good = ["result=\"good\""];
    sidecar.metric_is("pillion_upstream_health_checks_total", &good, |count| count > 2.0).await;
}

#[tokio::test]
async fn what_is_known_of_endpoints_survives_a_reload() {
    let origins = [Tunable::new().await, Tunable::new().await];
    origins[0].status.store(500, Ordering::SeqCst);
    let setup = origins.iter().fold(Sidecar::new(), |setup, it| setup.origin(&it.origin));
    let outlier = "outlier = { consecutive_5xx = 1, ejection_time = \"1h\", \
                   ejection_time_max = \"1h\" }";
    let sidecar = setup.upstream(outlier).runtime("workers = 1").start().await;
    good(&sidecar, 2).await;
    let before = origins[0].served();
    sidecar.edit("consecutive_5xx = 1", "consecutive_5xx = 2");
    sidecar.metric_is("pillion_generation", &[], |generation| generation == 2.0).await;
    assert_eq!(good(&sidecar, 10).await, 10);
    assert_eq!(origins[0].served(), before);
}

/// Answers `grpc.health.v1.Health/Check` with this status, and everything else with 200.
async fn grpc_health(status: &Arc<AtomicU16>) -> Origin {
    let status = Arc::clone(status);
    Origin::serve(move |request| {
        let status = Arc::clone(&status);
        async move {
            let is_check = request.uri().path() == "/grpc.health.v1.Health/Check";
            let asked = request.into_body().collect().await.expect("a whole body").to_bytes();
            if !is_check {
                return Response::new(full("x"));
            }
            assert_eq!(asked[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
            let (mut sender, body) = pillion_tests::origin::streamed();
            let message = [0, 0, 0, 0, 2, 8, status.load(Ordering::SeqCst) as u8];
            tokio::spawn(async move {
                let trailers = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                // The check may have been given up meanwhile.
                let _ = sender.send_data(bytes::Bytes::copy_from_slice(&message)).await;
                let _ = sender.send_trailers(trailers).await;
            });
            Response::new(body)
        }
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_not_serving_gets_nothing() {
    let (first, second) = (Arc::new(AtomicU16::new(2)), Arc::new(AtomicU16::new(1)));
    let origins = [grpc_health(&first).await, grpc_health(&second).await];
    let setup = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
    let health = "health = { check = \"grpc\", service = \"a\", interval = \"20ms\" }";
    let sidecar = setup.h2c().upstream(health).runtime("workers = 1").start().await;
    let (endpoints, unhealthy) = ("pillion_upstream_endpoints", ["state=\"unhealthy\""]);
    sidecar.metric_is(endpoints, &unhealthy, |count| count == 1.0).await;
    second.store(0, Ordering::SeqCst);
    sidecar.metric_is(endpoints, &unhealthy, |count| count == 2.0).await;
    assert_eq!(sidecar.get("/").await.status, 503);
    first.store(1, Ordering::SeqCst);
    sidecar.metric_is(endpoints, &unhealthy, |count| count == 1.0).await;
    assert_eq!(sidecar.get("/").await.status, 200);
}
