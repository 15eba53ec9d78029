//! The `kv` capability: a map of a filter, shared by the workers and kept over a swap.
//!
//! [`Space`] is what is kept, [`Store`] a generation's handle with its limits. Entries that have
//! ended are dropped when they are met, a few with every write, and as many as needed when the map
//! is full; nothing else is ever evicted. Which version of a filter has which map: `spaces`; where a
//! shadow's writes go: `overlay`.

mod overlay;
mod spaces;

pub(super) use spaces::Spaces;
pub use spaces::{Claim, Origin, SPACES_MAX};

use self::overlay::Overlay;
use super::{SHARDS, locked, nanoseconds_since};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 256;
/// Keys that one call of `keys` gives.
pub const KEYS_MAX: usize = 1_000;
/// Default of the grant's `entries`.
pub const ENTRIES_DEFAULT: usize = 10_000;
/// Default of the grant's `value`, in bytes.
pub const VALUE_BYTES_DEFAULT: usize = 64 * 1024;

/// Entries a write drops on the side, if they have ended.
const SWEEP_MAX: usize = 4;
/// An end that never comes.
const NEVER: u64 = u64::MAX;

/// The limits granted to a filter. Together they bound its memory: about
/// `entries * (value_bytes + 600)` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvGrant {
    /// Entries of the map.
    pub entries: usize,
    /// Bytes of one value.
    pub value_bytes: usize,
}

impl Default for KvGrant {
    fn default() -> Self {
        KvGrant { entries: ENTRIES_DEFAULT, value_bytes: VALUE_BYTES_DEFAULT }
    }
}

/// Why a write was refused; the cases of `kv-error` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// As many entries as granted, and none has ended.
    #[error("the map is full")]
    Full,
    /// An empty or too long key, or too long a value.
    #[error("the key or the value has a length that is not allowed")]
    TooLarge,
    /// Not made by `increment`, or the sum does not fit.
    #[error("the entry is not a number that can be added to")]
    NotANumber,
}

/// A filter's map under the limits of one generation.
#[derive(Debug)]
pub struct Store {
    grant: KvGrant,
    space: Arc<Space>,
    /// Takes what is written, in place of the space.
    overlay: Option<Overlay>,
}

impl Store {
    fn new(grant: KvGrant, space: Arc<Space>) -> Self {
        Store { grant, space, overlay: None }
    }

    /// Writes no longer reach the space.
    fn overlaid(self) -> Self {
        Store { overlay: Some(Overlay::default()), ..self }
    }

    /// A map that nobody else has. `start` is not later than any time given to it.
    pub fn apart(grant: KvGrant, start: Instant) -> Self {
        Store::new(grant, Arc::new(Space::new(start)))
    }

    /// The value of `key`; a number made by `increment` reads as decimal digits.
    pub fn get(&self, key: &str, now: Instant) -> Option<Vec<u8>> {
        let now = self.space.time(now);
        if let Some(overlay) = &self.overlay {
            return overlay.live(key, now, &self.space).map(|entry| entry.value.to_bytes());
        }
        let mut shard = self.space.shard(key);
        shard.live(key, now, &self.space.entries).map(|entry| entry.value.to_bytes())
    }

    /// Writes `value`, to end after `ttl` (none: never).
    pub fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<(), KvError> {
        self.check(key, value)?;
        let now = self.space.time(now);
        let end = end_of(now, ttl);
        self.write(key, now, |_| Ok((Some((Value::Bytes(value.into()), end)), ())))
    }

    /// Removes `key`. Was there one?
    pub fn delete(&self, key: &str, now: Instant) -> bool {
        let now = self.space.time(now);
        if let Some(overlay) = &self.overlay {
            return overlay.delete(key, now, &self.space, self.grant.entries);
        }
        let mut shard = self.space.shard(key);
        shard.live(key, now, &self.space.entries).is_some()
            && shard.remove(key, &self.space.entries)
    }

    /// Adds `by` and gives the sum. An absent entry counts as 0 and is made, to end after `ttl`;
    /// one that is there keeps its end.
    pub fn increment(
        &self,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<i64, KvError> {
        self.check(key, b"")?;
        let now = self.space.time(now);
        self.write(key, now, |entry| {
            let (old, end) = match entry {
                None => (0, end_of(now, ttl)),
                Some(Entry { value: Value::Number(number), end }) => (*number, *end),
                Some(Entry { value: Value::Bytes(_), .. }) => return Err(KvError::NotANumber),
            };
            let sum = old.checked_add(by).ok_or(KvError::NotANumber)?;
            Ok((Some((Value::Number(sum), end)), sum))
        })
    }

    /// Writes `value` if the present one is `expected` (none: there is none). Was it?
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
        now: Instant,
    ) -> Result<bool, KvError> {
        self.check(key, value)?;
        let now = self.space.time(now);
        self.write(key, now, |entry| {
            let as_expected = match (entry, expected) {
                (None, None) => true,
                (Some(entry), Some(expected)) => entry.value.is(expected),
                (None, Some(_)) | (Some(_), None) => false,
            };
            let new = as_expected.then(|| (Value::Bytes(value.into()), end_of(now, ttl)));
            Ok((new, as_expected))
        })
    }

    /// The first keys beyond `after` (none: the first of all), at most [`KEYS_MAX`], in the order of
    /// their bytes. It looks at every entry: for maps that nobody is waiting for.
    pub fn keys(&self, after: Option<&str>, now: Instant) -> Vec<Arc<str>> {
        let now = self.space.time(now);
        let mut first = BTreeSet::new();
        for shard in &self.space.shards {
            for (key, entry) in &locked(shard).entries {
                let passed = after.is_some_and(|after| **key <= *after);
                if passed || entry.end <= now {
                    continue;
                }
                if first.len() == KEYS_MAX {
                    if first.last() < Some(key) {
                        continue;
                    }
                    first.pop_last();
                }
                first.insert(key.clone());
            }
        }
        first.into_iter().collect()
    }

    fn check(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        let allowed =
            (1..=KEY_BYTES_MAX).contains(&key.len()) && value.len() <= self.grant.value_bytes;
        if allowed { Ok(()) } else { Err(KvError::TooLarge) }
    }

    /// Puts in place of the present entry what `decide` makes of it, if anything.
    fn write<T>(
        &self,
        key: &str,
        now: u64,
        decide: impl Fn(Option<&Entry>) -> Result<(Option<(Value, u64)>, T), KvError>,
    ) -> Result<T, KvError> {
        if let Some(overlay) = &self.overlay {
            return overlay.write(key, now, &self.space, self.grant.entries, decide);
        }
        let entries = &self.space.entries;
        let mut shard = self.space.shard(key);
        shard.sweep(now, SWEEP_MAX, entries);
        let present = shard.live(key, now, entries);
        let is_new = present.is_none();
        let (new, answer) = decide(present)?;
        let Some(new) = new else { return Ok(answer) };
        if !is_new || reserve(entries, self.grant.entries) {
            shard.put(key, new);
            return Ok(answer);
        }
        // Full: make room in all shards, one lock at a time, and decide anew, because another
        // worker may have written in between.
        drop(shard);
        self.space.sweep(now);
        let mut shard = self.space.shard(key);
        let present = shard.live(key, now, entries);
        let is_new = present.is_none();
        let (new, answer) = decide(present)?;
        let Some(new) = new else { return Ok(answer) };
        if is_new && !reserve(entries, self.grant.entries) {
            return Err(KvError::Full);
        }
        shard.put(key, new);
        Ok(answer)
    }
}

/// What is kept of a filter's map from one generation to the next.
#[derive(Debug)]
struct Space {
    start: Instant,
    /// Entries in all shards, and slots about to be filled. Never above the grant of the writer.
    entries: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl Space {
    fn new(start: Instant) -> Self {
        Space {
            start,
            entries: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// The same entries in a map of its own. Values are shared, so that a shard is locked no longer
    /// than it takes to list its entries.
    fn copy(&self) -> Self {
        let shards = self.shards.each_ref().map(|shard| locked(shard).clone());
        let entries = shards.iter().map(|shard| shard.entries.len()).sum();
        Space {
            start: self.start,
            entries: AtomicUsize::new(entries),
            hasher: self.hasher.clone(),
            shards: shards.map(Mutex::new),
        }
    }

    fn time(&self, now: Instant) -> u64 {
        // `NEVER` is no time that an entry could reach.
        nanoseconds_since(self.start, now).min(NEVER - 1)
    }

    fn shard(&self, key: &str) -> std::sync::MutexGuard<'_, Shard> {
        locked(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    /// A copy of the entry of `key`.
    fn entry(&self, key: &str, now: u64) -> Option<Entry> {
        self.shard(key).live(key, now, &self.entries).cloned()
    }

    /// Drops some entries that have ended, wherever they are.
    fn sweep(&self, now: u64) {
        for shard in &self.shards {
            locked(shard).sweep(now, SWEEP_MAX, &self.entries);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    /// Entries that end, by their end.
    ends: BTreeSet<(u64, Arc<str>)>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    /// Nanoseconds from the start of the space; [`NEVER`] where there is no end.
    end: u64,
}

#[derive(Clone, Debug)]
enum Value {
    Bytes(Arc<[u8]>),
    Number(i64),
}

impl Value {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(number) => number.to_string().into_bytes(),
        }
    }

    fn is(&self, expected: &[u8]) -> bool {
        match self {
            Value::Bytes(bytes) => **bytes == *expected,
            Value::Number(number) => number.to_string().as_bytes() == expected,
        }
    }
}

impl Shard {
    /// The entry of `key`; one that has ended is dropped.
    fn live(&mut self, key: &str, now: u64, entries: &AtomicUsize) -> Option<&Entry> {
        if self.entries.get(key)?.end <= now {
            self.remove(key, entries);
        }
        self.entries.get(key)
    }

    /// The caller has reserved a slot if `key` is new.
    fn put(&mut self, key: &str, (value, end): (Value, u64)) {
        let key = match self.entries.remove_entry(key) {
            Some((key, old)) => {
                if old.end != NEVER {
                    self.ends.remove(&(old.end, key.clone()));
                }
                key
            }
            None => key.into(),
        };
        if end != NEVER {
            self.ends.insert((end, key.clone()));
        }
        self.entries.insert(key, Entry { value, end });
    }

    fn remove(&mut self, key: &str, entries: &AtomicUsize) -> bool {
        let Some((key, old)) = self.entries.remove_entry(key) else { return false };
        if old.end != NEVER {
            self.ends.remove(&(old.end, key));
        }
        entries.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn sweep(&mut self, now: u64, most: usize, entries: &AtomicUsize) {
        for _ in 0..most {
            match self.ends.first() {
                Some((end, key)) if *end <= now => {
                    let key = key.clone();
                    self.remove(&key, entries);
                }
                _ => return,
            }
        }
    }
}

/// Takes one of `entries_max` slots, if one is left.
fn reserve(entries: &AtomicUsize, entries_max: usize) -> bool {
    entries
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < entries_max).then_some(used + 1)
        })
        .is_ok()
}

fn end_of(now: u64, ttl: Option<Duration>) -> u64 {
    match ttl {
        None => NEVER,
        Some(ttl) => now.saturating_add(u64::try_from(ttl.as_nanos()).unwrap_or(NEVER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn store(entries: usize, value_bytes: usize) -> (Store, Instant) {
        let start = Instant::now();
        (Store::apart(KvGrant { entries, value_bytes }, start), start)
    }

    #[test]
    fn values_are_written_read_and_removed() {
        let (store, now) = store(10, 10);
        assert_eq!(store.get("k", now), None);
        store.set("k", b"v", None, now).unwrap();
        store.set("k", b"w", None, now).unwrap();
        assert_eq!(store.get("k", now).unwrap(), b"w");
        assert!(store.delete("k", now));
        assert!(!store.delete("k", now));
        assert_eq!(store.get("k", now), None);
    }

    #[test]
    fn an_entry_ends_exactly_after_its_time_to_live() {
        let (store, now) = store(10, 10);
        store.set("k", b"v", Some(5 * MS), now).unwrap();
        let end = now + 5 * MS;
        assert!(store.get("k", end - Duration::from_nanos(1)).is_some());
        assert!(store.get("k", end).is_none());
        store.set("k", b"v", Some(5 * MS), now).unwrap();
        assert!(!store.delete("k", end));
        store.set("zero", b"v", Some(Duration::ZERO), now).unwrap();
        assert_eq!(store.get("zero", now), None);
        store.set("ever", b"v", Some(Duration::MAX), now).unwrap();
        assert!(store.get("ever", now + Duration::from_secs(1 << 32)).is_some());
    }

    #[test]
    fn writing_again_gives_a_new_end() {
        let (store, now) = store(10, 10);
        store.set("k", b"v", Some(5 * MS), now).unwrap();
        store.set("k", b"v", None, now).unwrap();
        assert!(store.get("k", now + 50 * MS).is_some());
    }

    #[test]
    fn keys_have_1_to_256_bytes() {
        let (store, now) = store(10, 10);
        let longest = "k".repeat(KEY_BYTES_MAX);
        for key in ["k", &longest[1..], &longest] {
            store.set(key, b"v", None, now).unwrap();
        }
        for key in ["", &format!("{longest}k")] {
            assert_eq!(store.set(key, b"v", None, now), Err(KvError::TooLarge));
            assert_eq!(store.increment(key, 1, None, now), Err(KvError::TooLarge));
            let swapped = store.compare_and_set(key, None, b"v", None, now);
            assert_eq!(swapped, Err(KvError::TooLarge));
            assert_eq!(store.get(key, now), None);
            assert!(!store.delete(key, now));
        }
    }

    #[test]
    fn values_have_at_most_the_granted_size() {
        let (store, now) = store(10, 8);
        for length in [0, 7, 8] {
            store.set("k", &vec![0; length], None, now).unwrap();
            store
                .compare_and_set("k", Some(&vec![0; length]), &vec![0; length], None, now)
                .unwrap();
        }
        assert_eq!(store.set("k", &[0; 9], None, now), Err(KvError::TooLarge));
        let swapped = store.compare_and_set("k", None, &[0; 9], None, now);
        assert_eq!(swapped, Err(KvError::TooLarge));
        assert_eq!(store.get("k", now).unwrap().len(), 8);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_keeps_the_old_ones() {
        let (store, now) = store(3, 8);
        for key in ["a", "b", "c"] {
            store.set(key, b"v", None, now).unwrap();
        }
        assert_eq!(store.set("d", b"v", None, now), Err(KvError::Full));
        assert_eq!(store.increment("d", 1, None, now), Err(KvError::Full));
        assert_eq!(store.compare_and_set("d", None, b"v", None, now), Err(KvError::Full));
        assert_eq!(store.compare_and_set("d", Some(b"x"), b"v", None, now), Ok(false));
        store.set("a", b"w", None, now).unwrap();
        assert!(store.delete("b", now));
        store.set("d", b"v", None, now).unwrap();
        assert_eq!(store.set("b", b"v", None, now), Err(KvError::Full));
    }

    #[test]
    fn entries_that_have_ended_make_room_in_whatever_shard_they_are() {
        let (store, now) = store(100, 8);
        for key in 0..100 {
            store.set(&format!("old-{key}"), b"v", Some(MS), now).unwrap();
        }
        for key in 0..100 {
            store.set(&format!("new-{key}"), b"v", None, now + MS).unwrap();
        }
        assert_eq!(store.set("more", b"v", None, now + MS), Err(KvError::Full));
        assert_eq!(store.space.entries.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn numbers_are_added_to_and_keep_their_end() {
        let (store, now) = store(10, 8);
        assert_eq!(store.increment("n", 5, Some(5 * MS), now), Ok(5));
        assert_eq!(store.increment("n", -7, None, now + MS), Ok(-2));
        assert_eq!(store.get("n", now).unwrap(), b"-2");
        assert_eq!(store.increment("n", 1, None, now + 5 * MS), Ok(1));
        assert_eq!(store.increment("n", i64::MAX - 1, None, now), Ok(i64::MAX));
        assert_eq!(store.increment("n", 1, None, now), Err(KvError::NotANumber));
        assert_eq!(store.increment("n", 0, None, now), Ok(i64::MAX));
        store.set("n", b"1", None, now).unwrap();
        assert_eq!(store.increment("n", 1, None, now), Err(KvError::NotANumber));
    }

    #[test]
    fn compare_and_set_writes_only_over_what_was_expected() {
        let (store, now) = store(10, 8);
        assert_eq!(store.compare_and_set("k", Some(b"a"), b"b", None, now), Ok(false));
        assert_eq!(store.compare_and_set("k", None, b"a", None, now), Ok(true));
        assert_eq!(store.compare_and_set("k", None, b"b", None, now), Ok(false));
        assert_eq!(store.compare_and_set("k", Some(b"x"), b"b", None, now), Ok(false));
        assert_eq!(store.compare_and_set("k", Some(b"a"), b"b", Some(MS), now), Ok(true));
        assert_eq!(store.compare_and_set("k", None, b"c", None, now + MS), Ok(true));
        store.increment("n", 7, None, now).unwrap();
        assert_eq!(store.compare_and_set("n", Some(b"7"), b"x", None, now), Ok(true));
    }

    #[test]
    fn increments_of_many_threads_lose_nothing() {
        let (store, now) = store(10, 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        store.increment("n", 1, None, now).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.increment("n", 0, None, now), Ok(4_000));
    }

    #[test]
    fn threads_together_never_exceed_the_number_of_entries() {
        let (store, now) = store(50, 8);
        let written = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (store, written) = (&store, &written);
                scope.spawn(move || {
                    for key in 0..100 {
                        if store.set(&format!("{thread}-{key}"), b"v", None, now).is_ok() {
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(written.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn keys_come_in_order_and_in_pages_without_those_that_have_ended() {
        for keys in [0, 1, KEYS_MAX - 1, KEYS_MAX, KEYS_MAX + 1, 2 * KEYS_MAX + 5] {
            let (store, now) = store(6 * KEYS_MAX, 1);
            let all: Vec<String> = (0..keys).map(|key| format!("{key:05}")).collect();
            for key in &all {
                store.set(key, b"", None, now).unwrap();
                store.set(&format!("{key}-ended"), b"", Some(MS), now).unwrap();
            }
            let (mut told, mut after) = (Vec::new(), None);
            loop {
                let page = store.keys(after.as_deref(), now + MS);
                assert!(page.len() <= KEYS_MAX);
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                told.extend(page.iter().map(|key| key.to_string()));
            }
            assert_eq!(told, all);
        }
    }
}
