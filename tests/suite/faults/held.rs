//! Faults under filters: one that holds bodies back, so that nothing of the answer has gone out yet and
//! even one that breaks off is replaced by a reply, and one that makes another answer of the reply.

use super::http1::{breaking, upstream};
use super::{End, exchange, file, is_counted, nothing_is_left, path, resting};
use pillion_tests::{Origin, Protocol, Sidecar};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_held_back_when_it_breaks_off_is_replaced_by_a_reply() {
    let good = Origin::echo().await;
    let table: Vec<_> = breaking().collect();
    let mut upstreams = Vec::new();
    for fault in &table {
        upstreams.push(upstream(fault.script).await);
    }
    let source = pillion_tests::guests::path("body-hold");
    let text = file("http1", &table, &upstreams)
        .replace("[[listener.route]]\nname", "[[listener.route]]\nchain = [\"hold\"]\nname");
    let text = format!("{text}\n[filter.hold]\nsource = {source:?}\n");
    let sidecar = Sidecar::with(&text).origin(&good).start().await;
    let before = resting(&sidecar).await;
    for (fault, upstream) in table.iter().zip(&upstreams) {
        for speaks in [Protocol::Http1, Protocol::Http2] {
            let what = format!("`{}` for {speaks:?}", fault.name);
            // No client sees a head before the answer is whole.
            upstream.head_seen.notify_one();
            let mut client = sidecar.connect(speaks).await;
            let seen = &upstream.head_seen;
            let (end, reply) = exchange(&mut client, fault.asks, &path(fault, speaks), seen).await;
            assert_eq!(end, End::Reply(502), "{what}");
            let reply = reply.expect("a whole answer was read");
            let word = format!("pillion; error={}", fault.word);
            assert_eq!(reply.header("proxy-status"), word, "{what}");
            // To the filter it is an answer like another, and nothing of the one before is in it.
            assert_eq!(reply.header("x-held"), reply.body.len().to_string(), "{what}");
            assert!(!reply.text().contains("some"), "{what}: {}", reply.text());
        }
        is_counted(&sidecar, fault).await;
    }
    assert_eq!(sidecar.metric("pillion_filter_failures_total", &[]).await, 0.0);
    nothing_is_left(&sidecar, before).await;
}

#[tokio::test]
async fn a_filter_that_fails_on_an_answer_is_told_in_the_log_and_counted() {
    // More than a filter may hold.
    let long = vec![b'x'; 2 * 1024 * 1024];
    let origin = Origin::serve(move |_| {
        let long = long.clone();
        async move { http::Response::new(pillion_tests::client::full(long)) }
    })
    .await;
    let setup = Sidecar::new().origin(&origin).guest("body-hold", "").tables("[access_log]");
    let sidecar = setup.start().await;
    let reply = sidecar.get("/").await;
    let word = reply.header("proxy-status");
    assert_eq!((reply.status, word), (500, "pillion; error=proxy_internal_error"));
    let line = sidecar.output.line("\"path\":\"/\"").await;
    for part in ["\"status\":500", "\"complete\":true", "\"error\":\"proxy_internal_error\""] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let error = ["error=\"proxy_internal_error\""];
    sidecar.metric_is("pillion_request_errors_total", &error, |count| count == 1.0).await;
    assert_eq!(sidecar.metric("pillion_upstream_failures_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_reply_of_which_a_filter_makes_another_answer_is_whole() {
    let config = "grants = { log = true, clock = true, random = true, metrics = true, kv = true, \
                  rate-limit = { requests = 100, per = \"1s\" } }\n\
                  config = { calls = { on-response = [[\"set-status\", \"418\"]] } }";
    let setup = Sidecar::new().endpoint(Origin::refusing().await).guest("script", config);
    let sidecar = setup.tables("[access_log]").start().await;
    assert_eq!(sidecar.get("/").await.status, 418);
    let line = sidecar.output.line("\"path\":\"/\"").await;
    for part in ["\"status\":418", "\"complete\":true", "\"error\":\"connection_refused\""] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}
