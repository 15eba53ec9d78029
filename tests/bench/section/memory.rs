//! Memory: idle after the start, for each idle connection, for each stream of HTTP/2 in progress.

use super::start_all;
use crate::measure::{Memory, memory};
use crate::plan::Plan;
use crate::report::Report;
use crate::subject::{self, ENVOY, PILLION, PILLION_THREE, Proxy, Roster};
use crate::table::{Column, Table};
use http::Response;
use hyper::body::Incoming;
use pillion_tests::{Client, Protocol};
use std::net::SocketAddr;
use std::time::Duration;

const PROCESS: &[Column] = &[
    ("rss_mib", "RSS, MiB", 2),
    ("pss_mib", "PSS, MiB", 2),
    ("anonymous_mib", "anonymous, MiB", 2),
];
const EACH: &[Column] = &[("rss_kib", "RSS, KiB", 2), ("anonymous_kib", "anonymous, KiB", 2)];
/// How many connections, or streams, the memory is divided by.
const COUNT: usize = 1_000;
/// Streams of one connection.
const STREAMS: usize = 100;
/// A proxy is idle when nothing was asked of it for so long.
const IDLE: Duration = Duration::from_secs(1);
/// Requests before connections are counted, so that what all requests share is there already.
const WARM_UP: usize = 500;

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    idle(plan, roster, origin, report).await;
    connections(plan, roster, origin, report).await;
    streams(plan, roster, report).await;
}

async fn idle(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let mut table =
        Table::new("memory", "Memory, idle for a second after the first request", PROCESS);
    for round in 1..=plan.rounds {
        eprintln!("memory, idle: round {round} of {}", plan.rounds);
        let running = start_all(&roster.subjects, origin, report).await;
        tokio::time::sleep(IDLE).await;
        for (name, proxy) in &running {
            let used = memory(proxy.id());
            table.add(name, "rss_mib", used.resident / 1024.0);
            table.add(name, "pss_mib", used.proportional / 1024.0);
            table.add(name, "anonymous_mib", used.anonymous / 1024.0);
        }
    }
    table.remark(
        "All run at the same time, so that PSS shares what several processes map of one file.",
    );
    report.tables.push(table);
}

async fn connections(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let title = format!("Memory for each of {COUNT} idle connections");
    let mut table = Table::new("connections", &title, EACH);
    for round in 1..=plan.rounds {
        for subject in &roster.subjects {
            eprintln!("memory, connections: round {round} of {}: {}", plan.rounds, subject.name);
            let proxy = match subject.start(origin).await {
                Ok(proxy) => proxy,
                Err(reason) => {
                    report.skip(reason);
                    continue;
                }
            };
            warm_up(&proxy, Protocol::Http1, "/").await;
            let before = memory(proxy.id());
            let mut open = Vec::new();
            for _ in 0..COUNT {
                let mut client = Client::connect(proxy.address, Protocol::Http1).await;
                if client.get("/").await.status == 200 {
                    open.push(client);
                }
            }
            add_each(&mut table, subject.name, open.len(), before, memory(proxy.id()));
        }
    }
    table.remark("Each has had one request and its answer.");
    report.tables.push(table);
}

async fn streams(plan: &Plan, roster: &Roster, report: &mut Report) {
    let title = format!("Memory for each of {COUNT} HTTP/2 streams whose answer is on its way");
    let mut table = Table::new("streams", &title, EACH);
    let origin = match subject::body_origin().await {
        Ok(origin) => origin,
        Err(reason) => return report.skip(reason),
    };
    for round in 1..=plan.rounds {
        for subject in roster.named(&[ENVOY, PILLION, PILLION_THREE]) {
            eprintln!("memory, streams: round {round} of {}: {}", plan.rounds, subject.name);
            match subject.start(origin.address).await {
                Ok(proxy) => {
                    warm_up(&proxy, Protocol::Http2, "/").await;
                    let before = memory(proxy.id());
                    let (clients, answers) = hold(&proxy).await;
                    let after = memory(proxy.id());
                    add_each(&mut table, subject.name, answers.len(), before, after);
                    drop((clients, answers));
                }
                Err(reason) => report.skip(reason),
            }
        }
    }
    table.remark(format!(
        "{STREAMS} streams a connection; each with a connection of its own to an HTTP/1 origin that \
         has sent the head and the first bytes. The minimal proxy and nginx's and haproxy's settings \
         here speak HTTP/1 only."
    ));
    report.tables.push(table);
}

/// Lets the start settle and brings in what every request uses: neither is a connection's own.
async fn warm_up(proxy: &Proxy, protocol: Protocol, path: &str) {
    tokio::time::sleep(IDLE).await;
    let mut client = Client::connect(proxy.address, protocol).await;
    for _ in 0..WARM_UP {
        client.get(path).await;
    }
}

/// Begins `COUNT` streams: their connections, and those that have the head of their answer.
async fn hold(proxy: &Proxy) -> (Vec<Client>, Vec<Response<Incoming>>) {
    let (mut clients, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..COUNT / STREAMS {
        let mut client = Client::connect(proxy.address, Protocol::Http2).await;
        for _ in 0..STREAMS {
            let request = client.request(http::Method::GET, "/hold");
            let request = request.body(pillion_tests::client::empty());
            let answer = client.send(request.expect("the request is valid")).await;
            answers.extend(answer.ok().filter(|answer| answer.status() == 200));
        }
        clients.push(client);
    }
    (clients, answers)
}

fn add_each(table: &mut Table, name: &str, count: usize, before: Memory, after: Memory) {
    if count > 0 {
        let each = |before: f64, after: f64| (after - before) / count as f64;
        table.add(name, "rss_kib", each(before.resident, after.resident));
        table.add(name, "anonymous_kib", each(before.anonymous, after.anonymous));
    }
}
