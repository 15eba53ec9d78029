//! Processor time for each small request, and memory while it is spent.

use super::start_all;
use crate::awake::Awake;
use crate::load::{self, Shape};
use crate::measure::memory;
use crate::plan::Plan;
use crate::report::Report;
use crate::subject::{Proxy, Roster};
use crate::table::{Column, Table};
use std::net::SocketAddr;

const COLUMNS: &[Column] = &[
    ("cpu_us", "CPU a request, µs", 1),
    ("kernel_percent", "of it in the kernel, %", 0),
    ("per_second", "requests/s", 0),
    ("rss_mib", "RSS under load, MiB", 1),
    ("pss_mib", "PSS, MiB", 1),
    ("anonymous_mib", "anonymous, MiB", 1),
    ("failed", "failed", 0),
];

const AWAKE: &[Column] = &[
    ("cpu_us", "CPU a request, µs", 1),
    ("kernel_percent", "of it in the kernel, %", 0),
    ("per_second", "requests/s", 0),
    ("failed", "failed", 0),
];

const PACED: &[Column] = &[
    ("cpu_us", "CPU a request, µs", 1),
    ("kernel_percent", "of it in the kernel, %", 0),
    ("failed", "failed", 0),
];
/// Requests a second that the slowest of them keeps up with.
const RATE: u32 = 10_000;

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let running = start_all(&roster.subjects, origin, report).await;
    let shape = Shape::default();
    for (_, proxy) in &running {
        load::run(proxy.address, plan.load() / 2, &shape).await;
    }
    let mut table = Table::new("cpu", "CPU a request, small GET, kept alive", COLUMNS);
    for round in 1..=plan.rounds {
        for (name, proxy) in &running {
            eprintln!("cpu: round {round} of {}: {name}", plan.rounds);
            let Some(cost) = load::cost(proxy, plan.load(), &shape).await else {
                report.skip(format!("{name}: no request was answered in round {round}"));
                continue;
            };
            let memory = memory(proxy.id());
            table.add(name, "cpu_us", cost.cpu_us);
            table.add(name, "kernel_percent", cost.kernel_percent);
            let seconds = cost.load.length.as_secs_f64();
            table.add(name, "per_second", cost.load.requests as f64 / seconds);
            table.add(name, "rss_mib", memory.resident / 1024.0);
            table.add(name, "pss_mib", memory.proportional / 1024.0);
            table.add(name, "anonymous_mib", memory.anonymous / 1024.0);
            table.add(name, "failed", cost.load.failed as f64);
        }
    }
    table.remark("Envoy's own filters have no trace context: request id, fields and rate limit.");
    table.remark(
        "As fast as each answers: beside a fast proxy the load is what is slower, and never sleeps; \
         a slower one pays for waking it.",
    );
    report.tables.push(table);

    paced(plan, &running, report).await;
    drop(running);
    awake(plan, roster, report).await;
}

/// At one rate for all.
async fn paced(plan: &Plan, running: &[(&'static str, Proxy)], report: &mut Report) {
    let title = format!("CPU a request at {RATE} requests a second");
    let mut table = Table::new("cpu_paced", &title, PACED);
    for round in 1..=plan.rounds {
        for (name, proxy) in running {
            eprintln!("cpu at a fixed rate: round {round} of {}: {name}", plan.rounds);
            let Some(cost) = load::cost_at(proxy, plan.load(), RATE).await else {
                report.skip(format!("{name}: no request at a fixed rate in round {round}"));
                continue;
            };
            table.add(name, "cpu_us", cost.cpu_us);
            table.add(name, "kernel_percent", cost.kernel_percent);
            table.add(name, "failed", cost.load.failed as f64);
        }
    }
    table.remark("The same work in the same time for all: everybody sleeps and wakes as often.");
    report.tables.push(table);
}

/// As fast as each answers, beside load and origin that nobody has to wake.
async fn awake(plan: &Plan, roster: &Roster, report: &mut Report) {
    let awake = match Awake::start() {
        Ok(awake) => awake,
        Err(error) => return report.skip(format!("load that never sleeps: {error}")),
    };
    let running = start_all(&roster.subjects, awake.origin, report).await;
    for (_, proxy) in &running {
        awake.load(proxy.address, plan.load() / 2).await;
    }
    let title = "CPU a request, load and origin never sleep";
    let mut table = Table::new("cpu_awake", title, AWAKE);
    for round in 1..=plan.rounds {
        for (name, proxy) in &running {
            eprintln!("cpu, load never sleeps: round {round} of {}: {name}", plan.rounds);
            let Some(cost) = load::cost_awake(proxy, plan.load(), &awake).await else {
                report.skip(format!(
                    "{name}: no request of the load that never sleeps in round {round}"
                ));
                continue;
            };
            table.add(name, "cpu_us", cost.cpu_us);
            table.add(name, "kernel_percent", cost.kernel_percent);
            let seconds = cost.load.length.as_secs_f64();
            table.add(name, "per_second", cost.load.requests as f64 / seconds);
            table.add(name, "failed", cost.load.failed as f64);
        }
    }
    table.remark(
        "One thread is load and origin and polls without end: no proxy spends time on waking it, so \
         these are the costs of the proxies themselves, and what the targets compare.",
    );
    report.tables.push(table);
}
