//! What Pillion costs, measured beside its peers on this machine: processor time and memory for each
//! request, time to start, time from a saved filter to its first answer.
//!
//! `cargo run --release -p pillion-tests --bin bench [-- --quick]`; the report goes to standard
//! output and to `target/bench`. Rounds are interleaved, so that what disturbs the machine disturbs
//! everybody; every figure is a median. `subject` knows the proxies, `load` the requests, `measure`
//! the kernel's counters, `swap` the saving, `report` the words.

mod load;
mod measure;
mod report;
mod subject;
mod swap;

use report::{Figures, Report};
use std::process::{Command, ExitCode};
use std::time::Duration;
use subject::Subject;

/// How much is measured.
pub(crate) struct Plan {
    rounds: usize,
    load: Duration,
    starts: usize,
    swaps: usize,
}

impl Plan {
    const FULL: Plan = Plan { rounds: 7, load: Duration::from_secs(3), starts: 11, swaps: 41 };
    const QUICK: Plan = Plan { rounds: 3, load: Duration::from_secs(1), starts: 3, swaps: 11 };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Plan::FULL,
        ["--quick"] => Plan::QUICK,
        _ => {
            eprintln!("usage: bench [--quick]");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = build() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let report = run(&plan).await;
    println!("{}", report.markdown());
    match report.save() {
        Ok(place) => {
            eprintln!("saved in {}", place.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed to save the report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds `pillion` in the profile of this program, so that no stale binary is measured.
fn build() -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "pillion", "-p", "pillion-tests", "--bins"]);
    command.current_dir(pillion_tests::process::repository());
    if pillion_tests::process::binaries().ends_with("release") {
        command.arg("--release");
    } else {
        eprintln!("not a release build: the figures mean little");
    }
    let status = command.status().map_err(|error| format!("failed to run cargo: {error}"))?;
    status.success().then_some(()).ok_or_else(|| "failed to build `pillion`".to_owned())
}

async fn run(plan: &Plan) -> Report {
    let origin = subject::origin().await;
    let subjects = Subject::all();
    let mut report = Report::new(subjects.iter().map(Subject::name).collect());

    for round in 0..plan.starts {
        for (index, subject) in subjects.iter().enumerate() {
            eprintln!("start {} of {}: {}", round + 1, plan.starts, subject.name());
            let (running, took) = subject.start_timed(origin.address).await;
            let figures = report.figures(index);
            figures.start_ms.push(took.as_secs_f64() * 1e3);
            figures.idle_mib.push(measure::resident_mib(running.id()));
        }
    }
    let mut running = Vec::new();
    for subject in &subjects {
        let proxy = subject.start(origin.address).await;
        load::run(proxy.address, plan.load / 2).await;
        running.push(proxy);
    }
    for round in 0..plan.rounds {
        for (index, proxy) in running.iter().enumerate() {
            eprintln!("load {} of {}: {}", round + 1, plan.rounds, subjects[index].name());
            measure_load(proxy, plan.load, report.figures(index)).await;
        }
    }
    drop(running);
    eprintln!("{} swaps", plan.swaps);
    report.swap_ms = swap::run(plan.swaps, origin.address).await;
    report
}

async fn measure_load(proxy: &subject::Proxy, length: Duration, figures: &mut Figures) {
    let before = measure::processor_time(proxy.id());
    let load = load::run(proxy.address, length).await;
    let used = measure::processor_time(proxy.id()).saturating_sub(before);
    figures.failed += load.failed;
    if load.requests > 0 {
        figures.cpu_us.push(used.as_secs_f64() * 1e6 / load.requests as f64);
        figures.per_second.push(load.requests as f64 / load.length.as_secs_f64());
    }
    figures.busy_mib.push(measure::resident_mib(proxy.id()));
}
