//! Which endpoint is next, among those in use: in turn, by the load that this worker puts on them, or
//! by a hash.
//!
//! In use are those that health checks and their answers have not ruled out. If fewer than half of the
//! healthy ones are left, so many outliers are none, and all healthy ones are used; one that is
//! unhealthy never is. An endpoint that has come, or come back, gets less than its share during
//! `slow_start`, a tenth at first; a hash does not know of that.

use super::load::Load;
use super::maglev::Maglev;
use super::outlier::{Answered, Judge};
use super::pool::Endpoint;
use super::state::{EndpointState, State};
use crate::config::{Balance, Policy};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The share of its share that an endpoint gets at first.
const WARMTH_MIN: f64 = 0.1;

/// Chooses endpoints for one upstream of one generation, on one worker.
pub(super) struct Balancer {
    algorithm: Algorithm,
    members: Vec<Member>,
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
                let instant = Instant::now();
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
            let warmth = self.warmth(chosen, now);
            if warmth >= 1.0 || rand::random::<f64>() < warmth {
                break;
            }
        }
        chosen
    }

    /// The one with the smaller cost of two that are drawn (Mitzenmacher, "The Power of Two Choices
    /// in Randomized Load Balancing", 2001). There are two.
    fn better_of_two(&self, members: &[usize], now: u64, cost: impl Fn(&Load) -> f64) -> usize {
        let first = rand::random_range(0..members.len());
        let second = rand::random_range(0..members.len() - 1);
        let second = if second >= first { second + 1 } else { second };
        let (first, second) = (members[first], members[second]);
        let cost_of = |at: usize| cost(&self.members[at].endpoint.load) / self.warmth(at, now);
        if cost_of(second) < cost_of(first) { second } else { first }
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

    /// An endpoint has answered, or `answered` says that it has not.
    pub(super) fn record(&self, at: usize, answered: Answered, time: Duration) {
        let member = &self.members[at];
        if matches!(self.algorithm, Algorithm::PeakEwma) {
            member.endpoint.load.observe(time, Instant::now());
        }
        if let Some(judge) = &self.judge {
            judge.record(&member.state, answered, self.shared.now());
        }
    }
}
