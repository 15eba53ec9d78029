//! What is compared: each measure knows where in a window its counts are, its test, and its words.

use super::rate::{Rate, Trials};
use super::thresholds::{Thresholds, Tolerance};
use super::times::{Slow, slow};
use super::{Counts, Differences, Window, words};
use std::time::Duration;

/// Exchanges of the running version before its times are anything to compare with.
const TIMES_MIN: u64 = 100;

/// Exchanges of the candidate before its times say anything: the first of an instance are slow.
const WARM_UP: u64 = 20;

/// Slow exchanges of the candidate, in times those of the running version: the other half of the
/// tolerance is that they are more than the part in question.
const SLOW_RATIO: f64 = 1.25;

/// A measure, and the evidence in it.
#[derive(Debug)]
pub(super) struct Measure {
    what: What,
    rate: Rate,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Something that befalls exchanges of both sides.
    Event { of: fn(&Counts) -> u64, words: &'static str, is_harm: bool },
    /// Time in filters, of this part of the exchanges.
    Time { part: f64, slack: Duration },
    /// What a copy did and the exchange itself did not.
    Copy { of: fn(&Differences) -> u64, words: &'static str, is_harm: bool },
}

/// The measures of a step that gives exchanges to both sides.
pub(super) fn of_canary(thresholds: &Thresholds) -> Vec<Measure> {
    let mut measures = vec![failures(thresholds.failures)];
    measures.extend(thresholds.errors.map(errors));
    measures.extend(thresholds.local_replies.map(local_replies));
    if let Some(slack) = thresholds.time {
        measures.extend([0.5, 0.99].map(|part| time(part, slack)));
    }
    measures
}

/// The measures of a step that gives copies to the candidate.
pub(super) fn of_shadow(thresholds: &Thresholds) -> Vec<Measure> {
    let mut measures = vec![failed_copies(thresholds.failures.share)];
    measures.extend(thresholds.errors.map(errors));
    measures.extend(thresholds.local_replies.map(local_replies));
    let Thresholds { shadow_status, shadow_headers, shadow_body, shadow_slower, .. } = thresholds;
    measures.extend(shadow_status.map(|it| copy(it, |it| it.status, "copies got another status")));
    measures.extend(shadow_headers.map(|it| copy(it, |it| it.headers, "copies got other fields")));
    measures.extend(shadow_body.map(|it| copy(it, |it| it.body, "copies got another body")));
    measures.extend(shadow_slower.map(|it| copy(it, |it| it.slower, "copies were slower")));
    measures
}

fn failed_copies(share: f64) -> Measure {
    let what = What::Copy { of: |it| it.failed, words: "copies failed", is_harm: true };
    Measure { what, rate: Rate::absolute(share) }
}

fn copy(share: f64, of: fn(&Differences) -> u64, words: &'static str) -> Measure {
    Measure { what: What::Copy { of, words, is_harm: false }, rate: Rate::absolute(share) }
}

fn failures(tolerance: Tolerance) -> Measure {
    let what = What::Event { of: |it| it.failures, words: "requests failed", is_harm: true };
    Measure { what, rate: Rate::compared_or_alone(tolerance) }
}

fn errors(tolerance: Tolerance) -> Measure {
    let what = What::Event { of: |it| it.errors, words: "requests got a 5xx", is_harm: true };
    Measure { what, rate: Rate::compared_or_alone(tolerance) }
}

fn local_replies(tolerance: Tolerance) -> Measure {
    let words = "requests were answered by a filter";
    let what = What::Event { of: |it| it.local_replies, words, is_harm: false };
    Measure { what, rate: Rate::compared(tolerance) }
}

fn time(part: f64, slack: Duration) -> Measure {
    let tolerance = Tolerance { ratio: SLOW_RATIO, share: 1.0 - part };
    Measure { what: What::Time { part, slack }, rate: Rate::compared(tolerance) }
}

impl Measure {
    /// Takes note of what is in `now` and was not in `seen`.
    pub(super) fn observe(&mut self, seen: &Window, now: &Window) {
        // What is slow is settled by what was seen before, and so is not chosen by what it judges.
        let slow = self.slow(seen);
        let earlier = self.trials(seen, slow);
        let later = self.trials(now, slow);
        if let (Some(earlier), Some(later)) = (earlier, later) {
            self.rate.observe(later.0.since(earlier.0), later.1.since(earlier.1));
        }
    }

    /// The natural logarithm of the evidence that the candidate is worse than is tolerated.
    pub(super) fn ln_evidence(&self) -> f64 {
        self.rate.ln_evidence()
    }

    /// Chances of a false alarm that this takes out of the judge's.
    pub(super) fn tests(&self) -> usize {
        self.rate.tests()
    }

    /// Running version and candidate, if this is something that hurts whoever sent the request.
    pub(super) fn harm(&self, window: &Window) -> Option<(Trials, Trials)> {
        match self.what {
            What::Event { is_harm: true, .. } | What::Copy { is_harm: true, .. } => {
                self.trials(window, None)
            }
            What::Event { .. } | What::Copy { .. } | What::Time { .. } => None,
        }
    }

    /// Both sides in words and numbers.
    pub(super) fn words(&self, window: &Window) -> String {
        let slow = self.slow(window);
        let (running, next) = self.trials(window, slow).unwrap_or_default();
        match (self.what, slow) {
            (What::Event { words, .. }, _) => words::compared(words, running, next),
            (What::Copy { words, .. }, _) => words::part(next, words),
            (What::Time { part, .. }, Some(slow)) => {
                let what =
                    format!("requests took more than {} in filters", words::time(slow.limit));
                format!(
                    "{}, where {} take at most {}",
                    words::compared(&what, running, next),
                    words::percent(part),
                    words::time(slow.usual)
                )
            }
            (What::Time { .. }, None) => "no times to compare".to_owned(),
        }
    }

    fn slow(&self, window: &Window) -> Option<Slow> {
        let What::Time { part, slack } = self.what else { return None };
        let (running, next) = (&window.running.added_time, &window.next.added_time);
        let is_enough = running.count() >= TIMES_MIN && next.count() >= WARM_UP;
        is_enough.then(|| slow(running, part, slack))?
    }

    /// Running version and candidate. None: there is nothing to look at.
    fn trials(&self, window: &Window, slow: Option<Slow>) -> Option<(Trials, Trials)> {
        match self.what {
            What::Event { of, .. } => {
                let side = |side: &Counts| Trials { exchanges: side.exchanges, bad: of(side) };
                Some((side(&window.running), side(&window.next)))
            }
            What::Time { .. } => {
                let slow = slow?;
                Some((slow.of(&window.running.added_time), slow.of(&window.next.added_time)))
            }
            What::Copy { of, .. } => {
                let shadow = window.shadow.unwrap_or_default();
                let next = Trials { exchanges: shadow.compared, bad: of(&shadow) };
                Some((Trials::default(), next))
            }
        }
    }
}
