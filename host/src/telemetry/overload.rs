//! What a limit on requests under way has come to: the limit, what is under way and waits, and what was
//! turned away.
//!
//! Written under the limit's own lock, or seldom: not sharded.

use super::exposition::{Output, counter, gauge};
use super::families;
use super::metrics::Live;
use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// As many as `queue_max` wait already.
    QueueFull,
    /// It has waited for `queue_timeout`.
    QueueTimeout,
}

impl Shed {
    /// Every cause.
    pub const ALL: [Shed; 2] = [Shed::QueueFull, Shed::QueueTimeout];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Shed::QueueFull => "queue_full",
            Shed::QueueTimeout => "queue_timeout",
        }
    }
}

/// The numbers of one limit.
#[derive(Debug)]
pub struct OverloadStats {
    scope: Arc<str>,
    limit: AtomicU64,
    running: AtomicU64,
    queued: AtomicU64,
    shed: [AtomicU64; Shed::ALL.len()],
}

impl OverloadStats {
    pub(super) fn new(scope: &str) -> Self {
        OverloadStats {
            scope: scope.into(),
            limit: AtomicU64::new(0),
            running: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            shed: Default::default(),
        }
    }

    /// What the limit is of: `process`, or `listener:NAME`.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// How it stands.
    pub fn set(&self, limit: usize, running: usize, queued: usize) {
        self.limit.store(limit as u64, Ordering::Relaxed);
        self.running.store(running as u64, Ordering::Relaxed);
        self.queued.store(queued as u64, Ordering::Relaxed);
    }

    /// A request was turned away.
    pub fn shed(&self, why: Shed) {
        self.shed[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that may be under way at once.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Requests under way.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Requests turned away.
    pub fn shed_so_far(&self, why: Shed) -> u64 {
        self.shed[why as usize].load(Ordering::Relaxed)
    }
}

/// Nothing where no limit is set.
pub(super) fn encode(out: &mut Output, live: &Live) -> Result<(), Error> {
    for (family, value) in [
        (&families::OVERLOAD_LIMIT, OverloadStats::limit as fn(&OverloadStats) -> u64),
        (&families::OVERLOAD_RUNNING, OverloadStats::running),
        (&families::OVERLOAD_QUEUED, OverloadStats::queued),
    ] {
        let mut family = out.family(family)?;
        for stats in &live.overloads {
            gauge(&mut family, &[("scope", stats.scope())], value(stats))?;
        }
    }
    let mut family = out.family(&families::OVERLOAD_SHED)?;
    for stats in &live.overloads {
        for why in Shed::ALL {
            let labels = [("scope", stats.scope()), ("reason", why.name())];
            counter(&mut family, &labels, stats.shed_so_far(why))?;
        }
    }
    Ok(())
}
