//! Is the candidate worse than the running version? Counts of both over the same window in, a
//! verdict in words and numbers out. Pure: no clocks, no threads.
//!
//! `measure` says what is compared, `rate` and `times` make shares of exchanges of it, `evidence` is
//! the test, `bound` how much worse the candidate may still be, `words` the sentences. Why these tests,
//! and how often they err: `ROLLOUTS.md`.

mod bound;
mod evidence;
mod measure;
mod rate;
mod thresholds;
mod times;
mod words;

pub use rate::ALONE_SHARE;
pub use thresholds::{MemoryTolerance, Thresholds, Tolerance};

use crate::telemetry::histogram::Distribution;
use measure::Measure;
use std::time::Duration;

/// Evidence, 1 to this, with which a candidate is not promoted and not yet rolled back.
const SUSPICION: f64 = 20.0;

/// What one side did since the step began: the running version, or the candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Exchanges that ended.
    pub exchanges: u64,
    /// Of them, those in which a filter that differs trapped, missed a deadline or failed otherwise.
    pub failures: u64,
    /// Of them, those answered by a filter.
    pub local_replies: u64,
    /// Of them, those answered with 500 to 599, whoever answered.
    pub errors: u64,
    /// Time that the filters of the chain took in an exchange.
    pub added_time: Distribution,
    /// Bytes of memory of all instances of the filters that differ, now.
    pub memory_bytes: u64,
}

/// What comparing a shadow's decisions with the running version's has found since the step began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Exchanges that were played to both.
    pub compared: u64,
    /// Those that could not be copied or compared for want of room.
    pub skipped: u64,
    /// The same status, fields and body.
    pub same: u64,
    /// Another status, or one of the two answered and the other did not.
    pub status: u64,
    /// Other fields.
    pub headers: u64,
    /// Another body.
    pub body: u64,
    /// The candidate failed and the running version did not.
    pub failed: u64,
    /// The candidate took more than twice the time, and 100 µs more.
    pub slower: u64,
}

/// What the judge looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Since the step began.
    pub elapsed: Duration,
    /// The running version.
    pub running: Counts,
    /// The candidate. In a shadow step: of its copies.
    pub next: Counts,
    /// In a shadow step.
    pub shadow: Option<Differences>,
}

/// What the judge says of a window.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Too little to say either; in words, how much there is and how much is needed.
    TooFew(String),
    /// Nothing is worse; in words and numbers, and how much worse it may still be.
    Sound(String),
    /// The candidate is to be rolled back; in words and numbers, the reason that decided first.
    Worse(String),
}

/// The judge of one step.
#[derive(Debug)]
pub struct Judge {
    thresholds: Thresholds,
    /// What stands in the windows that were looked at.
    seen: Window,
    /// None before the first look, which tells the kind of the step.
    measures: Option<Vec<Measure>>,
    memory_running_max: u64,
    worse: Option<String>,
}

impl Judge {
    /// For a step that begins now.
    pub fn new(thresholds: Thresholds) -> Self {
        let (measures, worse) = (None, None);
        Judge { thresholds, seen: Window::default(), measures, memory_running_max: 0, worse }
    }

    /// Looks at everything since the step began. May be called as often as one likes, which changes
    /// nothing about how often a verdict is false. A verdict of `Worse` stays.
    pub fn look(&mut self, window: &Window) -> Verdict {
        if let Some(worse) = &self.worse {
            return Verdict::Worse(worse.clone());
        }
        let measures = self.measures.get_or_insert_with(|| match window.shadow {
            Some(_) => measure::of_shadow(&self.thresholds),
            None => measure::of_canary(&self.thresholds),
        });
        for measure in measures.iter_mut() {
            measure.observe(&self.seen, window);
        }
        self.seen.clone_from(window);
        self.memory_running_max = self.memory_running_max.max(window.running.memory_bytes);
        self.worse = self.worse_by_evidence(window).or_else(|| self.worse_by_memory(window));
        match &self.worse {
            Some(worse) => Verdict::Worse(worse.clone()),
            None => self.too_few(window).unwrap_or_else(|| self.sound(window)),
        }
    }

    fn measures(&self) -> &[Measure] {
        self.measures.as_deref().unwrap_or_default()
    }

    /// The evidence that is enough, as a natural logarithm: the tests of a step share its chance of a
    /// false alarm.
    fn enough(&self) -> f64 {
        let tests: usize = self.measures().iter().map(Measure::tests).sum();
        (tests as f64 / self.error_chance()).ln()
    }

    fn error_chance(&self) -> f64 {
        thresholds::within(self.thresholds.error_chance, 1e-12, 1.0)
    }

    fn worse_by_evidence(&self, window: &Window) -> Option<String> {
        let enough = self.enough();
        let measure = self.measures().iter().find(|measure| measure.ln_evidence() >= enough)?;
        let odds = words::odds(measure.ln_evidence());
        Some(format!("worse: {}; evidence {odds}", measure.words(window)))
    }

    fn worse_by_memory(&self, window: &Window) -> Option<String> {
        let tolerance = self.thresholds.memory?;
        let (running, next) = (self.memory_running_max, window.next.memory_bytes);
        let times = (running as f64 * thresholds::within(tolerance.ratio, 1.0, 1e6)) as u64;
        let tolerated = times.max(running.saturating_add(tolerance.bytes));
        (next > tolerated).then(|| {
            format!(
                "worse: {} of memory, at most {} on the running version and {} tolerated",
                words::size(next),
                words::size(running),
                words::size(tolerated)
            )
        })
    }

    /// Why there is no verdict yet, if there is none.
    fn too_few(&self, window: &Window) -> Option<Verdict> {
        let (running, next) = (window.running.exchanges, candidate_samples(window));
        let needed = self.thresholds.samples_min;
        // Without a running version to compare with, candidates have to be good by themselves.
        let is_compared = running >= needed || self.excess(window).1 <= self.thresholds.margin;
        if next < needed || !is_compared {
            return Some(Verdict::TooFew(format!(
                "too few: {} requests on the candidate and {} on the running version, {} of each \
                 are needed",
                words::count(next),
                words::count(running),
                words::count(needed)
            )));
        }
        // Of equal ones the first.
        let evidence = self.measures().iter().rev().map(|it| (it, it.ln_evidence()));
        let (measure, evidence) = evidence.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        (evidence >= SUSPICION.ln()).then(|| {
            Verdict::TooFew(format!(
                "undecided: {}; evidence {}, and {} is enough",
                measure.words(window),
                words::odds(evidence),
                words::odds(self.enough())
            ))
        })
    }

    fn sound(&self, window: &Window) -> Verdict {
        let (measure, excess) = self.excess(window);
        let seen = measure.map(|measure| measure.words(window)).unwrap_or_default();
        let confidence = words::percent(1.0 - self.error_chance());
        let points = words::two_digits(excess * 100.0);
        let bound = if excess <= self.thresholds.margin {
            format!("shown to be at most {points} points worse (confidence {confidence})")
        } else {
            format!("up to {points} points worse cannot be excluded (confidence {confidence})")
        };
        let copies = window.shadow.as_ref().map(Differences::words).unwrap_or_default();
        Verdict::Sound(format!("sound: {seen}; {bound}{copies}"))
    }

    /// How much worse the candidate may still be in what hurts, and in which measure.
    fn excess(&self, window: &Window) -> (Option<&Measure>, f64) {
        let harms =
            self.measures().iter().filter_map(|measure| Some((measure, measure.harm(window)?)));
        let chance = self.error_chance() / harms.clone().count().max(1) as f64;
        let bounds = harms.map(|(measure, (running, next))| {
            (Some(measure), bound::excess_max(running, next, chance))
        });
        // Of equal ones the first.
        bounds.fold((None, 0.0), |most, bound| match most {
            (Some(_), excess) if excess >= bound.1 => most,
            _ => bound,
        })
    }
}

/// Exchanges, or copies, of the candidate.
fn candidate_samples(window: &Window) -> u64 {
    window.shadow.map_or(window.next.exchanges, |shadow| shadow.compared)
}

impl Differences {
    fn words(&self) -> String {
        let different =
            rate::Trials { exchanges: self.compared, bad: self.compared.saturating_sub(self.same) };
        format!(
            "; {}: {} in status, {} in fields, {} in body; {} slower, {} skipped",
            words::part(different, "copies differ"),
            words::count(self.status),
            words::count(self.headers),
            words::count(self.body),
            words::count(self.slower),
            words::count(self.skipped)
        )
    }
}

#[cfg(test)]
mod tests;
