//! Clients that ask all the time, over connections that are never closed, and look at every answer.

use crate::ledger::Ledger;
use crate::site::Site;
use http::Method;
use pillion_tests::client::{empty, full};
use pillion_tests::{Client, Protocol, Reply};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Connections that carry one request after the other.
const HTTP1: usize = 4;
/// Connections that carry several, and how many.
const HTTP2: [usize; 2] = [2, 2];
/// Requests at once.
pub(crate) const CLIENTS: usize = HTTP1 + HTTP2[0] + HTTP2[1];
/// Of each client, at most.
const PAUSE: Duration = Duration::from_millis(10);
/// Requests in a second, at most: what is late is not made up for.
pub(crate) const PER_SECOND: f64 = CLIENTS as f64 / 0.01;
/// Every so many requests have a body.
const POST_EVERY: usize = 4;
/// Its bytes.
const BODY_BYTES: usize = 4_096;

/// Connects the clients and lets them ask until the run is over. The connections that several of them
/// share, which last as long as these values.
pub(crate) async fn begin(
    site: &Site,
    ledger: &Arc<Ledger>,
    tasks: &mut JoinSet<()>,
) -> Vec<Client> {
    let mut shared = Vec::new();
    let address = site.sidecar.address();
    for number in 0..HTTP1 {
        let client = site.sidecar.connect(Protocol::Http1).await;
        tasks.spawn(ask(client, address, Protocol::Http1, number, Arc::clone(ledger)));
    }
    for (connection, streams) in HTTP2.into_iter().enumerate() {
        let client = site.sidecar.connect(Protocol::Http2).await;
        for stream in 0..streams {
            let number = HTTP1 + 10 * connection + stream;
            let another = client.another();
            tasks.spawn(ask(another, address, Protocol::Http2, number, Arc::clone(ledger)));
        }
        shared.push(client);
    }
    shared
}

async fn ask(
    mut client: Client,
    address: SocketAddr,
    protocol: Protocol,
    number: usize,
    ledger: Arc<Ledger>,
) {
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    while !ledger.stopped() {
        pace.tick().await;
        let path = format!("/{number}/{asked}");
        let posts = asked % POST_EVERY == 0;
        let body = if posts { path.repeat(BODY_BYTES / path.len()) } else { String::new() };
        let method = if posts { Method::POST } else { Method::GET };
        let request = client.request(method, &path);
        let request = request.body(if posts { full(body.clone()) } else { empty() });

        let before = ledger.epoch();
        let reply = client.try_fetch(request.expect("the request is valid")).await;
        let asked_in = before..=ledger.epoch();
        let reply = reply.unwrap_or_else(|error| panic!("{path} is broken off: {error:?}"));
        match mood(&reply) {
            "good" => assert_is_whole(&reply, &path, &body),
            mood => {
                let answered = ["leak", "slow"].contains(&mood) && reply.status == 200;
                assert!(answered || reply.status == 500, "{path}: {mood} {reply:?}");
                ledger.hurt(asked_in, &format!("{path}: {mood} {reply:?}"));
            }
        }
        if mood(&reply) == "good" {
            assert!(reply.header("connection") != "close", "{path}: {reply:?}");
            ledger.fine(match (protocol, posts) {
                (Protocol::Http1, false) => "GET, HTTP/1.1",
                (Protocol::Http1, true) => "POST, HTTP/1.1",
                (Protocol::Http2, false) => "GET, HTTP/2",
                (Protocol::Http2, true) => "POST, HTTP/2",
            });
        } else if posts && reply.header("connection") == "close" {
            // Whoever answers before the request's body has come ends an HTTP/1 connection.
            client = Client::connect(address, protocol).await;
        }
        assert!(client.is_open(), "the connection of {path} was closed after {reply:?}");
        asked += 1;
    }
}

/// The mood of the version that answered; empty where it could not.
fn mood(reply: &Reply) -> &str {
    reply.header("x-version").rsplit('/').next().unwrap_or_default()
}

/// The origin saw all of the request, and one version served it on the way up and down.
fn assert_is_whole(reply: &Reply, path: &str, body: &str) {
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    let seen = reply.seen();
    assert_eq!((&*seen.target, &*seen.body), (path, body));
    let up = seen.header("x-version");
    assert_eq!(up, Some(reply.header("x-version")), "{path} had two versions");
}
