//! What a filter may import besides the messages, in plain Rust: one file per interface of
//! `wit/v0.1.0/capabilities.wit`.
//!
//! Nothing here knows wasm, TOML or sockets, and every function that depends on time takes it as an
//! argument. [`State`] holds what outlives a filter version: key-value maps and token buckets.

pub mod clock;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod random;
pub mod rate_limit;
pub mod sources;

pub use sources::{Asker, Script, Sources};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Kept state of all filters, by filter name. One a process; shared by workers and generations.
///
/// Limits and policies belong to the handle that is given out, not to the state behind it, so that
/// building a generation that is never published changes nothing for the running one.
#[derive(Debug)]
pub struct State {
    start: Instant,
    sources: Sources,
    kv: Mutex<HashMap<Box<str>, Arc<kv::Spaces>>>,
    rate_limit: Mutex<HashMap<Box<str>, Arc<rate_limit::Table>>>,
    /// What is kept is read, and never written.
    shadow: bool,
}

impl State {
    /// Nothing is kept yet. `start` must not be later than any time given to the capabilities;
    /// times before it count as it.
    pub fn new(start: Instant) -> Self {
        let (sources, kv, rate_limit) = Default::default();
        State { start, sources, kv, rate_limit, shadow: false }
    }

    /// For filters of which nothing may be seen: they read what is kept here, as it is at the time,
    /// and what they write is kept apart, in the handle that is given out.
    pub fn shadow(&self) -> Self {
        State {
            start: self.start,
            sources: self.sources.clone(),
            kv: Mutex::new(locked(&self.kv).clone()),
            rate_limit: Mutex::new(locked(&self.rate_limit).clone()),
            shadow: true,
        }
    }

    /// Was it made by [`State::shadow`]?
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Nothing is kept yet, and every filter has its time and its random bytes from `script`.
    pub fn scripted(script: Arc<Script>) -> Self {
        let sources = Sources::Script(script);
        State { start: sources.instant(), sources, ..State::new(Instant::now()) }
    }

    /// Where the filters that use this state get time and random bytes from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The map of `filter` for a version of it whose state has `state_version`: the same for every
    /// generation with that state version.
    pub fn kv(&self, filter: &str, state_version: u32) -> kv::Claim {
        let mut filters = locked(&self.kv);
        let spaces = match filters.get(filter) {
            Some(spaces) => spaces.clone(),
            None => {
                let spaces = Arc::new(kv::Spaces::new(self.start));
                filters.insert(filter.into(), spaces.clone());
                spaces
            }
        };
        drop(filters);
        let claim = spaces.claim(state_version);
        if self.shadow { claim.shadowed() } else { claim }
    }

    /// The buckets of `filter`: the same for every generation, sized by `policy`. After a change of
    /// policy a bucket lacks as many tokens as before, at most all of them.
    pub fn rate_limit(&self, filter: &str, policy: rate_limit::Policy) -> Arc<rate_limit::Buckets> {
        let mut tables = locked(&self.rate_limit);
        let table = match tables.get(filter) {
            Some(table) => table.clone(),
            None => {
                let table = Arc::new(rate_limit::Table::new(self.start));
                tables.insert(filter.into(), table.clone());
                table
            }
        };
        let table = if self.shadow { Arc::new(rate_limit::Table::over(table)) } else { table };
        Arc::new(rate_limit::Buckets::new(policy, table))
    }

    /// Forgets the state of filters that are neither `configured` nor used by a generation that is
    /// still alive. Call it after a generation was published, refused or freed.
    pub fn forget_unused(&self, configured: &dyn Fn(&str) -> bool) {
        // A count of one is this map's own: handles are made under the lock, and a handle can only
        // be cloned where there is another.
        locked(&self.kv).retain(|name, spaces| configured(name) || Arc::strong_count(spaces) > 1);
        locked(&self.rate_limit)
            .retain(|name, table| configured(name) || Arc::strong_count(table) > 1);
    }
}

/// Number of parts of a map, each under a lock of its own, so that workers seldom meet.
const SHARDS: usize = 16;

/// Locks in spite of a panic elsewhere: every critical section here leaves its map consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds from `start` to `now`; 0 before `start`, saturated after 584 years.
fn nanoseconds_since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GRANT: kv::KvGrant = kv::KvGrant { entries: 10, value_bytes: 10 };
    const POLICY: rate_limit::Policy =
        rate_limit::Policy { requests: 1, per: Duration::from_secs(1), burst: 5, keys: 10 };

    /// The map of a filter whose state has had one form from the beginning.
    fn kv(state: &State, filter: &str) -> Arc<kv::Store> {
        state.kv(filter, 0).store(GRANT)
    }

    #[test]
    fn state_is_kept_from_one_generation_to_the_next() {
        let now = Instant::now();
        let state = State::new(now);
        kv(&state, "a").set("k", b"v", None, now).unwrap();
        assert!(state.rate_limit("a", POLICY).take("k", 5, now).allowed);
        state.forget_unused(&|name| name == "a");
        assert_eq!(kv(&state, "a").get("k", now).as_deref(), Some(&b"v"[..]));
        assert!(!state.rate_limit("a", POLICY).take("k", 1, now).allowed);
    }

    #[test]
    fn filters_do_not_see_each_other() {
        let now = Instant::now();
        let state = State::new(now);
        kv(&state, "a").set("k", b"v", None, now).unwrap();
        assert_eq!(kv(&state, "b").get("k", now), None);
        assert!(state.rate_limit("a", POLICY).take("k", 5, now).allowed);
        assert!(state.rate_limit("b", POLICY).take("k", 5, now).allowed);
    }

    #[test]
    fn a_filter_that_is_gone_is_forgotten_once_no_generation_uses_it() {
        let now = Instant::now();
        let state = State::new(now);
        let claim = state.kv("a", 0);
        let old = claim.store(GRANT);
        old.set("k", b"v", None, now).unwrap();
        let old_buckets = state.rate_limit("a", POLICY);
        old_buckets.take("k", 5, now);
        state.forget_unused(&|_| false);
        assert!(kv(&state, "a").get("k", now).is_some(), "the old generation still uses it");
        assert!(!state.rate_limit("a", POLICY).take("k", 1, now).allowed);
        drop((claim, old, old_buckets));
        state.forget_unused(&|_| false);
        assert_eq!(kv(&state, "a").get("k", now), None);
        assert!(state.rate_limit("a", POLICY).take("k", 1, now).allowed);
    }

    #[test]
    fn a_generation_that_is_never_published_changes_no_limit() {
        let now = Instant::now();
        let state = State::new(now);
        let running = kv(&state, "a");
        drop(state.kv("a", 0).store(kv::KvGrant { entries: 1, value_bytes: 1 }));
        running.set("k", b"0123456789", None, now).unwrap();
        running.set("l", b"0123456789", None, now).unwrap();
    }

    #[test]
    fn a_shadow_sees_what_is_kept_and_changes_nothing_of_it() {
        let now = Instant::now();
        let state = State::new(now);
        let running = kv(&state, "a");
        running.set("k", b"v", None, now).unwrap();
        let buckets = state.rate_limit("a", POLICY);
        assert!(buckets.take("k", 3, now).allowed);
        let shadow = state.shadow();
        assert!(shadow.is_shadow() && !state.is_shadow());
        let (shadow_kv, shadow_buckets) = (kv(&shadow, "a"), shadow.rate_limit("a", POLICY));
        assert_eq!(shadow_kv.get("k", now).as_deref(), Some(&b"v"[..]));
        assert_eq!(shadow_buckets.take("k", 1, now).remaining, 1);
        shadow_kv.set("k", b"w", None, now).unwrap();
        kv(&shadow, "new").set("k", b"w", None, now).unwrap();
        assert!(shadow.rate_limit("new", POLICY).take("k", 5, now).allowed);
        assert_eq!(running.get("k", now).as_deref(), Some(&b"v"[..]));
        assert_eq!(buckets.take("k", 0, now).remaining, 2);
        assert_eq!(kv(&state, "new").get("k", now), None);
        assert!(state.rate_limit("new", POLICY).take("k", 5, now).allowed);
    }
}
