//! What the workers share of an upstream: who of its endpoints is out of use, how much is under way,
//! and what may be repeated. Outlives generations that keep the upstream's name.
//!
//! Numbers and flags that workers read and write without a lock; a lock is held only to put an
//! endpoint out of use, to take from the budget, and when a generation is taken up.

use super::budget::Budget;
use crate::clock;
use crate::config::RetryBudget;
use crate::telemetry::guard_stats::{EndpointShown, EndpointUse, ShowGuards};
use crate::telemetry::{Guard, UpstreamStats};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::time::Instant;

/// Milliseconds that the clock of a state starts with, so that 0 is long ago.
const START: u64 = 1 << 40;

/// The states of all upstreams, by name.
#[derive(Debug, Default)]
pub struct States {
    known: Mutex<Vec<Weak<State>>>,
}

impl States {
    /// The state of the upstream called `name`: the same as long as some generation has it.
    pub fn of(
        &self,
        name: &Arc<str>,
        addresses: &[SocketAddr],
        stats: &Arc<UpstreamStats>,
    ) -> Arc<State> {
        let mut known = lock(&self.known);
        known.retain(|state| state.strong_count() > 0);
        let there = known.iter().filter_map(Weak::upgrade).find(|state| state.name == *name);
        there.unwrap_or_else(|| {
            let state = Arc::new(State::new(name.clone(), addresses, stats.clone()));
            known.push(Arc::downgrade(&state));
            stats.guards.show(Arc::downgrade(&state) as Weak<dyn ShowGuards>);
            state
        })
    }
}

/// What the workers share of one upstream.
#[derive(Debug)]
pub struct State {
    name: Arc<str>,
    stats: Arc<UpstreamStats>,
    started: Instant,
    /// Grows whenever an endpoint goes out of use or comes back before its time.
    epoch: AtomicU64,
    endpoints: Mutex<Vec<Arc<EndpointState>>>,
    /// Held while it is decided who goes out of use.
    pub(super) judging: Mutex<()>,
    /// When the interval of the success rates ends.
    pub(super) interval_end: AtomicU64,
    counts: [Arc<Count>; Guard::ALL.len()],
    pub(super) budget: Budget,
    /// Of the generation taken up last; none: nothing is repeated.
    settings: Mutex<Option<RetryBudget>>,
}

/// What the workers know together of one endpoint of an upstream.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) address: SocketAddr,
    /// Since when it may be used, as far as health checks go.
    since: AtomicU64,
    unhealthy: AtomicBool,
    checked: AtomicBool,
    /// 0: it never was.
    pub(super) ejected_until: AtomicU64,
    /// Ejections that are remembered.
    pub(super) ejections: AtomicU32,
    pub(super) consecutive_5xx: AtomicU32,
    pub(super) consecutive_gateway: AtomicU32,
    /// Within the interval.
    pub(super) answers: AtomicU32,
    pub(super) good_answers: AtomicU32,
}

impl State {
    /// Of an upstream that no configuration names: nobody else has it, and it is not shown.
    pub fn alone(name: Arc<str>, addresses: &[SocketAddr], stats: Arc<UpstreamStats>) -> Arc<Self> {
        Arc::new(State::new(name, addresses, stats))
    }

    fn new(name: Arc<str>, addresses: &[SocketAddr], stats: Arc<UpstreamStats>) -> Self {
        // They come together, so that none of them starts slowly.
        let mut endpoints: Vec<Arc<EndpointState>> = Vec::new();
        for address in addresses {
            if !endpoints.iter().any(|known| known.address == *address) {
                endpoints.push(Arc::new(EndpointState::new(*address, 0)));
            }
        }
        State {
            name,
            stats,
            started: Instant::now(),
            epoch: AtomicU64::new(1),
            endpoints: Mutex::new(endpoints),
            judging: Mutex::default(),
            interval_end: AtomicU64::new(0),
            counts: Default::default(),
            budget: Budget::default(),
            settings: Mutex::default(),
        }
    }

    /// Takes up a generation: what is known of its endpoints, in their order. What is known of others
    /// is forgotten once no generation uses it.
    pub(super) fn take_up(
        &self,
        addresses: &[SocketAddr],
        settings: Option<&RetryBudget>,
    ) -> Vec<Arc<EndpointState>> {
        *lock(&self.settings) = settings.cloned();
        let mut endpoints = lock(&self.endpoints);
        endpoints
            .retain(|known| addresses.contains(&known.address) || Arc::strong_count(known) > 1);
        // Those that come together, with no other before them, do not start slowly.
        let since = if endpoints.is_empty() { 0 } else { self.now() };
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let known = endpoints.iter().find(|known| known.address == *address).cloned();
            all.push(known.unwrap_or_else(|| {
                let new = Arc::new(EndpointState::new(*address, since));
                endpoints.push(new.clone());
                new
            }));
        }
        all
    }

    /// Milliseconds on a clock that all workers share.
    pub(super) fn now(&self) -> u64 {
        let now = Instant::from(clock::recent());
        let since = now.saturating_duration_since(self.started);
        START + u64::try_from(since.as_millis()).unwrap_or(START)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn stats(&self) -> &UpstreamStats {
        &self.stats
    }

    /// What a breaker bounds.
    pub(super) fn count(&self, guard: Guard) -> &Arc<Count> {
        &self.counts[guard as usize]
    }

    /// A number that changes when who is in use does, other than by the end of an ejection.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Who is in use has changed.
    pub(super) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// What health checks have decided.
    pub(super) fn set_healthy(&self, endpoint: &EndpointState, healthy: bool) {
        endpoint.checked.store(true, Ordering::Relaxed);
        if endpoint.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy {
            if healthy {
                endpoint.since.store(self.now(), Ordering::Relaxed);
            }
            self.changed();
        }
    }
}

impl EndpointState {
    fn new(address: SocketAddr, since: u64) -> Self {
        EndpointState {
            address,
            since: AtomicU64::new(since),
            unhealthy: AtomicBool::new(false),
            checked: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway: AtomicU32::new(0),
            answers: AtomicU32::new(0),
            good_answers: AtomicU32::new(0),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Have health checks ever decided?
    pub(super) fn was_checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Since when it is in use, if it is.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed).max(self.ejected_until.load(Ordering::Relaxed))
    }
}

impl ShowGuards for State {
    fn endpoints(&self) -> Vec<EndpointShown> {
        let now = self.now();
        let endpoints = lock(&self.endpoints);
        let used = |endpoint: &&Arc<EndpointState>| Arc::strong_count(endpoint) > 1;
        endpoints
            .iter()
            .filter(used)
            .map(|endpoint| EndpointShown {
                address: endpoint.address,
                state: if !endpoint.is_healthy() {
                    EndpointUse::Unhealthy
                } else if endpoint.is_ejected(now) {
                    EndpointUse::Ejected
                } else {
                    EndpointUse::Available
                },
            })
            .collect()
    }

    fn under_way(&self, guard: Guard) -> u64 {
        self.count(guard).0.load(Ordering::Relaxed) as u64
    }

    fn budget_left(&self) -> Option<u64> {
        let settings = lock(&self.settings);
        settings.as_ref().map(|settings| self.budget.left(settings, self.now()))
    }
}

/// How many of something are under way, over all workers. Exact.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

/// One of them.
#[derive(Debug)]
pub struct Counted(Arc<Count>);

impl Count {
    /// One more, if there are fewer than `max`.
    pub(super) fn enter(self: &Arc<Self>, max: usize) -> Option<Counted> {
        let more = |count| if count < max { Some(count + 1) } else { None };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Counted(self.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::time::UNIX_EPOCH;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn no_more_are_under_way_than_there_may_be() {
        let count = Arc::<Count>::default();
        let first = count.enter(2).unwrap();
        let _second = count.enter(2).unwrap();
        assert!(count.enter(2).is_none());
        drop(first);
        assert!(count.enter(2).is_some());
        assert!(count.enter(1).is_none(), "a generation with a lower bound counts the same ones");
    }

    #[test]
    fn what_is_known_outlives_a_generation_and_goes_with_the_last() {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let (states, name) = (States::default(), Arc::from("app"));
        let state = states.of(&name, &[address(1), address(2)], &stats);
        let before = state.take_up(&[address(1), address(2)], None);
        state.set_healthy(&before[0], false);
        let again = states.of(&name, &[address(3)], &stats);
        assert!(Arc::ptr_eq(&state, &again));
        let after = again.take_up(&[address(3), address(1)], None);
        assert!(Arc::ptr_eq(&before[0], &after[1]) && !after[1].is_healthy());
        assert_eq!(before[1].since(), 0, "the first ones come together");
        assert!(after[0].since() >= START, "this one comes later");
        drop(before);
        let last = again.take_up(&[address(3)], None);
        assert_eq!((last.len(), lock(&again.endpoints).len()), (1, 2), "the generation before");
        drop(after);
        again.take_up(&[address(3)], None);
        assert_eq!(lock(&again.endpoints).len(), 1);
    }

    #[test]
    fn the_first_ones_come_together_also_when_they_come_late() {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let state = State::alone("app".into(), &[], stats);
        let since = |all: &[Arc<EndpointState>]| -> Vec<bool> {
            all.iter().map(|it| it.since() >= START).collect()
        };
        let first = state.take_up(&[address(1), address(2)], None);
        assert_eq!(since(&first), [false, false]);
        let second = state.take_up(&[address(1), address(3)], None);
        assert_eq!(since(&second), [false, true]);
    }

    #[test]
    fn a_change_of_health_is_seen_once() {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let state = States::default().of(&Arc::from("app"), &[address(1)], &stats);
        let endpoint = &state.take_up(&[address(1)], None)[0];
        let before = state.epoch();
        state.set_healthy(endpoint, true);
        assert_eq!(state.epoch(), before);
        state.set_healthy(endpoint, false);
        assert_eq!((state.epoch(), endpoint.is_healthy()), (before + 1, false));
        state.set_healthy(endpoint, true);
        assert_eq!(state.epoch(), before + 2);
        assert!(endpoint.since() >= START, "it starts slowly");
    }
}
