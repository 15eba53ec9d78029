//! One live guest: its store, its hooks, its limits, and the exchange it is working on.
//!
//! An instance serves one call at a time. After a trap or a missed deadline no instance of its store
//! can be entered again, so each has a store of its own and its owner (`filter`) throws it away. What
//! an answer means and what is counted is not known here.

use super::component::FilterCode;
use super::direct;
use super::engine::Presence;
use super::hooks::{ComponentHooks, Hooks};
use super::limits::{Grace, MemoryLimit, TABLE_ELEMENTS_MAX, thread_time};
use super::output::{Output, Stream};
use super::prepared::{Granted, Shared};
use super::types::ConfigError;
use crate::capability::log;
use crate::chain::{self, Exchange, FailureKind, Hook};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, UpdateDeadline};

/// Handles of host resources (streams and the like) an instance holds at a time.
const HANDLES_MAX: usize = 1_024;
/// Bytes that one call may hand to the host, beyond the largest answer that is allowed. What is too
/// large by less than this is refused with its size; what is larger is not even read.
pub(super) const TRANSFER_SLACK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a wasmtime message in a log line.
const REASON_BYTES_MAX: usize = 512;

/// How a call that gave no answer ended.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) kind: FailureKind,
    pub(super) message: String,
}

/// Why there is no instance.
#[derive(Debug)]
pub(super) enum StartError {
    Signature { hook: Hook, why: String },
    Start(Crash),
    Configure { hook: Hook, crash: Crash },
    Refused { key: String, message: String },
}

impl StartError {
    /// For the log of a worker that could not replace an instance.
    pub(super) fn message(&self) -> String {
        match self {
            StartError::Signature { hook, why } => {
                format!("hook `{}` does not have the contract's signature: {why}", hook.name())
            }
            StartError::Start(crash) => format!("no new instance: {}", crash.message),
            StartError::Configure { hook, crash } => {
                format!("no new instance: `{}` failed: {}", hook.name(), crash.message)
            }
            StartError::Refused { key, message } => {
                format!("no new instance: the configuration was refused: `{key}`: {message}")
            }
        }
    }
}

/// A reason of the host to end a call; the guest traps.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HostRefusal(Cow<'static, str>);

impl HostRefusal {
    #[expect(clippy::new_ret_no_self, reason = "it is only ever used as wasmtime's error")]
    pub(super) fn new(why: impl Into<Cow<'static, str>>) -> wasmtime::Error {
        wasmtime::Error::new(HostRefusal(why.into()))
    }
}

/// What host functions act on.
pub(super) struct Data {
    /// Of the call in progress; an empty one in `configure`. Absent only while `lend` has it.
    exchange: Option<Box<Exchange>>,
    /// Of a module that runs directly. Absent only before it is ready, and while its allocator runs.
    pub(super) guest: Option<Box<direct::Guest>>,
    pub(super) hook: Hook,
    /// When the hook call in progress began: what maps and buckets go by, with no look at the clock.
    pub(super) called: Instant,
    /// How long it may take by the wall, from `called` on.
    time: Duration,
    pub(super) held: Vec<u8>,
    pub(super) shared: Arc<Shared>,
    output: Output,
    memory: MemoryLimit,
    grace: Grace,
    worker: usize,
    /// Calls of functions of the host in the hook call in progress.
    pub(super) host_calls: u64,
}

const IN_PLACE: &str = "the exchange is away only within `lend`, which calls no guest";

impl Data {
    pub(super) fn exchange(&self) -> &Exchange {
        self.exchange.as_ref().expect(IN_PLACE)
    }

    pub(super) fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange.as_mut().expect(IN_PLACE)
    }

    pub(super) fn take_exchange(&mut self) -> Box<Exchange> {
        self.exchange.take().expect(IN_PLACE)
    }

    pub(super) fn put_exchange(&mut self, exchange: Box<Exchange>) {
        self.exchange = Some(exchange);
    }

    /// At a tick: does the call in progress go on?
    fn tick(&mut self) -> UpdateDeadline {
        // It may be the tick of another guest.
        if self.called.elapsed() < self.time {
            return UpdateDeadline::Continue(1);
        }
        self.grace.tick(thread_time())
    }

    /// The instant by which maps and buckets go in the hook call in progress.
    pub(super) fn instant(&self) -> Instant {
        self.shared.sources.at(self.called)
    }

    /// The number of the next log line of this exchange, if it is to be written.
    pub(super) fn next_log_line(&mut self, level: log::Level) -> Option<u32> {
        if !log::enabled(level) {
            return None;
        }
        let number = self.exchange_mut().count_log_line();
        if number > self.shared.limits.log_lines {
            self.shared.stats.log_line_dropped(self.worker);
            return None;
        }
        Some(number)
    }

    pub(super) fn write_log_line(&self, level: log::Level, line: &str, number: u32) {
        let Shared { name, version, shadow, limits, .. } = &*self.shared;
        let writer = log::Writer { filter: name, version, shadow: *shadow };
        log::write(writer, level, line, number, limits.log_lines);
    }

    /// A write to a standard stream.
    pub(super) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let lines = self.output.write(stream, bytes);
        self.log_output(lines);
    }

    fn log_output(&mut self, lines: Vec<String>) {
        for line in lines {
            if let Some(number) = self.next_log_line(log::Level::Info) {
                self.write_log_line(log::Level::Info, &line, number);
            }
        }
    }
}

/// In which form a filter version is run.
pub(super) enum Form {
    /// As the component it is.
    Component(InstancePre<Data>),
    /// As the one module it wraps: an order of magnitude less work a call.
    Direct(Box<direct::Pre>),
}

impl Form {
    /// The form for a component that is linked. Instantiates it: guest code may run.
    pub(super) fn choose(
        code: &FilterCode,
        pre: InstancePre<Data>,
        granted: &Granted,
        shared: &Arc<Shared>,
        presence: &Presence,
    ) -> Result<Self, StartError> {
        let Some((module, told)) = code.direct_form else { return Ok(Form::Component(pre)) };
        let mut store = open(code, shared, usize::MAX);
        let instance = start(&mut store, presence, |store| pre.instantiate(store))?;
        // The module's functions have no types of the component model: they are checked here.
        ComponentHooks::find(code, &instance, &mut store)?;
        let Some(module) = instance.get_module(&mut store, module) else {
            return Ok(Form::Component(pre));
        };
        let linked = direct::link(code.runtime.engine(), &module, granted, told);
        let whole = |direct: &direct::Pre| {
            let exported = |hook: &Hook| code.exports[*hook as usize].is_some();
            Hook::ALL.iter().filter(|hook| exported(hook)).all(|hook| direct.has(*hook))
        };
        Ok(match linked {
            Ok(direct) if whole(&direct) => Form::Direct(Box::new(direct)),
            _ => Form::Component(pre),
        })
    }
}

/// A live guest.
pub(super) struct Instance {
    store: Store<Data>,
    hooks: Hooks,
    wanted_hooks: Option<chain::Hooks>,
}

impl Instance {
    /// Instantiates, configures, and asks what it wants. Guest code may run, for at most
    /// `configure_time` each.
    pub(super) fn new(
        code: &FilterCode,
        form: &Form,
        shared: &Arc<Shared>,
        presence: &Presence,
        worker: usize,
    ) -> Result<Self, StartError> {
        let mut instance = Instance::start(code, form, shared, presence, worker)?;
        instance.configure(presence)?;
        instance.wanted_hooks =
            instance.call_before_exchanges(presence, Hook::WantedHooks, Hooks::wanted_hooks)?;
        Ok(instance)
    }

    /// Instantiates, and no more: the first call has to be `configure` or `state_version`.
    pub(super) fn start(
        code: &FilterCode,
        form: &Form,
        shared: &Arc<Shared>,
        presence: &Presence,
        worker: usize,
    ) -> Result<Self, StartError> {
        let mut store = open(code, shared, worker);
        let hooks = match form {
            Form::Direct(pre) => {
                let hooks = start(&mut store, presence, |store| pre.instantiate(store))?;
                Hooks::Direct(Box::new(hooks))
            }
            Form::Component(pre) => {
                let instance = start(&mut store, presence, |store| pre.instantiate(store))?;
                let hooks = ComponentHooks::find(code, &instance, &mut store)?;
                Hooks::Component(Box::new(hooks))
            }
        };
        Ok(Instance { store, hooks, wanted_hooks: None })
    }

    /// Calls `configure`, if it is exported.
    pub(super) fn configure(&mut self, presence: &Presence) -> Result<(), StartError> {
        let shared = self.store.data().shared.clone();
        let configure = |hooks: &Hooks, store: &mut _| hooks.configure(store, &shared.config_json);
        let configured = self.call_before_exchanges(presence, Hook::Configure, configure)?;
        configured.map_err(|ConfigError { key, message }| StartError::Refused {
            key: log::printable(&key, REASON_BYTES_MAX).into_owned(),
            message: log::printable(&message, log::LOG_LINE_BYTES_MAX).into_owned(),
        })
    }

    /// The version of its state.
    pub(super) fn state_version(&mut self, presence: &Presence) -> Result<u32, StartError> {
        self.call_before_exchanges(presence, Hook::StateVersion, Hooks::state_version)
    }

    /// Has it bring the state of version `from` into its own form; the inner error is its refusal.
    pub(super) fn migrate(
        &mut self,
        presence: &Presence,
        from: u32,
    ) -> Result<Result<(), String>, StartError> {
        let migrate = |hooks: &Hooks, store: &mut _| hooks.migrate(store, from);
        let migrated = self.call_before_exchanges(presence, Hook::Migrate, migrate)?;
        Ok(migrated.map_err(|why| log::printable(&why, log::LOG_LINE_BYTES_MAX).into_owned()))
    }

    /// Calls a hook that prepares the instance.
    fn call_before_exchanges<R>(
        &mut self,
        presence: &Presence,
        hook: Hook,
        call: impl FnOnce(&Hooks, &mut Store<Data>) -> wasmtime::Result<R>,
    ) -> Result<R, StartError> {
        let time = self.store.data().shared.limits.configure_time;
        let answer = self.call(presence, hook, Instant::now(), time, &mut Box::default(), call);
        answer.map_err(|crash| StartError::Configure { hook, crash })
    }

    /// What it wants called of the hooks that it exports; nothing: all of them.
    pub(super) fn wanted_hooks(&self) -> Option<chain::Hooks> {
        self.wanted_hooks
    }

    /// Calls a hook, `now`, with `exchange` in the guest's keeping, for at most `time`. After an error
    /// this instance is of no more use.
    pub(super) fn call<R>(
        &mut self,
        presence: &Presence,
        hook: Hook,
        now: Instant,
        time: Duration,
        exchange: &mut Box<Exchange>,
        call: impl FnOnce(&Hooks, &mut Store<Data>) -> wasmtime::Result<R>,
    ) -> Result<R, Crash> {
        let data = self.store.data_mut();
        data.hook = hook;
        data.called = now;
        data.memory.refused = false;
        (data.time, data.grace) = match data.shared.sources.script() {
            None => (time, Grace::default()),
            Some(_) => (Duration::ZERO, Grace::scripted(thread_time(), time)),
        };
        data.host_calls = 0;
        std::mem::swap(data.exchange.as_mut().expect(IN_PLACE), exchange);
        self.store.set_epoch_deadline(1);
        presence.enter();
        let answer = call(&self.hooks, &mut self.store);
        presence.leave();
        let answer = answer.map_err(|error| crash(&mut self.store, &error));
        let data = self.store.data_mut();
        if !data.output.is_empty() {
            let lines = data.output.finish();
            data.log_output(lines);
        }
        std::mem::swap(data.exchange.as_mut().expect(IN_PLACE), exchange);
        answer
    }

    /// Bytes of memory it has.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }

    /// Calls of functions of the host in the last hook call.
    pub(super) fn host_calls(&self) -> u64 {
        self.store.data().host_calls
    }

    /// What the filter holds of the body whose hook is called next.
    pub(super) fn set_held(&mut self, held: &[u8]) {
        let kept = &mut self.store.data_mut().held;
        kept.clear();
        kept.extend_from_slice(held);
    }
}

/// A store for one instance, under every limit.
fn open(code: &FilterCode, shared: &Arc<Shared>, worker: usize) -> Store<Data> {
    let limits = &shared.limits;
    let data = Data {
        exchange: Some(Box::default()),
        guest: None,
        hook: Hook::Configure,
        called: Instant::now(),
        time: limits.configure_time,
        held: Vec::new(),
        shared: shared.clone(),
        output: Output::default(),
        memory: MemoryLimit::new(limits.memory_bytes),
        grace: Grace::default(),
        worker,
        host_calls: 0,
    };
    let mut store = Store::new(code.runtime.engine(), data);
    store.limiter(|data| &mut data.memory);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_hostcall_fuel(shared.transfer_bytes_max());
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
    store.set_epoch_deadline(1);
    store
}

/// Runs what guest code runs at its start.
fn start<T>(
    store: &mut Store<Data>,
    presence: &Presence,
    instantiate: impl FnOnce(&mut Store<Data>) -> wasmtime::Result<T>,
) -> Result<T, StartError> {
    presence.enter();
    let instance = instantiate(store);
    presence.leave();
    instance.map_err(|error| StartError::Start(crash(store, &error)))
}

/// Tells what an error of wasmtime means, and adds the guest's last words.
fn crash(store: &mut Store<Data>, error: &wasmtime::Error) -> Crash {
    let data = store.data_mut();
    let trap = error.downcast_ref::<Trap>();
    let kind = match trap {
        Some(Trap::Interrupt) => FailureKind::Deadline,
        _ if data.memory.refused => FailureKind::Memory,
        Some(_) => FailureKind::Trap,
        None if error.is::<HostRefusal>() => FailureKind::Trap,
        // What is neither: bytes that are no value of their type, lists beyond the memory, more than
        // a call may hand over.
        None => FailureKind::InvalidOutput,
    };
    let reason = match kind {
        FailureKind::Deadline => out_of_time(data),
        FailureKind::Memory => format!(
            "it wanted more than its {} KiB of memory or {TABLE_ELEMENTS_MAX} table elements",
            data.shared.limits.memory_bytes >> 10
        ),
        _ => log::printable(&format!("{error:#}"), REASON_BYTES_MAX).into_owned(),
    };
    let words = data.output.last_words();
    let message = if words.is_empty() {
        reason
    } else {
        format!("{reason}; its last words: {}", log::printable(&words, usize::MAX))
    };
    Crash { kind, message }
}

fn out_of_time(data: &Data) -> String {
    let limits = &data.shared.limits;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    if data.hook.is_of_exchange() {
        format!(
            "it took longer than the limits `time` of {} ms or `exchange_time` of {} ms",
            milliseconds(limits.time),
            milliseconds(limits.exchange_time)
        )
    } else {
        format!(
            "it took longer than the limit `configure_time` of {} ms",
            milliseconds(limits.configure_time)
        )
    }
}
