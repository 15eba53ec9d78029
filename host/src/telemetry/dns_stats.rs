//! What comes of looking up the names of an upstream's endpoints, and how it is exposed. Written by
//! one thread, seldom; none of it is shown of an upstream whose names are not followed.

use super::exposition::{Output, counter, gauge};
use super::families;
use super::metrics::Live;
use std::fmt::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LookupResult {
    /// With addresses.
    Answered,
    /// With some; for others the name servers had no answer, and those known before are kept.
    Incomplete,
    /// There is no such name, or it has no address.
    NotFound,
    /// There was no answer in time.
    Timeout,
    /// A name server refused or could not be reached, or its answer makes no sense.
    Failed,
}

impl LookupResult {
    /// Every result.
    pub const ALL: [LookupResult; 5] = [
        LookupResult::Answered,
        LookupResult::Incomplete,
        LookupResult::NotFound,
        LookupResult::Timeout,
        LookupResult::Failed,
    ];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            LookupResult::Answered => "answered",
            LookupResult::Incomplete => "incomplete",
            LookupResult::NotFound => "not_found",
            LookupResult::Timeout => "timeout",
            LookupResult::Failed => "failed",
        }
    }
}

/// Lookups for one upstream.
#[derive(Debug, Default)]
pub struct DnsStats {
    /// Generations may follow other names each.
    followers: AtomicUsize,
    lookups: [AtomicU64; LookupResult::ALL.len()],
    addresses: AtomicU64,
    left_out: AtomicU64,
    answered: AtomicU64,
}

impl DnsStats {
    /// Its names are looked up again and again from now on; `let_go` follows.
    pub fn follow(&self) {
        self.followers.fetch_add(1, Ordering::Relaxed);
    }

    /// They no longer are, by whoever called `follow`.
    pub fn let_go(&self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }

    /// A lookup has ended.
    pub fn looked_up(&self, result: LookupResult) {
        self.lookups[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A lookup brought so many addresses more than are used.
    pub fn left_out(&self, addresses: usize) {
        self.left_out.fetch_add(addresses as u64, Ordering::Relaxed);
    }

    /// So many addresses are known, and every name was answered at `oldest` or later; none: one never
    /// was.
    pub fn known(&self, addresses: usize, oldest: Option<SystemTime>) {
        let since = oldest.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        self.addresses.store(addresses as u64, Ordering::Relaxed);
        self.answered.store(since.as_secs(), Ordering::Relaxed);
    }

    /// Lookups that ended so.
    pub fn lookups(&self, result: LookupResult) -> u64 {
        self.lookups[result as usize].load(Ordering::Relaxed)
    }
}

/// The families of names.
pub(super) fn encode(out: &mut Output, live: &Live) -> Result<(), Error> {
    let is_followed = |stats: &DnsStats| stats.followers.load(Ordering::Relaxed) > 0;
    let followed: Vec<(&str, &DnsStats)> = (live.upstreams.iter())
        .map(|upstream| (upstream.name(), &upstream.dns))
        .filter(|(_, stats)| is_followed(stats))
        .collect();
    let mut family = out.family(&families::DNS_LOOKUPS)?;
    for (name, stats) in &followed {
        for result in LookupResult::ALL {
            let labels = [("upstream", *name), ("result", result.name())];
            counter(&mut family, &labels, stats.lookups(result))?;
        }
    }
    let mut family = out.family(&families::DNS_ADDRESSES)?;
    for (name, stats) in &followed {
        gauge(&mut family, &[("upstream", *name)], stats.addresses.load(Ordering::Relaxed))?;
    }
    let mut family = out.family(&families::DNS_ADDRESSES_LEFT_OUT)?;
    for (name, stats) in &followed {
        counter(&mut family, &[("upstream", *name)], stats.left_out.load(Ordering::Relaxed))?;
    }
    let mut family = out.family(&families::DNS_ANSWERED)?;
    for (name, stats) in &followed {
        gauge(&mut family, &[("upstream", *name)], stats.answered.load(Ordering::Relaxed))?;
    }
    Ok(())
}
