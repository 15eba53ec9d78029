//! From the `[filter.NAME]` tables to filters that are compiled, linked, configured and probed, or to
//! messages at the lines that are to blame.
//!
//! The only place that knows both the configuration's words for a filter and the runtime's.

use super::problems::{Problems, chain};
use crate::capability::{self, kv, rate_limit};
use crate::config::{self, BoundedReadError, Diagnostic, FilterSource, Loaded, read_bounded};
use crate::dns::Names;
use crate::telemetry::{CacheLookup, Metrics};
use crate::wasm::compile::COMPONENT_BYTES_MAX;
use crate::wasm::{
    self, CacheError, CompileLimits, Compiler, FilterCode, FilterSpec, Grants, LoadError, Prepared,
    WasmFilter,
};
use crate::{chain as filter_chain, chain::Hook, wasm::cache::CacheCounters};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

/// What a filter version is: two with the same identity cannot be told apart.
pub(super) type Identity = blake3::Hash;

/// What becomes of a filter with `fail_policy = "open"` that cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoadFailure {
    /// It is left out, with a warning: at the start there is no generation to fall back on.
    FollowPolicy,
    /// Nothing is published: the generation in force has a better one.
    Refuse,
}

/// Loads filters, and keeps what outlives their versions. One a process.
pub struct Loader {
    compiler: Arc<Compiler>,
    capabilities: capability::State,
    metrics: Arc<Metrics>,
    names: Names,
    /// Code that some generation uses, by the hash of its component.
    code: HashMap<blake3::Hash, Weak<FilterCode>>,
    /// Filter versions that some generation uses, by what they are and what people call them.
    prepared: HashMap<(Identity, Option<Arc<str>>), Weak<Prepared>>,
    read: BTreeMap<PathBuf, blake3::Hash>,
    told: Told,
}

/// What of the compiler's counters was passed on to the metrics.
#[derive(Default)]
struct Told {
    hits: u64,
    misses: u64,
    rejected: u64,
    failed_writes: u64,
}

impl Loader {
    /// Where what is loaded is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What follows the names of endpoints.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// With the cache where `config` has it.
    pub fn new(config: &config::Config, metrics: Arc<Metrics>) -> Result<Self, CacheError> {
        let config::CompileLimits { time, memory } = config.runtime.compile;
        let limits = CompileLimits { time, memory_bytes: memory as u64 };
        let compiler = Compiler::new(config.runtime.cache_dir.clone(), limits)?;
        Ok(Loader::with_compiler(compiler, metrics))
    }

    /// With a compiler that is there.
    pub fn with_compiler(compiler: Compiler, metrics: Arc<Metrics>) -> Self {
        Loader {
            compiler: Arc::new(compiler),
            capabilities: capability::State::new(Instant::now()),
            metrics,
            names: Names::default(),
            code: HashMap::new(),
            prepared: HashMap::new(),
            read: BTreeMap::new(),
            told: Told::default(),
        }
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Number of workers.
    pub(super) fn workers(&self) -> usize {
        self.metrics.workers()
    }

    /// Every filter of the configuration, in its order. None: it was left out.
    pub fn load(
        &mut self,
        loaded: &Loaded,
        on_failure: OnLoadFailure,
    ) -> Result<Vec<Option<Arc<Prepared>>>, Problems> {
        let mut problems = Problems::default();
        let mut all = Vec::with_capacity(loaded.config.filters.len());
        for filter in &loaded.config.filters {
            match self.load_one(loaded, filter) {
                Ok(prepared) => all.push(Some(prepared)),
                Err(problem) => {
                    let open = filter.fail_policy == config::FailPolicy::Open;
                    if open && on_failure == OnLoadFailure::FollowPolicy {
                        self.leave_out(&filter.name, &problem);
                        all.push(None);
                    } else {
                        problems.push(problem);
                    }
                }
            }
        }
        self.code.retain(|_, code| code.strong_count() > 0);
        self.prepared.retain(|_, prepared| prepared.strong_count() > 0);
        self.tell_metrics();
        problems.or(all)
    }

    /// The filters of `loaded` that are `wanted`, for a shadow: what they write is kept apart, and
    /// nobody is shown their numbers.
    pub(super) fn load_for_shadow(
        &mut self,
        loaded: &Loaded,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<WasmFilter>>, Problems> {
        let state = self.capabilities.shadow();
        let unseen = Metrics::new(0, SystemTime::now());
        let mut problems = Problems::default();
        let mut all = Vec::new();
        for (index, filter) in loaded.config.filters.iter().enumerate() {
            if !wanted(index) {
                all.push(None);
                continue;
            }
            let read = self.read_hashed(loaded, filter);
            let code = read.and_then(|(bytes, hash)| self.code(loaded, filter, &bytes, hash));
            let made = code.and_then(|code| {
                let prepared = Prepared::build(spec(filter), code, &state, &unseen);
                let made =
                    prepared.and_then(|prepared| prepared.instantiate_for_worker(usize::MAX));
                made.map_err(|error| located(loaded, &filter.name, &error))
            });
            match made {
                Ok(made) => all.push(Some(made)),
                Err(problem) => problems.push(problem),
            }
        }
        problems.or(all)
    }

    /// Compiles what `loaded` and its `next` need and the cache does not have, on a thread of its own.
    /// The receiver is told of nothing, and disconnected at the end.
    pub(super) fn compile_beside(&self, loaded: &Loaded) -> io::Result<Receiver<()>> {
        let (compiler, loaded) = (self.compiler.clone(), loaded.clone());
        let (sender, done) = sync_channel(0);
        let compile = move || {
            let _until_the_end: SyncSender<()> = sender;
            let next = loaded.candidate().map(|candidate| candidate.loaded);
            for loaded in [Some(loaded), next].iter().flatten() {
                for filter in &loaded.config.filters {
                    // What fails here fails again when it is loaded, and is told then.
                    let _ = read(loaded, filter).map(|bytes| compiler.load(&filter.name, &bytes));
                }
            }
        };
        std::thread::Builder::new().name("compile".to_owned()).spawn(compile)?;
        Ok(done)
    }

    /// Content hashes of the files that were read since this was last asked.
    pub(super) fn take_files_read(&mut self) -> BTreeMap<PathBuf, blake3::Hash> {
        std::mem::take(&mut self.read)
    }

    /// What `filter` is, without making it; none: its component cannot be read.
    pub(super) fn identify(
        &mut self,
        loaded: &Loaded,
        filter: &config::Filter,
    ) -> Option<Identity> {
        let hash = self.read_hashed(loaded, filter).ok()?.1;
        Some(identity(&spec(filter), hash))
    }

    /// Forgets the kept state of filters that `config` does not have and nothing uses any more.
    pub fn forget_unused(&self, config: &config::Config) {
        let configured = |name: &str| config.filters.iter().any(|filter| &*filter.name == name);
        self.capabilities.forget_unused(&configured);
    }

    fn leave_out(&self, name: &str, problem: &Diagnostic) {
        self.metrics.process().swallowed("filter_load_fail_open");
        tracing::error!(
            filter = name,
            problem = %problem,
            "a filter cannot be loaded; its fail policy is `open`, so every request goes on WITHOUT it"
        );
    }

    fn load_one(
        &mut self,
        loaded: &Loaded,
        filter: &config::Filter,
    ) -> Result<Arc<Prepared>, Diagnostic> {
        let (bytes, hash) = self.read_hashed(loaded, filter)?;
        let spec = spec(filter);
        let key = (identity(&spec, hash), spec.label.clone());
        if let Some(known) = self.prepared.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let code = self.code(loaded, filter, &bytes, hash)?;
        let prepared = Prepared::build(spec, code, &self.capabilities, &self.metrics)
            .map_err(|error| located(loaded, &filter.name, &error))?;
        self.prepared.insert(key, Arc::downgrade(&prepared));
        Ok(prepared)
    }

    /// The code of a component, which is compiled only if nobody has it.
    fn code(
        &mut self,
        loaded: &Loaded,
        filter: &config::Filter,
        bytes: &[u8],
        hash: blake3::Hash,
    ) -> Result<Arc<FilterCode>, Diagnostic> {
        if let Some(known) = self.code.get(&hash).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let code = self.compiler.load(&filter.name, bytes);
        let code = code.map_err(|error| located(loaded, &filter.name, &error))?;
        self.code.insert(hash, Arc::downgrade(&code));
        Ok(code)
    }

    fn read_hashed<'f>(
        &mut self,
        loaded: &Loaded,
        filter: &'f config::Filter,
    ) -> Result<(Cow<'f, [u8]>, blake3::Hash), Diagnostic> {
        let bytes = read(loaded, filter)?;
        let hash = blake3::hash(&bytes);
        if let FilterSource::File(path) = &filter.source {
            self.read.insert(path.clone(), hash);
        }
        Ok((bytes, hash))
    }

    fn tell_metrics(&mut self) {
        let CacheCounters { hits, misses, rejected, failed_writes } = self.compiler.counters();
        let news = |counter: &AtomicU64, told: &mut u64| {
            let now = counter.load(Ordering::Relaxed);
            0..now.saturating_sub(std::mem::replace(told, now))
        };
        let process = self.metrics.process();
        news(hits, &mut self.told.hits).for_each(|_| process.cache_lookup(CacheLookup::Hit));
        news(misses, &mut self.told.misses).for_each(|_| process.cache_lookup(CacheLookup::Miss));
        news(rejected, &mut self.told.rejected)
            .for_each(|_| process.cache_lookup(CacheLookup::Rejected));
        news(failed_writes, &mut self.told.failed_writes)
            .for_each(|_| process.swallowed("cache_write"));
    }
}

/// The component of a filter.
pub(super) fn read<'f>(
    loaded: &Loaded,
    filter: &'f config::Filter,
) -> Result<Cow<'f, [u8]>, Diagnostic> {
    let key = format!("filter.{}.source", filter.name);
    let problem = |message: String, help: &str| {
        let mut problem = loaded.locate(&key, message);
        problem.help = Some(help.to_owned());
        problem
    };
    match &filter.source {
        FilterSource::Builtin(name) => match pillion_filters::shipped(name) {
            Some(shipped) => Ok(shipped.component.into()),
            None => Err(problem(
                format!("there is no shipped filter `{name}`"),
                "name one of the shipped filters, or a file as in `./filter.wasm`",
            )),
        },
        FilterSource::File(path) => read_component(path).map(Cow::Owned).map_err(|error| {
            let message = format!("failed to read component `{}`: {error}", path.display());
            problem(message, "build the filter, or correct the path; it is relative to this file")
        }),
        FilterSource::Uploaded(upload) => Ok(Cow::Borrowed(upload.bytes())),
    }
}

/// The bytes of a component file, bounded.
pub fn read_component(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    read_bounded(path, COMPONENT_BYTES_MAX).map_err(|error| match error {
        BoundedReadError::Io(error) => error,
        BoundedReadError::TooLarge => {
            io::Error::other(format!("it is larger than {} MiB", COMPONENT_BYTES_MAX >> 20))
        }
    })
}

/// The error at the line that it is about.
pub(super) fn located(loaded: &Loaded, name: &str, error: &LoadError) -> Diagnostic {
    match error {
        LoadError::Refused { key, message, .. } => loaded.locate_filter_config(name, key, message),
        LoadError::NotGranted { .. } => {
            loaded.locate(&format!("filter.{name}.grants"), chain(error))
        }
        LoadError::ConfigureFailed { hook: Hook::Configure | Hook::WantedHooks, .. } => {
            loaded.locate(&format!("filter.{name}.config"), chain(error))
        }
        _ => loaded.locate(&format!("filter.{name}.source"), chain(error)),
    }
}

pub(crate) fn spec(filter: &config::Filter) -> FilterSpec {
    let config::Filter {
        name,
        version,
        source: _,
        config,
        grants,
        limits,
        fail_policy,
        isolation,
        next: _,
    } = filter;
    let config::Grants { log, clock, random, metrics, kv, rate_limit } = grants;
    FilterSpec {
        name: name.clone(),
        label: version.clone(),
        config_json: config.to_string(),
        grants: Grants {
            log: *log,
            clock: *clock,
            random: *random,
            metrics: *metrics,
            kv: kv.as_ref().map(|config::KvGrant { entries, value_bytes }| kv::KvGrant {
                entries: *entries,
                value_bytes: *value_bytes,
            }),
            rate_limit: rate_limit.as_ref().map(policy),
        },
        limits: filter_limits(limits),
        fail_policy: match fail_policy {
            config::FailPolicy::Closed => filter_chain::FailPolicy::Closed,
            config::FailPolicy::Open => filter_chain::FailPolicy::Open,
        },
        isolation: match isolation {
            config::Isolation::Shared => wasm::Isolation::PerWorker,
            config::Isolation::PerRequest => wasm::Isolation::PerRequest,
        },
    }
}

/// Component, configuration, grants, limits and policies.
fn identity(spec: &FilterSpec, component: blake3::Hash) -> Identity {
    let FilterSpec { name, label: _, config_json, grants, limits, fail_policy, isolation } = spec;
    let words = format!("{grants:?} {limits:?} {fail_policy:?} {isolation:?}");
    let mut hasher = blake3::Hasher::new();
    for part in [name.as_bytes(), component.as_bytes(), config_json.as_bytes(), words.as_bytes()] {
        // With its length, so that no part can be taken for another.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize()
}

fn policy(grant: &config::RateLimitGrant) -> rate_limit::Policy {
    let config::RateLimitGrant { requests, per, burst, keys } = grant;
    rate_limit::Policy { requests: *requests, per: *per, burst: *burst, keys: *keys }
}

fn filter_limits(limits: &config::FilterLimits) -> wasm::Limits {
    let config::FilterLimits {
        time,
        exchange_time,
        configure_time,
        memory,
        body,
        log_lines,
        local_reply,
    } = limits;
    wasm::Limits {
        time: *time,
        exchange_time: *exchange_time,
        configure_time: *configure_time,
        memory_bytes: *memory,
        body_bytes: *body,
        log_lines: u32::try_from(*log_lines).unwrap_or(u32::MAX),
        local_reply_bytes: *local_reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_file_and_of_the_runtime_have_the_same_defaults() {
        assert_eq!(filter_limits(&config::FilterLimits::default()), wasm::Limits::default());
        let config::CompileLimits { time, memory } = config::CompileLimits::default();
        let limits = CompileLimits { time, memory_bytes: memory as u64 };
        assert_eq!(limits, CompileLimits::default());
        let config::KvGrant { entries, value_bytes } = config::KvGrant::default();
        assert_eq!(kv::KvGrant { entries, value_bytes }, kv::KvGrant::default());
    }
}
