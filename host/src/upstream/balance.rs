//! Which endpoint is next, among those in use: in turn, by the load that this worker puts on them, or
//! by a hash.
//!
//! In use are those that health checks and their answers have not ruled out. If fewer than half of the
//! healthy ones are left, so many outliers are none, and all healthy ones are used; one that is
//! unhealthy never is. An endpoint that has come, or come back, gets less than its share during
//! `slow_start`, a tenth at first; one with less weight than others gets less for good. A hash does not
//! know of either.

use super::load::Load;
use super::maglev::Maglev;
use super::outlier::{Answered, Judge};
use super::pool::Endpoint;
use super::state::{EndpointState, State};
use crate::clock;
use crate::config::{Balance, Policy};
use crate::dns::WEIGHT_EVEN;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The share of its share that an endpoint gets at first.
const WARMTH_MIN: f64 = 0.1;

/// Draws of an endpoint until its weight lets it be one; then it is the last that was drawn.
const DRAWS_MAX: usize = 16;

/// Chooses endpoints for one upstream of one generation, on one worker.
pub(super) struct Balancer {
    algorithm: Algorithm,
    members: Vec<Member>,
    /// Of a member, at least one.
    weight_max: u32,
    /// Milliseconds.
    slow_start: u64,
    judge: Option<Judge>,
    shared: Arc<State>,
    live: RefCell<Live>,
    next: Cell<usize>,
}

/// An endpoint as it stands in the file.
pub(super) struct Member {
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) state: Arc<EndpointState>,
    /// Its share, to [`WEIGHT_EVEN`].
    pub(super) weight: u32,
}

enum Algorithm {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Maglev(Maglev),
}

/// Who is in use, as far as this worker knows.
struct Live {
    epoch: u64,
    /// When an ejection ends.
    until: u64,
    members: Vec<usize>,
    is_live: Vec<bool>,
}

impl Balancer {
    pub(super) fn new(
        policy: &Policy,
        members: Vec<Member>,
        shared: Arc<State>,
        first: usize,
    ) -> Self {
        let addresses: Vec<SocketAddr> = members.iter().map(|it| it.endpoint.address()).collect();
        let states: Vec<Arc<EndpointState>> = members.iter().map(|it| it.state.clone()).collect();
        let judge = |settings| Judge::new(settings, shared.clone(), &states);
        Balancer {
            algorithm: match policy.balance {
                Balance::RoundRobin => Algorithm::RoundRobin,
                Balance::LeastRequest => Algorithm::LeastRequest,
                Balance::PeakEwma => Algorithm::PeakEwma,
                Balance::Maglev(_) => Algorithm::Maglev(Maglev::new(&addresses)),
            },
            weight_max: members.iter().map(|it| it.weight).max().unwrap_or(WEIGHT_EVEN).max(1),
            slow_start: u64::try_from(policy.slow_start.as_millis()).unwrap_or(u64::MAX),
            judge: policy.outlier.clone().map(judge),
            live: RefCell::new(Live {
                epoch: 0,
                until: 0,
                members: Vec::new(),
                is_live: vec![false; members.len()],
            }),
            members,
            shared,
            next: Cell::new(first),
        }
    }

    pub(super) fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// May an endpoint be chosen, as far as is known of it?
    pub(super) fn is_in_use(&self, at: usize) -> bool {
        let state = &self.members[at].state;
        state.is_healthy() && !state.is_ejected(self.shared.now())
    }

    /// Is there an endpoint in use beside these?
    pub(super) fn has_other(&self, tried: &[SocketAddr]) -> bool {
        self.refresh(self.shared.now());
        let live = self.live.borrow();
        live.members.iter().any(|at| !tried.contains(&self.members[*at].endpoint.address()))
    }

    /// The next endpoint: for `key` where a hash decides, and none of `tried` while there is another.
    /// None: none is in use.
    pub(super) fn pick(&self, key: u64, tried: &[SocketAddr]) -> Option<usize> {
        let now = self.shared.now();
        self.refresh(now);
        let live = self.live.borrow();
        if tried.is_empty() {
            return self.pick_of(&live.members, &live.is_live, key, now);
        }
        let is_untried = |at: &usize| !tried.contains(&self.members[*at].endpoint.address());
        let untried: Vec<usize> = live.members.iter().copied().filter(is_untried).collect();
        if untried.is_empty() {
            return self.pick_of(&live.members, &live.is_live, key, now);
        }
        let mut is_untried = vec![false; self.members.len()];
        untried.iter().for_each(|at| is_untried[*at] = true);
        self.pick_of(&untried, &is_untried, key, now)
    }

    fn pick_of(&self, members: &[usize], is_one: &[bool], key: u64, now: u64) -> Option<usize> {
        if members.len() < 2 {
            return members.first().copied();
        }
        Some(match &self.algorithm {
            Algorithm::RoundRobin => self.in_turn(members, now),
            Algorithm::LeastRequest => {
                self.better_of_two(members, now, |load| load.outstanding() as f64 + 1.0)
            }
            Algorithm::PeakEwma => {
                let instant = clock::recent().into();
                self.better_of_two(members, now, |load| load.cost(instant))
            }
            Algorithm::Maglev(table) => return table.pick(key, |at| is_one[at]),
        })
    }

    fn in_turn(&self, members: &[usize], now: u64) -> usize {
        let mut chosen = members[0];
        for _ in 0..members.len() {
            let nth = self.next.get();
            self.next.set(nth.wrapping_add(1));
            chosen = members[nth % members.len()];
            let share = self.weight(chosen) * self.warmth(chosen, now);
            if share >= 1.0 || rand::random::<f64>() < share {
                break;
            }
        }
        chosen
    }

    /// The one with the smaller cost of two that are drawn (Mitzenmacher, "The Power of Two Choices
    /// in Randomized Load Balancing", 2001). There are two.
    fn better_of_two(&self, members: &[usize], now: u64, cost: impl Fn(&Load) -> f64) -> usize {
        let first = self.draw(members, None);
        let second = self.draw(members, Some(first));
        let (first, second) = (members[first], members[second]);
        let cost_of = |at: usize| cost(&self.members[at].endpoint.load) / self.warmth(at, now);
        if cost_of(second) < cost_of(first) { second } else { first }
    }

    /// A place in `members` other than `drawn`, by weight; there is one.
    fn draw(&self, members: &[usize], drawn: Option<usize>) -> usize {
        let others = members.len() - usize::from(drawn.is_some());
        let mut at = 0;
        for _ in 0..DRAWS_MAX {
            at = rand::random_range(0..others);
            at += usize::from(drawn.is_some_and(|drawn| at >= drawn));
            let weight = self.weight(members[at]);
            if weight >= 1.0 || rand::random::<f64>() < weight {
                break;
            }
        }
        at
    }

    /// What an endpoint gets of what the one with the most weight gets, for its weight.
    fn weight(&self, at: usize) -> f64 {
        f64::from(self.members[at].weight) / f64::from(self.weight_max)
    }

    /// How much of its share an endpoint gets.
    fn warmth(&self, at: usize, now: u64) -> f64 {
        if self.slow_start == 0 {
            return 1.0;
        }
        let since = now.saturating_sub(self.members[at].state.since());
        (since as f64 / self.slow_start as f64).clamp(WARMTH_MIN, 1.0)
    }

    /// Looks again who is in use, if that may have changed.
    fn refresh(&self, now: u64) {
        let epoch = self.shared.epoch();
        let mut live = self.live.borrow_mut();
        if live.epoch == epoch && now < live.until {
            return;
        }
        let is_healthy = |at: &usize| self.members[*at].state.is_healthy();
        let is_ejected = |at: &usize| self.members[*at].state.is_ejected(now);
        let healthy: Vec<usize> = (0..self.members.len()).filter(is_healthy).collect();
        let left: Vec<usize> = healthy.iter().copied().filter(|at| !is_ejected(at)).collect();
        let ends = healthy.iter().filter(|at| is_ejected(at));
        let ends = ends.map(|at| self.members[*at].state.since()).min();
        live.members = if left.len() * 2 < healthy.len() { healthy } else { left };
        let mut is_live = vec![false; self.members.len()];
        live.members.iter().for_each(|at| is_live[*at] = true);
        (live.is_live, live.epoch, live.until) = (is_live, epoch, ends.unwrap_or(u64::MAX));
    }

    /// An endpoint had not answered after so long, when nobody waited any more.
    pub(super) fn outlasted(&self, at: usize, time: Duration) {
        if matches!(self.algorithm, Algorithm::PeakEwma) {
            self.members[at].endpoint.load.observe_at_least(time, clock::recent().into());
        }
    }

    /// An endpoint has answered, or `answered` says that it has not.
    pub(super) fn record(&self, at: usize, answered: Answered, time: Duration) {
        let member = &self.members[at];
        if matches!(self.algorithm, Algorithm::PeakEwma) {
            member.endpoint.load.observe(time, clock::recent().into());
        }
        if let Some(judge) = &self.judge {
            judge.record(&member.state, answered, self.shared.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Endpoints;
    use super::super::state::States;
    use super::*;
    use crate::config::Outlier;
    use crate::telemetry::Metrics;
    use std::time::UNIX_EPOCH;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Of `count` endpoints, the last `late` of which come a generation later than the others.
    fn balancer(policy: &Policy, count: u16, late: u16) -> Balancer {
        let stats = Metrics::new(1, UNIX_EPOCH).upstream("app");
        let addresses: Vec<SocketAddr> = (1..=count).map(address).collect();
        let first = &addresses[..usize::from(count - late)];
        let shared = States::default().of(&Arc::from("app"), first, &stats);
        let states = shared.take_up(&addresses, None);
        let endpoints = Endpoints::default();
        let members = addresses.iter().zip(states);
        let members = members.map(|(at, state)| Member {
            endpoint: endpoints.of(*at, None),
            state,
            weight: WEIGHT_EVEN,
        });
        Balancer::new(policy, members.collect(), shared, 0)
    }

    fn shares(balancer: &Balancer, picks: usize) -> Vec<usize> {
        let mut shares = vec![0; balancer.members.len()];
        for _ in 0..picks {
            shares[balancer.pick(0, &[]).unwrap()] += 1;
        }
        shares
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_comes_later_gets_its_share_by_and_by() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
            let slow_start = Duration::from_secs(30);
            let policy = Policy { balance: balance.clone(), slow_start, ..Policy::default() };
            let balancer = balancer(&policy, 3, 1);
            for member in &balancer.members {
                member.endpoint.load.observe(Duration::from_millis(1), tokio::time::Instant::now());
            }
            let at_first = shares(&balancer, 3_000)[2];
            assert!(at_first < 400, "{balance:?}: {at_first}");
            tokio::time::advance(slow_start - Duration::from_millis(1)).await;
            let almost = balancer.warmth(2, balancer.shared.now());
            assert!((0.99..1.0).contains(&almost), "{almost}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(balancer.warmth(2, balancer.shared.now()), 1.0);
            if balance == Balance::RoundRobin {
                assert_eq!(shares(&balancer, 3_000), [1_000; 3]);
            }
        }
    }

    #[tokio::test]
    async fn those_that_come_together_share_evenly_from_the_beginning() {
        let policy = Policy { slow_start: Duration::from_secs(30), ..Policy::default() };
        assert_eq!(shares(&balancer(&policy, 3, 0), 300), [100; 3]);
    }

    #[tokio::test]
    async fn weights_are_shares_but_for_a_hash() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
            let policy = Policy { balance: balance.clone(), ..Policy::default() };
            let mut balancer = balancer(&policy, 3, 0);
            for (member, weight) in balancer.members.iter_mut().zip([1_000, 3_000, 2_000]) {
                member.weight = weight;
            }
            balancer.weight_max = 3_000;
            // Of 6,000 picks 1,000, give or take ten times the standard deviation.
            let shares = shares(&balancer, 6_000);
            assert!((700..1_300).contains(&shares[0]), "{balance:?}: {shares:?}");
            assert!(shares[0] < shares[2] && shares[2] < shares[1], "{balance:?}: {shares:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn outliers_are_passed_over_until_more_than_half_are() {
        let policy = Policy { outlier: Some(Outlier::default()), ..Policy::default() };
        let balancer = balancer(&policy, 4, 0);
        for (ejected, expected) in
            [(0, vec![3; 4]), (1, vec![0, 4, 4, 4]), (2, vec![0, 0, 6, 6]), (3, vec![3; 4])]
        {
            let until = balancer.shared.now() + 1_000;
            for member in &balancer.members[..ejected] {
                member.state.ejected_until.store(until, std::sync::atomic::Ordering::Relaxed);
            }
            balancer.shared.changed();
            balancer.next.set(0);
            assert_eq!(shares(&balancer, 12), expected, "{ejected}");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(shares(&balancer, 12), [3; 4], "their time is over, and nobody said so");
    }

    #[tokio::test]
    async fn the_unhealthy_are_never_used() {
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
            let balancer = balancer(&Policy { balance, ..Policy::default() }, 3, 0);
            for (at, member) in balancer.members.iter().enumerate() {
                balancer.shared.set_healthy(&member.state, false);
                let used = (0..50).filter_map(|_| balancer.pick(0, &[])).min();
                assert_eq!(used, Some(at + 1).filter(|next| *next < 3));
            }
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_was_tried_is_passed_over_while_there_is_another() {
        for balance in [
            Balance::RoundRobin,
            Balance::LeastRequest,
            Balance::PeakEwma,
            Balance::Maglev(crate::config::HashKey::Client),
        ] {
            let balancer = balancer(&Policy { balance, ..Policy::default() }, 3, 0);
            for key in 0..50 {
                let two = [address(1), address(3)];
                assert_eq!(balancer.pick(key, &two), Some(1));
                assert_ne!(balancer.pick(key, &two[..1]), Some(0));
                let all = [address(1), address(2), address(3)];
                assert!(balancer.pick(key, &all).is_some());
            }
        }
    }

    #[tokio::test]
    async fn the_less_loaded_of_two_is_next() {
        let policy = Policy { balance: Balance::LeastRequest, ..Policy::default() };
        let balancer = balancer(&policy, 2, 0);
        balancer.members[0].endpoint.load.begin();
        assert_eq!(shares(&balancer, 100), [0, 100]);
        let load = balancer.members[1].endpoint.load.outstanding();
        assert_eq!(load, 0, "to choose is not yet to use");
    }
}
