//! Swaps: from a saved filter to the first answer of its new version, and what requests feel of it.

use crate::pace;
use crate::plan::Plan;
use crate::report::Report;
use crate::statistics::percentile;
use crate::subject::{Proxy, Subject};
use crate::table::{Column, Table};
use pillion_tests::client::Protocol;
use pillion_tests::{Client, guests, within};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

const TIMES: &[Column] = &[("ms", "save to first answer, ms", 1)];
const LATENCIES: &[Column] =
    &[("p50_us", "p50, µs", 0), ("p99_us", "p99, µs", 0), ("failed", "failed", 0)];
const FILTER: &str = "version.wasm";
/// Between two swaps while latency is measured.
const INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn run(plan: &Plan, origin: SocketAddr, report: &mut Report) {
    let mut swapped = match Swapped::start(origin).await {
        Ok(swapped) => swapped,
        Err(reason) => return report.skip(reason),
    };
    let mut table = Table::new("swap", "Swaps", TIMES);
    let swaps = if plan.quick { 6 } else { 40 };
    // Both versions are compiled by the end of these.
    for _ in 0..2 {
        swapped.save(&[]).await;
    }
    for turn in 0..swaps {
        eprintln!("swap: {} of {swaps}", turn + 1);
        table.add("compiled before", "ms", swapped.save(&[]).await);
        table.add("compiled cold", "ms", swapped.save(&custom_section(turn)).await);
    }
    table.remark(
        "One small filter. Cold means that nothing like it is in the cache, so that the compiling \
         process, which shares the one processor, comes in between.",
    );
    report.tables.push(table);

    let title = format!("Latency while a filter is swapped every {} ms", INTERVAL.as_millis());
    let mut table = Table::new("swap_latency", &title, LATENCIES);
    let length = Duration::from_secs(if plan.quick { 2 } else { 5 });
    for round in 1..=plan.rounds {
        for swapping in [false, true] {
            eprintln!("swap, latency: round {round} of {}", plan.rounds);
            match swapped.paced(length, swapping).await {
                Ok(paced) => {
                    let row = if swapping { "with swaps" } else { "without" };
                    let at = |part| percentile(&paced.latencies_us, part).unwrap_or(f64::NAN);
                    table.add(row, "p50_us", at(0.5));
                    table.add(row, "p99_us", at(0.99));
                    table.add(row, "failed", paced.failed as f64);
                }
                Err(reason) => report.skip(reason),
            }
        }
    }
    report.tables.push(table);
}

/// A sidecar with a filter of two versions, and where it stands.
struct Swapped {
    proxy: Proxy,
    components: [Vec<u8>; 2],
    /// Which version is in force.
    version: usize,
    generation: u64,
}

impl Swapped {
    async fn start(origin: SocketAddr) -> Result<Swapped, String> {
        let components = ["version-a", "version-b"]
            .map(|name| std::fs::read(guests::path(name)).expect("the guests are built"));
        let first = components[0].clone();
        let subject = Subject::pillion("Pillion, a filter to swap", move |setup| {
            setup.file(FILTER, &first).filter("version", &format!("./{FILTER}"), "")
        });
        let proxy = subject.start(origin).await?;
        Ok(Swapped { proxy, components, version: 0, generation: 1 })
    }

    /// Saves the other version, with `more` at its end: milliseconds to its first answer.
    async fn save(&mut self, more: &[u8]) -> f64 {
        self.version = 1 - self.version;
        self.generation += 1;
        let content = [&self.components[self.version][..], more].concat();
        let name = ["a", "b"][self.version];
        let sidecar = self.proxy.sidecar().expect("the subject is Pillion");
        // A connection of its own for each swap: asking without a pause, one connection would have
        // had all the requests it may carry after a few swaps.
        let mut client = Client::connect(self.proxy.address, Protocol::Http1).await;
        let saved = Instant::now();
        sidecar.write(FILTER, content);
        within("the first answer of the new version", async {
            while client.get("/").await.header("x-version") != name {}
        })
        .await;
        let took = saved.elapsed();
        sidecar.generation(self.generation).await;
        took.as_secs_f64() * 1e3
    }

    /// Latency at a fixed rate, with swaps meanwhile or without.
    async fn paced(&mut self, length: Duration, swapping: bool) -> Result<pace::Paced, String> {
        let mut turn = tokio::time::interval(INTERVAL);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut load = Box::pin(pace::run(self.proxy.address, length));
        loop {
            tokio::select! {
                paced = &mut load => return paced,
                _ = turn.tick(), if swapping => self.swap().await,
            }
        }
    }

    /// Saves the other version and waits until it is in force, without requests of our own.
    async fn swap(&mut self) {
        self.version = 1 - self.version;
        self.generation += 1;
        let sidecar = self.proxy.sidecar().expect("the subject is Pillion");
        sidecar.write(FILTER, &self.components[self.version]);
        sidecar.generation(self.generation).await;
    }
}

/// A section that no tool reads: it makes a component one that was never seen before.
fn custom_section(turn: usize) -> Vec<u8> {
    let unique = format!("{}-{turn}", std::process::id());
    let name = b"bench";
    let length = 1 + name.len() + unique.len();
    let length = u8::try_from(length).expect("a number of a few digits");
    // Below 128 a length is one byte.
    assert!(length < 0x80);
    [&[0, length, name.len() as u8][..], name, unique.as_bytes()].concat()
}
