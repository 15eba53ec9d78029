//! The process from outside, once a second: resident memory, descriptors, threads. None of them may
//! grow with the number of swaps.

use crate::ledger::Ledger;
use pillion_tests::process::{descriptors, resident_kib, threads};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Growth of resident memory over the second half that is tolerated, in MiB. A version that is not
/// freed costs more than one; that many swaps are too many for this.
const GROWTH_MAX_MIB: f64 = 24.0;
/// The least of so many samples counts: a version that leaks comes and goes within them.
const WINDOW: usize = 5;
/// Descriptors and threads that come and go, with a child that compiles and whoever asks the admin.
const SLACK: usize = 8;

/// What was seen.
#[derive(Default)]
pub(crate) struct Vitals(Vec<Sample>);

struct Sample {
    second: f64,
    resident_mib: f64,
    descriptors: usize,
    threads: usize,
}

/// Looks until the run is over.
pub(crate) async fn watch(process: u32, ledger: Arc<Ledger>) -> Vitals {
    let (mut vitals, start) = (Vitals::default(), Instant::now());
    let mut turn = tokio::time::interval(Duration::from_secs(1));
    while !ledger.stopped() {
        turn.tick().await;
        vitals.0.push(Sample {
            second: start.elapsed().as_secs_f64(),
            resident_mib: resident_kib(process) as f64 / 1024.0,
            descriptors: descriptors(process),
            threads: threads(process),
        });
    }
    vitals
}

impl Vitals {
    fn halves(&self) -> (&[Sample], &[Sample]) {
        self.0.split_at(self.0.len() / 2)
    }

    /// Nothing has grown.
    pub(crate) fn check(&self) {
        let (first, second) = self.halves();
        let growth = growth(second);
        assert!(growth <= GROWTH_MAX_MIB, "{growth:.1} MiB more in the second half");
        let most = |samples: &[Sample], of: fn(&Sample) -> usize| samples.iter().map(of).max();
        for of in [|it: &Sample| it.descriptors, |it: &Sample| it.threads] {
            let (before, after) = (most(first, of).unwrap_or(0), most(second, of).unwrap_or(0));
            assert!(after <= before + SLACK, "{after}, and {before} in the first half");
        }
    }

    /// As it went.
    pub(crate) fn table(&self) -> String {
        let (first, second) = self.halves();
        let range = |samples: &[Sample], of: fn(&Sample) -> f64| {
            let least = samples.iter().map(of).fold(f64::INFINITY, f64::min);
            let most = samples.iter().map(of).fold(0.0, f64::max);
            format!("{least:.0} to {most:.0}")
        };
        let row = |what: &str, of: fn(&Sample) -> f64| {
            format!("| {what} | {} | {} |\n", range(first, of), range(second, of))
        };
        let rows = [
            row("resident memory, MiB", |it| it.resident_mib),
            row("descriptors", |it| it.descriptors as f64),
            row("threads", |it| it.threads as f64),
        ];
        format!(
            "\n| of the process | first half | second half |\n|---|--:|--:|\n{}\
             resident memory in the second half, by least squares over the least of each {WINDOW} \
             samples: {:+.3} MiB a second, {:+.1} MiB in all; {GROWTH_MAX_MIB} MiB are tolerated\n",
            rows.concat(),
            slope(second),
            growth(second)
        )
    }
}

/// MiB a second, by least squares over the least of each window.
fn slope(samples: &[Sample]) -> f64 {
    let least = |window: &[Sample]| {
        let resident = window.iter().map(|it| it.resident_mib).fold(f64::INFINITY, f64::min);
        (window[0].second, resident)
    };
    let points: Vec<(f64, f64)> = samples.chunks_exact(WINDOW).map(least).collect();
    assert!(points.len() > 1, "{} samples are too few", samples.len());
    let count = points.len() as f64;
    let time = points.iter().map(|it| it.0).sum::<f64>() / count;
    let mean = points.iter().map(|it| it.1).sum::<f64>() / count;
    let products = points.iter().map(|it| (it.0 - time) * (it.1 - mean));
    let squares = points.iter().map(|it| (it.0 - time).powi(2));
    products.sum::<f64>() / squares.sum::<f64>()
}

/// MiB over all of `samples`, along the slope.
fn growth(samples: &[Sample]) -> f64 {
    let [first, .., last] = samples else { panic!("{} samples are too few", samples.len()) };
    slope(samples) * (last.second - first.second)
}
