//! The `rate-limit` capability: token buckets of a filter, exact across workers and kept over a
//! swap.
//!
//! [`Table`] is what is kept, [`Buckets`] a generation's handle with its policy. A bucket is stored
//! as what it lacks, in whole numbers: a full one lacks nothing and is the same as none at all, and
//! a change of policy needs no conversion but that of units.
//!
//! Unit: one token is `per` in nanoseconds many parts, so that `requests` parts flow in each
//! nanosecond. Nothing is ever rounded as time passes, however often a bucket is looked at.

use super::{SHARDS, locked, nanoseconds_since};
use siphasher::sip128::SipHasher13;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Default of the grant's `keys`.
pub const KEYS_DEFAULT: usize = 100_000;

/// Full buckets a new key drops on the side. They are the same as none.
const SWEEP_MAX: usize = 2;
const NANOSECONDS_A_MILLISECOND: u64 = 1_000_000;

/// Size of every bucket of a filter, and their number. A zero counts as the least that makes sense:
/// one token, one nanosecond, one key. About 120 bytes of memory a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tokens added in each window.
    pub requests: u64,
    /// Length of the window; at most 584 years.
    pub per: Duration,
    /// Tokens a full bucket holds.
    pub burst: u64,
    /// Buckets that are not full, at one time.
    pub keys: usize,
}

/// State of a bucket after [`Buckets::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The tokens were there and are taken.
    pub allowed: bool,
    /// Whole tokens left.
    pub remaining: u64,
    /// Milliseconds, rounded up, until the tokens asked for will be there; 0 when allowed, the
    /// largest number where they never will be.
    pub retry_after_ms: u64,
    /// Milliseconds, rounded up, until the bucket is full.
    pub full_after_ms: u64,
}

/// The buckets of a filter under the policy of one generation.
#[derive(Debug)]
pub struct Buckets {
    policy: Policy,
    rate: Rate,
    keys: usize,
    table: Arc<Table>,
}

impl Buckets {
    pub(super) fn new(policy: Policy, table: Arc<Table>) -> Self {
        let per = u64::try_from(policy.per.as_nanos()).unwrap_or(u64::MAX).max(1);
        let rate = Rate { requests: policy.requests.max(1), per, burst: policy.burst.max(1) };
        Buckets { policy, rate, keys: policy.keys.max(1), table }
    }

    /// As granted.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Takes `tokens` from the bucket named `key`, or none if they are not all there. No tokens at
    /// all: only looks.
    pub fn take(&self, key: &str, tokens: u32, now: Instant) -> Taken {
        let key = self.table.digest(key);
        let now = nanoseconds_since(self.table.start, now);
        if let Some(taken) = self.take_own(key, tokens, now) {
            return taken;
        }
        if self.table.evict_longest_full(now)
            && let Some(taken) = self.take_own(key, tokens, now)
        {
            return taken;
        }
        let mut shared = locked(&self.table.shared);
        shared.take(&self.rate, tokens, now)
    }

    /// None: the key is new, and all buckets are in use.
    fn take_own(&self, key: Digest, tokens: u32, now: u64) -> Option<Taken> {
        let buckets = &self.table.buckets;
        let forgets_full = self.table.under.is_none();
        let mut shard = locked(self.table.shard(key));
        let Shard { by_key, by_full } = &mut *shard;
        match by_key.entry(key) {
            Entry::Occupied(mut entry) => {
                let bucket = entry.get_mut();
                by_full.remove(&(bucket.full_at, key));
                let taken = bucket.take(&self.rate, tokens, now);
                if bucket.lack == 0 && forgets_full {
                    entry.remove();
                    buckets.fetch_sub(1, Ordering::Relaxed);
                } else {
                    by_full.insert((bucket.full_at, key));
                }
                Some(taken)
            }
            Entry::Vacant(entry) => {
                let mut bucket = self.table.first(key);
                let taken = bucket.take(&self.rate, tokens, now);
                if bucket.lack == 0 && forgets_full {
                    return Some(taken);
                }
                if !reserve(buckets, self.keys) {
                    return None;
                }
                by_full.insert((bucket.full_at, key));
                entry.insert(bucket);
                if forgets_full {
                    shard.sweep(now, SWEEP_MAX, buckets);
                }
                Some(taken)
            }
        }
    }
}

/// What is kept of a filter's buckets from one generation to the next.
#[derive(Debug)]
pub(super) struct Table {
    start: Instant,
    /// A keyed hash, whose key is unknown outside: nobody can look for keys that collide.
    hasher: SipHasher13,
    /// Buckets in all shards. Never above the `keys` of the policy that adds one.
    buckets: AtomicUsize,
    /// For new keys while all buckets are in use.
    shared: Mutex<Bucket>,
    shards: [Mutex<Shard>; SHARDS],
    /// Of a shadow: where a bucket is copied from the first time it is used, and what is never
    /// written. Full buckets are kept for as long as there is room, or they would be copied anew.
    under: Option<Arc<Table>>,
}

impl Table {
    pub(super) fn new(start: Instant) -> Self {
        Table {
            start,
            hasher: SipHasher13::new_with_key(&rand::random()),
            buckets: AtomicUsize::new(0),
            shared: Mutex::default(),
            shards: Default::default(),
            under: None,
        }
    }

    /// For a shadow of what uses `under`.
    pub(super) fn over(under: Arc<Table>) -> Self {
        Table {
            hasher: under.hasher,
            shared: Mutex::new(*locked(&under.shared)),
            under: Some(under.clone()),
            ..Table::new(under.start)
        }
    }

    /// A bucket that is used for the first time here: full, but for a shadow.
    fn first(&self, key: Digest) -> Bucket {
        let copy = |under: &Arc<Table>| locked(under.shard(key)).by_key.get(&key).copied();
        self.under.as_ref().and_then(copy).unwrap_or_default()
    }

    /// What stands for a key of any length: no key costs more memory than another.
    fn digest(&self, key: &str) -> Digest {
        Digest(self.hasher.hash(key.as_bytes()).as_u128())
    }

    fn shard(&self, key: Digest) -> &Mutex<Shard> {
        // The lower half is the hash within the shard.
        &self.shards[(key.0 >> 64) as usize % SHARDS]
    }

    /// Makes room for one bucket. Is there room now?
    fn evict_longest_full(&self, now: u64) -> bool {
        let first_of = |shard: &Mutex<Shard>| {
            let first = locked(shard).by_full.first().copied();
            first.filter(|(full_at, _)| *full_at <= now)
        };
        let longest = self.shards.iter().filter_map(first_of).min();
        let Some((_, key)) = longest else { return false };
        locked(self.shard(key)).sweep(now, 1, &self.buckets);
        true
    }
}

/// 128 bits of a keyed hash (SipHash-1-3) of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Digest(u128);

impl std::hash::Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// A digest is its own hash.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Debug, Default)]
struct Shard {
    by_key: HashMap<Digest, Bucket, BuildHasherDefault<DigestHasher>>,
    /// The same buckets by the time they are full.
    by_full: BTreeSet<(u64, Digest)>,
}

impl Shard {
    /// Drops up to `most` full buckets, the longest full first.
    fn sweep(&mut self, now: u64, most: usize, buckets: &AtomicUsize) {
        for _ in 0..most {
            match self.by_full.first() {
                Some((full_at, key)) if *full_at <= now => {
                    self.by_key.remove(key);
                    self.by_full.pop_first();
                    buckets.fetch_sub(1, Ordering::Relaxed);
                }
                _ => return,
            }
        }
    }
}

/// A policy in the units of the buckets.
#[derive(Clone, Copy, Debug)]
struct Rate {
    requests: u64,
    /// Nanoseconds, and parts of a token.
    per: u64,
    burst: u64,
}

impl Rate {
    /// Parts in a full bucket. Fits: both factors have 64 bits.
    fn capacity(&self) -> u128 {
        u128::from(self.burst) * u128::from(self.per)
    }

    /// Nanoseconds, rounded up, in which so many parts flow in.
    fn time_for(&self, parts: u128) -> u64 {
        u64::try_from(parts.div_ceil(u128::from(self.requests))).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Parts missing from a full bucket at `at`, where a token has `per` parts.
    lack: u128,
    per: u64,
    at: u64,
    /// When it will be full if nothing more is taken.
    full_at: u64,
}

impl Default for Bucket {
    /// Full.
    fn default() -> Self {
        Bucket { lack: 0, per: 1, at: 0, full_at: 0 }
    }
}

impl Bucket {
    fn take(&mut self, rate: &Rate, tokens: u32, now: u64) -> Taken {
        self.bring_to(rate, now);
        let asked = u128::from(tokens) * u128::from(rate.per);
        // No overflow: `bring_to` keeps the lack within the capacity.
        let there = rate.capacity() - self.lack;
        let allowed = asked <= there;
        if allowed {
            self.lack += asked;
        }
        let until_full = rate.time_for(self.lack);
        self.full_at = self.at.saturating_add(until_full);
        let remaining = (rate.capacity() - self.lack) / u128::from(rate.per);
        Taken {
            allowed,
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
            retry_after_ms: if allowed {
                0
            } else if u64::from(tokens) > rate.burst {
                u64::MAX
            } else {
                rate.time_for(asked - there).div_ceil(NANOSECONDS_A_MILLISECOND)
            },
            full_after_ms: until_full.div_ceil(NANOSECONDS_A_MILLISECOND),
        }
    }

    /// Lets flow in what has come since, in the units of `rate`. A time before the last one, as two
    /// workers may hand in, changes nothing.
    fn bring_to(&mut self, rate: &Rate, now: u64) {
        if self.per != rate.per {
            let (tokens, parts) =
                (self.lack / u128::from(self.per), self.lack % u128::from(self.per));
            let parts = (parts * u128::from(rate.per)).div_ceil(u128::from(self.per));
            self.lack = tokens.saturating_mul(u128::from(rate.per)).saturating_add(parts);
            self.per = rate.per;
        }
        let elapsed = u128::from(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.lack = self.lack.saturating_sub(elapsed * u128::from(rate.requests));
        self.lack = self.lack.min(rate.capacity());
    }
}

/// Takes one of `buckets_max` slots, if one is left.
fn reserve(buckets: &AtomicUsize, buckets_max: usize) -> bool {
    buckets
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < buckets_max).then_some(used + 1)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn policy(requests: u64, per: Duration, burst: u64) -> Policy {
        Policy { requests, per, burst, keys: 100 }
    }

    fn buckets(policy: Policy) -> (Buckets, Instant) {
        let start = Instant::now();
        (Buckets::new(policy, Arc::new(Table::new(start))), start)
    }

    fn count(buckets: &Buckets) -> usize {
        let held = buckets.table.shards.iter().map(|shard| {
            let shard = locked(shard);
            assert_eq!(shard.by_key.len(), shard.by_full.len());
            shard.by_key.len()
        });
        let held = held.sum();
        assert_eq!(buckets.table.buckets.load(Ordering::Relaxed), held);
        held
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (buckets, now) = buckets(policy(10, SECOND, 3));
        for left in [2, 1, 0] {
            let taken = buckets.take("k", 1, now);
            assert!(taken.allowed);
            assert_eq!(taken.remaining, left);
        }
        let refused = buckets.take("k", 1, now);
        let expected =
            Taken { allowed: false, remaining: 0, retry_after_ms: 100, full_after_ms: 300 };
        assert_eq!(refused, expected);
        assert!(!buckets.take("k", 1, now + 100 * MS - Duration::from_nanos(1)).allowed);
        let taken = buckets.take("k", 1, now + 100 * MS);
        let expected = Taken { allowed: true, remaining: 0, retry_after_ms: 0, full_after_ms: 300 };
        assert_eq!(taken, expected);
        assert!(buckets.take("other", 3, now).allowed);
    }

    #[test]
    fn looking_often_gives_exactly_the_rate() {
        // 7 tokens in 3 seconds do not divide: 300 s must still give exactly 700 and the burst.
        let (buckets, start) = buckets(policy(7, 3 * SECOND, 5));
        let mut given = 0;
        for step in 0..=300_000u32 {
            given += u32::from(buckets.take("k", 1, start + step * MS).allowed);
        }
        assert_eq!(given, 705);
    }

    #[test]
    fn all_or_none_of_the_tokens_are_taken() {
        let (buckets, now) = buckets(policy(1, SECOND, 5));
        assert!(buckets.take("k", 3, now).allowed);
        let refused = buckets.take("k", 3, now);
        assert!(!refused.allowed);
        assert_eq!((refused.remaining, refused.retry_after_ms), (2, 1_000));
        assert!(buckets.take("k", 2, now).allowed);
    }

    #[test]
    fn more_tokens_than_the_burst_never_come() {
        let (buckets, now) = buckets(policy(1, SECOND, 5));
        assert_eq!(buckets.take("k", 5, now).retry_after_ms, 0);
        assert_eq!(buckets.take("l", 6, now).retry_after_ms, u64::MAX);
        assert_eq!(buckets.take("l", 5, now).remaining, 0);
    }

    #[test]
    fn taking_nothing_only_looks() {
        let (buckets, now) = buckets(policy(1, SECOND, 5));
        let look = buckets.take("k", 0, now);
        let full = Taken { allowed: true, remaining: 5, retry_after_ms: 0, full_after_ms: 0 };
        assert_eq!(look, full);
        assert_eq!(count(&buckets), 0);
        buckets.take("k", 1, now);
        assert_eq!(buckets.take("k", 0, now).remaining, 4);
        assert_eq!(buckets.take("k", 0, now + SECOND), full);
        assert_eq!(count(&buckets), 0, "a full bucket is no bucket");
    }

    #[test]
    fn time_that_goes_back_takes_nothing_away() {
        let (buckets, now) = buckets(policy(1, SECOND, 2));
        buckets.take("k", 2, now + SECOND);
        assert!(!buckets.take("k", 1, now).allowed);
        assert!(!buckets.take("k", 1, now + SECOND).allowed);
        assert!(buckets.take("k", 1, now + 2 * SECOND).allowed);
    }

    #[test]
    fn new_keys_share_one_bucket_while_none_is_full() {
        let (buckets, now) = buckets(Policy { keys: 3, ..policy(1, SECOND, 2) });
        for key in ["a", "b", "c"] {
            buckets.take(key, 1, now);
        }
        assert_eq!(buckets.take("d", 1, now).remaining, 1);
        assert_eq!(buckets.take("e", 1, now).remaining, 0, "`d` has taken one of the two");
        assert!(!buckets.take("d", 1, now).allowed);
        assert_eq!(buckets.take("a", 1, now).remaining, 0, "known keys keep their own");
        assert_eq!(count(&buckets), 3);
    }

    #[test]
    fn the_longest_full_bucket_makes_room() {
        let (buckets, now) = buckets(Policy { keys: 3, ..policy(1, SECOND, 9) });
        buckets.take("a", 3, now);
        buckets.take("b", 1, now);
        buckets.take("c", 2, now);
        assert_eq!(buckets.take("d", 1, now + SECOND).remaining, 8, "in place of `b`");
        assert_eq!(count(&buckets), 3);
        assert_eq!(buckets.take("a", 0, now + SECOND).remaining, 7);
        assert_eq!(buckets.take("c", 0, now + SECOND).remaining, 8);
    }

    #[test]
    fn the_number_of_keys_is_exact() {
        for (keys, expected) in [(9, 9), (10, 10), (11, 10)] {
            let (buckets, now) = buckets(Policy { keys, ..policy(1, SECOND, 5) });
            for key in 0..10 {
                buckets.take(&key.to_string(), 1, now);
            }
            assert_eq!(count(&buckets), expected);
            let shared = locked(&buckets.table.shared).lack > 0;
            assert_eq!(shared, keys < 10);
        }
    }

    #[test]
    fn buckets_nobody_asks_for_again_do_not_pile_up() {
        let (buckets, start) = buckets(Policy { keys: 100_000, ..policy(1, MS, 1) });
        for step in 0..10_000u32 {
            buckets.take(&step.to_string(), 1, start + step * MS);
        }
        assert!(count(&buckets) < 100, "{}", count(&buckets));
    }

    #[test]
    fn keys_of_any_length_are_told_apart() {
        let (buckets, now) = buckets(policy(1, SECOND, 1));
        for length in [0, 1, 255, 256, 257, 100_000] {
            let key = "k".repeat(length);
            assert!(buckets.take(&key, 1, now).allowed);
            assert!(!buckets.take(&key, 1, now).allowed);
        }
    }

    #[test]
    fn a_changed_policy_keeps_what_was_taken() {
        let (old, now) = buckets(policy(10, SECOND, 10));
        old.take("some", 4, now);
        old.take("all", 10, now);
        let larger = Buckets::new(policy(10, 60 * SECOND, 20), old.table.clone());
        assert_eq!(larger.take("some", 0, now).remaining, 16);
        assert_eq!(larger.take("all", 0, now).remaining, 10);
        assert_eq!(larger.take("new", 0, now).remaining, 20);
        let smaller = Buckets::new(policy(1, SECOND, 3), old.table.clone());
        assert_eq!(
            smaller.take("all", 0, now),
            Taken { allowed: true, remaining: 0, retry_after_ms: 0, full_after_ms: 3_000 }
        );
        assert_eq!(old.take("all", 0, now).remaining, 7, "its lack was cut to the smaller burst");
    }

    #[test]
    fn a_shadow_takes_from_copies() {
        let policy = policy(1, SECOND, 5);
        let (running, now) = buckets(policy);
        running.take("k", 2, now);
        let shadow = Buckets::new(policy, Arc::new(Table::over(running.table.clone())));
        assert_eq!(shadow.take("k", 1, now).remaining, 2);
        assert_eq!(shadow.take("new", 4, now).remaining, 1);
        assert_eq!(running.take("k", 0, now).remaining, 3);
        assert_eq!(running.take("new", 0, now).remaining, 5);
        running.take("k", 3, now);
        assert_eq!(shadow.take("k", 0, now).remaining, 2, "copied once");
        assert_eq!((count(&running), count(&shadow)), (1, 2));
    }

    #[test]
    fn a_shadow_keeps_a_full_bucket_since_its_own_is_not() {
        let policy = Policy { keys: 2, ..policy(1, SECOND, 5) };
        let (running, now) = buckets(policy);
        running.take("k", 5, now);
        let shadow = Buckets::new(policy, Arc::new(Table::over(running.table.clone())));
        assert_eq!(shadow.take("k", 0, now).remaining, 0);
        let later = now + 5 * SECOND;
        assert_eq!(shadow.take("k", 0, later).remaining, 5);
        running.take("k", 5, later);
        assert_eq!(shadow.take("k", 1, later).remaining, 4);
        shadow.take("l", 1, later);
        assert_eq!(count(&shadow), 2);
        assert_eq!(shadow.take("m", 1, later).remaining, 4, "in a bucket for all that are new");
        shadow.take("n", 1, later + SECOND);
        assert_eq!(count(&shadow), 2, "as many keys as granted");
    }

    #[test]
    fn extreme_policies_neither_panic_nor_give_too_much() {
        let extremes = [0, 1, u64::MAX];
        for requests in extremes {
            for burst in extremes {
                for per in [Duration::ZERO, MS, Duration::MAX] {
                    let (buckets, now) = buckets(Policy { requests, per, burst, keys: 0 });
                    for seconds in [0, 1, 1 << 40, 1] {
                        for tokens in [0, 1, u32::MAX] {
                            let taken =
                                buckets.take("k", tokens, now + Duration::from_secs(seconds));
                            assert!(taken.remaining <= burst.max(1));
                            assert!(!taken.allowed || u64::from(tokens) <= burst.max(1));
                        }
                    }
                    let other = Buckets::new(policy(3, SECOND, 2), buckets.table.clone());
                    assert!(other.take("k", 0, now).remaining <= 2);
                }
            }
        }
    }

    #[test]
    fn threads_together_get_exactly_the_burst() {
        let (buckets, now) = buckets(policy(1, SECOND, 1_000));
        let given = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        given
                            .fetch_add(buckets.take("k", 1, now).allowed.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(given.load(Ordering::Relaxed), 1_000);
    }
}
