//! The three shipped filters, through the whole sidecar.

use pillion_tests::{Origin, Sidecar};

const LIMIT: &str = "grants = { rate-limit = { requests = 2, per = \"1h\" } }";

#[tokio::test]
async fn trace_continues_what_came_and_begins_what_did_not() {
    let origin = Origin::echo().await;
    let keys = "config = { response = [\"trace-id\", \"request-id\"] }";
    let sidecar = Sidecar::new().origin(&origin).builtin("trace", keys).start().await;

    let reply = sidecar.get("/").await;
    let seen = reply.seen();
    let parent = seen.header("traceparent").expect("a trace begins").to_owned();
    let parts: Vec<_> = parent.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    assert_eq!(parts[3], "03", "sampled, with a random id");
    assert_eq!(reply.header("x-trace-id"), parts[1]);
    let id = seen.header("x-request-id").expect("an id is made");
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id} is a UUID of version 7");
    assert_eq!(reply.header("x-request-id"), id);

    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [("traceparent", given), ("tracestate", "a=1,b=2"), ("x-request-id", "mine")];
    let seen = sidecar.get_with("/", &fields).await.seen();
    let continued = seen.header("traceparent").expect("the trace goes on");
    assert!(continued.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{continued}");
    assert!(continued.ends_with("-01") && continued != given, "{continued}");
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(seen.header("x-request-id"), Some("mine"));

    let fields = [("traceparent", "00-zz-b7ad6b7169203331-01"), ("tracestate", "a=1")];
    let seen = sidecar.get_with("/", &fields).await.seen();
    assert_eq!(seen.header("traceparent").map(str::len), Some(55));
    assert_eq!(seen.header("tracestate"), None);
}

#[tokio::test]
async fn headers_edits_both_ways_under_conditions() {
    let origin = Origin::echo().await;
    let keys = r#"
[filter.headers.config]
request = [
  { set = { name = "x-client", value = "${client.address} ${method} ${path}" } },
  { append = { name = "x-api", value = "yes" }, when = { path_prefix = "/api" } },
  { remove = { name = "x-internal" } },
  { rename = { name = "x-old", to = "x-new" } },
  { set = { name = "x-tenant", value = "${header.x-tenant:-none}" } },
]
response = [
  { set = { name = "cache-control", value = "no-store" } },
  { remove = { name = "content-type" } },
]
"#;
    let sidecar = Sidecar::new().origin(&origin).builtin("headers", keys).start().await;
    let fields = [("x-internal", "1"), ("x-old", "kept")];
    let reply = sidecar.get_with("/api/x?y", &fields).await;
    let seen = reply.seen();
    assert_eq!(seen.header("x-client"), Some("127.0.0.1 GET /api/x"));
    assert_eq!(seen.header("x-api"), Some("yes"));
    assert_eq!(seen.header("x-internal"), None);
    assert_eq!((seen.header("x-old"), seen.header("x-new")), (None, Some("kept")));
    assert_eq!(seen.header("x-tenant"), Some("none"));
    assert_eq!((reply.header("cache-control"), reply.header("content-type")), ("no-store", ""));
    assert_eq!(sidecar.get("/other").await.seen().header("x-api"), None);
}

#[tokio::test]
async fn rate_limit_refuses_over_the_limit_and_tells_when_to_come_again() {
    let origin = Origin::echo().await;
    let keys = format!("config = {{ key = \"header:x-tenant\", fields = \"always\" }}\n{LIMIT}");
    let sidecar = Sidecar::new().origin(&origin).builtin("rate-limit", &keys).start().await;
    for left in ["1", "0"] {
        let reply = sidecar.get_with("/", &[("x-tenant", "a")]).await;
        assert_eq!(reply.status, 200);
        let field = reply.header("ratelimit");
        assert!(field.starts_with(&format!("\"default\";r={left};t=")), "{field}");
    }
    let refused = sidecar.get_with("/", &[("x-tenant", "a")]).await;
    assert_eq!(refused.status, 429);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1800).contains(&seconds), "{seconds}");
    assert!(refused.header("ratelimit-policy").starts_with("\"default\";q=2;w=3600"));
    assert_eq!(sidecar.get_with("/", &[("x-tenant", "b")]).await.status, 200);
    assert_eq!(origin.requests(), 3);
    let name = "pillion_filter_custom_rate_limit_requests_total";
    assert_eq!(sidecar.metric(name, &["outcome=\"refused\""]).await, 1.0);
    assert_eq!(sidecar.metric(name, &["outcome=\"allowed\""]).await, 3.0);
}

#[tokio::test]
async fn rate_limit_in_shadow_only_counts() {
    let origin = Origin::echo().await;
    let keys = format!("config = {{ mode = \"shadow\" }}\n{LIMIT}");
    let sidecar = Sidecar::new().origin(&origin).builtin("rate-limit", &keys).start().await;
    for _ in 0..5 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    let name = "pillion_filter_custom_rate_limit_requests_total";
    assert_eq!(sidecar.metric(name, &["outcome=\"would_refuse\""]).await, 3.0);
}

#[tokio::test]
async fn buckets_are_exact_across_workers() {
    let origin = Origin::echo().await;
    let grants = "grants = { rate-limit = { requests = 1, per = \"24h\", burst = 50 } }";
    let setup = Sidecar::new().origin(&origin).builtin("rate-limit", grants);
    let sidecar = std::sync::Arc::new(setup.runtime("workers = 2").start().await);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let sidecar = std::sync::Arc::clone(&sidecar);
        clients.spawn(async move {
            let mut client = sidecar.connect(pillion_tests::Protocol::Http1).await;
            let mut allowed = 0;
            for _ in 0..5 {
                allowed += usize::from(client.get("/").await.status == 200);
            }
            allowed
        });
    }
    assert_eq!(clients.join_all().await.iter().sum::<usize>(), 50);
}

#[tokio::test]
async fn the_three_together_run_in_order_and_back_in_reverse() {
    let origin = Origin::echo().await;
    let headers = "config = { request = [{ set = { name = \"x-trace\", value = \
                   \"${header.traceparent}\" } }], response = [{ set = { name = \"x-status\", \
                   value = \"seen\" } }] }";
    let sidecar = Sidecar::new()
        .origin(&origin)
        .builtin("trace", "")
        .builtin("headers", headers)
        .builtin("rate-limit", LIMIT)
        .start()
        .await;
    let reply = sidecar.get("/").await;
    let seen = reply.seen();
    assert_eq!(seen.header("x-trace"), seen.header("traceparent"));
    assert_eq!(reply.header("x-status"), "seen");
    sidecar.get("/").await;
    let refused = sidecar.get("/").await;
    assert_eq!((refused.status, refused.header("x-status")), (429, "seen"));
}

#[tokio::test]
async fn a_mistake_in_a_filters_table_is_reported_with_its_line() {
    let origin = Origin::echo().await;
    let keys = "[filter.headers.config]\nrequest = [\n  { set = { name = \"x-a\", value = \"1\" } },\n  \
                { set = { name = \"content-length\", value = \"1\" } },\n]\n";
    let setup = Sidecar::new().origin(&origin).builtin("headers", keys);
    let text = setup.text();
    let line = 1 + text.lines().position(|line| line.contains("content-length")).unwrap();
    let refusal = setup.refused().await;
    assert_eq!(refusal.code, 1);
    let place = format!("pillion.toml:{line}:");
    assert!(refusal.text.contains(&place), "{place} is not in: {}", refusal.text);
    assert!(refusal.text.contains("`content-length` belongs to the host"), "{}", refusal.text);
}
