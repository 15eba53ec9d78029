//! What Pillion costs, measured beside its peers on this machine.
//!
//! `cargo run --release -p pillion-tests --bin bench [-- SECTION... --quick]`; the report goes to
//! standard output and to `target/bench`. Rounds are interleaved, so that what disturbs the machine
//! disturbs everybody; every figure is a median. `plan` knows the arguments, `subject` the proxies,
//! `load`, `pace` and `awake` the requests, `measure` the kernel's accounting, `section/` what is measured
//! together, `targets` what Pillion is held to, `report` the words.

mod awake;
mod bulk;
mod load;
mod machine;
mod measure;
mod pace;
mod plan;
mod report;
mod section;
mod statistics;
mod subject;
mod table;
mod targets;

use plan::{Plan, Section, USAGE};
use report::Report;
use std::process::{Command, ExitCode};
use subject::Roster;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::parse(arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&plan).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds, measures section by section, and saves after each: an interrupted run keeps what it has.
async fn run(plan: &Plan) -> Result<(), String> {
    build()?;
    let mut roster = Roster::of(plan);
    let mut report = Report::new(std::mem::take(&mut roster.versions));
    for reason in std::mem::take(&mut roster.skipped) {
        report.skip(reason);
    }
    let origin = subject::origin().await?;
    for section in &plan.sections {
        let at = origin.address;
        match section {
            Section::Cpu => section::cpu::run(plan, &roster, at, &mut report).await,
            Section::Memory => section::memory::run(plan, &roster, at, &mut report).await,
            Section::Start => section::start::run(plan, &roster, at, &mut report).await,
            Section::Swap => section::swap::run(plan, &roster, at, &mut report).await,
            Section::Latency => section::latency::run(plan, &roster, at, &mut report).await,
            Section::Bodies => section::bodies::run(plan, &roster, &mut report).await,
            Section::Workers => section::workers::run(plan, at, &mut report).await,
            Section::Balance => section::balance::run(plan, &mut report).await,
            Section::Curves => section::curves::run(plan, &roster, at, &mut report).await,
        }
        report.save().map_err(|error| format!("failed to save the report: {error}"))?;
    }
    println!("{}", report.markdown());
    let place = report.save().map_err(|error| format!("failed to save the report: {error}"))?;
    eprintln!("saved in {}", place.display());
    Ok(())
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
