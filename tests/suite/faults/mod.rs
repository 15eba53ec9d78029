//! Upstreams that fail in every phase of an exchange, over real sockets: each fault has its documented
//! answer (`host/ERRORS.md`), word, counter and line in the access log, for clients of HTTP/1.1 and
//! HTTP/2; nothing is left of it afterwards, and nobody else notices.
//!
//! This file is the harness: a table of faults, and one sidecar that has a route for each. `http1` and
//! `http2` are the tables, by what the upstream speaks; `races` is about connections and endpoints that
//! go at a bad moment; `outage` about everything failing at once; `hops` about two sidecars in a row;
//! `held` about filters in between.
//!
//! Where the rest stands: malformed answers and the limits of heads in `malformed` and `limits`, timeouts
//! and slow peers in `timeouts` and `forwarding`, TLS in `tls_upstream`, what is repeated in `retries`,
//! what is left out in `outlier`, clients that fail in `truncation`, `timeouts` and `h2c_limits`.

mod held;
mod hops;
mod http1;
mod http2;
mod outage;
mod races;

use http::{Method, Request, Response};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, BodySender, Incoming, streamed};
use pillion_tests::process::descriptors;
use pillion_tests::{BodyExt, Client, Origin, Protocol, Reply, Sidecar, until, within};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// How an exchange ends for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the upstream's answer, whole.
    Answer(u16),
    /// With our reply to the fault.
    Reply(u16),
    /// Within the upstream's answer, so that it is not taken for whole.
    Cut(u16),
}

/// What the client asks for.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Get,
    /// With so many bytes of body.
    Post(usize),
    /// With so many bytes, behind which more would come after the answer.
    Upload(usize),
}

/// A fault, what an upstream does to bring it about, and what is to come of it.
struct Fault<Script> {
    /// Of its route and upstream, and in the path of its requests.
    name: &'static str,
    asks: Asks,
    script: Script,
    end: End,
    /// The word for it; empty: it is no fault.
    word: &'static str,
    /// Keys of the upstream's limits.
    limits: &'static str,
    /// How often the upstream is asked for each request.
    asked: usize,
}

impl<Script> Fault<Script> {
    fn new(name: &'static str, script: Script, end: End, word: &'static str) -> Fault<Script> {
        Fault { name, asks: Asks::Get, script, end, word, limits: "", asked: 1 }
    }

    fn post(mut self, bytes: usize) -> Fault<Script> {
        self.asks = Asks::Post(bytes);
        self
    }

    fn upload(mut self, bytes: usize) -> Fault<Script> {
        self.asks = Asks::Upload(bytes);
        self
    }

    fn limits(mut self, limits: &'static str) -> Fault<Script> {
        self.limits = limits;
        self
    }
}

/// An upstream of one fault.
struct Faulty {
    address: SocketAddr,
    /// Told when the client has the head of the answer.
    head_seen: Arc<Notify>,
    /// Requests, or connections where it does not come to that; none: nobody counts.
    asked: Option<Box<dyn Fn() -> usize>>,
    /// Ends with this.
    _origin: Box<dyn std::any::Any>,
}

/// Goes through a table with clients of both protocols, and looks at what is left.
async fn all_have_their_answers<S>(protocol: &str, table: &[Fault<S>], upstreams: Vec<Faulty>) {
    let good = Origin::serve(echoing).await;
    let names: Vec<_> = table.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), upstreams.len());
    let sidecar = Sidecar::with(&file(protocol, table, &upstreams)).origin(&good).start().await;
    let before = resting(&sidecar).await;

    // One exchange that is there from the beginning to the end, on the connection that requests of
    // HTTP/2 share.
    let mut shared = sidecar.connect(Protocol::Http2).await;
    let mut bystander = Bystander::begin(&mut shared).await;
    for (fault, upstream) in table.iter().zip(&upstreams) {
        for speaks in [Protocol::Http1, Protocol::Http2] {
            let what = format!("`{}` for {speaks:?}", fault.name);
            let mut client = match speaks {
                Protocol::Http1 => sidecar.connect(Protocol::Http1).await,
                Protocol::Http2 => shared.another(),
            };
            let path = path(fault, speaks);
            let (end, reply) = exchange(&mut client, fault.asks, &path, &upstream.head_seen).await;
            assert_eq!(end, fault.end, "{what}: {reply:?}");
            if let End::Reply(_) = end {
                let reply = reply.expect("a whole answer was read");
                let word = format!("pillion; error={}", fault.word);
                assert_eq!(reply.header("proxy-status"), word, "{what}");
                assert!(!reply.text().contains("127.0.0.1"), "{what}: {}", reply.text());
            }
            bystander.goes_on().await;
            assert_eq!(sidecar.get("/good").await.status, 200, "after {what}");
        }
        is_counted(&sidecar, fault).await;
        if let Some(asked) = &upstream.asked {
            assert_eq!(asked(), 2 * fault.asked, "requests of `{}`", fault.name);
        }
    }
    bystander.ends().await;
    // Lines come in batches: now all of them have.
    for (fault, upstream) in table.iter().zip(&upstreams) {
        for speaks in [Protocol::Http1, Protocol::Http2] {
            is_logged(&sidecar, fault, &path(fault, speaks), &upstream.address).await;
        }
    }
    drop(shared);
    nothing_is_left(&sidecar, before).await;
    assert!(sidecar.log.messages("panic").is_empty());
}

/// Of the request that meets a fault, unlike any other.
fn path<S>(fault: &Fault<S>, speaks: Protocol) -> String {
    format!("/{}/{speaks:?}", fault.name)
}

fn file<S>(protocol: &str, table: &[Fault<S>], upstreams: &[Faulty]) -> String {
    let mut text = "[admin]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[access_log]\n\
         [upstream.good]\nendpoints = [\"@APP@\"]\nlimits = { keepalive_timeout = \"100ms\", idle_timeout = \"10m\" }\n\
         [[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:0\"\n\
         limits = { body_rate_min = 0, body_idle_timeout = \"10m\" }\n\
         [[listener.route]]\nmatch = { path_prefix = \"/good\" }\nupstream = \"good\"\n"
        .to_owned();
    for (Fault { name, limits, .. }, Faulty { address, .. }) in table.iter().zip(upstreams) {
        text.push_str(&format!(
            "[[listener.route]]\nname = \"{name}\"\nmatch = {{ path_prefix = \"/{name}/\" }}\n\
             upstream = \"{name}\"\n"
        ));
        text.push_str(&format!(
            "[upstream.{name}]\nendpoints = [\"{address}\"]\nprotocol = \"{protocol}\"\n\
             [upstream.{name}.limits]\nkeepalive_timeout = \"100ms\"\nrequests_max = 100\n{limits}\n"
        ));
    }
    text
}

/// One request and what came of it, with the whole answer where there was one.
async fn exchange(
    client: &mut Client,
    asks: Asks,
    path: &str,
    head_seen: &Notify,
) -> (End, Option<Reply>) {
    let (method, body, _more) = match asks {
        Asks::Get => (Method::GET, empty(), None),
        Asks::Post(bytes) => (Method::POST, full(vec![b'x'; bytes]), None),
        Asks::Upload(bytes) => {
            let (sender, body) = unfinished(bytes);
            (Method::POST, body, Some(sender))
        }
    };
    let request = client.request(method, path).body(body);
    let answer = client.send(request.expect("the request is valid")).await;
    let answer = answer.unwrap_or_else(|error| panic!("no answer for {path}: {error:?}"));
    head_seen.notify_one();
    let status = answer.status().as_u16();
    match Reply::read(answer).await {
        Ok(reply) if reply.headers.contains_key("proxy-status") => {
            (End::Reply(status), Some(reply))
        }
        Ok(reply) => (End::Answer(status), Some(reply)),
        Err(error) => {
            // As documented for a stream whose client did nothing wrong.
            if client.speaks() == Protocol::Http2 {
                assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{path}: {error:?}");
            }
            (End::Cut(status), None)
        }
    }
}

/// A body of so many bytes that does not end while what is beside it is there.
fn unfinished(bytes: usize) -> (tokio::task::JoinSet<()>, Body) {
    let (mut sender, body) = streamed();
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(async move {
        // Whoever takes no more has answered.
        let _ = sender.send_data(vec![b'x'; bytes].into()).await;
        std::future::pending::<()>().await;
    });
    (sending, body)
}

async fn is_logged<S>(sidecar: &Sidecar, fault: &Fault<S>, path: &str, endpoint: &SocketAddr) {
    let line = sidecar.output.line(&format!("\"path\":\"{path}\"")).await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    let (End::Answer(status) | End::Reply(status) | End::Cut(status)) = fault.end;
    assert_eq!(line["route"], fault.name, "{line}");
    assert_eq!(line["upstream"], fault.name, "{line}");
    assert_eq!(line["endpoint"], endpoint.to_string(), "{line}");
    assert_eq!(line["status"], status, "{line}");
    assert_eq!(line["complete"], !matches!(fault.end, End::Cut(_)), "{line}");
    assert_eq!(line["error"].as_str().unwrap_or_default(), fault.word, "{line}");
}

async fn is_counted<S>(sidecar: &Sidecar, fault: &Fault<S>) {
    let route = format!("route=\"{}\"", fault.name);
    let upstream = format!("upstream=\"{}\"", fault.name);
    let error = format!("error=\"{}\"", fault.word);
    let count = if fault.word.is_empty() { 0.0 } else { 2.0 };
    for (name, of) in
        [("pillion_request_errors_total", &route), ("pillion_upstream_failures_total", &upstream)]
    {
        // Of this word, and of no other.
        if count > 0.0 {
            sidecar.metric_is(name, &[of, &error], |now| now == count).await;
        }
        assert_eq!(sidecar.metric(name, &[of]).await, count, "{name} of `{}`", fault.name);
    }
}

/// Descriptors of a sidecar that has nothing to do.
async fn resting(sidecar: &Sidecar) -> usize {
    // The admin interface has answered before, so that what it needs is there.
    assert_eq!(sidecar.metric("pillion_downstream_connections", &[]).await, 0.0);
    let mut last = 0;
    until("the descriptors to settle", async || {
        let now = descriptors(sidecar.id());
        let settled = (now == last).then_some(now);
        last = now;
        settled
    })
    .await
}

/// Requests, connections, places and descriptors are what they were.
async fn nothing_is_left(sidecar: &Sidecar, descriptors_before: usize) {
    for name in [
        "pillion_requests_active",
        "pillion_upstream_guarded",
        "pillion_downstream_connections",
        "pillion_upstream_connections",
    ] {
        sidecar.metric_is(name, &[], |now| now == 0.0).await;
    }
    until("the descriptors of before", async || {
        (descriptors(sidecar.id()) <= descriptors_before).then_some(())
    })
    .await;
}

/// Answers with the body of the request, piece by piece.
async fn echoing(request: Request<Incoming>) -> Response<Body> {
    let (mut sender, body) = streamed();
    tokio::spawn(async move {
        let mut incoming = request.into_body();
        while let Some(Ok(frame)) = incoming.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if sender.send_data(data).await.is_err() {
                return;
            }
        }
    });
    Response::new(body)
}

/// An exchange that has nothing to do with the faults, and is under way all the time.
struct Bystander {
    sender: BodySender,
    answer: Incoming,
    turns: u8,
}

impl Bystander {
    async fn begin(client: &mut Client) -> Bystander {
        let (sender, body) = streamed();
        let request = client.request(Method::POST, "/good").body(body);
        let answer = client.send(request.expect("the request is valid")).await;
        let answer = answer.expect("an answer before the request is whole").into_body();
        Bystander { sender, answer, turns: 0 }
    }

    /// A piece goes up and comes back.
    async fn goes_on(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        let piece = bytes::Bytes::from(vec![self.turns; 10]);
        self.sender.send_data(piece.clone()).await.expect("the stream is open");
        let frame = within("a piece to come back", self.answer.frame()).await;
        let frame = frame.expect("there is more to come").expect("the stream is open");
        assert_eq!(frame.into_data().ok(), Some(piece));
    }

    async fn ends(self) {
        drop(self.sender);
        let rest = within("the end", self.answer.collect()).await.expect("an end in order");
        assert!(rest.to_bytes().is_empty());
    }
}
