//! One rollout from its first step to its end: which step it is in, and what is to be done next.
//!
//! A pure state machine. `reload` gives it the time and the verdict ten times a second, and what
//! people ask for, and carries out what it answers; it knows no snapshots, no counters, no clock.

use super::judge::Verdict;
use super::plan::{Hold, Plan, Stage, Step};
use std::time::{Duration, Instant};

/// A rollout in progress.
#[derive(Debug)]
pub struct Driver {
    plan: Plan,
    step: usize,
    began: Instant,
    said: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing for now.
    Wait,
    /// The step has changed: publish its stage, and count its window anew.
    Publish(Stage),
    /// The candidate is to be the running version, and the rollout is over.
    PublishFull,
    /// The running version is to get everything, and the rollout is over. In words and numbers.
    RollBack(String),
}

impl Driver {
    /// A rollout at its first step, and what begins it.
    pub fn begin(plan: Plan, now: Instant) -> (Self, Effect) {
        let driver = Driver { plan, step: 0, began: now, said: "nothing was compared yet".into() };
        let effect = driver.publish();
        (driver, effect)
    }

    /// Looks whether the step is over. `verdict` is about the window since the step began.
    pub fn tick(&mut self, now: Instant, verdict: Verdict) -> Effect {
        let sound = match verdict {
            Verdict::Worse(reason) => {
                self.said.clone_from(&reason);
                return Effect::RollBack(reason);
            }
            Verdict::Sound(words) => {
                self.said = words;
                true
            }
            Verdict::TooFew(words) => {
                self.said = words;
                false
            }
        };
        match self.left(now) {
            Some(Duration::ZERO) if sound => self.next(now),
            Some(Duration::ZERO) => {
                self.said.push_str("; the time of the step is over and it waits for them");
                Effect::Wait
            }
            Some(_) | None => Effect::Wait,
        }
    }

    /// Goes to the next step because somebody says so. A verdict against the candidate holds: look
    /// with [`Driver::tick`] first.
    pub fn promote(&mut self, now: Instant) -> Effect {
        self.next(now)
    }

    fn next(&mut self, now: Instant) -> Effect {
        self.step += 1;
        self.began = now;
        self.publish()
    }

    fn publish(&self) -> Effect {
        match self.stage() {
            Stage::Full => Effect::PublishFull,
            stage => Effect::Publish(stage),
        }
    }

    /// What the candidate gets to see. Beyond the last step it is everything.
    pub fn stage(&self) -> Stage {
        self.plan.steps.get(self.step).map_or(Stage::Full, |step| step.stage)
    }

    /// How long the step lasts yet; none: until somebody says so.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        match self.plan.steps.get(self.step)? {
            Step { hold: Hold::For(time), .. } => {
                Some(time.saturating_sub(now.saturating_duration_since(self.began)))
            }
            Step { hold: Hold::UntilTold, .. } => None,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Index of the step.
    pub fn step(&self) -> usize {
        self.step.min(self.plan.steps.len().saturating_sub(1))
    }

    /// When the step began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What the judge said last.
    pub fn said(&self) -> &str {
        &self.said
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Share, Sticky};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const MOMENT: Duration = Duration::from_millis(1);

    fn canary(percent: u32) -> Stage {
        Stage::Canary(Share::from_millionths(percent * 10_000))
    }

    fn plan(steps: &[(Stage, Hold)]) -> Plan {
        let steps = steps.iter().map(|(stage, hold)| Step { stage: *stage, hold: *hold });
        Plan {
            steps: steps.collect(),
            sticky: Sticky::Client,
            thresholds: Default::default(),
            ignored_headers: Vec::new(),
        }
    }

    fn timed() -> Plan {
        plan(&[
            (Stage::Shadow, Hold::For(MINUTE)),
            (canary(5), Hold::For(2 * MINUTE)),
            (canary(50), Hold::UntilTold),
            (Stage::Full, Hold::UntilTold),
        ])
    }

    fn sound() -> Verdict {
        Verdict::Sound("the same".into())
    }

    fn too_few() -> Verdict {
        Verdict::TooFew("3 of 100 samples".into())
    }

    fn worse() -> Verdict {
        Verdict::Worse("37 of 412 failed".into())
    }

    #[test]
    fn steps_follow_each_other_when_their_time_is_over_and_the_verdict_is_sound() {
        let start = Instant::now();
        let (mut driver, first) = Driver::begin(timed(), start);
        assert_eq!(first, Effect::Publish(Stage::Shadow));
        assert_eq!(driver.tick(start + MINUTE - MOMENT, sound()), Effect::Wait);
        assert_eq!(driver.tick(start + MINUTE, sound()), Effect::Publish(canary(5)));
        assert_eq!((driver.step(), driver.began()), (1, start + MINUTE));
        assert_eq!(driver.tick(start + 3 * MINUTE - MOMENT, sound()), Effect::Wait);
        assert_eq!(driver.left(start + 3 * MINUTE - MOMENT), Some(MOMENT));
        assert_eq!(driver.tick(start + 3 * MINUTE, sound()), Effect::Publish(canary(50)));
        assert_eq!(driver.left(start + 3 * MINUTE), None);
        assert_eq!(driver.tick(start + 9_000 * MINUTE, sound()), Effect::Wait);
        assert_eq!(driver.promote(start + 9_000 * MINUTE), Effect::PublishFull);
    }

    #[test]
    fn too_few_samples_hold_a_step_beyond_its_time_and_it_says_so() {
        let start = Instant::now();
        let (mut driver, _) = Driver::begin(timed(), start);
        assert_eq!(driver.tick(start, too_few()), Effect::Wait);
        assert_eq!(driver.said(), "3 of 100 samples");
        assert_eq!(driver.tick(start + 9 * MINUTE, too_few()), Effect::Wait);
        assert!(driver.said().contains("waits for them"), "{}", driver.said());
        assert_eq!(driver.tick(start + 9 * MINUTE, sound()), Effect::Publish(canary(5)));
        assert_eq!(driver.said(), "the same");
    }

    #[test]
    fn a_verdict_against_the_candidate_ends_it_at_once_in_every_step() {
        let start = Instant::now();
        for steps in 0..3 {
            let (mut driver, _) = Driver::begin(timed(), start);
            for _ in 0..steps {
                driver.promote(start);
            }
            let reason = "37 of 412 failed".to_owned();
            assert_eq!(driver.tick(start, worse()), Effect::RollBack(reason.clone()));
            assert_eq!(driver.said(), reason);
        }
    }

    #[test]
    fn somebody_may_go_on_before_the_time_is_over() {
        let start = Instant::now();
        let (mut driver, _) = Driver::begin(timed(), start);
        assert_eq!(driver.promote(start), Effect::Publish(canary(5)));
        assert_eq!(driver.promote(start), Effect::Publish(canary(50)));
        assert_eq!(driver.stage(), canary(50));
        assert_eq!(driver.promote(start), Effect::PublishFull);
    }

    #[test]
    fn a_plan_without_trials_is_full_at_once() {
        let (driver, first) =
            Driver::begin(plan(&[(Stage::Full, Hold::UntilTold)]), Instant::now());
        assert_eq!(first, Effect::PublishFull);
        assert_eq!((driver.stage(), driver.step()), (Stage::Full, 0));
    }
}
