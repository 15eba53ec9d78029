//! Tokens whose signature was found valid: a client sends the same one many times, and verifying costs a
//! thousand times as much as looking here.
//!
//! Tokens are kept as their hash. Whether they are still in time is not known here.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::claims::Accepted;

/// Tokens remembered; each has one place where it can be, and drives out the one that is there.
const SLOTS: usize = 256;

pub(crate) type Hash = [u8; 32];

#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Option<(Hash, Accepted)>>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| None).collect() }
    }

    pub(crate) fn hash(token: &str) -> Hash {
        Sha256::digest(token).into()
    }

    pub(crate) fn find(&self, hash: &Hash) -> Option<&Accepted> {
        let (kept, accepted) = self.slots.get(usize::from(hash[0]))?.as_ref()?;
        (kept == hash).then_some(accepted)
    }

    pub(crate) fn keep(&mut self, hash: Hash, accepted: Accepted) {
        if let Some(slot) = self.slots.get_mut(usize::from(hash[0])) {
            *slot = Some((hash, accepted));
        }
    }
}
