//! What hook calls use: their time by the clock that counts, and under a script all that a test can
//! set a budget for.
//!
//! In service a call is measured by the wall. Under a script it is measured in processor time of its
//! thread, so that a busy machine makes no test fail.

use super::engine::lock;
use super::limits::thread_time;
use crate::capability::Sources;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What hook calls have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, the host's functions included.
    pub time: Duration,
    /// The most memory that one instance had.
    pub memory_bytes: usize,
    /// Calls of functions of the host.
    pub host_calls: u64,
}

/// Adds up [`Usage`].
#[derive(Default)]
pub(super) struct Meter(Mutex<Usage>);

impl Meter {
    /// A call took `time`.
    pub(super) fn add_time(&self, time: Duration) {
        lock(&self.0).time += time;
    }

    /// A call left its instance with so much memory, after so many calls of the host.
    pub(super) fn add_call(&self, memory_bytes: usize, host_calls: u64) {
        let mut usage = lock(&self.0);
        usage.memory_bytes = usage.memory_bytes.max(memory_bytes);
        usage.host_calls += host_calls;
    }

    /// Everything so far; counts from nothing again.
    pub(super) fn take(&self) -> Usage {
        std::mem::take(&mut lock(&self.0))
    }
}

/// Measures one call.
pub(super) struct Watch {
    started: Instant,
    processor: Option<Duration>,
}

impl Watch {
    pub(super) fn start(started: Instant, sources: &Sources) -> Self {
        Watch { started, processor: sources.script().and_then(|_| thread_time()) }
    }

    pub(super) fn elapsed(&self, ended: Instant) -> Duration {
        match self.processor.and_then(|started| Some(thread_time()?.saturating_sub(started))) {
            Some(used) => used,
            None => ended.saturating_duration_since(self.started),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Script;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    #[test]
    fn usage_adds_up_but_for_memory_of_which_the_most_counts() {
        let meter = Meter::default();
        for (memory, calls) in [(10, 1), (30, 2), (20, 3)] {
            meter.add_time(Duration::from_micros(5));
            meter.add_call(memory, calls);
        }
        let time = Duration::from_micros(15);
        assert_eq!(meter.take(), Usage { time, memory_bytes: 30, host_calls: 6 });
        assert_eq!(meter.take(), Usage::default());
    }

    #[test]
    fn only_scripted_calls_are_measured_in_processor_time() {
        let (started, long) = (Instant::now(), Duration::from_secs(3600));
        let wall = Watch::start(started, &Sources::System);
        assert_eq!(wall.elapsed(started + long), long);
        let script = Sources::Script(Arc::new(Script::new(UNIX_EPOCH, 0)));
        assert!(Watch::start(started, &script).elapsed(started + long) < long);
    }
}
