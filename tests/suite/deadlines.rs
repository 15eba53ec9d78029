//! A request that says how much time it has gets no more, on any side, and the upstream is told what is
//! left. Tests wait for what happens when the time is over, not for the time.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, streamed};
use pillion_tests::sidecar::Setup;
use pillion_tests::{BodyExt, Client, Origin, Protocol, Reply, Sidecar, within};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FIELD: &str = "x-request-timeout";
/// Plenty on any machine: what happens after it happens for another reason.
const PLENTY: &str = "60000ms";
const HEADER: &str = "deadline = { header = \"X-Request-Timeout\" }";

fn listening(origin: &Origin) -> Setup {
    Sidecar::new().origin(origin).listener(HEADER)
}

/// Takes requests and never answers them, in HTTP/1.1 and HTTP/2.
async fn pending() -> Origin {
    Origin::serve(|_| std::future::pending::<Response<Body>>()).await
}

/// Answers with 503 and keeps what it was told of time. `retry-after` where there is one.
async fn failing(
    field: &'static str,
    retry_after: Option<&'static str>,
) -> (Origin, Arc<Mutex<Vec<String>>>) {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let kept = told.clone();
    let origin = Origin::serve(move |request| {
        let value = text(request.headers(), field).to_owned();
        kept.lock().expect("no handler panics").push(value);
        async move {
            let mut answer = Response::new(full("x"));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            if let Some(time) = retry_after {
                answer.headers_mut().insert("retry-after", HeaderValue::from_static(time));
            }
            answer
        }
    });
    (origin.await, told)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
}

fn call(client: &Client, timeout: &str) -> Request<Body> {
    let request = client.request(Method::POST, "/pkg.Service/Call");
    let request = request.header("content-type", "application/grpc+proto").header("te", "trailers");
    request.header("grpc-timeout", timeout).body(full("call")).expect("the request is valid")
}

async fn deadlines(sidecar: &Sidecar, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    sidecar.metric("pillion_request_deadlines_total", &[&label]).await
}

fn assert_exceeded(reply: &Reply) {
    assert_eq!(reply.status, 504);
    assert_eq!(reply.header("proxy-status"), "pillion; error=http_response_timeout");
    assert_eq!(reply.text(), "The time that the request has is over.\n");
}

fn assert_grpc_exceeded(reply: &Reply) {
    assert_eq!((reply.status, reply.header("grpc-status")), (200, "4"));
    assert_eq!(reply.header("content-type"), "application/grpc+proto");
    assert_eq!(reply.header("proxy-status"), "pillion; error=http_response_timeout");
    assert_eq!((reply.text(), reply.header("content-length")), (String::new(), ""));
}

/// Milliseconds of a plain timeout with its unit, or nanoseconds of one of gRPC.
fn time_of(value: &str) -> u128 {
    let (number, unit) = value.split_at(value.trim_end_matches(char::is_alphabetic).len());
    let scale = match unit {
        "" | "ms" | "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        _ => panic!("`{value}` was not expected"),
    };
    number.parse::<u128>().expect("it begins with a number") * scale
}

#[tokio::test]
async fn the_upstream_is_told_what_is_left_in_the_form_it_came_in() {
    let origin = Origin::echo().await;
    let sidecar = listening(&origin).start().await;
    for (value, most, form) in [
        (PLENTY, 60_000, "ms"),
        ("60000", 60_000, ""),
        ("60s", 60_000, "ms"),
        ("1m", 60_000, "ms"),
        ("60000000us", 60_000, "ms"),
    ] {
        let seen = sidecar.get_with("/", &[(FIELD, value)]).await.seen();
        let told = seen.header(FIELD).expect("the field is passed on").to_owned();
        assert!((1..=most).contains(&time_of(&told)), "{value} {told}");
        assert_eq!(told.trim_start_matches(|it: char| it.is_ascii_digit()), form, "{value}");
    }
    assert_eq!(sidecar.get("/").await.seen().header(FIELD), None);
    assert_eq!(
        (deadlines(&sidecar, "taken").await, deadlines(&sidecar, "exceeded").await),
        (5.0, 0.0)
    );
}

#[tokio::test]
async fn what_is_no_time_is_left_to_the_upstream_and_counted() {
    let origin = Origin::echo().await;
    let sidecar = listening(&origin).start().await;
    let mut malformed = 0.0;
    for value in ["", "soon", "-1", "1.5s", "5 s", "5S", "10000000000000000000", "1s, 2s"] {
        let seen = sidecar.get_with("/", &[(FIELD, value)]).await.seen();
        malformed += 1.0;
        assert_eq!(seen.header(FIELD), Some(value));
        assert_eq!(deadlines(&sidecar, "malformed").await, malformed, "{value}");
    }
    let seen = sidecar.get_with("/", &[(FIELD, "1s"), (FIELD, "2s")]).await.seen();
    assert_eq!(seen.all(FIELD), ["1s", "2s"], "nobody knows which one is meant");
    assert_eq!(deadlines(&sidecar, "malformed").await, malformed + 1.0);
    assert_eq!(deadlines(&sidecar, "taken").await, 0.0);
}

#[tokio::test]
async fn a_timeout_of_grpc_has_eight_digits_at_most() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).h2c().start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let day = 86_400_000_000_000;
    for (value, most) in [
        ("60S", Some(60_000_000_000)),
        ("60000m", Some(60_000_000_000)),
        ("9999999S", Some(day)),
        ("99999999S", Some(day)),
        ("100000000S", None),
        ("99999999H", Some(day)),
        ("1s", None),
        ("1", None),
        ("S", None),
    ] {
        let request = call(&client, value);
        let seen = client.fetch(request).await.seen();
        let told = seen.header("grpc-timeout").expect("the field is passed on").to_owned();
        match most {
            Some(most) => assert!((1..=most).contains(&time_of(&told)), "{value} {told}"),
            None => assert_eq!(told, value),
        }
    }
    for (result, count) in [("taken", 2.0), ("shortened", 3.0), ("malformed", 4.0)] {
        assert_eq!(deadlines(&sidecar, result).await, count, "{result}");
    }
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_answered_504_and_given_up() {
    let origin = Origin::script(|mut wire, _| async move {
        wire.request().await;
        // Ends when the sidecar closes the connection.
        wire.rest().await;
        drop(wire);
    })
    .await;
    let sidecar = listening(&origin).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        for value in ["200", "200ms"] {
            let request = client.request(Method::GET, "/").header(FIELD, value).body(empty());
            assert_exceeded(&client.fetch(request.expect("the request is valid")).await);
        }
        assert!(client.is_open(), "{protocol:?}");
    }
    assert_eq!(deadlines(&sidecar, "exceeded").await, 4.0);
    sidecar.metric_is("pillion_upstream_connections", &[], |open| open == 0.0).await;
    let failures = sidecar.metric("pillion_upstream_failures_total", &[]).await;
    assert_eq!(failures, 0.0, "how much time there is the client decides");
}

#[tokio::test]
async fn a_call_of_grpc_whose_time_is_over_gets_the_status_of_grpc() {
    let origin = pending().await;
    let setup = Sidecar::new().origin(&origin).h2c().tables("[access_log]");
    let sidecar = setup.start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "200m");
    assert_grpc_exceeded(&client.fetch(request).await);
    let line = sidecar.output.line("\"status\":200").await;
    assert!(line.contains("\"error\":\"http_response_timeout\""), "{line}");
    // A request that is no call gets no such answer.
    let request = client.request(Method::GET, "/").header("grpc-timeout", "1m").body(empty());
    let mut other = client.another();
    let waiting = tokio::spawn(async move {
        other.send_slowly(request.expect("the request is valid")).await.map(drop)
    });
    let request = call(&client, "200m");
    assert_grpc_exceeded(&client.fetch(request).await);
    assert!(!waiting.is_finished(), "`grpc-timeout` means nothing there");
    waiting.abort();
}

#[tokio::test]
async fn a_time_of_nothing_is_over_before_anything_is_sent() {
    let origin = Origin::echo().await;
    let sidecar = listening(&origin).h2c().start().await;
    for value in ["0", "0ms", "0us"] {
        assert_exceeded(&sidecar.get_with("/", &[(FIELD, value)]).await);
    }
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "0n");
    assert_grpc_exceeded(&client.fetch(request).await);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_longer_time_than_there_may_be_is_taken_for_that() {
    let origin = Origin::silent().await;
    let keys = "deadline = { header = \"x-request-timeout\", max = \"300ms\" }";
    let sidecar = Sidecar::new().origin(&origin).listener(keys).start().await;
    assert_exceeded(&sidecar.get_with("/", &[(FIELD, "301ms")]).await);
    assert_exceeded(&sidecar.get_with("/", &[(FIELD, "9999999999999999999h")]).await);
    assert_exceeded(&sidecar.get_with("/", &[(FIELD, "300ms")]).await);
    assert_exceeded(&sidecar.get_with("/", &[(FIELD, "299ms")]).await);
    assert_eq!(
        (deadlines(&sidecar, "shortened").await, deadlines(&sidecar, "taken").await),
        (2.0, 2.0)
    );
}

#[tokio::test]
async fn what_is_switched_off_is_not_looked_at() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).h2c();
    let sidecar = setup.listener("deadline = { grpc = false }").start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "0n");
    assert_eq!(client.fetch(request).await.seen().header("grpc-timeout"), Some("0n"));
    assert_eq!(sidecar.get_with("/", &[(FIELD, "0")]).await.seen().header(FIELD), Some("0"));
    for result in ["taken", "malformed", "exceeded"] {
        assert_eq!(deadlines(&sidecar, result).await, 0.0);
    }
}

#[tokio::test]
async fn a_field_that_a_filter_takes_out_stays_out() {
    let origin = Origin::echo().await;
    let keys = "config = { request = [{ remove = { name = \"x-request-timeout\" } }] }";
    let sidecar = listening(&origin).builtin("headers", keys).start().await;
    assert_eq!(sidecar.get_with("/", &[(FIELD, PLENTY)]).await.seen().header(FIELD), None);
    assert_eq!(deadlines(&sidecar, "taken").await, 1.0);
}

#[tokio::test]
async fn each_attempt_is_told_what_is_left_for_it() {
    let (origin, told) = failing("grpc-timeout", None).await;
    let keys = "retry = { on = [\"503\"], any_method = true, attempts = 4, \
                backoff = { base = \"20ms\", max = \"20ms\" } }";
    let sidecar = Sidecar::new().origin(&origin).h2c().upstream(keys).start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "50S");
    assert_eq!(client.fetch(request).await.status, 503);
    let told: Vec<u128> = told.lock().unwrap().iter().map(|it| time_of(it)).collect();
    assert_eq!(told.len(), 4);
    assert!(told.is_sorted_by(|one, next| one > next) && told[0] <= 50_000_000_000, "{told:?}");
}

#[tokio::test]
async fn a_wait_that_would_outlast_the_time_is_not_begun() {
    let (origin, _) = failing(FIELD, Some("300")).await;
    let keys = "retry = { on = [\"503\"], retry_after_max = \"5m\" }";
    let sidecar = listening(&origin).upstream(keys).start().await;
    assert_eq!(sidecar.get_with("/", &[(FIELD, PLENTY)]).await.status, 503, "it is passed on");
    assert_eq!(origin.requests(), 1);
    let reason = ["reason=\"deadline\""];
    assert_eq!(sidecar.metric("pillion_upstream_retries_refused_total", &reason).await, 1.0);
    assert_eq!(sidecar.metric("pillion_upstream_retries_total", &[]).await, 0.0);
}

#[tokio::test]
async fn all_attempts_share_the_time() {
    let origin = Origin::silent().await;
    let keys = "retry = { on = [\"timeout\"], per_try_timeout = \"10ms\", attempts = 10, \
                backoff = { base = \"1ms\", max = \"1ms\" }, \
                budget = { ratio = \"100%\", min_per_second = 1000 } }\nbalance = \"p2c_ewma\"";
    let sidecar = listening(&origin).upstream(keys).start().await;
    assert_eq!(sidecar.get_with("/", &[(FIELD, "45ms")]).await.status, 504);
    assert!(origin.connections() <= 5, "there is no time for more");
}

#[tokio::test]
async fn a_wait_for_a_place_ends_with_the_time() {
    let origin = pending().await;
    let overload = "overload = { requests_max = 1, queue_max = 10, queue_timeout = \"60s\" }";
    let setup = listening(&origin).listener(overload).h2c();
    let sidecar = setup.start().await;
    let mut holding = sidecar.connect(Protocol::Http2).await;
    let request = holding.request(Method::GET, "/").body(empty()).expect("the request is valid");
    let held = tokio::spawn(async move { holding.send_slowly(request).await.map(drop) });
    sidecar.metric_is("pillion_overload_running", &[], |running| running == 1.0).await;
    assert_exceeded(&sidecar.get_with("/", &[(FIELD, "100ms")]).await);
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "100m");
    assert_grpc_exceeded(&client.fetch(request).await);
    assert_eq!(origin.requests(), 1);
    sidecar.metric_is("pillion_overload_queued", &[], |queued| queued == 0.0).await;
    assert_eq!(deadlines(&sidecar, "exceeded").await, 2.0);
    held.abort();
}

#[tokio::test]
async fn an_answer_that_has_begun_is_broken_off_on_both_sides() {
    let (ended, is_ended) = tokio::sync::oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let origin = Origin::serve(move |_| {
        let (mut sender, body) = streamed();
        let ended = ended.lock().expect("no handler panics").take();
        tokio::spawn(async move {
            let mut turn = tokio::time::interval(Duration::from_millis(50));
            // Until the sidecar takes no more.
            while sender.send_data("message".into()).await.is_ok() {
                turn.tick().await;
            }
            ended.map(|ended| ended.send(()))
        });
        async { Response::new(body) }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).h2c().start().await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = call(&client, "3S");
    let response = client.send(request).await.expect("the answer begins");
    assert_eq!(response.status(), 200);
    let error = within("the end", response.into_body().collect()).await;
    let error = error.expect_err("what is cut is not taken for the whole");
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    within("the origin to hear of it", is_ended).await.expect("the origin tells");
    assert_eq!(deadlines(&sidecar, "exceeded").await, 1.0);
}

#[tokio::test]
async fn a_tunnel_outlives_the_time_of_the_request_that_began_it() {
    let (origin, silent) = (crate::upgrade::echoing().await, Origin::silent().await);
    let tables = format!(
        "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n{HEADER}\n\
         route = [{{ upstream = \"silent\" }}]\n[upstream.silent]\nendpoints = [\"{}\"]\n",
        silent.address
    );
    let sidecar = listening(&origin).tables(&tables).start().await;
    let mut wire = sidecar.wire().await;
    let switch = crate::upgrade::HANDSHAKE.replace("Host: a", "Host: a\r\nX-Request-Timeout: 4s");
    wire.send(switch).await;
    assert_eq!(wire.head().await.expect("the origin answers").status(), 101);
    assert_eq!(wire.exactly(5).await, b"hello");
    // It begins later and has as much time: when that is over, so is the other's.
    let mut client = Client::connect(sidecar.listener("second"), Protocol::Http1).await;
    let request = client.request(Method::GET, "/").header(FIELD, "4s").body(empty());
    assert_exceeded(&client.fetch(request.expect("the request is valid")).await);
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await, b"ping");
    assert_eq!(deadlines(&sidecar, "exceeded").await, 1.0);
}
