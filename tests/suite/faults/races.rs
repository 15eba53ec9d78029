//! Connections that end at the moment they are used again, and endpoints that go and come back.

use http::{Method, Request};
use pillion_tests::client::{empty, full};
use pillion_tests::frames::{self, END_HEADERS, END_STREAM, Frames};
use pillion_tests::origin::Body;
use pillion_tests::wire::Message;
use pillion_tests::{Client, Origin, Protocol, Reply, Sidecar, until};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How a kept connection ends under the next request.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Closed when the request has come.
    Closed,
    /// Reset when the request has come.
    Reset,
    /// Dropped with the request unread, which the kernel answers with a reset.
    Unread,
}

/// Requests by what they were, in the order they were answered.
type Answered = Arc<Mutex<Vec<String>>>;

/// Answers one request of a connection, and lets the next one die.
async fn mortal(death: Death, answered: &Answered) -> Origin {
    let answered = Arc::clone(answered);
    Origin::script(move |mut wire, _| {
        let answered = Arc::clone(&answered);
        async move {
            let Some(request) = wire.request().await else { return };
            let line = request.head.first.clone();
            answered.lock().expect("nothing panics there").push(line);
            wire.send(answer_to(&request)).await;
            match death {
                Death::Closed => drop(wire.request().await),
                Death::Reset => {
                    if wire.request().await.is_some() {
                        wire.reset();
                    }
                }
                Death::Unread => drop(wire.exactly(1).await),
            }
        }
    })
    .await
}

fn answer_to(request: &Message) -> &'static str {
    if request.head.first.starts_with("HEAD ") {
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    } else {
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    }
}

fn request(client: &Client, method: &Method, path: &str, body: &'static str) -> Request<Body> {
    let body = if body.is_empty() { empty() } else { full(body) };
    client.request(method.clone(), path).body(body).expect("the request is valid")
}

/// Not repeated: told so, in the documented words.
fn is_told(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 502, "{what}");
    assert_eq!(reply.header("proxy-status"), "pillion; error=connection_terminated", "{what}");
}

#[tokio::test]
async fn a_request_whose_kept_connection_dies_is_repeated_once_where_it_can_do_no_harm() {
    for death in [Death::Closed, Death::Reset, Death::Unread] {
        let answered = Answered::default();
        let origin = mortal(death, &answered).await;
        let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
        for (at, (method, body, repeated)) in [
            (Method::GET, "", true),
            (Method::HEAD, "", true),
            (Method::OPTIONS, "", true),
            (Method::DELETE, "", true),
            (Method::PUT, "", true),
            (Method::POST, "", false),
            (Method::PATCH, "", false),
            // Its body is gone with the connection.
            (Method::PUT, "body", false),
            (Method::POST, "body", false),
        ]
        .into_iter()
        .enumerate()
        {
            for speaks in [Protocol::Http1, Protocol::Http2] {
                let what = format!("{method} {body:?} {death:?} {speaks:?}");
                let mut client = sidecar.connect(speaks).await;
                // From here on there is a connection that has served one request.
                assert_eq!(client.get("/first").await.status, 200, "{what}");
                let path = format!("/{at}/{speaks:?}");
                let reply = client.fetch(request(&client, &method, &path, body)).await;
                if repeated {
                    assert_eq!(reply.status, 200, "{what}");
                } else {
                    is_told(&reply, &what);
                }
                let answered = answered.lock().expect("nothing panics there");
                let times = answered.iter().filter(|line| line.contains(&path)).count();
                assert_eq!(times, usize::from(repeated), "{what}");
            }
        }
        sidecar.metric_is("pillion_requests_active", &[], |now| now == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_unasked_costs_no_request_that_can_be_repeated() {
    // Each answer is followed by the end of its connection, at about the time of the next request.
    let taken = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let counts = Arc::clone(&taken);
    let origin = Origin::script(move |mut wire, _| {
        let counts = Arc::clone(&counts);
        async move {
            let Some(request) = wire.request().await else { return };
            let line = request.head.first.clone();
            *counts.lock().expect("nothing panics there").entry(line).or_default() += 1;
            wire.send(answer_to(&request)).await;
        }
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    let mut told = 0;
    for speaks in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(speaks).await;
        for turn in 0..300 {
            let reply = client.get(&format!("/get/{speaks:?}/{turn}")).await;
            assert_eq!((reply.status, reply.text()), (200, "ok".to_owned()), "{turn}");
            let reply = client.post(&format!("/post/{speaks:?}/{turn}"), "once").await;
            if reply.status != 200 {
                is_told(&reply, "POST");
                told += 1;
            }
        }
    }
    let taken = taken.lock().expect("nothing panics there");
    let posts = taken.iter().filter(|(line, _)| line.starts_with("POST"));
    assert!(posts.clone().all(|(_, times)| *times == 1), "never twice");
    assert!(posts.count() >= 600 - told, "what was answered was carried out");
}

/// How an HTTP/2 connection treats its second request.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Stream,
    Goodbye,
}

/// Refuses the second request of its first connection, and answers all others.
async fn refusing(refusal: Refusal, posts: &Arc<AtomicUsize>) -> Origin {
    let posts = Arc::clone(posts);
    Origin::script(move |wire, connection| {
        let posts = Arc::clone(&posts);
        async move {
            let mut frames = Frames::accept(wire, &[]).await;
            frames.agree().await;
            let mut requests = 0;
            while let Some(frame) = frames.next().await {
                if frame.kind != frames::HEADERS {
                    continue;
                }
                requests += 1;
                if connection > 1 || requests != 2 {
                    posts.fetch_add(usize::from(frame.flags & END_STREAM == 0), Ordering::SeqCst);
                    let flags = END_HEADERS | END_STREAM;
                    frames.send(frames::HEADERS, flags, frame.stream, frames::OK).await;
                    continue;
                }
                match refusal {
                    Refusal::Stream => {
                        let code = frames::REFUSED_STREAM.to_be_bytes();
                        frames.send(frames::RST_STREAM, 0, frame.stream, &code).await;
                    }
                    Refusal::Goodbye => {
                        let payload = [1_u32.to_be_bytes(), [0; 4]].concat();
                        frames.send(frames::GOAWAY, 0, 0, &payload).await;
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_refused_is_sent_again_where_it_can_do_no_harm_or_the_file_says_so() {
    let retry = "retry = { on = [\"refused_stream\"] }";
    for refusal in [Refusal::Stream, Refusal::Goodbye] {
        for (method, body, keys, repeated) in [
            (Method::GET, "", "", true),
            (Method::POST, "body", "", false),
            (Method::POST, "body", retry, true),
        ] {
            let posts = Arc::<AtomicUsize>::default();
            let origin = refusing(refusal, &posts).await;
            let setup = Sidecar::new().origin(&origin).h2c().upstream(keys);
            let sidecar = setup.runtime("workers = 1").start().await;
            let what = format!("{method} {refusal:?} {keys:?}");
            let mut client = sidecar.connect(Protocol::Http1).await;
            assert_eq!(client.get("/first").await.status, 200, "{what}");
            let reply = client.fetch(request(&client, &method, "/second", body)).await;
            if repeated {
                assert_eq!(reply.status, 200, "{what}");
            } else {
                is_told(&reply, &what);
            }
            let wanted = usize::from(repeated && method == Method::POST);
            assert_eq!(posts.load(Ordering::SeqCst), wanted, "{what}");
        }
    }
}

/// Asks again and again; every answer has to be 200.
async fn load(address: SocketAddr, protocol: Protocol, stop: Arc<AtomicBool>) -> usize {
    let mut client = Client::connect(address, protocol).await;
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let reply = client.get("/").await;
        assert_eq!(reply.status, 200, "{protocol:?}: {}", reply.text());
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_dies_and_comes_back_costs_no_request_that_can_be_repeated() {
    // Addresses of this process, which nobody else gets from the kernel meanwhile.
    let network = (std::process::id() % 250) as u8;
    let found_by_checks = "health = { check = \"tcp\", interval = \"20ms\" }";
    let found_by_answers = "outlier = { consecutive_gateway = 1, ejection_time = \"200ms\", \
                            ejection_time_max = \"200ms\" }";
    for (host, protocol, keys, state) in [
        (1, "http1", found_by_checks, "unhealthy"),
        (2, "http1", found_by_answers, "ejected"),
        (3, "h2c", found_by_checks, "unhealthy"),
        (4, "h2c", found_by_answers, "ejected"),
    ] {
        let mortal = Origin::echo_at(([127, 77, network, host], 7701).into()).await;
        let address = mortal.address;
        let other = Origin::echo().await;
        let retry = "retry = { on = [\"connect\", \"reset\", \"refused_stream\"], \
                     budget = { ratio = \"100%\", min_per_second = 1000 } }";
        let setup = Sidecar::new().origin(&mortal).origin(&other).upstream(keys).upstream(retry);
        let setup = setup.upstream(&format!("protocol = \"{protocol}\""));
        let sidecar = setup.runtime("workers = 1").start().await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for speaks in [Protocol::Http1, Protocol::Http2] {
            clients.spawn(load(sidecar.address(), speaks, Arc::clone(&stop)));
        }
        until("requests to it", async || (mortal.requests() > 10).then_some(())).await;

        drop(mortal);
        let (endpoints, label) = ("pillion_upstream_endpoints", format!("state=\"{state}\""));
        sidecar.metric_is(endpoints, &[&label], |count| count == 1.0).await;
        let before = other.requests();
        until("requests without it", async || (other.requests() > before + 10).then_some(())).await;

        let returned = Origin::echo_at(address).await;
        let available = ["state=\"available\""];
        sidecar.metric_is(endpoints, &available, |count| count == 2.0).await;
        until("requests to it again", async || (returned.requests() > 10).then_some(())).await;
        stop.store(true, Ordering::SeqCst);
        while let Some(count) = clients.join_next().await {
            assert!(count.expect("every request is answered") > 0);
        }
        let errors = sidecar.metric("pillion_request_errors_total", &[]).await;
        assert_eq!(errors, 0.0, "{protocol} {state}");
    }
}
