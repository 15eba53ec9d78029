//! The key-value map, driven by the fake clock.

use std::{collections::BTreeMap, ops::Bound, time::Duration};

use crate::KvError;

/// Bytes of a key.
const KEY_BYTES: usize = 256;
/// Keys that one call lists.
const KEYS: usize = 1_000;

/// One filter's namespace.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) entries_max: usize,
    pub(super) value_bytes_max: usize,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    expires: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Bytes(Vec<u8>),
    /// Made by `increment`; reads as decimal text.
    Number(i64),
}

impl Value {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => number.to_string().into_bytes(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { entries_max: 10_000, value_bytes_max: 64 * 1024, entries: BTreeMap::new() }
    }
}

impl Store {
    pub(super) fn get(&mut self, key: &str, now: Duration) -> Option<Vec<u8>> {
        self.expire(now);
        self.entries.get(key).map(|entry| entry.value.bytes())
    }

    pub(super) fn set(
        &mut self,
        key: &str,
        value: &[u8],
        ttl_ms: Option<u64>,
        now: Duration,
    ) -> Result<(), KvError> {
        self.check(key, value)?;
        self.expire(now);
        let value = Value::Bytes(value.to_vec());
        self.put(key, Entry { value, expires: expiry(ttl_ms, now) })
    }

    pub(super) fn delete(&mut self, key: &str, now: Duration) -> bool {
        self.expire(now);
        self.entries.remove(key).is_some()
    }

    pub(super) fn increment(
        &mut self,
        key: &str,
        by: i64,
        ttl_ms: Option<u64>,
        now: Duration,
    ) -> Result<i64, KvError> {
        self.check(key, b"")?;
        self.expire(now);
        let (number, expires) = match self.entries.get(key) {
            None => (0, expiry(ttl_ms, now)),
            Some(Entry { value: Value::Number(number), expires }) => (*number, *expires),
            Some(_) => return Err(KvError::NotANumber),
        };
        let sum = number.checked_add(by).ok_or(KvError::NotANumber)?;
        self.put(key, Entry { value: Value::Number(sum), expires })?;
        Ok(sum)
    }

    pub(super) fn compare_and_set(
        &mut self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl_ms: Option<u64>,
        now: Duration,
    ) -> Result<bool, KvError> {
        self.check(key, value)?;
        if self.get(key, now).as_deref() != expected {
            return Ok(false);
        }
        self.set(key, value, ttl_ms, now).map(|()| true)
    }

    pub(super) fn keys(&mut self, after: Option<&str>, now: Duration) -> Vec<String> {
        self.expire(now);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let beyond = self.entries.range::<str, _>((from, Bound::Unbounded));
        beyond.map(|(key, _)| key.clone()).take(KEYS).collect()
    }

    fn check(&self, key: &str, value: &[u8]) -> Result<(), KvError> {
        let fits = (1..=KEY_BYTES).contains(&key.len()) && value.len() <= self.value_bytes_max;
        if fits { Ok(()) } else { Err(KvError::TooLarge) }
    }

    fn put(&mut self, key: &str, entry: Entry) -> Result<(), KvError> {
        if !self.entries.contains_key(key) && self.entries.len() >= self.entries_max {
            return Err(KvError::Full);
        }
        self.entries.insert(key.to_owned(), entry);
        Ok(())
    }

    fn expire(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.expires.is_none_or(|expires| now < expires));
    }
}

fn expiry(ttl_ms: Option<u64>, now: Duration) -> Option<Duration> {
    ttl_ms.map(|ttl| now.saturating_add(Duration::from_millis(ttl)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    #[test]
    fn keys_and_values_have_limits() {
        let mut store = Store { value_bytes_max: 4, ..Store::default() };
        for (bytes, fits) in [(3, true), (4, true), (5, false)] {
            assert_eq!(store.set("a", &vec![0; bytes], None, START).is_ok(), fits);
        }
        for (bytes, fits) in [(0, false), (255, true), (256, true), (257, false)] {
            assert_eq!(store.set(&"k".repeat(bytes), b"", None, START).is_ok(), fits);
        }
    }

    #[test]
    fn a_full_namespace_takes_new_keys_only_when_others_expire() {
        let mut store = Store { entries_max: 2, ..Store::default() };
        assert_eq!(store.set("a", b"1", Some(10), START), Ok(()));
        assert_eq!(store.set("b", b"1", None, START), Ok(()));
        assert_eq!(store.set("b", b"2", None, START), Ok(()));
        assert_eq!(store.set("c", b"1", None, START), Err(KvError::Full));
        let later = START + Duration::from_millis(10);
        assert_eq!(store.get("a", later), None);
        assert_eq!(store.set("c", b"1", None, later), Ok(()));
    }

    #[test]
    fn numbers_add_up_and_do_not_wrap() {
        let mut store = Store::default();
        assert_eq!(store.increment("n", 2, None, START), Ok(2));
        assert_eq!(store.increment("n", -3, None, START), Ok(-1));
        assert_eq!(store.get("n", START), Some(b"-1".to_vec()));
        assert_eq!(store.increment("n", i64::MIN, None, START), Err(KvError::NotANumber));
        assert_eq!(store.set("t", b"1", None, START), Ok(()));
        assert_eq!(store.increment("t", 1, None, START), Err(KvError::NotANumber));
    }

    #[test]
    fn compare_and_set_writes_only_over_what_is_expected() {
        let mut store = Store::default();
        assert_eq!(store.compare_and_set("a", None, b"1", None, START), Ok(true));
        assert_eq!(store.compare_and_set("a", None, b"2", None, START), Ok(false));
        assert_eq!(store.compare_and_set("a", Some(b"1"), b"2", None, START), Ok(true));
        assert!(store.delete("a", START) && !store.delete("a", START));
        // What could never be written is refused, whatever is there.
        let mut store = Store { value_bytes_max: 1, ..store };
        assert_eq!(
            store.compare_and_set("a", Some(b"x"), b"22", None, START),
            Err(KvError::TooLarge)
        );
    }

    #[test]
    fn keys_are_listed_in_order_and_in_pages() {
        for (keys, pages) in [(0, 0), (999, 1), (1_000, 1), (1_001, 2)] {
            let mut store = Store::default();
            let all: Vec<String> = (0..keys).map(|key| format!("{key:04}")).collect();
            for key in all.iter().rev() {
                assert_eq!(store.set(key, b"", None, START), Ok(()));
                assert_eq!(store.set("ended", b"", Some(0), START), Ok(()));
            }
            let (mut told, mut calls) = (Vec::<String>::new(), 0);
            loop {
                let page = store.keys(told.last().map(String::as_str), START);
                if page.is_empty() {
                    break;
                }
                calls += 1;
                told.extend(page);
            }
            assert_eq!((told, calls), (all, pages));
        }
    }
}
