//! Requests as fast as they are answered, over kept-alive connections: by wrk where it is installed,
//! by a loader of our own otherwise.

use crate::measure::placed;
use pillion_tests::process::find;
use pillion_tests::{Client, Protocol};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// Connections at once.
const CONNECTIONS: usize = 32;

/// What came of it.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) length: Duration,
}

/// The program that makes the load, for the report.
pub(crate) fn by() -> String {
    let wrk = find("wrk").and_then(|wrk| Command::new(wrk).arg("-v").output().ok());
    let name = wrk.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let name = name
        .as_deref()
        .and_then(|text| text.lines().next())
        .map(|line| line.split(" Copyright").next().unwrap_or(line).to_owned());
    name.unwrap_or_else(|| "own loader".to_owned())
}

/// Loads `address` for `length`.
pub(crate) async fn run(address: SocketAddr, length: Duration) -> Load {
    match find("wrk") {
        Some(wrk) => by_wrk(&wrk, address, length).await,
        None => by_clients(address, length).await,
    }
}

async fn by_wrk(wrk: &std::path::Path, address: SocketAddr, length: Duration) -> Load {
    let seconds = length.as_secs().max(1);
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s")]);
    command.args(["-H", "Host: app.test", &format!("http://{address}/")]);
    let work = tokio::task::spawn_blocking(move || placed(false, || command.output()));
    let output = work.await.expect("nothing cancels it").expect("wrk can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "  123456 requests in 3.00s, 17.66MB read"
    let requests = text.lines().find(|line| line.contains(" requests in "));
    let number = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
    let failed =
        text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
    let errors = text.lines().find(|line| line.contains("Socket errors"));
    Load {
        requests: requests.and_then(number).unwrap_or_default(),
        failed: failed.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
            + u64::from(errors.is_some()),
        length: Duration::from_secs(seconds),
    }
}

async fn by_clients(address: SocketAddr, length: Duration) -> Load {
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(address, Protocol::Http1).await;
        clients.spawn(async move {
            let (mut requests, mut failed) = (0_u64, 0_u64);
            while started.elapsed() < length {
                failed += u64::from(client.get("/").await.status != 200);
                requests += 1;
            }
            (requests, failed)
        });
    }
    let counts = clients.join_all().await;
    let requests = counts.iter().map(|(requests, _)| requests).sum();
    let failed = counts.iter().map(|(_, failed)| failed).sum();
    Load { requests, failed, length: started.elapsed() }
}
