//! Who may be hurt, and when: only requests that overlap the time in which a bad version gets a share.
//!
//! The swapper opens such a time and closes it; whoever asks looks before and after, and enters what
//! came of it. Knows nothing of sockets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was asked and what came of it.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Odd while a bad version gets a share.
    epoch: AtomicU64,
    counts: Mutex<Counts>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Counts {
    /// By what was asked.
    fine: BTreeMap<&'static str, u64>,
    /// By epoch: answers of a bad version, whatever their status.
    hurt: BTreeMap<u64, u64>,
}

impl Ledger {
    /// The epoch now: for a request that begins, and for one that has ended.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// A bad version is to get a share. The epoch in which it does.
    pub(crate) fn open(&self) -> u64 {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(epoch % 2 == 1, "one bad version at a time");
        epoch
    }

    /// It is gone: whoever asks from now on must not meet it.
    pub(crate) fn close(&self) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(epoch.is_multiple_of(2), "a bad version was there");
    }

    /// An answer was as it has to be.
    pub(crate) fn fine(&self, what: &'static str) {
        *self.lock().fine.entry(what).or_default() += 1;
    }

    /// An answer was a bad version's.
    ///
    /// # Panics
    /// When there was no bad version while it was asked for.
    pub(crate) fn hurt(&self, mut asked: RangeInclusive<u64>, answer: &str) {
        let epoch = asked.find(|epoch| epoch % 2 == 1);
        let epoch = epoch.unwrap_or_else(|| panic!("hurt without a bad version: {answer}"));
        *self.lock().hurt.entry(epoch).or_default() += 1;
    }

    /// Answers of the bad version of this epoch.
    pub(crate) fn hurt_in(&self, epoch: u64) -> u64 {
        self.lock().hurt.get(&epoch).copied().unwrap_or(0)
    }

    /// The run is over.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Is it?
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Something of every kind was asked for.
    pub(crate) fn check(&self) {
        let counts = self.lock();
        for what in ["GET, HTTP/1.1", "POST, HTTP/1.1", "GET, HTTP/2", "POST, HTTP/2"] {
            assert!(counts.fine.get(what).is_some_and(|count| *count > 0), "{what}: none");
        }
    }

    /// What was asked, and what came of it.
    pub(crate) fn table(&self) -> String {
        let counts = self.lock();
        let mut text = "\n| asked | fine |\n|---|--:|\n".to_owned();
        for (what, count) in &counts.fine {
            let _ = writeln!(text, "| {what} | {count} |");
        }
        let (hurt, times) = (counts.hurt.values().sum::<u64>(), counts.hurt.len());
        let _ = writeln!(text, "| requests of a bad version, in {times} shares | {hurt} |");
        text
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
