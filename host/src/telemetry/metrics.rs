//! All numbers of the process in one place: hands out the counters that others write to, and shows
//! them to a scrape.
//!
//! Listeners, routes, upstreams and filter versions come and go with generations. Their counters
//! are shared by the generations that name them and disappear with the last one.

use super::counters::{CertificateStats, ListenerStats, ProcessStats, RouteStats, UpstreamStats};
use super::exposition;
use super::filter_stats::FilterStats;
use super::overload::OverloadStats;
use super::rollout::RolloutNumbers;
use super::sink::Sink;
use crate::capability::metrics::Registry;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The numbers of one process.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    started: SystemTime,
    process: ProcessStats,
    listeners: InUse<ListenerStats>,
    routes: InUse<RouteStats>,
    upstreams: InUse<UpstreamStats>,
    filters: InUse<FilterStats>,
    overloads: InUse<OverloadStats>,
    certificates: InUse<CertificateStats>,
    /// With a hash of the filter's configuration.
    custom: Mutex<Vec<(Weak<Registry>, blake3::Hash)>>,
    rollout: Mutex<Option<RolloutNumbers>>,
    log_sink: OnceLock<Sink>,
    access_log_sink: OnceLock<Sink>,
}

/// What is in use at the moment, in the order in which it is shown.
pub(super) struct Live {
    pub(super) listeners: Vec<Arc<ListenerStats>>,
    pub(super) routes: Vec<Arc<RouteStats>>,
    pub(super) upstreams: Vec<Arc<UpstreamStats>>,
    pub(super) filters: Vec<Arc<FilterStats>>,
    pub(super) overloads: Vec<Arc<OverloadStats>>,
    pub(super) certificates: Vec<Arc<CertificateStats>>,
    pub(super) custom: Vec<Arc<Registry>>,
}

impl Metrics {
    /// Of a process with so many workers that started at `started`.
    pub fn new(workers: usize, started: SystemTime) -> Arc<Self> {
        Arc::new(Metrics {
            workers,
            started,
            process: ProcessStats::default(),
            listeners: InUse::default(),
            routes: InUse::default(),
            upstreams: InUse::default(),
            filters: InUse::default(),
            overloads: InUse::default(),
            certificates: InUse::default(),
            custom: Mutex::default(),
            rollout: Mutex::default(),
            log_sink: OnceLock::new(),
            access_log_sink: OnceLock::new(),
        })
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// What happens to the process as a whole.
    pub fn process(&self) -> &ProcessStats {
        &self.process
    }

    /// The counters of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerStats> {
        let make = || ListenerStats::new(name, self.workers);
        self.listeners.get_or_make(|known| known.name() == name, make)
    }

    /// The counters of a route of a listener; requests without one count for
    /// [`NO_ROUTE`](super::counters::NO_ROUTE).
    pub fn route(&self, listener: &str, route: &str) -> Arc<RouteStats> {
        let is_it = |known: &RouteStats| (known.listener(), known.route()) == (listener, route);
        self.routes.get_or_make(is_it, || RouteStats::new(listener, route, self.workers))
    }

    /// The counters of an upstream.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamStats> {
        let make = || UpstreamStats::new(name, self.workers);
        self.upstreams.get_or_make(|known| known.name() == name, make)
    }

    /// The numbers of a limit on requests under way.
    pub fn overload(&self, scope: &str) -> Arc<OverloadStats> {
        self.overloads.get_or_make(|known| known.scope() == scope, || OverloadStats::new(scope))
    }

    /// The counters of a filter version.
    pub fn filter(&self, filter: &str, version: &str) -> Arc<FilterStats> {
        let is_it =
            |known: &FilterStats| (&**known.filter(), &**known.version()) == (filter, version);
        let make = || FilterStats::new(filter.into(), version.into(), self.workers);
        self.filters.get_or_make(is_it, make)
    }

    /// What is shown of a certificate: of the `listener` or `upstream` (`side`) called `owner`, from
    /// `file`.
    pub fn certificate(
        &self,
        side: &'static str,
        owner: &str,
        file: &str,
    ) -> Arc<CertificateStats> {
        let make = || CertificateStats::new(side, owner, file);
        self.certificates.get_or_make(|known| known.labels() == (side, owner, file), make)
    }

    /// The metrics that a filter version defines under a configuration. Another configuration may
    /// define others by the same names, and so has a registry of its own.
    pub fn custom(&self, filter: &str, version: &str, config: &str) -> Arc<Registry> {
        let hash = blake3::hash(config.as_bytes());
        let mut known = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(registry, _)| registry.strong_count() > 0);
        let same = known.iter().filter(|(_, known)| *known == hash).find_map(|(registry, _)| {
            let registry = registry.upgrade()?;
            ((&**registry.filter(), &**registry.version()) == (filter, version)).then_some(registry)
        });
        same.unwrap_or_else(|| {
            let registry = Arc::new(Registry::new(filter.into(), version.into()));
            known.push((Arc::downgrade(&registry), hash));
            registry
        })
    }

    /// Shows the numbers of the rollout in progress; none: there is no rollout.
    pub fn set_rollout(&self, numbers: Option<RolloutNumbers>) {
        *self.rollout.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    pub(super) fn rollout(&self) -> Option<RolloutNumbers> {
        self.rollout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows the lines of the structured log; the first sink given stays.
    pub fn set_log_sink(&self, sink: Sink) {
        let _ = self.log_sink.set(sink);
    }

    /// Shows the lines of the access log; the first sink given stays.
    pub fn set_access_log_sink(&self, sink: Sink) {
        let _ = self.access_log_sink.set(sink);
    }

    /// Everything as OpenMetrics text, of [`CONTENT_TYPE`](exposition::CONTENT_TYPE).
    pub fn expose(self: &Arc<Self>) -> String {
        exposition::expose(self)
    }

    pub(super) fn log_sink(&self) -> Option<&Sink> {
        self.log_sink.get()
    }

    pub(super) fn access_log_sink(&self) -> Option<&Sink> {
        self.access_log_sink.get()
    }

    pub(super) fn start_seconds(&self) -> f64 {
        self.started.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
    }

    pub(super) fn live(&self) -> Live {
        let mut live = Live {
            listeners: self.listeners.all(),
            routes: self.routes.all(),
            upstreams: self.upstreams.all(),
            filters: self.filters.all(),
            overloads: self.overloads.all(),
            certificates: self.certificates.all(),
            custom: {
                let known = self.custom.lock().unwrap_or_else(PoisonError::into_inner);
                known.iter().filter_map(|(registry, _)| registry.upgrade()).collect()
            },
        };
        live.listeners.sort_by(|a, b| a.name().cmp(b.name()));
        live.routes.sort_by(|a, b| (a.listener(), a.route()).cmp(&(b.listener(), b.route())));
        live.upstreams.sort_by(|a, b| a.name().cmp(b.name()));
        live.certificates.sort_by(|a, b| a.labels().cmp(&b.labels()));
        live.filters.sort_by(|a, b| (a.filter(), a.version()).cmp(&(b.filter(), b.version())));
        live.overloads.sort_by(|a, b| a.scope().cmp(b.scope()));
        // Stable: of two configurations of one version the newer one stays the later.
        live.custom.sort_by(|a, b| (a.filter(), a.version()).cmp(&(b.filter(), b.version())));
        live
    }
}

/// Counters that some generation uses.
#[derive(Debug)]
struct InUse<T>(Mutex<Vec<Weak<T>>>);

impl<T> Default for InUse<T> {
    fn default() -> Self {
        InUse(Mutex::default())
    }
}

impl<T> InUse<T> {
    fn get_or_make(&self, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.strong_count() > 0);
        let there = known.iter().filter_map(Weak::upgrade).find(|one| is_it(one));
        there.unwrap_or_else(|| {
            let new = Arc::new(make());
            known.push(Arc::downgrade(&new));
            new
        })
    }

    fn all(&self) -> Vec<Arc<T>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rollout::SideNumbers;
    use super::*;
    use crate::chain::FailureKind;

    #[test]
    fn counters_are_shared_by_the_generations_that_use_them() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let old = metrics.upstream("app");
        old.request(0);
        let new = metrics.upstream("app");
        drop(old);
        assert_eq!(new.requests(), 1);
        assert_eq!(metrics.upstream("other").requests(), 0);
    }

    #[test]
    fn counters_go_with_the_last_generation_that_uses_them() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let filter = metrics.filter("auth", "1");
        filter.record_failure(0, FailureKind::Trap);
        assert!(metrics.expose().contains(r#"version="1""#));
        drop(filter);
        assert!(!metrics.expose().contains(r#"version="1""#));
        assert_eq!(metrics.filter("auth", "1").failures(FailureKind::Trap), 0);
    }

    #[test]
    fn the_numbers_of_a_rollout_are_shown_while_it_is_in_progress() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let next = SideNumbers { exchanges: 5, failures: 4, local_replies: 3, errors: 2 };
        let shadow = vec![("same", 7)];
        let numbers = RolloutNumbers { step: 2, share: 0.05, next, shadow, ..Default::default() };
        metrics.set_rollout(Some(numbers));
        let text = metrics.expose();
        for line in [
            "pillion_rollout_step 2\n",
            "pillion_rollout_share 0.05\n",
            "pillion_rollout_exchanges_total{side=\"next\"} 5\n",
            "pillion_rollout_failures_total{side=\"next\"} 4\n",
            "pillion_rollout_local_replies_total{side=\"next\"} 3\n",
            "pillion_rollout_errors_total{side=\"next\"} 2\n",
            "pillion_rollout_errors_total{side=\"running\"} 0\n",
            "pillion_rollout_shadow_total{result=\"same\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        metrics.set_rollout(None);
        assert!(!metrics.expose().contains("pillion_rollout_"));
    }

    #[test]
    fn a_registry_belongs_to_filter_version_and_configuration() {
        let metrics = Metrics::new(1, UNIX_EPOCH);
        let registry = metrics.custom("a", "1", "{}");
        assert!(Arc::ptr_eq(&registry, &metrics.custom("a", "1", "{}")));
        for (filter, version, config) in [("b", "1", "{}"), ("a", "2", "{}"), ("a", "1", "[]")] {
            assert!(!Arc::ptr_eq(&registry, &metrics.custom(filter, version, config)));
        }
    }
}
