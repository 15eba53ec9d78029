//! How many requests may be under way at once, and what becomes of those beyond: they wait a
//! little, in a bounded queue, or are turned away.
//!
//! Exact over all workers: one lock, taken where a request begins and ends, and only where a limit
//! is set. A limit outlives generations as long as they name it, so that requests of the one before
//! count too. `gradient` moves the limit by the times of answers. Knows no HTTP.

mod gradient;

use self::gradient::Gradient;
use crate::config;
use crate::telemetry::{Metrics, OverloadStats, Shed};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The limits that a request of a listener meets, the narrower one first.
#[derive(Clone, Default)]
pub struct Admission {
    /// That of the listener; none: it has none.
    pub listener: Option<Arc<Limiter>>,
    /// That of the process.
    pub process: Option<Arc<Limiter>>,
}

/// A request's places under the limits that it meets; given back when it is dropped.
#[derive(Default)]
pub struct Places {
    places: [Option<Place>; 2],
    since: Option<Instant>,
}

impl Admission {
    /// Is there no limit that a request would meet?
    pub fn is_free(&self) -> bool {
        self.listener.is_none() && self.process.is_none()
    }

    /// Lets a request in, at once or after a wait.
    ///
    /// # Errors
    /// It is to be turned away.
    ///
    /// # Cancel safety
    /// A request that is dropped while it waits has left the queue.
    pub async fn enter(&self) -> Result<Places, Shed> {
        let mut places = Places::default();
        let limiters = [&self.listener, &self.process];
        for (place, limiter) in places.places.iter_mut().zip(limiters) {
            if let Some(limiter) = limiter {
                *place = Some(limiter.enter().await?);
                places.since = Some(Instant::now());
            }
        }
        Ok(places)
    }
}

impl Places {
    /// The answer's head came at this time, or was given up: what adaptive limits go by.
    pub fn answered(&self, at: Instant) {
        if let Some(since) = self.since {
            for place in self.places.iter().flatten() {
                place.time.set(Some(at.saturating_duration_since(since)));
            }
        }
    }
}

/// One limit.
pub struct Limiter {
    stats: Arc<OverloadStats>,
    state: Mutex<State>,
}

struct State {
    policy: config::Overload,
    /// None: the limit stands still.
    gradient: Option<Gradient>,
    limit: usize,
    running: usize,
    /// In the order in which they came.
    queue: VecDeque<Waiting>,
    number: u64,
}

/// A request in the queue.
struct Waiting {
    number: u64,
    /// Told when it has got a place, which is counted already.
    admitted: oneshot::Sender<()>,
}

impl Limiter {
    fn new(policy: &config::Overload, stats: Arc<OverloadStats>) -> Arc<Self> {
        let (gradient, limit) = adaptive(policy, None);
        let state = State {
            policy: policy.clone(),
            gradient,
            limit,
            running: 0,
            queue: VecDeque::new(),
            number: 0,
        };
        state.show(&stats);
        Arc::new(Limiter { stats, state: Mutex::new(state) })
    }

    /// Holds the limit to another policy from now on.
    fn follow(&self, policy: &config::Overload) {
        let mut state = self.lock();
        if state.policy != *policy {
            let before = state.gradient.as_ref().map(|_| state.limit);
            (state.gradient, state.limit) = adaptive(policy, before);
            state.policy = policy.clone();
            state.admit();
            state.show(&self.stats);
        }
    }

    async fn enter(self: &Arc<Self>) -> Result<Place, Shed> {
        let (mut wait, timeout) = {
            let mut state = self.lock();
            if state.running < state.limit {
                state.running += 1;
                state.show(&self.stats);
                return Ok(Place { limiter: self.clone(), time: Cell::default() });
            }
            if state.queue.len() >= state.policy.queue_max {
                self.stats.shed(Shed::QueueFull);
                return Err(Shed::QueueFull);
            }
            let (admitted, told) = oneshot::channel();
            let number = state.number;
            state.number += 1;
            state.queue.push_back(Waiting { number, admitted });
            state.show(&self.stats);
            (Wait { limiter: self, number, told: Some(told) }, state.policy.queue_timeout)
        };
        match tokio::time::timeout(timeout, wait.admitted()).await {
            Ok(()) => Ok(Place { limiter: self.clone(), time: Cell::default() }),
            Err(_) => {
                self.stats.shed(Shed::QueueTimeout);
                Err(Shed::QueueTimeout)
            }
        }
    }

    /// A request is over. `time`: of its answer, if that says anything.
    fn leave(&self, time: Option<Duration>) {
        let mut state = self.lock();
        let running = state.running;
        state.running -= 1;
        if let (Some(time), Some(gradient)) = (time, &mut state.gradient)
            && let Some(limit) = gradient.sample(Instant::now(), time, running)
        {
            state.limit = limit;
        }
        state.admit();
        state.show(&self.stats);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What moves the limit, if anything does, and the limit that holds at first: close to that
/// `before`.
fn adaptive(policy: &config::Overload, before: Option<usize>) -> (Option<Gradient>, usize) {
    if !policy.adaptive {
        return (None, policy.requests_max);
    }
    let gradient = Gradient::new(policy.requests_min, policy.requests_max, before);
    let limit = gradient.limit();
    (Some(gradient), limit)
}

impl State {
    /// Gives the places that are free to those who wait.
    fn admit(&mut self) {
        while self.running < self.limit
            && let Some(waiting) = self.queue.pop_front()
        {
            self.running += 1;
            // Who leaves the queue takes itself out of it, under this lock: somebody is there.
            let _ = waiting.admitted.send(());
        }
    }

    fn show(&self, stats: &OverloadStats) {
        stats.set(self.limit, self.running, self.queue.len());
    }
}

/// A place of a request under one limit.
struct Place {
    limiter: Arc<Limiter>,
    time: Cell<Option<Duration>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limiter.leave(self.time.get());
    }
}

/// A place in the queue; left when it is dropped.
struct Wait<'l> {
    limiter: &'l Limiter,
    number: u64,
    /// None: it was admitted, and the place is somebody else's to give back.
    told: Option<oneshot::Receiver<()>>,
}

impl Wait<'_> {
    async fn admitted(&mut self) {
        if let Some(told) = &mut self.told {
            // Its other end stays in the queue until it is told.
            let _ = told.await;
            self.told = None;
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.told.is_none() {
            return;
        }
        let mut state = self.limiter.lock();
        let place = state.queue.iter().position(|waiting| waiting.number == self.number);
        match place {
            Some(place) => {
                state.queue.remove(place);
                state.show(&self.limiter.stats);
            }
            // Admitted, and not told before it left.
            None => {
                drop(state);
                self.limiter.leave(None);
            }
        }
    }
}

/// The limits that generations name.
#[derive(Default)]
pub struct Limiters {
    known: Mutex<Vec<(String, Weak<Limiter>)>>,
}

impl Limiters {
    /// The limit of `scope` under `policy`; none without one. The same one as before, where some
    /// generation still has it.
    pub fn of(
        &self,
        scope: &str,
        policy: Option<&config::Overload>,
        metrics: &Metrics,
    ) -> Option<Arc<Limiter>> {
        let policy = policy?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, limiter)| limiter.strong_count() > 0);
        let same = known.iter().find(|(name, _)| name == scope);
        if let Some(limiter) = same.and_then(|(_, limiter)| limiter.upgrade()) {
            limiter.follow(policy);
            return Some(limiter);
        }
        let limiter = Limiter::new(policy, metrics.overload(scope));
        known.push((scope.to_owned(), Arc::downgrade(&limiter)));
        Some(limiter)
    }
}

#[cfg(test)]
mod tests;
