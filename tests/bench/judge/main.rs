//! How often the judge of a rollout errs, played: the tables of `host/ROLLOUTS.md`.
//!
//! `cargo bench -p pillion --bench judge [-- --plays N]`; minutes with the 300 plays of the tables. The
//! traffic is made by `model`, and the same tables come out every time.

mod model;

use model::{Behaviour, Clients, Outcomes, Scenario, Times, play};
use std::process::ExitCode;

/// Requests a second, and the candidate's share of them.
const RATES: [f64; 3] = [10.0, 100.0, 1_000.0];
const SHARES: [f64; 2] = [0.05, 0.5];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let plays = match &arguments[..] {
        [] => Some(300),
        [flag, plays] if flag == "--plays" => plays.parse().ok().filter(|plays| *plays > 0),
        _ => None,
    };
    let Some(plays) = plays else {
        eprintln!("usage: judge [--plays N]");
        return ExitCode::from(2);
    };
    println!("{plays} steps of 10 minutes a cell, default thresholds.\n");
    errors(plays);
    ratios(plays);
    times(plays);
    clients(plays);
    ExitCode::SUCCESS
}

/// More errors, in points of all requests.
fn errors(plays: usize) {
    heading(
        "More requests with a 5xx, in points",
        &[
            "before",
            "share",
            "requests/s",
            "false rollbacks",
            "+1 point",
            "+5 points",
            "+20 points",
        ],
    );
    for base in [0.0, 0.001, 0.01] {
        for (share, rate) in traffic() {
            let outcomes = [0.0, 0.01, 0.05, 0.2].map(|more| {
                let (running, next) =
                    (Behaviour::with_errors(base), Behaviour::with_errors(base + more));
                play(&Scenario { rate, share, running, next, clients: None }, plays)
            });
            let mut cells = vec![percent(base), percent(share), rate.to_string()];
            cells.push(percent(outcomes[0].rolled_back_share()));
            cells.extend(outcomes[1..].iter().map(missed));
            row(&cells);
        }
    }
    println!();
}

/// More errors, in times the running version's.
fn ratios(plays: usize) {
    heading(
        "More requests with a 5xx, in times the running version's 1 %",
        &["share", "requests/s", "× 1.01", "× 1.05", "× 1.2", "× 1.5"],
    );
    for (share, rate) in traffic() {
        let mut cells = vec![percent(share), rate.to_string()];
        cells.extend([1.01, 1.05, 1.2, 1.5].map(|times| {
            let (running, next) =
                (Behaviour::with_errors(0.01), Behaviour::with_errors(0.01 * times));
            missed(&play(&Scenario { rate, share, running, next, clients: None }, plays))
        }));
        row(&cells);
    }
    println!();
}

/// Longer times in filters, of all requests and of some.
fn times(plays: usize) {
    heading(
        "More time in filters, where half of the requests took up to 200 µs",
        &["share", "requests/s", "× 1.2", "× 2", "× 5", "1 % 20 ms", "5 % 20 ms", "20 % 20 ms"],
    );
    let usual = Times { median_us: 200.0, slow: 0.0, slow_us: 20_000.0 };
    let all = [1.2, 2.0, 5.0].map(|factor| Times { median_us: 200.0 * factor, ..usual });
    let some = [0.01, 0.05, 0.2].map(|slow| Times { slow, ..usual });
    let with = |times| Behaviour { times, ..Behaviour::with_errors(0.001) };
    for (share, rate) in traffic() {
        let mut cells = vec![percent(share), rate.to_string()];
        cells.extend(all.iter().chain(&some).map(|times| {
            let (running, next) = (with(usual), with(*times));
            missed(&play(&Scenario { rate, share, running, next, clients: None }, plays))
        }));
        row(&cells);
    }
    println!();
}

/// The same version twice, where errors belong to clients and clients to a side.
fn clients(plays: usize) {
    heading(
        "False rollbacks where clients stay on a side (no change, 1 % errors, 100 requests/s)",
        &["share", "clients", "all alike", "errors from half of them", "from 5 % of them"],
    );
    for share in SHARES {
        for count in [20, 200, 2_000] {
            let mut cells = vec![percent(share), count.to_string()];
            cells.extend([1.0, 0.5, 0.05].map(|with_errors| {
                let clients = Some(Clients { count, with_errors });
                let (running, next) = (Behaviour::with_errors(0.01), Behaviour::with_errors(0.01));
                let scenario = Scenario { rate: 100.0, share, running, next, clients };
                percent(play(&scenario, plays).rolled_back_share())
            }));
            row(&cells);
        }
    }
    println!();
}

fn traffic() -> impl Iterator<Item = (f64, f64)> {
    SHARES.into_iter().flat_map(|share| RATES.map(|rate| (share, rate)))
}

fn heading(title: &str, columns: &[&str]) {
    println!("### {title}\n\n| {} |\n|{}", columns.join(" | "), "--:|".repeat(columns.len()));
}

fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Steps that ended with a promotion, those that ended with neither, and the time to a rollback.
fn missed(outcomes: &Outcomes) -> String {
    let held = 1.0 - outcomes.promoted_share() - outcomes.rolled_back_share();
    let held = if held > 1e-9 { format!(" + {}", percent(held)) } else { String::new() };
    let time = outcomes.median_seconds().map_or_else(|| "–".to_owned(), |it| format!("{it} s"));
    format!("{}{held}, {time}", percent(outcomes.promoted_share()))
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1_000.0).round() / 10.0)
}
