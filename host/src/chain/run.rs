//! The passes over heads and trailers: request hooks in order, response hooks in reverse, and what a
//! failure or a local response does to them.

use super::exchange::{Exchange, Phase};
use super::filter::{
    FailPolicy, Failure, Filter, HeadDecision, Hook, Hooks, LocalResponse, Outcome,
};
use crate::http::Fields;
use std::rc::Rc;

/// Filters of one chain; a [`Members`] has room for them. The configuration refuses more.
pub const CHAIN_FILTERS_MAX: usize = 32;

/// The filters of a route, in file order, on one worker.
#[derive(Clone, Default)]
pub struct Chain {
    filters: Vec<Rc<dyn Filter>>,
    /// Of each filter: asked for once.
    hooks: Vec<Hooks>,
    /// Of all of them.
    union: Hooks,
}

/// A set of filters of one chain, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members(u32);

impl Members {
    /// Is the filter at `index` one of them?
    pub fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// Takes it in.
    pub fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Is one of them also one of `others`?
    pub fn meets(self, others: Members) -> bool {
        self.0 & others.0 != 0
    }

    /// None at all?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<usize> for Members {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut members = Members::default();
        indexes.into_iter().for_each(|index| members.insert(index));
        members
    }
}

/// Where one exchange stands in its chain.
#[derive(Debug, Default)]
pub struct Progress {
    /// Filters `0..saw_request` were called with the request.
    pub saw_request: usize,
    /// Filters `0..sees_response` take part in the response that is on its way.
    pub sees_response: usize,
    /// Filters that failed, whatever their policy.
    pub failed: Members,
    /// Filters that failed with policy `open`, and are no longer in this exchange.
    pub out: Members,
    /// Filters that do not want the body of the request.
    pub skips_request_body: Members,
    /// Filters that do not want the body of the response.
    pub skips_response_body: Members,
    /// Filters that keep a head back until their body hook releases it. Emptied between the request
    /// and the response.
    pub waits: Members,
}

/// What a pass over a head came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every filter let it through.
    Proceed,
    /// A filter answers.
    Respond(LocalResponse),
    /// A filter failed, and its policy is `closed`.
    Failed,
}

impl Chain {
    /// A chain of these filters; at most [`CHAIN_FILTERS_MAX`], which the configuration checks.
    pub fn new(filters: Vec<Rc<dyn Filter>>) -> Self {
        assert!(filters.len() <= CHAIN_FILTERS_MAX, "the configuration bounds a chain");
        let hooks: Vec<Hooks> = filters.iter().map(|filter| filter.hooks()).collect();
        let union = hooks.iter().fold(Hooks::default(), |all, hooks| all.union(*hooks));
        Chain { filters, hooks, union }
    }

    /// The filter at `index`.
    pub fn filter(&self, index: usize) -> &dyn Filter {
        &*self.filters[index]
    }

    /// Number of filters.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// No filters?
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Does any filter have this hook?
    pub fn has(&self, hook: Hook) -> bool {
        self.union.has(hook)
    }

    /// Runs the request hooks in file order. The first response or closed failure ends the pass.
    pub fn request_head(&self, exchange: &mut Box<Exchange>, progress: &mut Progress) -> Verdict {
        exchange.lap = None;
        for (index, filter) in self.filters.iter().enumerate() {
            progress.saw_request = index + 1;
            progress.sees_response = index;
            if self.hooks[index].has(Hook::OnRequest) {
                let decision = call(exchange, index, Phase::RequestHead, |e| filter.on_request(e));
                match self.settle(index, decision, progress) {
                    Step::Next(HeadDecision::Proceed) | Step::Out => {}
                    Step::Next(HeadDecision::SkipBody) => progress.skips_request_body.insert(index),
                    Step::Next(HeadDecision::WaitForBody) => progress.waits.insert(index),
                    Step::Next(HeadDecision::Respond(response)) => {
                        return Verdict::Respond(*response);
                    }
                    Step::Failed => return Verdict::Failed,
                }
            }
        }
        progress.sees_response = self.filters.len();
        Verdict::Proceed
    }

    /// Runs the response hooks in reverse, over the filters that take part. A response or a closed
    /// failure ends the pass: call again with the new head, for the filters before that one.
    pub fn response_head(&self, exchange: &mut Box<Exchange>, progress: &mut Progress) -> Verdict {
        progress.waits = Members::default();
        exchange.lap = None;
        for index in (0..progress.sees_response).rev() {
            let filter = &self.filters[index];
            if progress.out.has(index) || !self.hooks[index].has(Hook::OnResponse) {
                continue;
            }
            let decision = call(exchange, index, Phase::ResponseHead, |e| filter.on_response(e));
            match self.settle(index, decision, progress) {
                Step::Next(HeadDecision::Proceed) | Step::Out => {}
                Step::Next(HeadDecision::SkipBody) => progress.skips_response_body.insert(index),
                Step::Next(HeadDecision::WaitForBody) => progress.waits.insert(index),
                Step::Next(HeadDecision::Respond(response)) => {
                    progress.sees_response = index;
                    return Verdict::Respond(*response);
                }
                Step::Failed => {
                    progress.sees_response = index;
                    return Verdict::Failed;
                }
            }
        }
        Verdict::Proceed
    }

    /// Runs the request trailer hooks in file order. `Err`: a filter failed closed; those before it
    /// take part in the reply to that.
    pub fn request_trailers(
        &self,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        trailers: Fields,
    ) -> Result<Fields, ClosedFailure> {
        if !self.has(Hook::OnRequestTrailers) {
            return Ok(trailers);
        }
        exchange.trailers = trailers;
        exchange.lap = None;
        for index in 0..progress.saw_request {
            self.trailer_hook(exchange, progress, index, Hook::OnRequestTrailers)?;
        }
        Ok(std::mem::take(&mut exchange.trailers))
    }

    /// Runs the response trailer hooks in reverse. `Err`: a filter failed closed.
    pub fn response_trailers(
        &self,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        trailers: Fields,
    ) -> Result<Fields, ClosedFailure> {
        if !self.has(Hook::OnResponseTrailers) {
            return Ok(trailers);
        }
        exchange.trailers = trailers;
        exchange.lap = None;
        for index in (0..progress.sees_response).rev() {
            self.trailer_hook(exchange, progress, index, Hook::OnResponseTrailers)?;
        }
        Ok(std::mem::take(&mut exchange.trailers))
    }

    /// Tells every filter that saw the request how the exchange ended. A failure here changes
    /// nothing any more; the filter has logged and counted it. Returned are all that failed in this
    /// exchange, then or before.
    pub fn complete(
        &self,
        exchange: &mut Box<Exchange>,
        progress: &Progress,
        outcome: &Outcome,
    ) -> Members {
        let mut failed = progress.failed;
        if !self.has(Hook::OnComplete) {
            return failed;
        }
        exchange.lap = None;
        for index in (0..progress.saw_request).rev() {
            let filter = &self.filters[index];
            if !progress.out.has(index) && self.hooks[index].has(Hook::OnComplete) {
                let told =
                    call(exchange, index, Phase::Complete, |e| filter.on_complete(e, outcome));
                if told.is_err() {
                    failed.insert(index);
                }
            }
        }
        failed
    }

    fn trailer_hook(
        &self,
        exchange: &mut Box<Exchange>,
        progress: &mut Progress,
        index: usize,
        hook: Hook,
    ) -> Result<(), ClosedFailure> {
        let filter = &self.filters[index];
        if progress.out.has(index) || !self.hooks[index].has(hook) {
            return Ok(());
        }
        let done = match hook {
            Hook::OnRequestTrailers => {
                call(exchange, index, Phase::RequestTrailers, |e| filter.on_request_trailers(e))
            }
            _ => call(exchange, index, Phase::ResponseTrailers, |e| filter.on_response_trailers(e)),
        };
        match self.settle(index, done, progress) {
            Step::Next(()) | Step::Out => Ok(()),
            Step::Failed => {
                progress.sees_response = progress.sees_response.min(index);
                Err(ClosedFailure)
            }
        }
    }

    /// Applies the fail policy to what a hook came to.
    pub(super) fn settle<T>(
        &self,
        index: usize,
        answer: Result<T, Failure>,
        progress: &mut Progress,
    ) -> Step<T> {
        if answer.is_err() {
            progress.failed.insert(index);
        }
        match answer {
            Ok(decision) => Step::Next(decision),
            Err(_) if self.filters[index].fail_policy() == FailPolicy::Open => {
                progress.out.insert(index);
                Step::Out
            }
            Err(_) => Step::Failed,
        }
    }
}

/// A filter failed with policy `closed`; it has been logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a filter failed closed")]
pub struct ClosedFailure;

/// What a hook call means for the pass.
pub(super) enum Step<T> {
    /// The filter answered.
    Next(T),
    /// It failed open, and left the exchange.
    Out,
    /// It failed closed.
    Failed,
}

/// Calls a hook with the exchange in the right phase.
pub(super) fn call<T>(
    exchange: &mut Box<Exchange>,
    index: usize,
    phase: Phase,
    hook: impl FnOnce(&mut Box<Exchange>) -> T,
) -> T {
    exchange.filter = index;
    exchange.phase = phase;
    let answer = hook(exchange);
    exchange.phase = Phase::Outside;
    answer
}
