//! Requests that are repeated: after what, where, how often, and never where it could do harm.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::streamed;
use pillion_tests::{BodyExt, Client, Origin, Protocol, Sidecar};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A repetition comes at once, and as many may as the test wants.
const FREELY: &str = "backoff = { base = \"1ms\", max = \"1ms\" }, \
                      budget = { ratio = \"100%\", min_per_second = 1000 }";

/// Keys of an upstream whose requests are repeated.
fn retry(keys: &str) -> String {
    format!("retry = {{ {keys}, {FREELY} }}")
}

/// Answers with `status`, always.
async fn answering(status: u16) -> Origin {
    Origin::serve(move |_| async move {
        let mut answer = Response::new(full("x"));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a test says a status");
        answer
    })
    .await
}

/// Takes a request and breaks the connection, always.
async fn resetting() -> Origin {
    Origin::script(|mut wire, _| async move {
        wire.request().await;
        wire.reset();
    })
    .await
}

/// Fails the first request with 503, and answers the next ones with 200; keeps their bodies.
async fn failing_once(bodies: &Arc<Mutex<Vec<Vec<u8>>>>) -> Origin {
    let bodies = Arc::clone(bodies);
    Origin::serve(move |request| {
        let bodies = Arc::clone(&bodies);
        async move {
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            let mut bodies = bodies.lock().expect("no handler panics");
            bodies.push(body.to_vec());
            let mut answer = Response::new(full("x"));
            if bodies.len() == 1 {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            answer
        }
    })
    .await
}

async fn refused(sidecar: &Sidecar, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    sidecar.metric("pillion_upstream_retries_refused_total", &[&label]).await
}

#[tokio::test]
async fn a_request_whose_endpoint_refuses_goes_to_another_one() {
    let (refusing, origin) = (Origin::refusing().await, Origin::echo().await);
    let setup = Sidecar::new().endpoint(refusing).origin(&origin).runtime("workers = 1");
    let sidecar = setup.upstream(&retry("attempts = 2")).start().await;
    for _ in 0..10 {
        assert_eq!(sidecar.post("/", "once").await.status, 200, "it has not arrived anywhere");
    }
    assert_eq!(origin.requests(), 10);
    let cause = ["cause=\"connect\""];
    assert_eq!(sidecar.metric("pillion_upstream_retries_total", &cause).await, 5.0);
}

#[tokio::test]
async fn a_repetition_meets_another_endpoint_where_there_is_one() {
    for balance in ["round_robin", "least_request", "p2c_ewma", "maglev"] {
        let origins = [answering(503).await, answering(503).await, answering(503).await];
        let setup = origins.iter().fold(Sidecar::new(), |setup, origin| setup.origin(origin));
        let keys = retry("on = [\"503\"], attempts = 3");
        let setup = setup.upstream(&keys).upstream(&format!("balance = \"{balance}\""));
        let sidecar = setup.runtime("workers = 1").start().await;
        for count in 1..=5 {
            assert_eq!(sidecar.get("/").await.status, 503);
            for origin in &origins {
                assert_eq!(origin.requests(), count, "{balance}");
            }
        }
        assert_eq!(refused(&sidecar, "attempts").await, 5.0);
    }
}

#[tokio::test]
async fn the_only_endpoint_is_asked_as_often_as_there_are_attempts() {
    for attempts in [2, 3, 4] {
        let origin = answering(502).await;
        let keys = retry(&format!("on = [\"502\"], attempts = {attempts}"));
        let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
        let reply = sidecar.get("/").await;
        assert_eq!((reply.status, reply.text()), (502, "x".to_owned()), "the last answer counts");
        assert_eq!(origin.requests(), attempts);
    }
}

#[tokio::test]
async fn only_what_the_file_names_is_a_reason() {
    let origin = answering(503).await;
    let keys = retry("on = [\"502\", \"504\"]");
    let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
    assert_eq!((sidecar.get("/").await.status, origin.requests()), (503, 1));
}

#[tokio::test]
async fn a_body_that_fits_is_sent_again_as_it_was() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (length, repeated) in [(0, true), (4_095, true), (4_096, true), (4_097, false)] {
            let bodies = Arc::default();
            let origin = failing_once(&bodies).await;
            let keys = retry("on = [\"503\"], any_method = true, replay_buffer = \"4KiB\"");
            let mut setup = Sidecar::new().origin(&origin).upstream(&keys);
            if protocol == Protocol::Http2 {
                setup = setup.h2c();
            }
            let sidecar = setup.start().await;
            let body: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut client = sidecar.connect(protocol).await;
            let reply = client.post("/", body.clone()).await;
            let bodies = bodies.lock().expect("no handler panics").clone();
            assert!(bodies.iter().all(|seen| *seen == body), "{protocol:?} {length}");
            let expected = if repeated { (200, 2) } else { (503, 1) };
            assert_eq!((reply.status, bodies.len()), expected, "{protocol:?} {length}");
            let lost = f64::from(u8::from(!repeated));
            assert_eq!(refused(&sidecar, "body").await, lost, "{protocol:?} {length}");
        }
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_again_with_its_trailers() {
    let origin = Origin::script(|mut wire, connection| async move {
        let request = wire.request().await.expect("a request");
        if connection == 1 {
            wire.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return;
        }
        let text = format!("{} {:?}", request.text(), request.trailers);
        let length = text.len();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")).await;
        wire.rest().await;
    })
    .await;
    let keys = retry("on = [\"503\"]");
    let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
    let mut wire = sidecar.wire().await;
    wire.send(
        "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\none\r\n4\r\n two\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    let answer = wire.response().await;
    assert_eq!((answer.status(), answer.text()), (200, "one two [(\"x-sum\", \"7\")]".to_owned()));
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_repeated_only_where_that_makes_no_difference() {
    for (method, any, attempts) in [
        (Method::GET, false, 3),
        (Method::PUT, false, 3),
        (Method::DELETE, false, 3),
        (Method::POST, false, 1),
        (Method::PATCH, false, 1),
        (Method::POST, true, 3),
    ] {
        let origin = resetting().await;
        let keys = retry(&format!("on = [\"reset\"], any_method = {any}"));
        let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        let request = client.request(method.clone(), "/").body(empty());
        let reply = client.fetch(request.expect("the request is valid")).await;
        assert_eq!((reply.status, origin.connections()), (502, attempts), "{method} {any}");
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_the_only_one() {
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let origin = Origin::script(move |mut wire, _| {
        let told = Arc::clone(&told);
        async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart").await;
            told.notified().await;
            wire.reset();
        }
    })
    .await;
    let keys = retry("on = [\"reset\", \"connect\", \"timeout\", \"502\", \"503\"]");
    let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.expect("the head of the answer").status(), 200);
    seen.notify_one();
    let (rest, _) = wire.rest().await;
    assert!(rest.len() < 10);
    assert_eq!(origin.connections(), 1);
    assert_eq!(sidecar.metric("pillion_upstream_retries_total", &[]).await, 0.0);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_left_for_another() {
    let (silent, origin) = (Origin::silent().await, Origin::echo().await);
    let setup = Sidecar::new().origin(&silent).origin(&origin).runtime("workers = 1");
    let keys = retry("on = [\"timeout\"], per_try_timeout = \"50ms\"");
    let sidecar = setup.upstream(&keys).start().await;
    for _ in 0..4 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    let cause = ["cause=\"timeout\""];
    assert!(sidecar.metric("pillion_upstream_retries_total", &cause).await >= 2.0);
}

/// Says when to come back, the first time.
async fn busy(retry_after: &'static str) -> Origin {
    Origin::script(move |mut wire, connection| async move {
        while wire.request().await.is_some() {
            if connection == 1 {
                let head = format!("HTTP/1.1 503 Busy\r\nretry-after: {retry_after}\r\n");
                wire.send(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n")).await;
                return;
            }
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_asks_for_too_long_a_wait_is_passed_on() {
    for (retry_after, status) in [
        ("0", 200),
        ("1", 200),
        ("2", 503),
        ("99999999999999999999", 503),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 503),
        ("soon", 200),
    ] {
        let origin = busy(retry_after).await;
        let keys = retry("on = [\"503\"], retry_after_max = \"1s\"");
        let sidecar = Sidecar::new().origin(&origin).upstream(&keys).start().await;
        let reply = sidecar.get("/").await;
        assert_eq!(reply.status, status, "{retry_after}");
        let refusals = f64::from(u8::from(status == 503));
        assert_eq!(refused(&sidecar, "retry_after").await, refusals, "{retry_after}");
    }
}

/// Answers calls of gRPC with a status and no message.
async fn grpc(status: &'static str) -> Origin {
    Origin::serve(move |request| async move {
        // The end of the call comes first, so that nothing is reset.
        let _ = request.into_body().collect().await;
        let mut answer = Response::new(empty());
        let fields = answer.headers_mut();
        fields.insert("content-type", http::HeaderValue::from_static("application/grpc"));
        fields.insert("grpc-status", http::HeaderValue::from_static(status));
        answer
    })
    .await
}

#[tokio::test]
async fn a_status_of_grpc_is_a_reason_when_no_message_came_before_it() {
    let (unavailable, fine) = (grpc("14").await, grpc("0").await);
    let setup = Sidecar::new().origin(&unavailable).origin(&fine).runtime("workers = 1").h2c();
    let sidecar = setup.upstream(&retry("on = [\"grpc:unavailable\"]")).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    for _ in 0..4 {
        let request = client.request(Method::POST, "/pkg.Service/Call");
        let request = request.header("content-type", "application/grpc").body(full("call"));
        let reply = client.fetch(request.expect("the request is valid")).await;
        assert_eq!(reply.header("grpc-status"), "0");
    }
    assert!(unavailable.requests() > 0);
    let cause = ["cause=\"grpc\""];
    assert!(sidecar.metric("pillion_upstream_retries_total", &cause).await > 0.0);
}

/// Answers calls of gRPC with a head, `messages`, and a status in trailers.
async fn grpc_behind(messages: &'static [&'static str], status: &'static str) -> Origin {
    Origin::serve(move |request| async move {
        let _ = request.into_body().collect().await;
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            for message in messages {
                sender.send_data((*message).into()).await.expect("it is read");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static("why"));
            sender.send_trailers(trailers).await.expect("it is read");
        });
        let mut answer = Response::new(body);
        let fields = answer.headers_mut();
        fields.insert("content-type", HeaderValue::from_static("application/grpc"));
        answer
    })
    .await
}

#[tokio::test]
async fn a_status_of_grpc_behind_a_head_is_a_reason_too_when_no_message_came_before_it() {
    let cases: [(&[&str], &str, usize, &str); 5] = [
        (&[], "on = [\"grpc:unavailable\"]", 2, ""),
        (&[], "on = [\"grpc:unavailable\"], attempts = 4", 4, ""),
        (&[], "on = [\"grpc:internal\"]", 1, ""),
        (&[], "on = [\"503\", \"reset\"]", 1, ""),
        (&["one", "two"], "on = [\"grpc:unavailable\"]", 1, "onetwo"),
    ];
    for (messages, keys, requests, text) in cases {
        let keys = if keys.contains("attempts") {
            keys.to_owned()
        } else {
            format!("{keys}, attempts = 2")
        };
        let origin = grpc_behind(messages, "14").await;
        let setup = Sidecar::new().origin(&origin).h2c().upstream(&retry(&keys));
        let sidecar = setup.start().await;
        let mut client = sidecar.connect(Protocol::Http2).await;
        let request = client.request(Method::POST, "/pkg.Service/Call");
        let request = request.header("content-type", "application/grpc").body(full("call"));
        let reply = client.fetch(request.expect("the request is valid")).await;
        // What is passed on is whole: head, messages and trailers.
        assert_eq!((reply.status, &*reply.text()), (200, text), "{keys}");
        assert_eq!(reply.trailers.get("grpc-status").expect("a status"), "14", "{keys}");
        assert_eq!(reply.trailers.get("grpc-message").expect("a reason"), "why", "{keys}");
        assert_eq!(origin.requests(), requests, "{keys}");
    }
}

#[tokio::test]
async fn a_head_of_grpc_is_not_kept_from_a_client_that_waits_for_it() {
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let shared = (go.clone(), gone.clone());
    let origin = Origin::serve(move |request| {
        let (go, gone) = shared.clone();
        async move {
            let (mut sender, body) = streamed();
            tokio::spawn(async move {
                let fails = request.uri().path().ends_with("/Fail");
                go.notified().await;
                if fails {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("14"));
                    sender.send_trailers(trailers).await.expect("it is read");
                } else {
                    sender.send_data("late".into()).await.expect("it is read");
                }
                let _ = request.into_body().collect().await;
                gone.notify_one();
            });
            Response::new(body)
        }
    })
    .await;
    let setup = Sidecar::new().origin(&origin).h2c();
    let sidecar = setup.upstream(&retry("on = [\"grpc:unavailable\"]")).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    // A call that is whole, and one that goes on when its client has seen the head.
    for (method, is_whole) in [("Watch", true), ("Watch", false), ("Fail", true), ("Fail", false)] {
        let (sending, body) = streamed();
        let body = if is_whole { full("call") } else { body };
        let request = client.request(Method::POST, &format!("/pkg.Service/{method}"));
        let request = request.header("content-type", "application/grpc").body(body);
        let answer = client.send(request.expect("the request is valid")).await;
        let answer = answer.expect("a head without a message");
        assert_eq!(answer.status(), 200);
        go.notify_one();
        drop(sending);
        let body = answer.into_body().collect().await.expect("a whole answer");
        let status = body.trailers().and_then(|it| it.get("grpc-status")).cloned();
        let text = body.to_bytes();
        match method {
            "Watch" => assert_eq!((&*text, status), (&b"late"[..], None)),
            // Too late for a repetition: the client has seen the head.
            _ => assert_eq!((&*text, status.expect("a status")), (&b""[..], "14".parse().unwrap())),
        }
        gone.notified().await;
    }
    assert_eq!(sidecar.metric("pillion_upstream_retries_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_total_outage_multiplies_what_the_upstream_sees_by_no_more_than_the_budget() {
    let origin = answering(503).await;
    let keys = "retry = { on = [\"503\"], attempts = 10, \
                backoff = { base = \"1ms\", max = \"1ms\" }, \
                budget = { ratio = \"20%\", min_per_second = 0, ttl = \"1m\" } }";
    let setup = Sidecar::new().origin(&origin).upstream(keys).runtime("workers = 2");
    let sidecar = setup.start().await;
    for _ in 0..100 {
        assert_eq!(sidecar.get("/").await.status, 503);
    }
    assert_eq!(origin.requests(), 120, "a fifth more");
    assert!(refused(&sidecar, "budget").await >= 80.0);
    assert_eq!(sidecar.metric("pillion_upstream_retry_budget", &[]).await, 0.0);

    let address = sidecar.address();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..10 {
        clients.spawn(async move {
            let mut client = Client::connect(address, Protocol::Http1).await;
            for _ in 0..20 {
                assert_eq!(client.get("/").await.status, 503);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("no client panics");
    }
    assert_eq!(origin.requests(), 360, "both workers together, all at once");
}

/// Asks for a wait of five minutes, always, and is asked again after it.
async fn asking_to_wait() -> (Origin, &'static str) {
    let origin = Origin::serve(|_| async {
        let mut answer = Response::new(full("x"));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let fields = answer.headers_mut();
        fields.insert("retry-after", http::HeaderValue::from_static("300"));
        answer
    })
    .await;
    (origin, "on = [\"503\"], retry_after_max = \"5m\"")
}

#[tokio::test]
async fn no_more_requests_are_repeated_at_once_than_there_may_be() {
    let (origin, keys) = asking_to_wait().await;
    let setup = Sidecar::new().origin(&origin).upstream(&retry(keys)).runtime("workers = 2");
    let sidecar = setup.upstream_limits("retries_max = 2").start().await;
    let limit = ["limit=\"retries_max\""];
    let mut waiting = Vec::new();
    for count in [1.0, 2.0] {
        let mut wire = sidecar.wire().await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        waiting.push(wire);
        sidecar.metric_is("pillion_upstream_guarded", &limit, |now| now == count).await;
    }
    assert_eq!(sidecar.get("/").await.status, 503, "it is passed on");
    assert_eq!(refused(&sidecar, "retries_max").await, 1.0);
    drop(waiting);
    sidecar.metric_is("pillion_upstream_guarded", &limit, |now| now == 0.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_repetitions() {
    let (origin, keys) = asking_to_wait().await;
    let sidecar = Sidecar::new().origin(&origin).upstream(&retry(keys)).start().await;
    let mut wire = sidecar.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let retries = "pillion_upstream_retries_total";
    sidecar.metric_is(retries, &[], |count| count == 1.0).await;
    drop(wire);
    sidecar.metric_is("pillion_requests_active", &[], |count| count == 0.0).await;
    assert_eq!(origin.requests(), 1);
}
