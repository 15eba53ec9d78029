//! What a shadow has written over a map that it only reads.
//!
//! One thread uses it at a time, so that it has one lock and no shards. A key that was written here
//! hides the map's, also once it was deleted or has ended here.

use super::{Entry, KvError, Space, Value};
use crate::capability::locked;
use std::collections::HashMap;
use std::sync::Mutex;

/// Keys that were written; none: deleted. At most as many as the grant has entries.
#[derive(Debug, Default)]
pub(super) struct Overlay(Mutex<HashMap<Box<str>, Option<Entry>>>);

type Written = HashMap<Box<str>, Option<Entry>>;

impl Overlay {
    /// The entry of `key`, here or in `space`.
    pub(super) fn live(&self, key: &str, now: u64, space: &Space) -> Option<Entry> {
        live(&locked(&self.0), key, now, space)
    }

    /// Hides `key`. Was there one? Where there is no room to remember it, it comes back.
    pub(super) fn delete(&self, key: &str, now: u64, space: &Space, entries_max: usize) -> bool {
        let mut written = locked(&self.0);
        let present = live(&written, key, now, space).is_some();
        if present && has_room(&mut written, key, now, space, entries_max) {
            written.insert(key.into(), None);
        }
        present
    }

    /// Puts in place of the present entry what `decide` makes of it, if anything.
    pub(super) fn write<T>(
        &self,
        key: &str,
        now: u64,
        space: &Space,
        entries_max: usize,
        decide: impl Fn(Option<&Entry>) -> Result<(Option<(Value, u64)>, T), KvError>,
    ) -> Result<T, KvError> {
        let mut written = locked(&self.0);
        let (new, answer) = decide(live(&written, key, now, space).as_ref())?;
        let Some((value, end)) = new else { return Ok(answer) };
        if !has_room(&mut written, key, now, space, entries_max) {
            return Err(KvError::Full);
        }
        written.insert(key.into(), Some(Entry { value, end }));
        Ok(answer)
    }
}

fn live(written: &Written, key: &str, now: u64, space: &Space) -> Option<Entry> {
    match written.get(key) {
        Some(entry) => entry.clone().filter(|entry| entry.end > now),
        None => space.entry(key, now),
    }
}

/// Is there room for `key`? What hides nothing any more makes some.
fn has_room(written: &mut Written, key: &str, now: u64, space: &Space, entries_max: usize) -> bool {
    if written.contains_key(key) || written.len() < entries_max {
        return true;
    }
    written.retain(|key, entry| {
        entry.as_ref().is_some_and(|entry| entry.end > now) || space.entry(key, now).is_some()
    });
    written.len() < entries_max
}

#[cfg(test)]
mod tests {
    use super::super::{KvGrant, Store};
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const MS: Duration = Duration::from_millis(1);

    /// A running version's map, and a shadow's over it.
    fn stores(entries: usize) -> (Store, Store, Instant) {
        let now = Instant::now();
        let space = Arc::new(Space::new(now));
        let running = Store::new(KvGrant { entries: 100, value_bytes: 10 }, space.clone());
        let grant = KvGrant { entries, value_bytes: 10 };
        (running, Store::new(grant, space).overlaid(), now)
    }

    fn get(store: &Store, key: &str, now: Instant) -> Option<String> {
        store.get(key, now).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_shadow_reads_what_is_kept_and_its_writes_stay_with_it() {
        let (running, shadow, now) = stores(10);
        running.set("k", b"old", None, now).unwrap();
        assert_eq!(get(&shadow, "k", now).as_deref(), Some("old"));
        shadow.set("k", b"new", None, now).unwrap();
        shadow.set("l", b"new", None, now).unwrap();
        assert_eq!(get(&shadow, "k", now).as_deref(), Some("new"));
        assert_eq!(get(&running, "k", now).as_deref(), Some("old"));
        assert_eq!(get(&running, "l", now), None);
        running.set("m", b"later", None, now).unwrap();
        assert_eq!(get(&shadow, "m", now).as_deref(), Some("later"));
    }

    #[test]
    fn a_shadow_counts_on_from_what_is_kept() {
        let (running, shadow, now) = stores(10);
        assert_eq!(running.increment("n", 5, None, now), Ok(5));
        assert_eq!(shadow.increment("n", 1, None, now), Ok(6));
        assert_eq!(shadow.increment("n", 1, None, now), Ok(7));
        assert_eq!(running.increment("n", 1, None, now), Ok(6));
        assert_eq!(shadow.compare_and_set("n", Some(b"7"), b"x", None, now), Ok(true));
        assert_eq!(shadow.compare_and_set("n", Some(b"7"), b"y", None, now), Ok(false));
        assert_eq!(shadow.increment("n", 1, None, now), Err(KvError::NotANumber));
        assert_eq!(get(&running, "n", now).as_deref(), Some("6"));
    }

    #[test]
    fn what_a_shadow_deletes_or_lets_end_is_gone_for_it_alone() {
        let (running, shadow, now) = stores(10);
        running.set("a", b"v", None, now).unwrap();
        running.set("b", b"v", None, now).unwrap();
        assert!(shadow.delete("a", now));
        assert!(!shadow.delete("a", now));
        assert!(!shadow.delete("none", now));
        shadow.set("b", b"w", Some(MS), now).unwrap();
        assert_eq!(get(&shadow, "b", now).as_deref(), Some("w"));
        assert_eq!((get(&shadow, "a", now), get(&shadow, "b", now + MS)), (None, None));
        assert!(get(&running, "a", now).is_some() && get(&running, "b", now + MS).is_some());
        shadow.set("a", b"w", None, now).unwrap();
        assert_eq!(get(&shadow, "a", now).as_deref(), Some("w"));
    }

    #[test]
    fn as_many_keys_are_written_as_granted() {
        for (written, allowed) in [(1, true), (2, true), (3, false)] {
            let (_running, shadow, now) = stores(2);
            let last = (0..written).map(|n| shadow.set(&n.to_string(), b"v", None, now)).last();
            assert_eq!(last, Some(if allowed { Ok(()) } else { Err(KvError::Full) }), "{written}");
            assert_eq!(shadow.set("0", b"w", None, now), Ok(()), "it is there already");
        }
    }

    #[test]
    fn what_hides_nothing_any_more_makes_room() {
        let (running, shadow, now) = stores(2);
        running.set("a", b"v", None, now).unwrap();
        assert!(shadow.delete("a", now));
        shadow.set("b", b"v", Some(MS), now).unwrap();
        assert_eq!(shadow.set("c", b"v", None, now), Err(KvError::Full));
        assert_eq!(shadow.set("c", b"v", None, now + MS), Ok(()), "`b` has ended");
        assert_eq!(shadow.set("d", b"v", None, now + MS), Err(KvError::Full));
        running.delete("a", now);
        assert_eq!(shadow.set("d", b"v", None, now + MS), Ok(()), "`a` hides nothing");
    }

    #[test]
    fn limits_of_keys_and_values_hold_in_a_shadow() {
        let (_running, shadow, now) = stores(2);
        assert_eq!(shadow.set("", b"v", None, now), Err(KvError::TooLarge));
        assert_eq!(shadow.set("k", &[0; 10], None, now), Ok(()));
        assert_eq!(shadow.set("k", &[0; 11], None, now), Err(KvError::TooLarge));
    }
}
