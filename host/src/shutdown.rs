//! How the process stops: first it drains, then time is up.
//!
//! The first signal turns readiness off, closes the listeners and lets what is in flight finish. The
//! second one, or the end of `drain_timeout`, cuts it short.

use std::sync::Arc;
use tokio::sync::watch;

/// How far the stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// No new connections; requests in flight finish, then their connections close.
    Draining,
    /// What is still in flight is broken off.
    Cut,
}

/// The stop signal; clones are the same one.
#[derive(Clone)]
pub struct Shutdown(Arc<watch::Sender<Stage>>);

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown(Arc::new(watch::Sender::new(Stage::Running)))
    }
}

impl Shutdown {
    /// The stage now.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Moves on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let moves = stage > *now;
            if moves {
                *now = stage;
            }
            moves
        });
    }

    /// A receiver of the stages.
    pub fn subscribe(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }

    /// Waits until the stage is `stage` or a later one.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn reached(&self, stage: Stage) {
        let mut receiver = self.subscribe();
        // The sender lives in `self`, so that the wait cannot fail.
        let _ = receiver.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_only_move_on() {
        let shutdown = Shutdown::default();
        let seen = shutdown.clone();
        shutdown.advance(Stage::Cut);
        shutdown.advance(Stage::Draining);
        assert_eq!(seen.stage(), Stage::Cut);
    }

    #[tokio::test]
    async fn a_later_stage_has_passed_the_earlier_ones() {
        let shutdown = Shutdown::default();
        shutdown.advance(Stage::Cut);
        shutdown.reached(Stage::Draining).await;
    }
}
