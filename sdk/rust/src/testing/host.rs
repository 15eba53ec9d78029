//! The fake host: its services, set up like the grants of a configuration file, and loading a filter.

use std::fmt;
use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{
    buckets::Buckets,
    exchange::{self, Exchange},
    fake,
    message::Request,
    metrics::{Metrics, Series},
    store::Store,
};
use crate::{ConfigError, Error, Filter, Hooks, json, log::Level, rate_limit::Policy};

/// A fake host. Clones are the same host, and so are the filters loaded from it: like the instances of
/// one filter they share buckets, `kv`, metrics and the clock.
#[derive(Debug, Clone)]
pub struct Host(pub(super) Rc<RefCell<State>>);

/// A line that a filter logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// The text as the host writes it: cut to 1 KiB, control characters escaped.
    pub text: String,
}

/// What the services of a host are made of.
#[derive(Debug)]
pub(super) struct State {
    pub(super) wall: Duration,
    pub(super) monotonic: Duration,
    pub(super) random: u64,
    pub(super) level: Level,
    pub(super) lines: Vec<LogLine>,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    pub(super) buckets: Option<Buckets>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host on 2026-01-01 at midnight that grants everything but `rate-limit`, which needs numbers.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            wall: Duration::from_secs(1_767_225_600),
            monotonic: Duration::ZERO,
            random: 0,
            level: Level::Trace,
            lines: Vec::new(),
            metrics: Metrics::default(),
            store: Store::default(),
            buckets: None,
        })))
    }

    /// Grants `rate-limit`: `requests` tokens `per` window, `burst` in a full bucket.
    ///
    /// # Panics
    /// If one of them is zero.
    #[must_use]
    pub fn rate_limit(self, requests: u64, per: Duration, burst: u64) -> Self {
        assert!(requests > 0 && !per.is_zero() && burst > 0, "a bucket needs a size and a rate");
        self.0.borrow_mut().buckets = Some(Buckets::new(Policy { requests, per, burst }));
        self
    }

    /// Sets the wall clock: time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at(self, since_epoch: Duration) -> Self {
        self.0.borrow_mut().wall = since_epoch;
        self
    }

    /// Sets the seed of the random numbers; the same seed gives the same numbers.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.0.borrow_mut().random = seed;
        self
    }

    /// Sets the least important level that is written; default: all are.
    #[must_use]
    pub fn log_level(self, level: Level) -> Self {
        self.0.borrow_mut().level = level;
        self
    }

    /// Sets the size of the `kv` namespace; default: 10,000 entries and 64 KiB a value.
    #[must_use]
    pub fn kv_limits(self, entries: usize, value_bytes: usize) -> Self {
        let mut state = self.0.borrow_mut();
        state.store.entries_max = entries;
        state.store.value_bytes_max = value_bytes;
        drop(state);
        self
    }

    /// Sets an entry of `kv` that never ends, as another version of the filter may have left it.
    ///
    /// # Panics
    /// If it is more than the namespace takes.
    #[must_use]
    pub fn kv_entry(self, key: &str, value: &[u8]) -> Self {
        let mut state = self.0.borrow_mut();
        let now = state.monotonic;
        state.store.set(key, value, None, now).expect("an entry that fits the namespace");
        drop(state);
        self
    }

    /// Has a filter bring what is in `kv` from the form of state version `from` into its own, on an
    /// instance of its own, as the host does before it loads a version with a higher state version.
    ///
    /// # Errors
    /// What the filter finds wrong.
    ///
    /// # Panics
    /// If `from` is not below the filter's state version: then it is not called.
    pub fn migrate<F: Filter>(&self, from: u32, config: serde_json::Value) -> Result<(), Error> {
        let to = F::STATE_VERSION;
        assert!(
            from < to,
            "the host migrates to a higher state version only, not from {from} to {to}"
        );
        let config = config.to_string();
        let (_, mut filter) = make::<F>(self, &config).map_err(|error| {
            let ConfigError { key, message } = error;
            Error::new(format!("the configuration was refused: `{key}`: {message}"))
        })?;
        fake::migrate(self, || filter.migrate(from))
    }

    /// Makes an instance of a filter with this `config` table.
    ///
    /// # Errors
    /// What the filter, or reading its configuration, finds wrong.
    pub fn load<F: Filter>(&self, config: serde_json::Value) -> Result<Loaded<F>, ConfigError> {
        let config = config.to_string();
        let (wanted, filter) = make(self, &config)?;
        let instance = Rc::new(Instance { config, live: RefCell::new(Some(filter)) });
        Ok(Loaded { instance, wanted, host: self.clone() })
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.borrow_mut();
        state.wall = state.wall.saturating_add(by);
        state.monotonic = state.monotonic.saturating_add(by);
    }

    /// The lines logged so far.
    pub fn logs(&self) -> Vec<LogLine> {
        self.0.borrow().lines.clone()
    }

    /// The sum of a counter or histogram, or the last value of a gauge; `None`: nothing reported.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        self.0.borrow().metrics.value(name, labels)
    }

    /// Everything reported to a series, oldest first.
    pub fn reports(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        self.0.borrow().metrics.reports(name, labels)
    }

    /// Every series that something was reported to, in the order of the metrics' definition.
    pub fn series(&self) -> Vec<Series> {
        self.0.borrow().metrics.series()
    }

    /// The value of a key in `kv`.
    pub fn kv(&self, key: &str) -> Option<Vec<u8>> {
        let mut state = self.0.borrow_mut();
        let now = state.monotonic;
        state.store.get(key, now)
    }
}

/// A filter that is loaded: an instance of it, made anew after a failure as the host does.
#[derive(Debug)]
pub struct Loaded<F> {
    pub(super) instance: Rc<Instance<F>>,
    pub(super) wanted: Hooks,
    pub(super) host: Host,
}

impl<F: Filter> Loaded<F> {
    /// Sends a request through the request hooks. Exchanges may overlap.
    pub fn request(&self, request: Request) -> Exchange<F> {
        exchange::begin(self, request)
    }

    /// The hooks it [wants](Filter::wants): no others are called.
    pub fn wanted_hooks(&self) -> Hooks {
        self.wanted
    }

    /// The host it was loaded from.
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// The instance of a loaded filter.
pub(super) struct Instance<F> {
    /// Its `config` table as JSON text.
    config: String,
    /// Absent while a hook runs, and after one failed.
    live: RefCell<Option<F>>,
}

/// Without the configuration, in which there may be secrets.
impl<F: fmt::Debug> fmt::Debug for Instance<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Instance").field("live", &self.live).finish_non_exhaustive()
    }
}

impl<F: Filter> Instance<F> {
    /// The instance for a hook call, or why there is none: the text in the host's log.
    pub(super) fn take(&self, host: &Host) -> Result<F, String> {
        match self.live.take() {
            Some(filter) => Ok(filter),
            None => make(host, &self.config).map(|(_, filter)| filter).map_err(|error| {
                let ConfigError { key, message } = error;
                format!("no new instance: the configuration was refused: `{key}`: {message}")
            }),
        }
    }

    /// Takes it back.
    pub(super) fn put(&self, filter: F) {
        self.live.replace(Some(filter));
    }
}

/// Makes an instance, and asks it what it wants.
fn make<F: Filter>(host: &Host, config: &str) -> Result<(Hooks, F), ConfigError> {
    let make = || {
        let filter = json::parse::<F::Config>(config).and_then(F::new)?;
        Ok((filter.wants(), filter))
    };
    fake::run(host, None, make).0
}
