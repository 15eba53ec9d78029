//! Names of endpoints as addresses, for as long as some generation has them: looked up again and again
//! on a thread of its own, which begins with the first such name.
//!
//! [`Addresses`] is what others see of it: the addresses of one upstream now, which workers follow with
//! a look at a number. `names` looks up in time, `resolver` is the only one to know the wire and the
//! library, `records` and `pace` are rules without I/O. Knows no connections and no requests.

mod names;
mod pace;
mod records;
mod resolver;

pub use names::{LOOKUPS_MAX, Names};
pub use records::WEIGHT_EVEN;
pub use resolver::{RESOLV_CONF_BYTES_MAX, TARGETS_AT_ONCE};

use self::records::{Found, merged};
use self::resolver::Failure;
use crate::config::{Dns, ENDPOINTS_MAX, Endpoint, Lookup};
use crate::telemetry::{LookupResult, UpstreamStats};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// Addresses that a log line names; of more it tells how many.
const SHOWN_MAX: usize = 8;

/// The addresses of one upstream.
#[derive(Debug)]
pub struct Addresses {
    /// That of the list.
    version: AtomicU64,
    list: Mutex<Arc<List>>,
    /// None: they are what they are.
    followed: Option<Box<Followed>>,
}

/// The addresses of one upstream at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Grows with each change.
    pub version: u64,
    /// Each address once, in the order of the file.
    pub places: Vec<Place>,
    /// Why there are none, where names are followed.
    pub missing: Option<Missing>,
}

/// An address, and what it is to its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub address: SocketAddr,
    /// Its share, to [`WEIGHT_EVEN`].
    pub weight: u32,
    /// The entry of `endpoints` whose name it was found under. None: it was not, so that nothing stands
    /// in for it.
    pub name: Option<usize>,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It has none, or name servers failed.
    NotFound,
    /// Name servers did not answer in time, or not yet.
    TimedOut,
}

/// What is known of names that are followed.
#[derive(Debug)]
struct Followed {
    upstream: Arc<str>,
    endpoints: Vec<Endpoint>,
    dns: Dns,
    stats: Arc<UpstreamStats>,
    slots: Mutex<Vec<Slot>>,
    /// Told when a name was looked up for the first time.
    first: Condvar,
    changed: watch::Sender<u64>,
    /// Told when all names are to be looked up at once.
    refresh: Arc<Notify>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What is known of one entry of `endpoints`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// With weights.
    places: Vec<(SocketAddr, u32)>,
    /// None where there are places.
    missing: Option<Missing>,
    /// The latest answer.
    answered: Option<SystemTime>,
    /// There was a first lookup, or none is needed.
    looked_up: bool,
    /// How many were too many in the latest answer.
    left_out: usize,
}

impl Addresses {
    /// Those that never change.
    pub fn fixed(addresses: &[SocketAddr]) -> Arc<Self> {
        let place =
            |address: &SocketAddr| Place { address: *address, weight: WEIGHT_EVEN, name: None };
        let places = addresses.iter().map(place).collect();
        let list = List { version: 0, places, missing: None };
        Arc::new(Addresses {
            version: AtomicU64::new(0),
            list: Mutex::new(Arc::new(list)),
            followed: None,
        })
    }

    /// Do they change while a generation is in force?
    pub fn is_followed(&self) -> bool {
        self.followed.is_some()
    }

    /// The version of the list at this moment, or one that was a moment ago.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The list.
    pub fn list(&self) -> Arc<List> {
        lock(&self.list).clone()
    }

    /// Tells of every change from now on; none: there is none.
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.followed.as_ref().map(|followed| followed.changed.subscribe())
    }

    /// Were they made of the same?
    pub fn is_of(&self, endpoints: &[Endpoint], dns: &Dns) -> bool {
        let is_it = |it: &Followed| it.endpoints == endpoints && it.dns == *dns;
        self.followed.as_deref().is_some_and(is_it)
    }

    /// The addresses of those entries that are not followed, by their places; names that are followed
    /// are looked up at once.
    pub fn renew(&self, fixed: &[Vec<SocketAddr>]) {
        let Some(followed) = &self.followed else { return };
        let mut slots = lock(&followed.slots);
        for ((slot, endpoint), fixed) in slots.iter_mut().zip(&followed.endpoints).zip(fixed) {
            if !endpoint.is_followed() {
                slot.places = fixed.iter().map(|address| (*address, WEIGHT_EVEN)).collect();
            }
        }
        self.publish(followed, &slots);
        followed.refresh.notify_waiters();
    }

    /// Waits until every name was looked up once, or until `end`.
    pub fn wait_for_first(&self, end: Instant) {
        let Some(followed) = &self.followed else { return };
        let mut slots = lock(&followed.slots);
        while slots.iter().any(|slot| !slot.looked_up) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = followed.first.wait_timeout(slots, left);
            slots = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn followed(
        upstream: Arc<str>,
        endpoints: &[Endpoint],
        dns: &Dns,
        stats: Arc<UpstreamStats>,
    ) -> Arc<Self> {
        let slot = |endpoint: &Endpoint| Slot {
            looked_up: !endpoint.is_followed(),
            missing: endpoint.is_followed().then_some(Missing::TimedOut),
            ..Slot::default()
        };
        stats.dns.follow();
        let list = List { missing: Some(Missing::TimedOut), ..List::default() };
        Arc::new(Addresses {
            version: AtomicU64::new(0),
            list: Mutex::new(Arc::new(list)),
            followed: Some(Box::new(Followed {
                upstream,
                endpoints: endpoints.to_vec(),
                dns: dns.clone(),
                stats,
                slots: Mutex::new(endpoints.iter().map(slot).collect()),
                first: Condvar::new(),
                changed: watch::Sender::new(0),
                refresh: Arc::default(),
                tasks: Mutex::default(),
            })),
        })
    }

    /// Takes down what a lookup of the entry at `at` brought; `failures`: in a row. When the next one is
    /// due.
    fn take(&self, at: usize, found: Result<Found, Failure>, failures: &mut u32) -> Duration {
        let Some(followed) = &self.followed else { return Duration::MAX };
        let Followed { endpoints, dns, stats, .. } = &**followed;
        let mut slots = lock(&followed.slots);
        let (Some(slot), Some(endpoint)) = (slots.get_mut(at), endpoints.get(at)) else {
            return Duration::MAX;
        };
        slot.looked_up = true;
        let pause = match found {
            Ok(found) => {
                stats.dns.looked_up(found.result());
                stats.dns.left_out(found.left_out);
                if found.left_out > 0 && found.left_out != slot.left_out {
                    tracing::warn!(
                        upstream = &*followed.upstream, %endpoint, left_out = found.left_out,
                        used = found.places.len(),
                        "a name has more addresses than `dns.limits.addresses_max`"
                    );
                }
                let certain = found.result() == LookupResult::Answered;
                *failures = if certain { 0 } else { failures.saturating_add(1) };
                let ttl = pace::clamped(found.ttl, &dns.limits);
                slot.left_out = found.left_out;
                slot.places = found.with_kept(&slot.places);
                slot.missing = None;
                slot.answered = Some(SystemTime::now());
                if certain { ttl } else { ttl.min(pace::pause(*failures, &dns.limits)) }
            }
            Err(Failure { result, detail }) => {
                stats.dns.looked_up(result);
                *failures = failures.saturating_add(1);
                if slot.places.is_empty() {
                    slot.missing = Some(match result {
                        LookupResult::Timeout => Missing::TimedOut,
                        _ => Missing::NotFound,
                    });
                }
                tracing::warn!(
                    upstream = &*followed.upstream, %endpoint, result = result.name(), error = detail,
                    kept = slot.places.len(),
                    "a name could not be looked up; addresses that are known of it stay in use"
                );
                pace::pause(*failures, &dns.limits)
            }
        };
        self.publish(followed, &slots);
        followed.first.notify_all();
        pause
    }

    /// Makes a list of `slots`, whose lock is held, and tells of it if it is another one.
    fn publish(&self, followed: &Followed, slots: &[Slot]) {
        let Followed { upstream, endpoints, stats, changed, .. } = followed;
        let (mut places, missing) = merged(slots, endpoints);
        let beyond = places.len().saturating_sub(ENDPOINTS_MAX);
        places.truncate(ENDPOINTS_MAX);
        let of_names = slots.iter().zip(endpoints).filter(|(_, endpoint)| endpoint.is_followed());
        let oldest = of_names.map(|(slot, _)| slot.answered).min().flatten();
        stats.dns.known(places.len(), oldest);
        let before = self.list();
        if before.places == places && before.missing == missing {
            return;
        }
        if beyond > 0 {
            stats.dns.left_out(beyond);
            tracing::warn!(
                upstream = &**upstream,
                left_out = beyond,
                used = places.len(),
                "the names of an upstream have more addresses together than it may have endpoints"
            );
        }
        let only = |these: &[Place], those: &[Place]| -> Vec<SocketAddr> {
            let is_new = |it: &&Place| !those.iter().any(|other| other.address == it.address);
            these.iter().filter(is_new).map(|place| place.address).collect()
        };
        let (came, went) = (only(&places, &before.places), only(&before.places, &places));
        if !(came.is_empty() && went.is_empty()) {
            tracing::info!(
                upstream = &**upstream,
                came = shown(&came),
                went = shown(&went),
                now = places.len(),
                "the endpoints of an upstream have changed"
            );
        }
        let version = before.version + 1;
        *lock(&self.list) = Arc::new(List { version, places, missing });
        self.version.store(version, Ordering::Relaxed);
        changed.send_replace(version);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        lock(&self.tasks).iter().for_each(AbortHandle::abort);
        self.stats.dns.let_go();
    }
}

fn shown(addresses: &[SocketAddr]) -> String {
    let mut text: Vec<String> = addresses.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if addresses.len() > SHOWN_MAX {
        text.push(format!("and {} more", addresses.len() - SHOWN_MAX));
    }
    text.join(", ")
}

/// The lock in spite of a panic elsewhere: what these locks guard is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
