//! A guest as a filter of the chain, on one worker: the life of a hook call.
//!
//! Admission (quarantine, time left) → an instance → the call → what the answer may be → counted and
//! logged. An instance that failed is thrown away with its store; the next call gets a new one. The
//! fail policy is the chain's to apply.

use super::answer;
use super::engine::Presence;
use super::health::{Admission, SAMPLE_EVERY};
use super::hooks::Hooks as GuestHooks;
use super::instance::{Crash, Instance};
use super::meter::Watch;
use super::prepared::{Isolation, Prepared};
use super::replacement::{Progress, Replacement};
use crate::chain::{
    BodyDecision, Exchange, FailPolicy, Failure, FailureKind, Filter, HeadDecision, Hook, Hooks,
    Outcome,
};
use crate::clock;
use crate::telemetry::{Decision, FilterStats};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::Store;

/// Time that a body hook may take for every byte of its chunk without touching the time of its
/// exchange: a long stream may take long.
const TIME_PER_BODY_BYTE: Duration = Duration::from_nanos(10);

/// A filter version on one worker. Built elsewhere and handed over; then it stays on its thread.
pub struct WasmFilter {
    prepared: Arc<Prepared>,
    /// Those of `prepared`, at hand.
    stats: Arc<FilterStats>,
    worker: usize,
    presence: Presence,
    /// Empty after a failure, and with `Isolation::PerRequest`.
    instance: RefCell<Option<Box<Instance>>>,
    /// When `health` is next to be told more than that there was a call.
    next_sample: Cell<Instant>,
    /// What a filter that is slow to make gets after a failure.
    replacement: RefCell<Option<Replacement>>,
    /// The body hook called last, for the log.
    body_hook: Cell<Hook>,
}

type Data = super::instance::Data;

impl WasmFilter {
    pub(super) fn new(
        prepared: Arc<Prepared>,
        worker: usize,
        presence: Presence,
        instance: Option<Box<Instance>>,
    ) -> Self {
        if instance.is_some() {
            prepared.shared.stats.instance_created(worker);
        }
        WasmFilter {
            stats: prepared.shared.stats.clone(),
            prepared,
            worker,
            presence,
            instance: RefCell::new(instance),
            next_sample: Cell::new(Instant::now()),
            replacement: RefCell::default(),
            body_hook: Cell::new(Hook::OnRequestBody),
        }
    }

    /// The version it is of.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// Bytes of memory that its instance has; 0 without one, and with an instance for each exchange.
    pub fn memory_bytes(&self) -> usize {
        self.instance.borrow().as_ref().map_or(0, |instance| instance.memory_bytes())
    }

    /// One hook call with everything around it. `accept` checks the answer.
    fn run<R, D>(
        &self,
        hook: Hook,
        exchange: &mut Box<Exchange>,
        body: Body<'_>,
        call: impl FnOnce(&GuestHooks, &mut Store<Data>) -> wasmtime::Result<R>,
        accept: impl FnOnce(R) -> Result<D, Crash>,
    ) -> Result<D, Failure> {
        if self.replacement.borrow().is_some() && !self.replaced(hook) {
            // Like quarantine: the calls that were refused say nothing about the filter's health.
            let message = "a new instance is being made".to_owned();
            return Err(self.count(Failure { kind: FailureKind::Unavailable, message }));
        }
        let started = exchange.lap.take().unwrap_or_else(clock::look);
        let shared = &self.prepared.shared;
        let health = &self.prepared.health;
        let admission = health.admit(shared.sources.at(started));
        if admission == Admission::Refused {
            let message = "the filter is in quarantine".to_owned();
            return Err(self.count(Failure { kind: FailureKind::Unavailable, message }));
        }
        let watch = Watch::start(started, &shared.sources);
        let outcome = self.admitted(hook, started, exchange, body.held, call);
        let ended = clock::look();
        let elapsed = watch.elapsed(ended);
        if let Some(meter) = &shared.meter {
            meter.add_time(elapsed);
        }
        let charged = charged(elapsed, shared.limits.time, body.chunk_bytes);
        exchange.add_filter_time(charged);
        self.stats.record_call(self.worker, hook, elapsed);
        exchange.lap = Some(ended);
        let outcome = outcome.and_then(accept);
        let failed = outcome.is_err();
        // What is told once a second is told by the first call of each.
        if failed || admission == Admission::Probe || ended >= self.next_sample.get() {
            self.next_sample.set(ended + SAMPLE_EVERY);
            self.tell_memory();
            health.report(self.worker, shared.sources.at(ended), admission, failed);
        } else {
            health.count(self.worker);
        }
        outcome.map_err(|crash| self.fail(hook, crash))
    }

    fn admitted<R>(
        &self,
        hook: Hook,
        started: Instant,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        call: impl FnOnce(&GuestHooks, &mut Store<Data>) -> wasmtime::Result<R>,
    ) -> Result<R, Crash> {
        let limits = &self.prepared.shared.limits;
        let left = limits.exchange_time.saturating_sub(exchange.filter_time_used());
        if left.is_zero() {
            let message = format!(
                "its hooks took {} ms in this exchange, the limit `exchange_time`",
                limits.exchange_time.as_millis()
            );
            return Err(Crash { kind: FailureKind::Deadline, message });
        }
        let mut instance = self.take_instance(exchange)?;
        if !held.is_empty() || matches!(hook, Hook::OnRequestBody | Hook::OnResponseBody) {
            instance.set_held(held);
        }
        let time = limits.time.min(left);
        let answer = instance.call(&self.presence, hook, started, time, exchange, call);
        if let Some(meter) = &self.prepared.shared.meter {
            meter.add_call(instance.memory_bytes(), instance.host_calls());
        }
        match answer {
            Ok(answer) => {
                self.put_instance(exchange, instance, hook);
                Ok(answer)
            }
            Err(crash) => {
                if self.prepared.isolation == Isolation::PerWorker {
                    // A filter that leaks until it fails would never be seen to: its next is small.
                    self.prepared.set_memory(self.worker, instance.memory_bytes());
                }
                self.stats.instance_retired(self.worker);
                if self.prepared.is_slow_to_make() {
                    *self.replacement.borrow_mut() = self.begin_replacement();
                }
                Err(crash)
            }
        }
    }

    fn begin_replacement(&self) -> Option<Replacement> {
        Replacement::begin(&self.prepared, self.worker)
    }

    /// Takes the new instance, if it is there by now.
    fn replaced(&self, hook: Hook) -> bool {
        let mut replacement = self.replacement.borrow_mut();
        match replacement.as_ref().map(Replacement::progress) {
            Some(Progress::Making) => false,
            Some(Progress::Done(Ok(instance))) => {
                self.stats.instance_created(self.worker);
                *self.instance.borrow_mut() = Some(instance);
                *replacement = None;
                true
            }
            Some(Progress::Done(Err(error))) => {
                let message = error.message();
                self.log(hook, &Crash { kind: FailureKind::Unavailable, message });
                *replacement = self.begin_replacement();
                false
            }
            Some(Progress::Lost) => {
                *replacement = self.begin_replacement();
                false
            }
            None => true,
        }
    }

    /// The instance for this call: the worker's, the exchange's, or a new one.
    fn take_instance(&self, exchange: &mut Exchange) -> Result<Box<Instance>, Crash> {
        let live = match self.prepared.isolation {
            Isolation::PerWorker => self.instance.borrow_mut().take(),
            Isolation::PerRequest => exchange
                .take_guest()
                .and_then(|guest| guest.downcast::<OwnedInstance>().ok())
                .and_then(|mut owned| owned.release()),
        };
        if let Some(instance) = live {
            return Ok(instance);
        }
        let made = self
            .prepared
            .instantiate(&self.presence, self.worker)
            .map_err(|error| Crash { kind: FailureKind::Unavailable, message: error.message() })?;
        self.stats.instance_created(self.worker);
        Ok(Box::new(made))
    }

    fn put_instance(&self, exchange: &mut Exchange, instance: Box<Instance>, hook: Hook) {
        match self.prepared.isolation {
            Isolation::PerWorker => *self.instance.borrow_mut() = Some(instance),
            Isolation::PerRequest => {
                let owned = OwnedInstance::new(instance, self.prepared.clone(), self.worker);
                if hook != Hook::OnComplete {
                    exchange.put_guest(Box::new(owned));
                }
            }
        }
    }

    fn fail(&self, hook: Hook, crash: Crash) -> Failure {
        self.log(hook, &crash);
        let Crash { kind, message } = crash;
        self.count(Failure { kind, message })
    }

    /// Writes the one log line of a failure.
    fn log(&self, hook: Hook, crash: &Crash) {
        tracing::error!(
            filter = %self.prepared.shared.name,
            version = %self.prepared.shared.version,
            shadow = self.prepared.shared.shadow.then_some(true),
            hook = hook.name(),
            reason = crash.kind.name(),
            detail = %crash.message,
            "a filter failed"
        );
    }

    fn count(&self, failure: Failure) -> Failure {
        self.stats.record_failure(self.worker, failure.kind);
        failure
    }

    fn decided(&self, decision: Decision) {
        self.stats.record_decision(self.worker, decision);
    }

    /// Notes how much memory the worker's instance has. Without one it stays what the last one had.
    fn tell_memory(&self) {
        if let Some(instance) = &*self.instance.borrow() {
            self.prepared.set_memory(self.worker, instance.memory_bytes());
        }
    }

    fn head_hook(&self, hook: Hook, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        let limits = &self.prepared.shared.limits;
        let call = |hooks: &GuestHooks, store: &mut Store<Data>| hooks.head(hook, store);
        let accept = |decision| answer::head(decision, limits);
        let decision = self.run(hook, exchange, Body::NONE, call, accept)?;
        self.decided(Decision::from(&decision));
        Ok(decision)
    }

    fn body_hook(
        &self,
        hook: Hook,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.body_hook.set(hook);
        let limits = &self.prepared.shared.limits;
        let phase = exchange.phase;
        let body = Body { held, chunk_bytes: chunk.len() };
        let call =
            |hooks: &GuestHooks, store: &mut Store<Data>| hooks.body(hook, store, chunk, last);
        let accept = |decision| answer::body(decision, phase, limits);
        let decision = self.run(hook, exchange, body, call, accept)?;
        self.decided(Decision::from(&decision));
        Ok(decision)
    }

    fn trailer_hook(&self, hook: Hook, exchange: &mut Box<Exchange>) -> Result<(), Failure> {
        let call = |hooks: &GuestHooks, store: &mut Store<Data>| hooks.trailers(hook, store);
        self.run(hook, exchange, Body::NONE, call, Ok)
    }
}

impl Drop for WasmFilter {
    fn drop(&mut self) {
        if self.instance.get_mut().is_some() {
            self.stats.instance_retired(self.worker);
        }
        self.prepared.set_memory(self.worker, 0);
    }
}

/// What a body hook is about.
#[derive(Clone, Copy)]
struct Body<'b> {
    held: &'b [u8],
    chunk_bytes: usize,
}

impl Body<'_> {
    const NONE: Body<'static> = Body { held: &[], chunk_bytes: 0 };
}

/// What a call takes of the time of its exchange.
fn charged(elapsed: Duration, time_max: Duration, chunk_bytes: usize) -> Duration {
    if chunk_bytes == 0 {
        return elapsed.min(time_max);
    }
    let free = TIME_PER_BODY_BYTE.saturating_mul(u32::try_from(chunk_bytes).unwrap_or(u32::MAX));
    // A longer time by the wall was not the guest's: its thread was kept from running.
    elapsed.min(time_max).saturating_sub(free)
}

/// The instance of an exchange, which counts itself out when the exchange is over.
struct OwnedInstance {
    instance: Option<Box<Instance>>,
    prepared: Arc<Prepared>,
    worker: usize,
}

impl OwnedInstance {
    fn new(instance: Box<Instance>, prepared: Arc<Prepared>, worker: usize) -> Self {
        OwnedInstance { instance: Some(instance), prepared, worker }
    }

    fn release(&mut self) -> Option<Box<Instance>> {
        self.instance.take()
    }
}

impl Drop for OwnedInstance {
    fn drop(&mut self) {
        if self.instance.is_some() {
            self.prepared.shared.stats.instance_retired(self.worker);
        }
    }
}

impl Filter for WasmFilter {
    fn name(&self) -> &str {
        &self.prepared.shared.name
    }

    fn hooks(&self) -> Hooks {
        self.prepared.hooks
    }

    fn fail_policy(&self) -> FailPolicy {
        self.prepared.fail_policy
    }

    fn body_bytes_max(&self) -> usize {
        self.prepared.shared.limits.body_bytes
    }

    fn body_overflow(&self) -> Failure {
        let message =
            format!("it would hold more than the limit `body` of {} bytes", self.body_bytes_max());
        self.fail(self.body_hook.get(), Crash { kind: FailureKind::BodyLimit, message })
    }

    fn on_request(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.head_hook(Hook::OnRequest, exchange)
    }

    fn on_request_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.body_hook(Hook::OnRequestBody, exchange, held, chunk, last)
    }

    fn on_request_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure> {
        self.trailer_hook(Hook::OnRequestTrailers, exchange)
    }

    fn on_response(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.head_hook(Hook::OnResponse, exchange)
    }

    fn on_response_body(
        &self,
        exchange: &mut Box<Exchange>,
        held: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.body_hook(Hook::OnResponseBody, exchange, held, chunk, last)
    }

    fn on_response_trailers(&self, exchange: &mut Box<Exchange>) -> Result<(), Failure> {
        self.trailer_hook(Hook::OnResponseTrailers, exchange)
    }

    fn on_complete(&self, exchange: &mut Box<Exchange>, outcome: &Outcome) -> Result<(), Failure> {
        let call = |hooks: &GuestHooks, store: &mut Store<Data>| hooks.complete(store, outcome);
        self.run(Hook::OnComplete, exchange, Body::NONE, call, Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_charged_for_its_own_time_beyond_that_of_its_body() {
        let [micro, max] = [Duration::from_micros(1), Duration::from_millis(5)];
        assert_eq!(charged(micro, max, 0), micro);
        assert_eq!(charged(max + micro, max, 0), max);
        assert_eq!(charged(micro, max, 99), micro - 99 * TIME_PER_BODY_BYTE);
        assert_eq!(charged(micro, max, 100), Duration::ZERO);
        assert_eq!(charged(micro, max, usize::MAX), Duration::ZERO);
    }
}
