//! The judge of a rollout, played with traffic made of chance: how often it errs at its default
//! thresholds. `cargo bench -p pillion --bench judge` plays more of the same for the tables of
//! `host/ROLLOUTS.md`.

#[path = "../bench/judge/model.rs"]
#[expect(dead_code, reason = "the bench plays more")]
mod model;

use model::{Behaviour, Outcomes, Scenario, Times, play};
use pillion::rollout::judge::Thresholds;

/// Of each kind: few, as each is ten minutes of traffic.
const PLAYS: usize = 25;

fn canary(rate: f64, share: f64, running: Behaviour, next: Behaviour) -> Outcomes {
    play(&Scenario { rate, share, running, next, clients: None }, PLAYS)
}

/// Times in filters of the usual behaviour, and those that are so many times as long.
fn times(factor: f64) -> Times {
    Times { median_us: 200.0 * factor, slow: 0.0, slow_us: 0.0 }
}

#[test]
fn a_version_that_is_no_worse_is_hardly_ever_rolled_back() {
    let (mut plays, mut rolled_back) = (0, 0);
    for (errors, times) in [(0.0, times(0.1)), (0.001, times(1.0)), (0.01, times(10.0))] {
        for share in [0.05, 0.5] {
            let version =
                Behaviour { failures: errors / 10.0, times, ..Behaviour::with_errors(errors) };
            let outcomes = canary(20.0, share, version.clone(), version);
            plays += outcomes.plays;
            rolled_back += outcomes.rolled_back.len();
        }
    }
    // Three standard deviations of what so many plays may show by chance.
    let chance = Thresholds::default().error_chance;
    let expected = plays as f64 * chance;
    let most = expected + 3.0 * (expected * (1.0 - chance)).sqrt();
    assert!(rolled_back as f64 <= most, "{rolled_back} of {plays}, at most {most}");
}

#[test]
fn a_version_within_what_is_tolerated_is_hardly_ever_rolled_back() {
    // At the limit of it: 1.25 times the errors, and twice the time.
    let running = Behaviour { times: times(1.0), ..Behaviour::with_errors(0.02) };
    let next = Behaviour { times: times(1.9), ..Behaviour::with_errors(0.025) };
    let outcomes = canary(20.0, 0.5, running, next);
    assert!(outcomes.rolled_back.len() <= 1, "{outcomes:?}");
}

#[test]
fn a_fifth_more_errors_are_always_found_and_soon() {
    for (rate, share, seconds) in [(10.0, 0.05, 80), (10.0, 0.5, 25), (100.0, 0.5, 4)] {
        for errors in [0.0, 0.001, 0.01] {
            let (running, next) =
                (Behaviour::with_errors(errors), Behaviour::with_errors(errors + 0.2));
            let outcomes = canary(rate, share, running, next);
            assert_eq!(outcomes.rolled_back.len(), PLAYS, "{rate} {share} {errors} {outcomes:?}");
            let median = outcomes.median_seconds();
            assert!(median.is_some_and(|it| it <= seconds), "{rate} {share} {errors} {median:?}");
        }
    }
}

#[test]
fn a_version_that_is_much_slower_is_always_found() {
    let errors = Behaviour::with_errors(0.001);
    let running = Behaviour { times: times(1.0), ..errors.clone() };
    for slower in [times(10.0), Times { slow: 0.2, slow_us: 20_000.0, ..times(1.0) }] {
        let next = Behaviour { times: slower, ..errors.clone() };
        let outcomes = canary(10.0, 0.5, running.clone(), next);
        assert_eq!(outcomes.rolled_back.len(), PLAYS, "{slower:?} {outcomes:?}");
    }
}

#[test]
fn a_small_regression_that_one_step_misses_is_mostly_found_in_the_next() {
    let promoted = [0.05, 0.5].map(|share| {
        let (running, next) = (Behaviour::with_errors(0.001), Behaviour::with_errors(0.011));
        canary(10.0, share, running, next).promoted_share()
    });
    assert!(promoted[0] > 0.5, "5 % of 10 requests a second cannot show it: {promoted:?}");
    assert!(promoted[0] * promoted[1] < 0.2, "{promoted:?}");
}
