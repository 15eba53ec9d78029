//! One request's use of an endpoint: counted while it lasts, and told how it was answered.

use super::balance::Balancer;
use super::outlier::Answered;
use super::state::Counted;
use crate::clock;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An endpoint in use for one attempt of a request; ends when it is dropped.
pub struct Lease {
    balancer: Rc<Balancer>,
    at: usize,
    began: Instant,
    /// What an attempt without an answer counts for, so that failing fast is no merit.
    penalty: Duration,
    reported: Cell<bool>,
    _outstanding: Option<Counted>,
}

impl Lease {
    pub(super) fn new(
        balancer: Rc<Balancer>,
        at: usize,
        penalty: Duration,
        outstanding: Option<Counted>,
    ) -> Self {
        balancer.member(at).endpoint.load.begin();
        Lease {
            balancer,
            at,
            began: clock::recent(),
            penalty,
            reported: Cell::new(false),
            _outstanding: outstanding,
        }
    }

    /// The head of the answer is there; `grpc`: its status of gRPC, where it has one.
    pub fn answered(&self, status: u16, grpc: Option<u8>) {
        self.report(Answered::of(status, grpc), self.time());
    }

    /// There is no answer, and it is the endpoint's fault. After an answer this says nothing new.
    pub fn failed(&self) {
        self.report(Answered::Gateway, self.time().max(self.penalty));
    }

    /// Another endpoint serves the attempt from its beginning on.
    pub(super) fn pass_on(&mut self, at: usize) {
        self.balancer.member(self.at).endpoint.load.end();
        self.balancer.member(at).endpoint.load.begin();
        (self.at, self.began) = (at, clock::recent());
        self.reported.set(false);
    }

    /// A kept connection was closed under the attempt, which says nothing of the endpoint.
    pub fn disregard(&self) {
        self.reported.set(true);
    }

    /// How long it has lasted.
    fn time(&self) -> Duration {
        clock::recent().saturating_duration_since(self.began)
    }

    fn report(&self, answered: Answered, time: Duration) {
        if !self.reported.replace(true) {
            self.balancer.record(self.at, answered, time);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Whoever gave up waiting has not seen how long it takes, but that it takes so long at least.
        if !self.reported.get() {
            self.balancer.outlasted(self.at, self.time());
        }
        self.balancer.member(self.at).endpoint.load.end();
    }
}
