//! Throughput with one worker and with two.

use crate::load::{self, Shape};
use crate::measure::processors;
use crate::plan::Plan;
use crate::report::Report;
use crate::subject::Subject;
use crate::table::{Column, Table};
use std::net::SocketAddr;

const COLUMNS: &[Column] = &[("per_second", "requests/s", 0), ("cpu_us", "CPU a request, µs", 1)];
/// Two for the workers, and as many again for load and origin.
const PROCESSORS_NEEDED: usize = 4;

pub(crate) async fn run(plan: &Plan, origin: SocketAddr, report: &mut Report) {
    let can_tell = processors() >= PROCESSORS_NEEDED;
    let names = if can_tell {
        ["one worker", "two workers"]
    } else {
        ["one worker, beside the load", "two workers, on the processors of the load"]
    };
    let mut table = Table::new("workers", "Workers", COLUMNS);
    let mut running = Vec::new();
    for (name, count) in names.into_iter().zip([1, 2]) {
        match Subject::pillion(name, |setup| setup).workers(count).start(origin).await {
            Ok(proxy) => running.push((name, proxy)),
            Err(reason) => report.skip(reason),
        }
    }
    let shape = Shape { connections: 128, ..Shape::default() };
    for round in 1..=plan.rounds {
        for (name, proxy) in &running {
            eprintln!("workers: round {round} of {}: {name}", plan.rounds);
            if let Some(cost) = load::cost(proxy, plan.load(), &shape).await {
                let seconds = cost.load.length.as_secs_f64();
                table.add(name, "per_second", cost.load.requests as f64 / seconds);
                table.add(name, "cpu_us", cost.cpu_us);
            }
        }
    }
    if !can_tell {
        table.remark(format!(
            "This machine has {} processors, which load and origin need too: it cannot show what a \
             second worker adds. That takes {PROCESSORS_NEEDED}. What it can show is that two \
             workers do not spend more on a request than one.",
            processors()
        ));
    }
    report.tables.push(table);
}
