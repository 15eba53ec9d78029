//! The next instance of a filter that is slow to make, on a thread of its own: a worker that made it
//! itself would keep all its other requests waiting, for up to `configure_time` after each failure.
//!
//! At most one is being made for a filter and worker at a time. What the worker answers meanwhile is
//! for `filter` to say.

use super::instance::{Instance, StartError};
use super::prepared::Prepared;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

/// Processor time that making the first instance may have taken for a worker to make the next ones
/// itself. Common filters take a hundredth of it.
pub(super) const MAKE_TIME_MAX: Duration = Duration::from_millis(20);

type Made = Result<Box<Instance>, StartError>;

/// An instance that is being made.
pub(super) struct Replacement(Receiver<Made>);

/// How far it is.
pub(super) enum Progress {
    /// The thread is at work.
    Making,
    /// It is done.
    Done(Made),
    /// The thread is gone without a result.
    Lost,
}

impl Replacement {
    /// Begins to make one. Nothing: there is no thread to be had now.
    pub(super) fn begin(prepared: &Arc<Prepared>, worker: usize) -> Option<Self> {
        let (sender, receiver) = sync_channel(1);
        let prepared = prepared.clone();
        let make = move || {
            let presence = prepared.code.runtime.presence();
            // An error means that the filter is gone, and the instance with it.
            let _ = sender.send(prepared.instantiate(&presence, worker).map(Box::new));
        };
        let thread = std::thread::Builder::new().name("instance".to_owned());
        match thread.spawn(make) {
            Ok(_) => Some(Replacement(receiver)),
            Err(error) => {
                tracing::warn!(%error, "failed to start a thread for a new instance");
                None
            }
        }
    }

    /// Never waits. After [`Progress::Done`] there is nothing more to come.
    pub(super) fn progress(&self) -> Progress {
        match self.0.try_recv() {
            Ok(made) => Progress::Done(made),
            Err(TryRecvError::Empty) => Progress::Making,
            Err(TryRecvError::Disconnected) => Progress::Lost,
        }
    }
}
