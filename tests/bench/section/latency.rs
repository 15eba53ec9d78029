//! What a proxy adds to latency at a rate far below what it could take.

use super::start_all;
use crate::measure::{on, processors};
use crate::pace::{self, RATE};
use crate::plan::Plan;
use crate::report::Report;
use crate::statistics::percentile;
use crate::subject::{ENVOY, ENVOY_WASM, HYPER, NGINX, PILLION, PILLION_THREE, Proxy, Roster};
use crate::table::{Column, Table};
use pillion_tests::process::{Running, binaries, find};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const COLUMNS: &[Column] = &[
    ("p50_us", "p50, µs", 0),
    ("p99_us", "p99, µs", 0),
    ("added_p50_us", "added to p50, µs", 0),
    ("added_p99_us", "added to p99, µs", 0),
    ("failed", "failed", 0),
];
const DIRECT: &str = "no proxy";

/// Longer than a table takes; the processes are ended before.
const SPIN_SECONDS_MAX: &str = "1800";

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let named = [HYPER, NGINX, "haproxy", ENVOY, ENVOY_WASM, PILLION, PILLION_THREE];
    let running = start_all(roster.named(&named), origin, report).await;

    let title = format!("Latency at {RATE} requests a second");
    let mut table = Table::new("latency", &title, COLUMNS);
    measure(plan, &running, origin, &mut table, report).await;
    table.remark(
        "From the time at which a request was due to the last byte of its answer; what is added is \
         over the direct connection of the same round.",
    );
    report.tables.push(table);

    let title = format!("Latency at {RATE} requests a second, processors kept awake");
    let mut table = Table::new("latency_awake", &title, COLUMNS);
    match keep_awake() {
        Err(reason) => return report.skip(reason),
        Ok(_spinning) => measure(plan, &running, origin, &mut table, report).await,
    }
    table.remark(
        "A process of the lowest class (`chrt -i 0`) on each processor, which gives way at once, keeps \
         it from sleeping. Without, each hop waits for a processor to wake: on a virtual machine that \
         is most of the latency, and the same for every proxy.",
    );
    report.tables.push(table);
}

/// A process that only runs when nobody else wants to, on each processor.
fn keep_awake() -> Result<Vec<Running>, String> {
    let chrt = find("chrt").ok_or("latency with processors kept awake: there is no `chrt`")?;
    let spin = |processor: usize| {
        let mut command = Command::new(&chrt);
        command.args(["-i", "0"]).arg(binaries().join("bench-proxy"));
        command.args(["spin", SPIN_SECONDS_MAX]);
        on(|it| it == processor, || command.spawn())
            .map(Running::new)
            .map_err(|error| format!("latency with processors kept awake: {error}"))
    };
    (0..processors()).map(spin).collect()
}

async fn measure(
    plan: &Plan,
    running: &[(&'static str, Proxy)],
    origin: SocketAddr,
    table: &mut Table,
    report: &mut Report,
) {
    let length = Duration::from_secs(if plan.quick { 2 } else { 5 });
    for round in 1..=plan.rounds {
        let mut direct = (0.0, 0.0);
        let proxies = running.iter().map(|(name, proxy)| (*name, proxy.address));
        for (name, address) in [(DIRECT, origin)].into_iter().chain(proxies) {
            eprintln!("latency: round {round} of {}: {name}", plan.rounds);
            let paced = match pace::run(address, length, RATE).await {
                Ok(paced) => paced,
                Err(reason) => {
                    report.skip(format!("{name}: {reason}"));
                    continue;
                }
            };
            table.add(name, "failed", paced.failed as f64);
            let at = |part| percentile(&paced.latencies_us, part).unwrap_or(f64::NAN);
            let (p50, p99) = (at(0.5), at(0.99));
            table.add(name, "p50_us", p50);
            table.add(name, "p99_us", p99);
            if name == DIRECT {
                direct = (p50, p99);
            } else {
                table.add(name, "added_p50_us", p50 - direct.0);
                table.add(name, "added_p99_us", p99 - direct.1);
            }
        }
    }
}
