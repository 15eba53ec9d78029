//! A filter version, ready to serve: linked with what it is granted, configured and so probed once.
//!
//! Made by a reload, off the workers; then one [`WasmFilter`] per worker is built ahead and handed
//! over. Dropping the last of them frees code, metrics and statistics of the version. What a TOML
//! file says of it is not known here: the fields of [`FilterSpec`] are.

use super::component::{Capability, FilterCode, LoadError};
use super::engine::{Presence, lock};
use super::filter::WasmFilter;
use super::health::Health;
use super::instance::{Form, Instance, StartError, TRANSFER_SLACK_BYTES};
use super::limits::thread_time;
use super::linker::link;
use super::meter::{Meter, Usage};
use super::replacement::MAKE_TIME_MAX;
use super::state;
use crate::capability::{self, Sources, kv, log, metrics, rate_limit};
use crate::chain::{FailPolicy, Hooks};
use crate::telemetry::{FilterStats, Metrics, Sharded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One table of the configuration.
#[derive(Clone, Debug)]
pub struct FilterSpec {
    /// Its name.
    pub name: Arc<str>,
    /// What people call this version.
    pub label: Option<Arc<str>>,
    /// The filter's own configuration as JSON text; `{}` where there is none.
    pub config_json: String,
    /// What it may import.
    pub grants: Grants,
    /// What it may use up.
    pub limits: Limits,
    /// What a failure does to the exchange.
    pub fail_policy: FailPolicy,
    /// How long an instance lives.
    pub isolation: Isolation,
}

/// The capabilities a filter may import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Log lines.
    pub log: bool,
    /// Time.
    pub clock: bool,
    /// Random bytes.
    pub random: bool,
    /// Metrics of its own.
    pub metrics: bool,
    /// A map of this size.
    pub kv: Option<kv::KvGrant>,
    /// Buckets of this size.
    pub rate_limit: Option<rate_limit::Policy>,
}

/// What a filter may use up. Every default stands in [`Limits::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one hook call: 5 ms.
    pub time: Duration,
    /// For all hook calls of one exchange: 20 ms. A body hook adds 10 ns a byte to it.
    pub exchange_time: Duration,
    /// For `configure`: 1 s.
    pub configure_time: Duration,
    /// Memory of one instance: 32 MiB.
    pub memory_bytes: usize,
    /// Held body, and the most that a `replace` may hold: 1 MiB.
    pub body_bytes: usize,
    /// Log lines of one exchange: 20.
    pub log_lines: u32,
    /// Body of a local response: 64 KiB.
    pub local_reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_millis(5),
            exchange_time: Duration::from_millis(20),
            configure_time: Duration::from_secs(1),
            memory_bytes: 32 * 1024 * 1024,
            body_bytes: 1024 * 1024,
            log_lines: log::LOG_LINES_MAX,
            local_reply_bytes: 64 * 1024,
        }
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// One instance a worker, used again and again.
    #[default]
    PerWorker,
    /// A new instance for every exchange, which nothing outlives. Costs tens of microseconds.
    PerRequest,
}

/// A filter version, ready to serve.
pub struct Prepared {
    pub(super) code: Arc<FilterCode>,
    pub(super) shared: Arc<Shared>,
    pub(super) health: Health,
    pub(super) fail_policy: FailPolicy,
    pub(super) isolation: Isolation,
    form: Form,
    /// Its map, if it has one.
    kv: Option<kv::Claim>,
    /// Those that the component exports and the probe wants called.
    pub(super) hooks: Hooks,
    /// Processor time that making the probe took.
    pub(super) make_time: Duration,
    /// The instance that was the probe, for the first worker.
    probe: Mutex<Option<Box<Instance>>>,
    /// Of each worker's instance, in bytes.
    memory: Sharded<AtomicU64>,
}

/// What every instance of a version refers to.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) config_json: String,
    pub(super) limits: Limits,
    /// The most that one call may rightly hand to the host, in bytes.
    pub(super) transfer_bytes: usize,
    pub(super) stats: Arc<FilterStats>,
    pub(super) registry: Arc<metrics::Registry>,
    pub(super) start: Instant,
    pub(super) sources: Sources,
    /// It works on copies of exchanges, and what it writes is seen by nobody else.
    pub(super) shadow: bool,
    /// What a script's filter has used; nobody asks in service.
    pub(super) meter: Option<Meter>,
}

impl Shared {
    /// Bytes that one call may hand to the host before what it hands over is not even looked at.
    pub(super) fn transfer_bytes_max(&self) -> usize {
        self.transfer_bytes.saturating_add(TRANSFER_SLACK_BYTES)
    }
}

/// The capabilities a filter was granted, with the state behind them.
pub(super) struct Granted {
    grants: Grants,
    pub(super) kv: Option<Arc<kv::Store>>,
    pub(super) rate_limit: Option<Arc<rate_limit::Buckets>>,
}

impl Granted {
    /// State is made for what the filter uses, and for nothing else; `kv` is there if it uses one.
    fn new(
        name: &str,
        grants: Grants,
        code: &FilterCode,
        state: &capability::State,
        kv: Option<Arc<kv::Store>>,
    ) -> Self {
        let uses_buckets = code.imports().contains(&Capability::RateLimit);
        let rate_limit = grants.rate_limit.filter(|_| uses_buckets);
        let rate_limit = rate_limit.map(|policy| state.rate_limit(name, policy));
        Granted { grants, kv, rate_limit }
    }

    /// With a map that is nobody else's and goes with this.
    fn apart(name: &str, grants: Grants, code: &FilterCode, state: &capability::State) -> Self {
        let start = state.sources().instant();
        let kv = kv_grant(&grants, code).map(|grant| Arc::new(kv::Store::apart(grant, start)));
        Granted::new(name, grants, code, state, kv)
    }

    pub(super) fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Log => self.grants.log,
            Capability::Clock => self.grants.clock,
            Capability::Random => self.grants.random,
            Capability::Metrics => self.grants.metrics,
            Capability::Kv => self.kv.is_some(),
            Capability::RateLimit => self.rate_limit.is_some(),
        }
    }
}

/// The grant of a map, if the filter uses one.
fn kv_grant(grants: &Grants, code: &FilterCode) -> Option<kv::KvGrant> {
    grants.kv.filter(|_| code.imports().contains(&Capability::Kv))
}

impl Prepared {
    /// Links, instantiates and configures: a filter that cannot do its work is refused here. Where
    /// its state has a newer form than that in force, it migrates a copy. Runs guest code for up to
    /// ten times `configure_time`: never call it on a worker. Its numbers are those of `numbers`,
    /// shared with other generations of the same version.
    pub fn build(
        spec: FilterSpec,
        code: Arc<FilterCode>,
        capabilities: &capability::State,
        numbers: &Metrics,
    ) -> Result<Arc<Self>, LoadError> {
        let FilterSpec { name, label, config_json, grants, limits, fail_policy, isolation } = spec;
        let value_bytes = grants.kv.as_ref().map_or(0, |kv| kv.value_bytes);
        let transfer_bytes = limits.body_bytes.max(limits.local_reply_bytes).max(value_bytes);
        let version = shown_version(&code, label.as_deref());
        let sources = capabilities.sources().clone();
        let shared = Arc::new(Shared {
            stats: numbers.filter(&name, &version),
            registry: numbers.custom(&name, &version, &config_json),
            start: sources.instant(),
            meter: sources.script().map(|_| Meter::default()),
            sources,
            shadow: capabilities.is_shadow(),
            name,
            version,
            config_json,
            limits,
            transfer_bytes,
        });
        let health = Health::new(shared.clone(), numbers.workers());
        let presence = code.runtime.presence();
        let (form, kv) = linked(grants, &code, capabilities, &shared, &presence)?;
        let hooks = code.hooks();
        let probe = Mutex::default();
        let memory = Sharded::new(numbers.workers());
        let make_time = Duration::ZERO;
        let mut prepared = Prepared {
            code,
            shared,
            health,
            fail_policy,
            isolation,
            form,
            kv,
            hooks,
            make_time,
            probe,
            memory,
        };
        let begun = thread_time();
        let instance = prepared
            .instantiate(&presence, usize::MAX)
            .map_err(|error| load_error(&prepared.shared.name, error))?;
        if let (Some(begun), Some(ended)) = (begun, thread_time()) {
            prepared.make_time = ended.saturating_sub(begun);
        }
        if let Some(wanted) = instance.wanted_hooks() {
            prepared.hooks = hooks.intersection(wanted);
        }
        *lock(&prepared.probe) = Some(Box::new(instance));
        Ok(Arc::new(prepared))
    }

    /// The filter for one worker, with its instance. Call it off the workers and hand it over.
    pub fn instantiate_for_worker(
        self: &Arc<Self>,
        worker: usize,
    ) -> Result<WasmFilter, LoadError> {
        let presence = self.code.runtime.presence();
        let probe = lock(&self.probe).take();
        let instance = match (self.isolation, probe) {
            (Isolation::PerRequest, _) => None,
            (Isolation::PerWorker, Some(probe)) => Some(probe),
            (Isolation::PerWorker, None) => {
                let made = self.instantiate(&presence, worker);
                Some(Box::new(made.map_err(|error| load_error(&self.shared.name, error))?))
            }
        };
        Ok(WasmFilter::new(self.clone(), worker, presence, instance))
    }

    /// The filter for one worker, which makes its instance when it is first called.
    pub fn on_demand(self: &Arc<Self>, worker: usize) -> WasmFilter {
        WasmFilter::new(self.clone(), worker, self.code.runtime.presence(), None)
    }

    /// Tells that this version is in force: versions after it take over the state it has then.
    pub fn put_in_force(&self) {
        if let Some(claim) = &self.kv {
            claim.put_in_force();
        }
    }

    /// The version of its state; none where the host keeps no map for it.
    pub fn state_version(&self) -> Option<u32> {
        self.kv.as_ref().map(kv::Claim::version)
    }

    /// Name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// First digits of the hash of the component, and what people call it: `0123456789ab(v2)`.
    pub fn version(&self) -> &Arc<str> {
        &self.shared.version
    }

    /// The code behind it.
    pub fn code(&self) -> &Arc<FilterCode> {
        &self.code
    }

    /// What this version did so far.
    pub fn stats(&self) -> &Arc<FilterStats> {
        &self.shared.stats
    }

    /// Bytes of memory of the workers' instances, as looked at once a second while they are called,
    /// and when they fail.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.sum(|bytes| bytes.load(Ordering::Relaxed))
    }

    pub(super) fn set_memory(&self, worker: usize, bytes: usize) {
        self.memory.of(worker).store(bytes as u64, Ordering::Relaxed);
    }

    /// The filter's own metrics.
    pub fn registry(&self) -> &Arc<metrics::Registry> {
        &self.shared.registry
    }

    /// Would a worker that makes a new instance keep its other requests waiting for long? With an
    /// instance for every exchange there is nothing to be had ahead of time.
    pub(super) fn is_slow_to_make(&self) -> bool {
        self.isolation == Isolation::PerWorker && self.make_time > MAKE_TIME_MAX
    }

    /// Is it run as the module inside its component?
    pub fn runs_directly(&self) -> bool {
        matches!(self.form, Form::Direct(_))
    }

    /// What its hook calls have used since this was last asked; nothing unless they are scripted.
    pub fn take_usage(&self) -> Usage {
        self.shared.meter.as_ref().map(Meter::take).unwrap_or_default()
    }

    pub(super) fn instantiate(
        &self,
        presence: &Presence,
        worker: usize,
    ) -> Result<Instance, StartError> {
        Instance::new(&self.code, &self.form, &self.shared, presence, worker)
    }
}

/// The form a filter version is run in, linked with what it is granted, and its claim to the map
/// among that, which it has taken over.
fn linked(
    grants: Grants,
    code: &FilterCode,
    capabilities: &capability::State,
    shared: &Arc<Shared>,
    presence: &Presence,
) -> Result<(Form, Option<kv::Claim>), LoadError> {
    let name = &shared.name;
    let grant = kv_grant(&grants, code);
    let claim = match grant {
        None => None,
        Some(_) => {
            let apart = Granted::apart(name, grants.clone(), code, capabilities);
            let version = state::version(code, &apart, shared, presence)?;
            Some(capabilities.kv(name, version))
        }
    };
    let map = claim.as_ref().zip(grant).map(|(claim, grant)| claim.store(grant));
    let granted = Granted::new(name, grants, code, capabilities, map);
    let pre = link(name, code, &granted)?;
    let form = Form::choose(code, pre, &granted, shared, presence)
        .map_err(|error| load_error(name, error))?;
    if let Some(claim) = &claim {
        state::take_over(claim, code, &form, shared, presence)?;
    }
    Ok((form, claim))
}

/// Whether a filter would link if it were granted everything it imports. Runs nothing of it.
///
/// # Errors
/// It imports what no filter gets.
pub fn check_imports(name: &str, code: &FilterCode) -> Result<(), LoadError> {
    let per = Duration::from_secs(1);
    let grants = Grants {
        log: true,
        clock: true,
        random: true,
        metrics: true,
        kv: Some(kv::KvGrant::default()),
        rate_limit: Some(rate_limit::Policy { requests: 1, per, burst: 1, keys: 1 }),
    };
    let state = capability::State::new(Instant::now());
    link(name, code, &Granted::apart(name, grants, code, &state)).map(drop)
}

fn shown_version(code: &FilterCode, label: Option<&str>) -> Arc<str> {
    match label {
        None => code.version(),
        Some(label) => format!("{}({label})", code.version()).into(),
    }
}

pub(super) fn load_error(name: &str, error: StartError) -> LoadError {
    let name = name.to_owned();
    match error {
        StartError::Signature { hook, why } => LoadError::WrongSignature { name, hook, why },
        StartError::Start(crash) => LoadError::Start { name, why: crash.message },
        StartError::Configure { hook, crash } => {
            LoadError::ConfigureFailed { name, hook, why: crash.message }
        }
        StartError::Refused { key, message } => LoadError::Refused { name, key, message },
    }
}
