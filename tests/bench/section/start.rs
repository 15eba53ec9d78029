//! From the start of a process to its first 200.

use crate::plan::Plan;
use crate::report::Report;
use crate::subject::pillion::three;
use crate::subject::{Roster, Subject};
use crate::table::{Column, Table};
use pillion_tests::process::target;
use std::net::SocketAddr;

const COLUMNS: &[Column] = &[("start_ms", "start to first 200, ms", 1)];
const UNCOMPILED: &str = "Pillion, trace + headers + rate-limit, nothing compiled";

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let cache = target().join("bench").join("empty-cache");
    let place = cache.to_string_lossy().into_owned();
    let uncompiled = Subject::pillion(UNCOMPILED, move |setup| {
        three(setup).environment("XDG_CACHE_HOME", &place)
    });
    let mut table = Table::new("start", "Start", COLUMNS);
    for round in 1..=plan.rounds {
        for subject in roster.subjects.iter().chain([&uncompiled]) {
            eprintln!("start: round {round} of {}: {}", plan.rounds, subject.name);
            // What is not there need not be removed.
            let _ = std::fs::remove_dir_all(&cache);
            match subject.start_timed(origin).await {
                Ok((_, took)) => table.add(subject.name, "start_ms", took.as_secs_f64() * 1e3),
                Err(reason) => report.skip(reason),
            }
        }
    }
    table.remark("Files are in the page cache; filters are compiled before but where it says not.");
    report.tables.push(table);
}
