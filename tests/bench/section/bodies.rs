//! Large bodies: how many bytes a proxy moves for a second of its processor time.

use super::start_all;
use crate::bulk::{self, Way};
use crate::measure::processor_time;
use crate::plan::Plan;
use crate::report::Report;
use crate::subject::{self, ENVOY, HYPER, NGINX, PILLION, PILLION_THREE, Roster};
use crate::table::{Column, Table};

const COLUMNS: &[Column] =
    &[("down_mb", "down, MB a CPU second", 0), ("up_mb", "up, MB a CPU second", 0)];

pub(crate) async fn run(plan: &Plan, roster: &Roster, report: &mut Report) {
    let origin = match subject::body_origin().await {
        Ok(origin) => origin,
        Err(reason) => return report.skip(reason),
    };
    let named = [HYPER, NGINX, "haproxy", ENVOY, PILLION, PILLION_THREE];
    let running = start_all(roster.named(&named), origin.address, report).await;
    let mut table = Table::new("bodies", "Bodies of 10 MB", COLUMNS);
    for round in 1..=plan.rounds {
        for (name, proxy) in &running {
            eprintln!("bodies: round {round} of {}: {name}", plan.rounds);
            for (way, column) in [(Way::Down, "down_mb"), (Way::Up, "up_mb")] {
                let before = processor_time(proxy.id());
                match bulk::run(proxy.address, way, plan.load()).await {
                    Ok(bytes) => {
                        let used = processor_time(proxy.id()).saturating_sub(before);
                        let seconds = used.as_secs_f64().max(1e-9);
                        table.add(name, column, bytes as f64 / 1e6 / seconds);
                    }
                    Err(reason) => report.skip(format!("{name}: {reason}")),
                }
            }
        }
    }
    table.remark("nginx reads requests as they come, and writes no temporary files.");
    report.tables.push(table);
}
