//! Requests as fast as they are answered, over kept-alive connections: by wrk where it is installed,
//! by a loader of our own otherwise.

use crate::awake::Awake;
use crate::measure::{placed, processor_time, ticks};
use crate::pace;
use crate::subject::Proxy;
use pillion_tests::process::find;
use pillion_tests::{Client, Protocol};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// What the load is made of.
#[derive(Clone)]
pub(crate) struct Shape {
    /// Connections at once, each with one request after the other.
    pub(crate) connections: usize,
    pub(crate) path: String,
    /// Fields of every request besides `host`.
    pub(crate) fields: Vec<(String, String)>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { connections: 32, path: "/".to_owned(), fields: Vec::new() }
    }
}

/// What came of it.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) length: Duration,
}

/// What it cost the proxy.
pub(crate) struct Cost {
    pub(crate) load: Load,
    /// Processor time for each request.
    pub(crate) cpu_us: f64,
    /// The part of it that the kernel took.
    pub(crate) kernel_percent: f64,
}

/// The program that makes the load, for the report.
pub(crate) fn by() -> String {
    let Some(wrk) = find("wrk") else { return "own loader".to_owned() };
    let text = crate::machine::version(Command::new(wrk).arg("-v"));
    text.split(" Copyright").next().unwrap_or_default().to_owned()
}

/// Loads a proxy for `length` and reads the kernel's accounting before and after; none where no
/// request was answered.
pub(crate) async fn cost(proxy: &Proxy, length: Duration, shape: &Shape) -> Option<Cost> {
    cost_of(proxy, run(proxy.address, length, shape)).await
}

/// The same for requests at a fixed rate.
pub(crate) async fn cost_at(proxy: &Proxy, length: Duration, rate: u32) -> Option<Cost> {
    let paced = async {
        let paced = pace::run(proxy.address, length, rate).await.ok();
        let (requests, failed) =
            paced.map_or((0, 0), |paced| (paced.latencies_us.len() as u64, paced.failed as u64));
        Load { requests, failed, length }
    };
    cost_of(proxy, paced).await
}

/// The same by a load and an origin that never sleep; the proxy forwards to that origin.
pub(crate) async fn cost_awake(proxy: &Proxy, length: Duration, awake: &Awake) -> Option<Cost> {
    cost_of(proxy, awake.load(proxy.address, length)).await
}

async fn cost_of(proxy: &Proxy, load: impl Future<Output = Load>) -> Option<Cost> {
    let (time, (kernel, outside)) = (processor_time(proxy.id()), ticks(proxy.id()));
    let load = load.await;
    let used = processor_time(proxy.id()).saturating_sub(time);
    let (kernel_after, outside_after) = ticks(proxy.id());
    let kernel = kernel_after.saturating_sub(kernel) as f64;
    let outside = outside_after.saturating_sub(outside) as f64;
    if load.requests == 0 {
        return None;
    }
    let cpu_us = used.as_secs_f64() * 1e6 / load.requests as f64;
    let kernel_percent = kernel * 100.0 / (kernel + outside).max(1.0);
    Some(Cost { load, cpu_us, kernel_percent })
}

/// Loads `address` for `length`.
pub(crate) async fn run(address: SocketAddr, length: Duration, shape: &Shape) -> Load {
    match find("wrk") {
        Some(wrk) => by_wrk(&wrk, address, length, shape).await,
        None => by_clients(address, length, shape).await,
    }
}

async fn by_wrk(
    wrk: &std::path::Path,
    address: SocketAddr,
    length: Duration,
    shape: &Shape,
) -> Load {
    let seconds = length.as_secs().max(1);
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", &shape.connections.to_string(), "-d", &format!("{seconds}s")]);
    command.args(["-H", "Host: app.test"]);
    for (name, value) in &shape.fields {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    command.arg(format!("http://{address}{}", shape.path));
    let work = tokio::task::spawn_blocking(move || placed(false, || command.output()));
    let output = work.await.expect("nothing cancels it").expect("wrk can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "  123456 requests in 3.00s, 17.66MB read"
    let requests = text.lines().find(|line| line.contains(" requests in "));
    let number = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
    let failed =
        text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
    // "  Socket errors: connect 0, read 0, write 0, timeout 3"
    let errors = text.lines().find(|line| line.contains("Socket errors")).unwrap_or_default();
    let errors = errors.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
    Load {
        requests: requests.and_then(number).unwrap_or_default(),
        failed: failed.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default() + errors,
        length: Duration::from_secs(seconds),
    }
}

async fn by_clients(address: SocketAddr, length: Duration, shape: &Shape) -> Load {
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..shape.connections {
        let mut client = Client::connect(address, Protocol::Http1).await;
        let Shape { path, fields, .. } = shape.clone();
        clients.spawn(async move {
            let (mut requests, mut failed) = (0_u64, 0_u64);
            while started.elapsed() < length {
                let mut request = client.request(http::Method::GET, &path);
                for (name, value) in &fields {
                    request = request.header(name, value);
                }
                let request = request.body(pillion_tests::client::empty());
                let answer = client.try_fetch(request.expect("the shape is valid")).await;
                match answer {
                    Ok(reply) => failed += u64::from(reply.status != 200),
                    Err(_) => return (requests, failed + 1),
                }
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
