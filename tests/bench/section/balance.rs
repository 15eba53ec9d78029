//! How requests fare behind each way to choose an endpoint, when one of five is ten times slower and
//! one fails half of what it gets.

use crate::plan::Plan;
use crate::report::Report;
use crate::statistics::percentile;
use crate::table::{Column, Table};
use http::{Response, StatusCode};
use pillion_tests::client::{empty, full};
use pillion_tests::{Client, Origin, Protocol, Sidecar};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const COLUMNS: &[Column] = &[
    ("p50_ms", "p50, ms", 1),
    ("p99_ms", "p99, ms", 1),
    ("success_percent", "answered well, %", 2),
    ("slow_percent", "sent to the slow one, %", 1),
    ("per_second", "a second", 0),
];
/// Requests under way at once.
const CLIENTS: usize = 32;
const TIME: Duration = Duration::from_millis(5);
const SLOW_TIME: Duration = Duration::from_millis(50);

/// What is measured: a name, and the keys of the upstream.
const ROWS: [(&str, &str); 6] = [
    ("round robin", ""),
    ("least request", "balance = \"least_request\""),
    ("p2c, peak EWMA", "balance = \"p2c_ewma\""),
    ("Maglev, by request", "balance = \"maglev\"\nhash_key = \"header:x-key\""),
    ("p2c, peak EWMA, outliers ejected", "balance = \"p2c_ewma\"\n@OUTLIER"),
    ("p2c, peak EWMA, outliers ejected, 503 repeated", "balance = \"p2c_ewma\"\n@OUTLIER\n@RETRY"),
];
const OUTLIER: &str = "outlier = { success_rate_min = \"80%\", interval = \"500ms\", \
                       ejection_time = \"1h\", ejection_time_max = \"1h\" }";
const RETRY: &str = "retry = { on = [\"503\"] }";

pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let mut table =
        Table::new("balance", "One of five ten times slower, one failing half", COLUMNS);
    for round in 1..=plan.rounds {
        for (name, keys) in ROWS {
            eprintln!("balance: round {round} of {}: {name}", plan.rounds);
            one(name, keys, plan.load(), &mut table).await;
        }
    }
    table.remark(format!(
        "{CLIENTS} requests at once, each answered after {TIME:?}, by the slow endpoint after \
         {SLOW_TIME:?}. To be expected: in turn and by hash every fifth request is slow, and one in \
         ten fails; with that few at once, fewest outstanding keeps the slow one at a share like its \
         speed, and so does the expected time, which also sees it when nothing is outstanding; \
         ejection takes the failing one out after its interval, and a repetition hides what is left.",
    ));
    report.tables.push(table);
}

async fn one(name: &str, keys: &str, length: Duration, table: &mut Table) {
    let slow = origin(SLOW_TIME, false).await;
    let mut origins = vec![origin(TIME, true).await];
    for _ in 0..3 {
        origins.push(origin(TIME, false).await);
    }
    let setup = origins.iter().fold(Sidecar::new().origin(&slow), |setup, it| setup.origin(it));
    let keys = keys.replace("@OUTLIER", OUTLIER).replace("@RETRY", RETRY);
    let sidecar = setup.upstream(&keys).runtime("workers = 1").start().await;
    let started = Instant::now();
    let (mut times, mut good) = (Vec::new(), 0);
    for (client_times, client_good) in load(sidecar.address(), length).await {
        times.extend(client_times);
        good += client_good;
    }
    let seconds = started.elapsed().as_secs_f64();
    let sent: usize = slow.requests() + origins.iter().map(Origin::requests).sum::<usize>();
    let mut add = |column, figure| table.add(name, column, figure);
    add("p50_ms", percentile(&times, 0.5).unwrap_or(f64::NAN));
    add("p99_ms", percentile(&times, 0.99).unwrap_or(f64::NAN));
    add("success_percent", good as f64 * 100.0 / times.len().max(1) as f64);
    add("slow_percent", slow.requests() as f64 * 100.0 / sent.max(1) as f64);
    add("per_second", times.len() as f64 / seconds);
}

/// Answers after `time`; `failing`: every second request with 503.
async fn origin(time: Duration, failing: bool) -> Origin {
    let count = Arc::new(AtomicUsize::new(0));
    Origin::serve(move |_| {
        let fails = failing && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        async move {
            tokio::time::sleep(time).await;
            let mut answer = Response::new(full("x"));
            if fails {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            answer
        }
    })
    .await
}

/// Of each client: how long its requests took, in milliseconds, and how many were answered with 200.
async fn load(address: SocketAddr, length: Duration) -> Vec<(Vec<f64>, usize)> {
    let end = Instant::now() + length;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::connect(address, Protocol::Http1).await;
            let (mut times, mut good) = (Vec::new(), 0);
            while Instant::now() < end {
                let began = Instant::now();
                let key = format!("{number}-{}", times.len());
                let request = client.request(http::Method::GET, "/").header("x-key", key);
                let reply = client.fetch(request.body(empty()).expect("it is valid")).await;
                times.push(began.elapsed().as_secs_f64() * 1e3);
                good += usize::from(reply.status == 200);
            }
            (times, good)
        });
    }
    clients.join_all().await
}
