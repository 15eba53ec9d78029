//! Both ends of a shadow, for tests of what records.

use super::compare::Kind;
use super::queue::{Message, Queue};
use super::record::{Record, Recorder};
use super::replay::{Candidate, Player};
use crate::chain::testing::{Scripted, chain};
use http::HeaderName;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// The end that a shadow's thread would have.
pub(crate) struct Records {
    queue: Arc<Queue>,
    receiver: Receiver<Message>,
}

/// A recorder, and where its records come out.
pub(crate) fn recorder() -> (Recorder, Records) {
    let (queue, receiver) = Queue::new();
    (Recorder::new(queue.clone(), 0), Records { queue, receiver })
}

impl Records {
    /// The next one, if it is there.
    pub(crate) fn take(&self) -> Option<Box<Record>> {
        match self.receiver.try_recv() {
            Ok(Message::Replay(record)) => Some(record),
            Ok(Message::Stop) | Err(_) => None,
        }
    }

    /// Exchanges that were skipped.
    pub(crate) fn skipped(&self) -> u64 {
        self.queue.skipped()
    }
}

/// A player of one chain, all of whose filters are new.
pub(super) fn player(filters: Vec<Scripted>) -> Player {
    let differs = (0..filters.len()).collect();
    let candidates = vec![Candidate { chain: chain(filters), differs }];
    Player::new(candidates, vec![HeaderName::from_static("date")])
}

/// How a version of these filters would differ; the kind, and the line.
pub(crate) fn difference(record: &Record, filters: Vec<Scripted>) -> Option<(Kind, String)> {
    let played = player(filters).play(record).expect("it can be played");
    played.difference.map(|difference| (difference.kind, difference.line))
}
