//! One value a worker, each on cache lines of its own, so that counting never waits for another
//! core.

use std::sync::atomic::{AtomicU64, Ordering};

/// A value for each worker, and one more for everybody else.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

/// Two cache lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// For workers 0 to `workers - 1`.
    pub fn new(workers: usize) -> Self {
        Sharded { shards: (0..=workers).map(|_| Padded::default()).collect() }
    }
}

impl<T> Sharded<T> {
    /// The shard of a worker; any number that is not one of a worker gives the shard of everybody
    /// else (the thread that reloads, the admin thread).
    pub fn of(&self, worker: usize) -> &T {
        let others = self.shards.len() - 1;
        &self.shards[worker.min(others)].0
    }

    /// Does the shard of `worker` belong to it alone? What everybody else shares does not.
    pub fn is_own(&self, worker: usize) -> bool {
        worker < self.shards.len() - 1
    }

    /// Every shard.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|padded| &padded.0)
    }

    /// The sum of a number over all shards, wrapping as the counters themselves do.
    pub fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(of).fold(0, u64::wrapping_add)
    }
}

/// Adds to a counter of a shard. Where only the calling thread writes it, without the locked
/// instruction that would keep others out: a scrape that reads meanwhile sees the number before or
/// after.
pub fn add(counter: &AtomicU64, by: u64, is_own: bool) {
    if is_own {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    } else {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_a_shard_and_all_others_share_one() {
        let sharded = Sharded::<AtomicU64>::new(2);
        for worker in [0, 1, 2, 3, usize::MAX] {
            add(sharded.of(worker), 1, sharded.is_own(worker));
            assert_eq!(sharded.is_own(worker), worker < 2);
        }
        let counts: Vec<u64> = sharded.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [1, 1, 3]);
        assert_eq!(sharded.sum(|count| count.load(Ordering::Relaxed)), 5);
    }

    #[test]
    fn shards_do_not_share_a_cache_line() {
        let sharded = Sharded::<AtomicU64>::new(1);
        let address = |worker| std::ptr::from_ref(sharded.of(worker)).addr();
        assert!(address(1) - address(0) >= 128);
    }
}
