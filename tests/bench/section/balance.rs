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
    ("p50_expected_ms", "expected", 0),
    ("p99_ms", "p99, ms", 1),
    ("p99_expected_ms", "expected", 0),
    ("success_percent", "answered well, %", 2),
    ("success_expected_percent", "expected", 1),
    ("slow_percent", "sent to the slow one, %", 1),
    ("slow_expected_percent", "expected", 1),
    ("per_second", "a second", 0),
];
/// Requests under way at once.
const CLIENTS: usize = 32;
const TIME: Duration = Duration::from_millis(5);
const SLOW_TIME: Duration = Duration::from_millis(50);
/// The interval of the success rates, after which who fails is ejected.
const INTERVAL: Duration = Duration::from_millis(500);

/// How an upstream chooses, and what theory says of it.
struct Row {
    name: &'static str,
    keys: &'static str,
    /// How many requests the slow endpoint gets for each that one of the other four gets.
    slow_to_other: f64,
    remedy: Remedy,
}

/// What is done about the endpoint that fails.
#[derive(Clone, Copy, PartialEq)]
enum Remedy {
    None,
    Ejected,
    EjectedAndRepeated,
}

/// The same turns, or the same share of hashes.
const EVEN: f64 = 1.0;
/// As many outstanding at each: what takes ten times as long comes a tenth as often.
const BY_SPEED: f64 = 0.1;
/// The expected time times what is outstanding is the same at each: a tenth of a tenth.
const BY_SPEED_AND_TIME: f64 = 0.01;

const ROWS: [Row; 6] = {
    const fn row(name: &'static str, keys: &'static str, slow_to_other: f64) -> Row {
        Row { name, keys, slow_to_other, remedy: Remedy::None }
    }
    let ejected = "balance = \"p2c_ewma\"\n@OUTLIER";
    let repeated = "balance = \"p2c_ewma\"\n@OUTLIER\n@RETRY";
    [
        row("round robin", "", EVEN),
        row("least request", "balance = \"least_request\"", BY_SPEED),
        row("p2c, peak EWMA", "balance = \"p2c_ewma\"", BY_SPEED_AND_TIME),
        row("Maglev, by request", "balance = \"maglev\"\nhash_key = \"header:x-key\"", EVEN),
        Row {
            remedy: Remedy::Ejected,
            ..row("p2c, peak EWMA, outliers ejected", ejected, BY_SPEED_AND_TIME)
        },
        Row {
            remedy: Remedy::EjectedAndRepeated,
            ..row("p2c, peak EWMA, outliers ejected, 503 repeated", repeated, BY_SPEED_AND_TIME)
        },
    ]
};

impl Row {
    /// Percent of the requests that the slow one of five gets.
    fn slow_percent(&self) -> f64 {
        100.0 * self.slow_to_other / (4.0 + self.slow_to_other)
    }

    /// Percent of the requests that are answered well within `length`: one of the four others fails every
    /// second time, until something is done about it.
    fn success_percent(&self, length: Duration) -> f64 {
        let failing = (100.0 - self.slow_percent()) / 4.0 / 2.0;
        match self.remedy {
            Remedy::None => 100.0 - failing,
            Remedy::Ejected => 100.0 - failing * (INTERVAL.as_secs_f64() / length.as_secs_f64()),
            Remedy::EjectedAndRepeated => 100.0,
        }
    }

    /// Time of the request at this part of all, sorted by time, in milliseconds.
    fn time_ms(&self, part: f64) -> f64 {
        let is_slow = self.slow_percent() > 100.0 * (1.0 - part);
        (if is_slow { SLOW_TIME } else { TIME }).as_secs_f64() * 1e3
    }
}

const OUTLIER: &str = "outlier = { success_rate_min = \"80%\", interval = \"500ms\", \
                       ejection_time = \"1h\", ejection_time_max = \"1h\" }";
const RETRY: &str = "retry = { on = [\"503\"] }";

pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let mut table =
        Table::new("balance", "One of five ten times slower, one failing half", COLUMNS);
    for round in 1..=plan.rounds {
        for row in &ROWS {
            eprintln!("balance: round {round} of {}: {}", plan.rounds, row.name);
            one(row, plan.load(), &mut table).await;
        }
    }
    table.remark(format!(
        "{CLIENTS} requests at once, each answered after {TIME:?}, by the slow endpoint after \
         {SLOW_TIME:?}. Expected is what the textbook says of choices without chance: in turn and by \
         hash every fifth request is slow; with as many outstanding everywhere the slow one gets a \
         tenth of what the others get; weighed by the expected time a tenth of that. Two that are \
         drawn are both slow or busy now and then, so the slow one gets more than the least. Ejection \
         takes the failing one out after its interval of {INTERVAL:?}, and a repetition hides the rest.",
    ));
    report.tables.push(table);
}

async fn one(row: &Row, length: Duration, table: &mut Table) {
    let slow = origin(SLOW_TIME, false).await;
    let mut origins = vec![origin(TIME, true).await];
    for _ in 0..3 {
        origins.push(origin(TIME, false).await);
    }
    let setup = origins.iter().fold(Sidecar::new().origin(&slow), |setup, it| setup.origin(it));
    let keys = row.keys.replace("@OUTLIER", OUTLIER).replace("@RETRY", RETRY);
    let sidecar = setup.upstream(&keys).runtime("workers = 1").start().await;
    let started = Instant::now();
    let (mut times, mut good) = (Vec::new(), 0);
    for (client_times, client_good) in load(sidecar.address(), length).await {
        times.extend(client_times);
        good += client_good;
    }
    let seconds = started.elapsed().as_secs_f64();
    let sent: usize = slow.requests() + origins.iter().map(Origin::requests).sum::<usize>();
    let mut add = |column, figure| table.add(row.name, column, figure);
    add("p50_ms", percentile(&times, 0.5).unwrap_or(f64::NAN));
    add("p50_expected_ms", row.time_ms(0.5));
    add("p99_ms", percentile(&times, 0.99).unwrap_or(f64::NAN));
    add("p99_expected_ms", row.time_ms(0.99));
    add("success_percent", good as f64 * 100.0 / times.len().max(1) as f64);
    add("success_expected_percent", row.success_percent(length));
    add("slow_expected_percent", row.slow_percent());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theory_is_what_the_textbook_says() {
        let length = Duration::from_secs(5);
        let of = |row: &Row| (row.slow_percent(), row.time_ms(0.99), row.success_percent(length));
        let [turns, least, ewma, _, ejected, repeated] = ROWS.each_ref().map(of);
        assert_eq!(turns, (20.0, 50.0, 90.0));
        assert!((least.0 - 2.44).abs() < 0.01 && least.1 == 50.0);
        assert!((ewma.0 - 0.25).abs() < 0.01 && ewma.1 == 5.0);
        assert!((ejected.2 - 98.75).abs() < 0.01);
        assert_eq!(repeated.2, 100.0);
    }
}
