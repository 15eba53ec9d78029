//! A limit that follows the times of answers: it grows while they are as always, and shrinks as they
//! grow, since then something behind it has begun to queue.
//!
//! After Gradient2 of Netflix's concurrency-limits (2018): the ratio of the time over the long run to
//! that of the last moments is the slope by which the limit moves. Pure: time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The limit moves once in so long, and not before so many answers.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_SAMPLES: u32 = 10;
/// Windows that the time over the long run is an average of: a minute under load.
const LONG_WINDOWS: f64 = 600.0;
/// Answers may be so much slower than over the long run before the limit shrinks.
const TOLERANCE: f64 = 1.5;
/// The limit halves in one step at most.
const SLOPE_MIN: f64 = 0.5;
/// The part of a step that is taken at once.
const SMOOTHING: f64 = 0.2;
/// The limit of a process that has just begun, if it is within the range.
const INITIAL: usize = 100;

/// A limit and what it goes by.
#[derive(Debug)]
pub(super) struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// Seconds; none before the first window.
    long: Option<f64>,
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    samples: u32,
    sum: Duration,
    running_max: usize,
}

impl Gradient {
    /// A limit from `min` to `max`, at first close to that `before`.
    pub(super) fn new(min: usize, max: usize, before: Option<usize>) -> Self {
        let limit = before.unwrap_or(INITIAL).clamp(min, max.max(min));
        let (min, max) = (min as f64, max.max(min) as f64);
        Gradient { min, max, limit: limit as f64, long: None, window: None }
    }

    /// The limit.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// An answer has taken `time`, while `running` requests were under way. The limit, if it has moved.
    pub(super) fn sample(&mut self, now: Instant, time: Duration, running: usize) -> Option<usize> {
        let fresh = || Window { since: now, samples: 0, sum: Duration::ZERO, running_max: 0 };
        let window = self.window.get_or_insert_with(fresh);
        window.samples += 1;
        window.sum = window.sum.saturating_add(time);
        window.running_max = window.running_max.max(running);
        if window.samples < WINDOW_SAMPLES || now.duration_since(window.since) < WINDOW {
            return None;
        }
        let window = self.window.take()?;
        let short = (window.sum / window.samples).as_secs_f64().max(1e-9);
        let before = self.limit();
        self.step(short, window.running_max);
        (self.limit() != before).then(|| self.limit())
    }

    fn step(&mut self, short: f64, running: usize) {
        let long =
            self.long.map_or(short, |long| long + (short - long) * 2.0 / (LONG_WINDOWS + 1.0));
        // After a long time of slowness the average comes down fast.
        let long = if long > 2.0 * short { long * 0.95 } else { long };
        self.long = Some(long);
        // With so few requests their times say nothing about the limit.
        if (running as f64) < self.limit / 2.0 {
            return;
        }
        let slope = (TOLERANCE * long / short).clamp(SLOPE_MIN, 1.0);
        let room = self.limit.sqrt().max(4.0);
        let aim = self.limit * slope + room;
        let limit = self.limit * (1.0 - SMOOTHING) + aim * SMOOTHING;
        self.limit = limit.clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Windows in which every answer takes `time` and the limit is used up. The limit afterwards.
    fn windows(gradient: &mut Gradient, now: &mut Instant, count: usize, time: Duration) -> usize {
        for _ in 0..count {
            for _ in 0..=WINDOW_SAMPLES {
                *now += WINDOW / WINDOW_SAMPLES;
                let running = gradient.limit();
                gradient.sample(*now, time, running);
            }
        }
        gradient.limit()
    }

    #[test]
    fn the_limit_grows_while_answers_are_as_always_and_shrinks_when_they_slow_down() {
        let (mut gradient, mut now) = (Gradient::new(20, 1_000, None), Instant::now());
        assert_eq!(gradient.limit(), INITIAL);
        let grown = windows(&mut gradient, &mut now, 50, 10 * MILLISECOND);
        assert!(grown > 150, "{grown}");
        // Three times as slow: half of it is tolerated.
        let shrunk = windows(&mut gradient, &mut now, 20, 30 * MILLISECOND);
        assert!(shrunk < grown / 2 + 30, "{shrunk} of {grown}");
        let again = windows(&mut gradient, &mut now, 20, 10 * MILLISECOND);
        assert!(again > shrunk, "{again}");
    }

    #[test]
    fn the_limit_stays_within_its_range() {
        let (mut gradient, mut now) = (Gradient::new(20, 110, None), Instant::now());
        assert_eq!(windows(&mut gradient, &mut now, 100, MILLISECOND), 110);
        // Every window slower than all before it.
        for factor in 1..200_u32 {
            windows(&mut gradient, &mut now, 1, MILLISECOND * factor * factor);
        }
        assert_eq!(gradient.limit(), 20);
    }

    #[test]
    fn a_limit_that_is_half_used_does_not_grow() {
        let (mut gradient, mut now) = (Gradient::new(20, 1_000, None), Instant::now());
        for (running, moves) in [(49, false), (50, true), (51, true)] {
            let before = gradient.limit;
            for _ in 0..=WINDOW_SAMPLES {
                now += WINDOW / WINDOW_SAMPLES;
                gradient.sample(now, MILLISECOND, running);
            }
            assert_eq!(gradient.limit > before, moves, "{running}");
            gradient.limit = INITIAL as f64;
        }
    }

    #[test]
    fn a_window_has_enough_answers_and_enough_time() {
        let start = Instant::now();
        for (samples, apart, moves) in [
            (WINDOW_SAMPLES - 1, WINDOW, false),
            (WINDOW_SAMPLES, WINDOW, true),
            (WINDOW_SAMPLES + 1, WINDOW, true),
            (1_000, Duration::from_micros(10), false),
        ] {
            let mut gradient = Gradient::new(20, 1_000, None);
            let moved = (0..samples)
                .filter(|nth| gradient.sample(start + apart * *nth, MILLISECOND, 100).is_some());
            assert_eq!(moved.count() > 0, moves, "{samples}");
        }
    }

    #[test]
    fn another_range_keeps_what_it_can_of_the_limit() {
        assert_eq!(Gradient::new(20, 50, Some(80)).limit(), 50);
        assert_eq!(Gradient::new(90, 200, Some(80)).limit(), 90);
        assert_eq!(Gradient::new(20, 200, Some(80)).limit(), 80);
    }
}
