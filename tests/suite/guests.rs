//! Guests that misbehave hurt only their own request, and guests that behave can do what the contract
//! says.

use http::Method;
use pillion_tests::client::{empty, full};
use pillion_tests::wire::Ending;
use pillion_tests::{Origin, Protocol, Sidecar};
use std::time::Duration;

/// The answer to a request that is poison for the guest.
async fn poisoned(sidecar: &Sidecar, target: &str) -> u16 {
    sidecar.get_with(target, &[("x-poison", "1")]).await.status
}

async fn failure(sidecar: &Sidecar, guest: &str) -> pillion_tests::log::Event {
    let event = sidecar
        .log
        .event("the failure", |event| {
            event.message() == "a filter failed" && event.field("filter") == guest
        })
        .await;
    assert_eq!(event.level(), "ERROR");
    let version = event.field("version");
    let hex = version.len() == 12 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(hex, "{version} is no version");
    event
}

#[tokio::test]
async fn a_failing_guest_gets_its_policys_answer_one_log_line_and_a_healthy_successor() {
    let origin = Origin::echo().await;
    let cases = [
        ("panic", "trap"),
        ("panic-no-std", "trap"),
        ("fail", "trap"),
        ("spin", "deadline"),
        ("allocate", "memory"),
    ];
    for (guest, reason) in cases {
        for (policy, status) in [("closed", 500), ("open", 200)] {
            // Time enough to reach the memory limit on a busy machine.
            let limits = "{ time = \"500ms\", exchange_time = \"1s\", memory = \"4MiB\" }";
            let keys = format!("fail_policy = {policy:?}\nlimits = {limits}");
            let setup = Sidecar::new().origin(&origin).guest(guest, &keys);
            let sidecar = setup.runtime("workers = 1").start().await;
            assert_eq!(sidecar.get("/before").await.status, 200, "{guest}");
            assert_eq!(poisoned(&sidecar, "/poisoned").await, status, "{guest} {policy}");
            assert_eq!(sidecar.get("/after").await.status, 200, "{guest} {policy}");

            let event = failure(&sidecar, guest).await;
            assert_eq!(event.field("hook"), "on-request");
            assert_eq!(event.field("reason"), reason, "{guest}");
            if reason == "trap" {
                let detail = event.field("detail");
                assert!(detail.contains("boom: /poisoned"), "{detail}");
            }
            assert_eq!(sidecar.log.messages("a filter failed").len(), 1, "{guest} {policy}");
        }
    }
}

#[tokio::test]
async fn what_the_client_is_told_of_a_failure_says_nothing_of_the_inside() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("panic", "").start().await;
    let reply = sidecar.get_with("/secret", &[("x-poison", "1")]).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.header("proxy-status"), "pillion; error=proxy_internal_error");
    assert!(!reply.text().contains("boom") && !reply.text().contains("panic"), "{}", reply.text());
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn memory_comes_back_from_a_guest_that_allocates_without_bound() {
    let origin = Origin::echo().await;
    let keys = "limits = { time = \"2s\", exchange_time = \"5s\", memory = \"32MiB\" }";
    let setup = Sidecar::new().origin(&origin).guest("allocate", keys).runtime("workers = 1");
    let sidecar = setup.start().await;
    assert_eq!(sidecar.get("/").await.status, 200);
    let before = sidecar.resident_kib();
    for _ in 0..10 {
        assert_eq!(poisoned(&sidecar, "/").await, 500);
    }
    assert_eq!(sidecar.get("/").await.status, 200);
    let grown = sidecar.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB did not come back of 10 times 32 MiB");
    let labels = ["filter=\"allocate\"", "kind=\"memory\""];
    assert_eq!(sidecar.metric("pillion_filter_failures_total", &labels).await, 10.0);
    let retired = "pillion_filter_instances_retired_total";
    assert_eq!(sidecar.metric(retired, &["filter=\"allocate\""]).await, 10.0);
}

#[tokio::test]
async fn a_guest_that_leaks_is_renewed_when_its_memory_is_used_up() {
    let origin = Origin::echo().await;
    let keys = "limits = { memory = \"4MiB\" }\nfail_policy = \"open\"";
    let setup = Sidecar::new().origin(&origin).guest("leak", keys).runtime("workers = 1");
    let sidecar = setup.start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let before = sidecar.resident_kib();
    for _ in 0..500 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let grown = sidecar.resident_kib().saturating_sub(before);
    assert!(grown < 12 * 1024, "500 times 64 KiB left {grown} KiB");
    let failures = sidecar.metric("pillion_filter_failures_total", &["filter=\"leak\""]).await;
    assert!((1.0..50.0).contains(&failures), "{failures}");
}

#[tokio::test]
async fn nonsense_from_a_guest_is_its_own_failure() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("bad-status", "").start().await;
    for (status, expected) in
        [("99", 500), ("199", 500), ("200", 200), ("599", 599), ("600", 500), ("1000", 500)]
    {
        let reply = sidecar.get_with("/", &[("x-status", status)]).await;
        assert_eq!(reply.status, expected, "{status}");
    }
    assert_eq!(sidecar.get("/").await.status, 200);
    assert_eq!(failure(&sidecar, "bad-status").await.field("reason"), "invalid_output");

    let sidecar = Sidecar::new().origin(&origin).guest("bad-header-name", "").start().await;
    assert_eq!(sidecar.get("/").await.status, 500);
    let detail = failure(&sidecar, "bad-header-name").await.field("detail");
    assert!(detail.contains("hook `on-request` failed"), "{detail}");
}

#[tokio::test]
async fn a_local_reply_has_a_limit() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("huge-reply", "").start().await;
    for (bytes, status) in [("65535", 200), ("65536", 200), ("65537", 500), ("1048576", 500)] {
        let reply = sidecar.get_with("/", &[("x-bytes", bytes)]).await;
        assert_eq!(reply.status, status, "{bytes}");
        if status == 200 {
            assert_eq!(reply.body.len().to_string(), bytes);
            assert_eq!(reply.header("content-length"), bytes);
        }
    }
    let setup = Sidecar::new().origin(&origin);
    let sidecar = setup.guest("huge-reply", "limits = { local_reply = 100 }").start().await;
    for (bytes, status) in [("99", 200), ("100", 200), ("101", 500)] {
        assert_eq!(sidecar.get_with("/", &[("x-bytes", bytes)]).await.status, status, "{bytes}");
    }
}

#[tokio::test]
async fn fields_of_the_host_are_refused_and_the_answer_stays_in_step() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("framing-fields", "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..3 {
        let reply = client.get("/").await;
        let refused = reply.header("x-refused");
        for name in ["content-length=", "transfer-encoding=", "connection="] {
            assert!(refused.contains(&format!("{name}HostOwned")), "{refused}");
        }
        assert_eq!(reply.seen().target, "/");
    }
}

#[tokio::test]
async fn ten_thousand_log_lines_become_twenty_and_a_count() {
    let origin = Origin::echo().await;
    let keys = "grants = { log = true }\nlimits = { time = \"1s\", exchange_time = \"2s\" }";
    let sidecar = Sidecar::new().origin(&origin).guest("log-flood", keys).start().await;
    assert_eq!(sidecar.get("/").await.status, 200);
    let dropped = "pillion_filter_log_lines_dropped_total";
    sidecar.metric_is(dropped, &["filter=\"log-flood\""], |count| count == 9_980.0).await;
    sidecar.log.line("line 19").await;
    let lines = sidecar.log.lines();
    assert!(!lines.iter().any(|line| line.contains("line 20")), "{}", sidecar.log.tail(5));
}

#[tokio::test]
async fn bodies_can_be_replaced_as_they_stream() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("body-upper", "").start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let reply = sidecar.connect(protocol).await.post("/", "quiet").await;
        let text = reply.text();
        assert!(text.contains("\"BODY\":\"QUIET\""), "{text}");
        assert!(!text.bytes().any(|byte| byte.is_ascii_lowercase()), "{text}");
    }
}

#[tokio::test]
async fn a_head_can_wait_for_its_body() {
    let origin = Origin::serve(|request| async move {
        let held = request.headers().get("x-held").cloned();
        let body = pillion_tests::BodyExt::collect(request.into_body()).await;
        let length = body.expect("the body arrives").to_bytes().len();
        let seen = held.and_then(|held| held.to_str().ok().map(str::to_owned));
        http::Response::new(full(format!("{} {length}", seen.unwrap_or_default())))
    })
    .await;
    let keys = "limits = { time = \"500ms\", exchange_time = \"1s\" }";
    let sidecar = Sidecar::new().origin(&origin).guest("body-hold", keys).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for length in [1, 70_000, 1 << 20] {
            let reply = sidecar.connect(protocol).await.post("/", vec![b'x'; length]).await;
            assert_eq!(reply.text(), format!("{length} {length}"), "{protocol:?}");
            assert_eq!(reply.header("x-held"), reply.body.len().to_string());
        }
    }
}

#[tokio::test]
async fn held_bodies_have_a_limit() {
    let origin = Origin::echo().await;
    let keys = "limits = { body = \"100KiB\", time = \"500ms\", exchange_time = \"1s\" }";
    let sidecar = Sidecar::new().origin(&origin).guest("body-over", keys).start().await;
    for (length, status) in [(100 * 1024 - 1, 200), (100 * 1024, 200), (100 * 1024 + 1, 500)] {
        let reply = sidecar.post("/", vec![b'x'; length]).await;
        assert_eq!(reply.status, status, "{length}");
        if status == 200 {
            assert_eq!(reply.seen().body_bytes, length as u64);
        }
    }
    assert_eq!(failure(&sidecar, "body-over").await.field("reason"), "body_limit");
}

#[tokio::test]
async fn a_guest_can_answer_while_the_body_is_still_arriving() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("body-reject", "").start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome ").await;
    wire.send("forbidden words").await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "forbidden\n"));
    let reply = sidecar.connect(Protocol::Http2).await.post("/", "forbidden").await;
    assert_eq!(reply.status, 403);
    assert_eq!(sidecar.post("/", "allowed").await.seen().body, "allowed");
}

#[tokio::test]
async fn trailers_can_be_edited() {
    let origin = Origin::script(|mut wire, _| async move {
        while let Some(request) = wire.request().await {
            let seen = format!("{:?}", request.trailers);
            let length = seen.len();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{seen}\r\n\
                 0\r\nx-remove: 1\r\nx-keep: 1\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).guest("trailers", "").start().await;
    let mut wire = sidecar.wire().await;
    wire.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\
         Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Remove: 1\r\nX-Keep: 1\r\n\r\n",
    )
    .await;
    let answer = wire.response().await;
    let request = answer.text();
    assert!(request.contains("(\"x-seen\", \"request\")"), "{request}");
    assert!(request.contains("x-keep") && !request.contains("x-remove"), "{request}");
    let mut names: Vec<_> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["x-keep", "x-seen"]);
}

#[tokio::test]
async fn notes_live_as_long_as_their_exchange() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("notes", "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for path in ["/one", "/two"] {
        assert_eq!(client.get(path).await.header("x-note"), path);
    }
}

#[tokio::test]
async fn a_guest_is_told_how_its_exchange_ended() {
    let origin = Origin::echo().await;
    let keys = "grants = { log = true }";
    let sidecar = Sidecar::new().origin(&origin).guest("complete", keys).start().await;
    let reply = sidecar.post("/fine", "hello").await;
    let line = sidecar.log.line("completed /fine").await;
    for part in [
        "status=200",
        "complete=true",
        "error=none",
        "request_bytes=5",
        &format!("response_bytes={}", reply.body.len()),
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }

    let silent = Origin::silent().await;
    let sidecar = Sidecar::new().origin(&silent).guest("complete", keys).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n").await;
    pillion_tests::until("the origin to be asked", async || {
        (silent.connections() == 1).then_some(())
    })
    .await;
    wire.reset();
    let line = sidecar.log.line("completed /gone").await;
    assert!(line.contains("complete=false") && line.contains("status=0"), "{line}");
}

#[tokio::test]
async fn granted_capabilities_work() {
    let origin = Origin::echo().await;
    let keys = "grants = { clock = true, random = true }";
    let sidecar = Sidecar::new().origin(&origin).guest("random-clock", keys).start().await;
    let (one, two) = (sidecar.get("/").await, sidecar.get("/").await);
    assert_eq!((one.header("x-wall-stable"), one.header("x-monotonic")), ("true", "true"));
    assert_eq!(one.header("x-random-bytes"), "16");
    assert_ne!(one.header("x-random"), two.header("x-random"));
    let wall = |reply: &pillion_tests::Reply| reply.header("x-wall").parse::<u128>().unwrap();
    assert!(wall(&two) > wall(&one));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let apart = now.saturating_sub(Duration::from_nanos(wall(&one) as u64));
    assert!(apart < Duration::from_secs(60), "{apart:?}");

    let keys = "grants = { metrics = true }";
    let sidecar = Sidecar::new().origin(&origin).guest("metrics", keys).start().await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/abc").await.status, 200);
    }
    let custom = |name: &str| format!("pillion_filter_custom_{name}");
    let labels = ["filter=\"metrics\"", "method=\"GET\""];
    assert_eq!(sidecar.metric(&custom("requests_total"), &labels).await, 3.0);
    assert_eq!(sidecar.metric(&custom("last_path_bytes"), &[]).await, 4.0);
    assert_eq!(sidecar.metric(&custom("path_bytes_count"), &[]).await, 3.0);
}

#[tokio::test]
async fn a_capability_that_is_not_granted_keeps_the_filter_from_being_loaded() {
    let origin = Origin::echo().await;
    for (guest, capability) in [
        ("random-clock", "clock"),
        ("kv-counter", "kv"),
        ("metrics", "metrics"),
        ("log-flood", "log"),
    ] {
        let refusal = Sidecar::new().origin(&origin).guest(guest, "").refused().await;
        assert_eq!(refusal.code, 1, "{guest}");
        assert!(refusal.text.contains(guest), "{}", refusal.text);
        assert!(refusal.text.contains(&format!("`{capability}`")), "{}", refusal.text);
    }
}

#[tokio::test]
async fn what_is_no_filter_is_refused_with_the_reason() {
    let origin = Origin::echo().await;
    let wrong_types = "(component
        (core module $m (func (export \"f\") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i \"f\")))
        (instance $hook (export \"on-request\" (func $f)))
        (export \"pillion:filter/on-request@0.1.0\" (instance $hook)))";
    let wrong_types = wat::parse_str(wrong_types).expect("the text is right");
    for (what, bytes, reason) in [
        ("garbage", b"not wasm at all".to_vec(), "component"),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), "component"),
        ("an empty component", b"\0asm\x0d\0\x01\0".to_vec(), "exports no hook"),
        ("an empty file", Vec::new(), "component"),
        ("wrong types", wrong_types, "on-request"),
    ] {
        let setup = Sidecar::new().origin(&origin).file("odd.wasm", bytes);
        let refusal = setup.filter("odd", "./odd.wasm", "").refused().await;
        assert_eq!(refusal.code, 1, "{what}: {}", refusal.text);
        assert!(refusal.text.contains("odd"), "{what}: {}", refusal.text);
        assert!(refusal.text.contains(reason), "{what}: {}", refusal.text);
    }
    let setup = Sidecar::new().origin(&origin).filter("gone", "./gone.wasm", "");
    let refusal = setup.refused().await;
    assert!(refusal.text.contains("gone.wasm"), "{}", refusal.text);
}

#[tokio::test]
async fn a_filter_that_cannot_be_loaded_is_left_out_at_the_start_if_its_policy_is_open() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .file("odd.wasm", "this is no component")
        .filter("odd", "./odd.wasm", "fail_policy = \"open\"")
        .guest("hello", "")
        .start()
        .await;
    assert_eq!(sidecar.get("/").await.seen().header("x-hello"), Some("world"));
    let event = sidecar.log.event("the warning", |event| event.field("filter") == "odd").await;
    assert!(event.message().contains("WITHOUT"), "{event:?}");
    let swallowed = sidecar.metric("pillion_swallowed_errors_total", &["filter_load"]).await;
    assert_eq!(swallowed, 1.0);
}

#[tokio::test]
async fn a_configuration_that_the_guest_refuses_is_reported_at_its_line() {
    let origin = Origin::echo().await;
    let keys =
        "[filter.config-error.config]\nrules = [\n  { name = \"one\" },\n  { name = \"two\" },\n]";
    let setup = Sidecar::new().origin(&origin).guest("config-error", keys);
    let line = 1 + setup.text().lines().position(|line| line.contains("\"two\"")).unwrap();
    let refusal = setup.refused().await;
    assert_eq!(refusal.code, 1);
    assert!(refusal.text.contains(&format!("pillion.toml:{line}:")), "{}", refusal.text);
    assert!(refusal.text.contains("no name is good enough"), "{}", refusal.text);
}

#[tokio::test]
async fn guests_of_a_chain_see_what_those_before_them_did() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .guest("noop", "")
        .guest("hello", "")
        .builtin(
            "headers",
            "config = { request = [{ rename = { name = \"x-hello\", to = \"x-b\" } }] }",
        )
        .start()
        .await;
    let seen = sidecar.get("/").await.seen();
    assert_eq!((seen.header("x-hello"), seen.header("x-b")), (None, Some("world")));
}

#[tokio::test]
async fn per_request_isolation_gives_each_request_a_fresh_instance() {
    let origin = Origin::echo().await;
    let keys = "isolation = \"per-request\"\nlimits = { memory = \"2MiB\" }";
    let setup = Sidecar::new().origin(&origin).guest("leak", keys).runtime("workers = 1");
    let sidecar = setup.start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..100 {
        // 6 MiB in all: what is fresh each time is never used up.
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_harms_nobody() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("body-upper", "").start().await;
    let mut wire = sidecar.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
    wire.finish().await;
    let (_, ending) = wire.rest().await;
    assert!(matches!(ending, Ending::Closed | Ending::Reset));
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = client.request(Method::GET, "/").body(empty()).unwrap();
    assert_eq!(client.fetch(request).await.status, 200);
}

#[tokio::test]
async fn a_guest_may_use_the_whole_contract() {
    let origin = Origin::echo().await;
    let grants = "grants = { log = true, clock = true, random = true, metrics = true, kv = true, \
                  rate-limit = { requests = 1000, per = \"1s\" } }";
    let sidecar = Sidecar::new().origin(&origin).guest("everything", grants).start().await;
    let passed = sidecar.get_with("/some/path?q=1", &[("x-answer", "proceed")]).await;
    assert_eq!((passed.status, passed.header("x-set")), (203, "response"));
    let answered = sidecar.get_with("/", &[("x-answer", "respond")]).await;
    assert_eq!((answered.status, answered.header("x-why")), (418, "asked"));
    assert_eq!(answered.text(), "short and stout");
}

#[tokio::test]
async fn whether_a_response_has_a_body_is_not_for_a_filter_to_say() {
    let origin = Origin::echo().await;
    let grants = "grants = { log = true, clock = true, random = true, metrics = true, kv = true, \
                  rate-limit = { requests = 1000, per = \"1s\" } }";
    let sidecar = Sidecar::new().origin(&origin).guest("everything", grants).start().await;
    let mut wire = sidecar.wire().await;
    // The guest sets the method `PATCH`, which stands where there was another but `HEAD`.
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (rest, _) = wire.rest().await;
    let text = String::from_utf8_lossy(&rest);
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.starts_with("HTTP/1.1 203 ") && body.is_empty(), "{text}");
    assert_eq!(sidecar.get("/").await.seen().method, "PATCH");
}
