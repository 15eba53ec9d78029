//! What became of the copies that a route sends to a second upstream.
//!
//! Not sharded: a copy costs a whole exchange, beside which a shared counter is nothing.

use super::exposition::{Output, counter};
use super::families;
use super::metrics::Live;
use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// It was answered.
    Answered,
    /// It was not.
    Failed,
    /// There was none: too many were under way.
    TooMany,
    /// There was none: the body was too large.
    TooLarge,
}

impl Mirrored {
    /// Every case.
    pub const ALL: [Mirrored; 4] =
        [Mirrored::Answered, Mirrored::Failed, Mirrored::TooMany, Mirrored::TooLarge];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Mirrored::Answered => "answered",
            Mirrored::Failed => "failed",
            Mirrored::TooMany => "too_many",
            Mirrored::TooLarge => "too_large",
        }
    }
}

/// The copies of one route.
#[derive(Debug, Default)]
pub struct MirrorStats([AtomicU64; Mirrored::ALL.len()]);

impl MirrorStats {
    /// This became of one.
    pub fn count(&self, what: Mirrored) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was so.
    pub fn counted(&self, what: Mirrored) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }
}

/// What never happened is not shown.
pub(super) fn encode(out: &mut Output, live: &Live) -> Result<(), Error> {
    let mut family = out.family(&families::MIRRORED)?;
    for route in &live.routes {
        for what in Mirrored::ALL {
            let count = route.mirror.counted(what);
            if count > 0 {
                let labels = [
                    ("listener", route.listener()),
                    ("route", route.route()),
                    ("result", what.name()),
                ];
                counter(&mut family, &labels, count)?;
            }
        }
    }
    Ok(())
}
