//! The way of records from the workers to the shadow, bounded by number and by bytes.
//!
//! A worker never waits here: what finds no room is skipped and counted. The bytes are those of
//! everything that is recorded, from the first byte of an exchange until it was replayed, so that
//! exchanges in progress are bounded too. Knows nothing of what a record holds.

use super::record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Records that wait to be replayed.
pub const RECORDS_MAX: usize = 64;
/// Bytes of all records, those of exchanges in progress included.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the shadow's thread gets.
pub(super) enum Message {
    /// An exchange to replay.
    Replay(Box<Record>),
    /// The end; also told by [`Queue::is_stopped`], since there may be no room for this.
    Stop,
}

/// The end of the queue that workers see.
pub(super) struct Queue {
    sender: SyncSender<Message>,
    /// Records in it, and one that is about to be.
    waiting: AtomicUsize,
    used: AtomicUsize,
    skipped: AtomicU64,
    stopped: AtomicBool,
}

impl Queue {
    /// Both ends of a queue.
    pub(super) fn new() -> (Arc<Self>, Receiver<Message>) {
        let (sender, receiver) = sync_channel(RECORDS_MAX);
        let (waiting, used, skipped, stopped) = Default::default();
        (Arc::new(Queue { sender, waiting, used, skipped, stopped }), receiver)
    }

    /// Would a record be skipped now? Then it need not be begun.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= RECORDS_MAX
    }

    /// A record was taken out.
    pub(super) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// No bytes yet, for a new record.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room { queue: self.clone(), bytes: 0 }
    }

    /// Hands over a record, or skips it.
    pub(super) fn hand_over(&self, record: Box<Record>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match self.sender.try_send(Message::Replay(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.taken();
                self.skip();
            }
        }
    }

    /// Counts an exchange that is not compared.
    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Exchanges that were not compared.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Ends the thread at the other end after the record it is at.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Where there is no room for it the thread is awake, and sees the flag.
        let _ = self.sender.try_send(Message::Stop);
    }

    /// Is the thread to end?
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Bytes taken of [`BYTES_MAX`]; given back when this is dropped.
pub(super) struct Room {
    queue: Arc<Queue>,
    bytes: usize,
}

impl Room {
    /// Takes so many more, if they are left.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let taken = self.queue.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= BYTES_MAX)
        });
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Gives some of them back.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.queue.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_lent_up_to_their_limit_and_come_back() {
        for (bytes, lent) in [(BYTES_MAX - 1, true), (BYTES_MAX, true), (BYTES_MAX + 1, false)] {
            let (queue, _receiver) = Queue::new();
            assert_eq!(queue.room().take(bytes), lent, "{bytes}");
            let mut room = queue.room();
            assert!(room.take(BYTES_MAX), "all came back");
            assert!(!queue.room().take(1));
            assert!(!queue.room().take(usize::MAX));
            room.give_back(2);
            assert!(queue.room().take(2));
            drop(room);
            assert_eq!(queue.used.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn records_beyond_the_limit_are_skipped_and_counted() {
        let (queue, receiver) = Queue::new();
        for handed in 1..=RECORDS_MAX + 1 {
            assert_eq!(queue.is_full(), handed > RECORDS_MAX, "{handed}");
            queue.hand_over(Box::new(Record::empty(queue.room())));
            assert_eq!(queue.skipped(), u64::from(handed > RECORDS_MAX), "{handed}");
        }
        assert_eq!(receiver.try_iter().inspect(|_| queue.taken()).count(), RECORDS_MAX);
        assert!(!queue.is_full());
    }

    #[test]
    fn a_shadow_that_has_ended_gets_nothing_more() {
        let (queue, receiver) = Queue::new();
        drop(receiver);
        queue.hand_over(Box::new(Record::empty(queue.room())));
        assert_eq!(queue.skipped(), 1);
    }

    #[test]
    fn the_end_is_told_with_and_without_room_for_it() {
        let (queue, receiver) = Queue::new();
        queue.stop();
        assert!(queue.is_stopped());
        assert!(matches!(receiver.try_recv(), Ok(Message::Stop)));
        for _ in 0..RECORDS_MAX {
            queue.hand_over(Box::new(Record::empty(queue.room())));
        }
        queue.stop();
        assert!(queue.is_stopped());
    }
}
