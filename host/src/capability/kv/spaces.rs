//! The maps of one filter: one for each version of its state that was in force of late.
//!
//! A version of a filter [claims](Claim) its map before it runs, and says when it is in force. A claim
//! that never is leaves no trace. Which form the entries have, and who brings them from one into the
//! next, is not known here.

use super::{KvGrant, Space, Store};
use crate::capability::locked;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Maps that are kept of a filter, as many as there are generations to go back to: each is as large as
/// the grant it was filled under.
pub const SPACES_MAX: usize = 5;

/// What is kept of a filter's maps.
#[derive(Debug)]
pub(in crate::capability) struct Spaces {
    start: Instant,
    /// By the time they were put in force; the last one is in force. One for each state version.
    kept: Mutex<Vec<Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    version: u32,
    space: Arc<Space>,
}

/// Where a claimed map comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the one in force, or there was none before it.
    InForce,
    /// A copy of the one in force, which is of this lower state version: it has to be migrated.
    CopyOf(u32),
    /// It was in force before the one that is now, and is as it was left.
    Kept,
    /// It is empty: the one in force is of this higher state version, and there is none to go back to.
    Empty(u32),
}

/// The map that a version of a filter works with.
#[derive(Debug)]
pub struct Claim {
    spaces: Arc<Spaces>,
    own: Kept,
    origin: Origin,
    /// What others have too is only read.
    shadow: bool,
}

impl Spaces {
    pub(in crate::capability) fn new(start: Instant) -> Self {
        Spaces { start, kept: Mutex::default() }
    }

    /// The map for a version of the filter whose state has this version.
    pub(in crate::capability) fn claim(self: &Arc<Self>, version: u32) -> Claim {
        let mut kept = locked(&self.kept);
        let (space, origin) = match kept.last() {
            None => {
                let first = Kept { version, space: Arc::new(Space::new(self.start)) };
                kept.push(first.clone());
                (first.space, Origin::InForce)
            }
            Some(in_force) if in_force.version == version => {
                (in_force.space.clone(), Origin::InForce)
            }
            Some(in_force) if in_force.version < version => {
                (Arc::new(in_force.space.copy()), Origin::CopyOf(in_force.version))
            }
            Some(in_force) => match kept.iter().find(|kept| kept.version == version) {
                Some(kept) => (kept.space.clone(), Origin::Kept),
                None => (Arc::new(Space::new(self.start)), Origin::Empty(in_force.version)),
            },
        };
        Claim { spaces: self.clone(), own: Kept { version, space }, origin, shadow: false }
    }
}

impl Claim {
    /// The same for a shadow: it writes to nothing that others have, and is never put in force.
    pub(in crate::capability) fn shadowed(self) -> Self {
        Claim { shadow: true, ..self }
    }

    /// The map under the limits of `grant`.
    pub fn store(&self, grant: KvGrant) -> Arc<Store> {
        let store = Store::new(grant, self.own.space.clone());
        let is_others = matches!(self.origin, Origin::InForce | Origin::Kept);
        Arc::new(if self.shadow && is_others { store.overlaid() } else { store })
    }

    /// The state version that it is claimed for.
    pub fn version(&self) -> u32 {
        self.own.version
    }

    /// Where it came from when it was claimed.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// From now on versions after it take over from this map. The one before is kept, so that to go
    /// back finds it as it is left.
    pub fn put_in_force(&self) {
        if self.shadow {
            return;
        }
        let mut kept = locked(&self.spaces.kept);
        if kept.last().is_some_and(|last| Arc::ptr_eq(&last.space, &self.own.space)) {
            return;
        }
        kept.retain(|kept| kept.version != self.own.version);
        kept.push(self.own.clone());
        if kept.len() > SPACES_MAX {
            kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GRANT: KvGrant = KvGrant { entries: 10, value_bytes: 10 };

    fn spaces() -> (Arc<Spaces>, Instant) {
        let start = Instant::now();
        (Arc::new(Spaces::new(start)), start)
    }

    /// A version of the filter that is published as soon as it is there.
    fn published(spaces: &Arc<Spaces>, version: u32) -> (Arc<Store>, Origin) {
        let claim = spaces.claim(version);
        claim.put_in_force();
        (claim.store(GRANT), claim.origin())
    }

    #[test]
    fn versions_of_the_same_state_share_a_map() {
        let (spaces, now) = spaces();
        let (one, origin) = published(&spaces, 3);
        assert_eq!(origin, Origin::InForce);
        let (other, origin) = published(&spaces, 3);
        assert_eq!(origin, Origin::InForce);
        one.set("k", b"v", None, now).unwrap();
        assert_eq!(other.get("k", now).unwrap(), b"v");
    }

    #[test]
    fn a_higher_version_gets_a_copy_with_ends_and_kinds_and_the_older_one_keeps_its_own() {
        let (spaces, now) = spaces();
        let (old, _) = published(&spaces, 1);
        let later = now + Duration::from_millis(5);
        old.set("ends", b"v", Some(Duration::from_millis(5)), now).unwrap();
        old.set("text", b"old", None, now).unwrap();
        old.increment("number", 7, None, now).unwrap();
        let claim = spaces.claim(4);
        assert_eq!((claim.version(), claim.origin()), (4, Origin::CopyOf(1)));
        let new = claim.store(GRANT);
        assert_eq!(new.get("ends", now).unwrap(), b"v");
        assert_eq!(new.get("ends", later), None);
        assert_eq!(new.increment("number", 1, None, now), Ok(8));
        new.set("text", b"new", None, now).unwrap();
        old.set("later", b"v", None, now).unwrap();
        assert_eq!(old.get("text", now).unwrap(), b"old");
        assert_eq!(old.get("number", now).unwrap(), b"7");
        assert_eq!(new.get("later", now), None);
    }

    #[test]
    fn the_copy_has_as_many_entries_as_it_has() {
        let (spaces, now) = spaces();
        let (old, _) = published(&spaces, 0);
        for key in 0..9 {
            old.set(&key.to_string(), b"v", None, now).unwrap();
        }
        let (new, _) = published(&spaces, 1);
        new.set("tenth", b"v", None, now).unwrap();
        assert_eq!(new.set("eleventh", b"v", None, now), Err(crate::capability::kv::KvError::Full));
        assert!(new.delete("0", now));
        new.set("eleventh", b"v", None, now).unwrap();
    }

    #[test]
    fn to_go_back_finds_the_map_as_it_was_left_and_to_go_on_again_copies_it_anew() {
        let (spaces, now) = spaces();
        let (first, _) = published(&spaces, 0);
        first.set("k", b"0", None, now).unwrap();
        let (second, _) = published(&spaces, 1);
        second.set("k", b"1", None, now).unwrap();
        drop(first);
        let (first, origin) = published(&spaces, 0);
        assert_eq!((origin, first.get("k", now).unwrap()), (Origin::Kept, b"0".to_vec()));
        first.set("k", b"00", None, now).unwrap();
        let (again, origin) = published(&spaces, 1);
        assert_eq!((origin, again.get("k", now).unwrap()), (Origin::CopyOf(0), b"00".to_vec()));
        assert_eq!(second.get("k", now).unwrap(), b"1", "a generation before keeps what it has");
    }

    #[test]
    fn a_version_that_is_put_in_force_again_has_the_map_it_had() {
        let (spaces, now) = spaces();
        let old = spaces.claim(0);
        old.put_in_force();
        let candidate = spaces.claim(1);
        candidate.put_in_force();
        candidate.store(GRANT).set("k", b"v", None, now).unwrap();
        old.put_in_force();
        assert_eq!(spaces.claim(0).origin(), Origin::InForce);
        candidate.put_in_force();
        assert_eq!(spaces.claim(1).store(GRANT).get("k", now).unwrap(), b"v");
    }

    #[test]
    fn a_claim_that_is_never_in_force_leaves_no_trace() {
        let (spaces, now) = spaces();
        let (running, _) = published(&spaces, 0);
        running.set("k", b"0", None, now).unwrap();
        spaces.claim(1).store(GRANT).set("k", b"1", None, now).unwrap();
        assert_eq!(spaces.claim(1).store(GRANT).get("k", now).unwrap(), b"0");
        assert_eq!(spaces.claim(0).origin(), Origin::InForce);
    }

    #[test]
    fn to_go_back_to_what_never_ran_begins_with_an_empty_map() {
        let (spaces, now) = spaces();
        let (running, _) = published(&spaces, 2);
        running.set("k", b"v", None, now).unwrap();
        let (older, origin) = published(&spaces, 1);
        assert_eq!((origin, older.get("k", now)), (Origin::Empty(2), None));
    }

    #[test]
    fn a_shadow_writes_to_no_map_that_others_have() {
        let (spaces, now) = spaces();
        let (first, _) = published(&spaces, 0);
        first.set("k", b"0", None, now).unwrap();
        let (running, _) = published(&spaces, 1);
        for (version, origin) in [(0, Origin::Kept), (1, Origin::InForce), (2, Origin::CopyOf(1))] {
            let claim = spaces.claim(version).shadowed();
            assert_eq!(claim.origin(), origin);
            let shadow = claim.store(GRANT);
            assert_eq!(shadow.get("k", now).unwrap(), b"0");
            shadow.set("k", b"s", None, now).unwrap();
            assert_eq!(shadow.get("k", now).unwrap(), b"s");
            claim.put_in_force();
        }
        assert_eq!(first.get("k", now).unwrap(), b"0");
        assert_eq!(running.get("k", now).unwrap(), b"0");
        assert_eq!(spaces.claim(1).origin(), Origin::InForce);
    }

    #[test]
    fn as_many_maps_are_kept_as_the_limit_says() {
        let most = u32::try_from(SPACES_MAX).unwrap();
        for (published_versions, first_is_kept) in
            [(most - 1, true), (most, true), (most + 1, false)]
        {
            let (spaces, _) = spaces();
            for version in 0..published_versions {
                published(&spaces, version);
            }
            let expected = match first_is_kept {
                true => Origin::Kept,
                false => Origin::Empty(published_versions - 1),
            };
            assert_eq!(spaces.claim(0).origin(), expected, "{published_versions}");
        }
    }
}
