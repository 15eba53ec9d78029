//! Copies of requests go to a second upstream, and whatever becomes of them there is no matter to the
//! requests.

use bytes::Bytes;
use http::HeaderMap;
use pillion_tests::client::full;
use pillion_tests::sidecar::Setup;
use pillion_tests::{BodyExt, Origin, Protocol, Sidecar, until};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What a mirror has seen: method, target, fields and body of each copy.
type Copies = Arc<Mutex<Vec<(String, String, HeaderMap, Bytes)>>>;

async fn mirror() -> (Origin, Copies) {
    let copies = Copies::default();
    let seen = copies.clone();
    let origin = Origin::serve(move |request| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("the body ends").to_bytes();
            let copy = (head.method.to_string(), head.uri.path().to_owned(), head.headers, body);
            seen.lock().expect("nobody panics with it").push(copy);
            let mut answer = http::Response::new(full("nobody reads this"));
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    });
    (origin.await, copies)
}

fn mirrored(app: &Origin, mirror: SocketAddr, keys: &str) -> Setup {
    Sidecar::new()
        .runtime("workers = 1")
        .origin(app)
        .route(&format!("mirror = {{ upstream = \"mirror\"{keys} }}"))
        .tables(&format!("[upstream.mirror]\nendpoints = [\"{mirror}\"]"))
}

async fn results(sidecar: &Sidecar, result: &str, count: f64) {
    let labels = [format!("result=\"{result}\"")];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    sidecar.metric_is("pillion_mirrored_total", &labels, |value| value == count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_head_body_and_mark_and_its_answer_goes_nowhere() {
    let app = Origin::echo().await;
    for protocol in ["http1", "h2c"] {
        let (origin, copies) = mirror().await;
        let setup = mirrored(&app, origin.address, "");
        let sidecar = setup.tables(&format!("protocol = \"{protocol}\"")).start().await;
        for (before, downstream) in [(0.0, Protocol::Http1), (2.0, Protocol::Http2)] {
            let mut client = sidecar.connect(downstream).await;
            let seen = client.post("/posted", "a body").await.seen();
            assert_eq!((&*seen.body, seen.header("x-pillion-mirrored")), ("a body", None));
            results(&sidecar, "answered", before + 1.0).await;
            assert_eq!(client.get("/got").await.status, 200);
            results(&sidecar, "answered", before + 2.0).await;
        }
        let mut copies = std::mem::take(&mut *copies.lock().expect("nobody panics with it"));
        copies.sort_by(|a, b| a.0.cmp(&b.0));
        for (method, target, fields, body) in copies {
            let expected = if method == "GET" { ("/got", "") } else { ("/posted", "a body") };
            assert_eq!((&*target, &*body), (expected.0, expected.1.as_bytes()));
            assert_eq!(fields["x-pillion-mirrored"], "1");
            assert!(fields.contains_key("x-forwarded-for"));
        }
        if protocol == "http1" {
            // Answers are read to their end: one connection served all copies.
            let opened = "pillion_upstream_connections_opened_total";
            assert_eq!(sidecar.metric(opened, &["upstream=\"mirror\""]).await, 1.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_answers_nothing_holds_so_many_copies_and_no_request() {
    let (app, stuck) = (Origin::echo().await, Origin::silent().await);
    for (max, too_many) in [(4, 1.0), (5, 0.0), (6, 0.0)] {
        let keys = format!(", requests_max = {max}");
        let sidecar = mirrored(&app, stuck.address, &keys).start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.status, 200);
        }
        results(&sidecar, "too_many", too_many).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_not_there_is_counted_and_nothing_else() {
    let (app, nobody) = (Origin::echo().await, Origin::refusing().await);
    let sidecar = mirrored(&app, nobody, "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    results(&sidecar, "failed", 3.0).await;
    assert_eq!(sidecar.metric("pillion_request_errors_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_not_copied() {
    let app = Origin::echo().await;
    let (origin, copies) = mirror().await;
    let sidecar = mirrored(&app, origin.address, ", body = \"1KiB\"").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for bytes in [1023, 1024, 1025] {
        assert_eq!(client.post("/", "x".repeat(bytes)).await.seen().body_bytes, bytes as u64);
    }
    results(&sidecar, "answered", 2.0).await;
    results(&sidecar, "too_large", 1.0).await;
    let copies = copies.lock().expect("nobody panics with it");
    let mut lengths: Vec<usize> = copies.iter().map(|copy| copy.3.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1023, 1024]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_the_requests_is_copied() {
    const REQUESTS: usize = 1_000;
    let app = Origin::serve(|_| async { http::Response::new(full("x")) }).await;
    let mirror = Origin::serve(|_| async { http::Response::new(full("x")) }).await;
    let keys = ", share = \"10%\", requests_max = 10000";
    let sidecar = mirrored(&app, mirror.address, keys).start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").await.status, 200);
    }
    // Five standard deviations of a binomial distribution around 100: none is missing or too many.
    let copies = until("the copies", async || {
        let copies = sidecar.metric("pillion_mirrored_total", &["result=\"answered\""]).await;
        (copies >= 53.0 && copies == mirror.requests() as f64).then_some(copies)
    })
    .await;
    assert!(copies <= 147.0, "{copies}");
}
