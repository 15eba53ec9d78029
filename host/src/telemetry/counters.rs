//! What listeners, routes, upstreams and the process as a whole have counted.
//!
//! The data path writes, one shard a worker; `exposition` reads. `worker` is the number of the
//! calling worker; threads that are no worker give `usize::MAX`.

use super::dns_stats::DnsStats;
use super::guard_stats::GuardStats;
use super::handshakes::{HandshakeCounts, HandshakeResult, HandshakeVersion};
use super::histogram::{Distribution, Histogram};
use super::mirror::MirrorStats;
use super::sharded::{Sharded, add};
use crate::chain::Outcome;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Name of the route of requests that no route took: malformed ones, and those answered with 404.
pub const NO_ROUTE: &str = "none";

/// The classes of final statuses, as metrics name them; the last is an exchange without a status.
pub const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The proxy error types of RFC 9209 section 2.3, and one for any other word.
pub const ERROR_WORDS: [&str; 33] = [
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
    "other",
];

/// Connections of one listener.
#[derive(Debug)]
pub struct ListenerStats {
    name: Arc<str>,
    shards: Sharded<ListenerShard>,
}

#[derive(Debug, Default)]
struct ListenerShard {
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    handshakes: HandshakeCounts,
    deadlines: [AtomicU64; DeadlineResult::ALL.len()],
}

/// What became of the time that a request says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeadlineResult {
    /// It is held to it.
    Taken,
    /// It is held to the longest there may be.
    Shortened,
    /// It is no time.
    Malformed,
    /// It was over before the exchange was.
    Exceeded,
}

impl DeadlineResult {
    /// Every case.
    pub const ALL: [DeadlineResult; 4] = [
        DeadlineResult::Taken,
        DeadlineResult::Shortened,
        DeadlineResult::Malformed,
        DeadlineResult::Exceeded,
    ];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            DeadlineResult::Taken => "taken",
            DeadlineResult::Shortened => "shortened",
            DeadlineResult::Malformed => "malformed",
            DeadlineResult::Exceeded => "exceeded",
        }
    }
}

impl ListenerStats {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        ListenerStats { name: name.into(), shards: Sharded::new(workers) }
    }

    /// Name of the listener.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection was accepted; `connection_closed` follows in every case.
    pub fn connection_accepted(&self, worker: usize) {
        count(&self.shards.of(worker).accepted);
    }

    /// An accepted connection is gone.
    pub fn connection_closed(&self, worker: usize) {
        count(&self.shards.of(worker).closed);
    }

    /// A connection was refused at accept, because there were too many.
    pub fn connection_refused(&self, worker: usize) {
        count(&self.shards.of(worker).refused);
    }

    /// A TLS handshake is over.
    pub fn handshake(&self, worker: usize, result: HandshakeResult, version: HandshakeVersion) {
        self.shards.of(worker).handshakes.count(result, version);
    }

    /// TLS handshakes that ended like this.
    pub fn handshakes(&self, result: HandshakeResult, version: HandshakeVersion) -> u64 {
        self.shards.sum(|shard| shard.handshakes.read(result, version))
    }

    /// A request said how much time it has, or that time is over.
    pub fn deadline(&self, worker: usize, result: DeadlineResult) {
        count(&self.shards.of(worker).deadlines[result as usize]);
    }

    /// How often that came to `result`.
    pub fn deadlines(&self, result: DeadlineResult) -> u64 {
        self.shards.sum(|shard| read(&shard.deadlines[result as usize]))
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.accepted))
    }

    /// Connections refused so far.
    pub fn refused(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.refused))
    }

    /// Connections there are.
    pub fn open(&self) -> u64 {
        let closed = self.shards.sum(|shard| read(&shard.closed));
        self.accepted().saturating_sub(closed)
    }
}

/// Requests of one route of one listener.
#[derive(Debug)]
pub struct RouteStats {
    /// Copies of its requests.
    pub mirror: MirrorStats,
    listener: Arc<str>,
    route: Arc<str>,
    shards: Sharded<RouteShard>,
}

#[derive(Debug, Default)]
struct RouteShard {
    started: AtomicU64,
    /// By status class.
    finished: [AtomicU64; STATUS_CLASSES.len()],
    errors: ErrorCounts,
    durations: Histogram<6>,
}

impl RouteStats {
    pub(super) fn new(listener: &str, route: &str, workers: usize) -> Self {
        RouteStats {
            mirror: MirrorStats::default(),
            listener: listener.into(),
            route: route.into(),
            shards: Sharded::new(workers),
        }
    }

    /// Name of the listener.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Name of the route.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// An exchange has found its route; `request_finished` follows in every case.
    pub fn request_started(&self, worker: usize) {
        add(&self.shards.of(worker).started, 1, self.shards.is_own(worker));
    }

    /// An exchange is over.
    pub fn request_finished(&self, worker: usize, outcome: &Outcome) {
        let shard = self.shards.of(worker);
        let is_own = self.shards.is_own(worker);
        add(&shard.finished[status_class(outcome.status)], 1, is_own);
        shard.durations.observe(outcome.duration, is_own);
        if let Some(word) = outcome.error {
            shard.errors.count(word);
        }
    }

    /// Exchanges in progress.
    pub fn active(&self) -> u64 {
        let finished = |shard: &RouteShard| shard.finished.iter().map(read).sum();
        let finished = self.shards.sum(finished);
        self.shards.sum(|shard| read(&shard.started)).saturating_sub(finished)
    }

    /// Exchanges that are over, by [`STATUS_CLASSES`].
    pub fn finished(&self) -> [u64; STATUS_CLASSES.len()] {
        std::array::from_fn(|class| self.shards.sum(|shard| read(&shard.finished[class])))
    }

    /// Exchanges that ended with an error, by [`ERROR_WORDS`].
    pub fn errors(&self) -> [u64; ERROR_WORDS.len()] {
        std::array::from_fn(|word| self.shards.sum(|shard| read(&shard.errors.0[word])))
    }

    /// From the complete request head to the last byte.
    pub fn durations(&self) -> Distribution {
        let mut sum = Distribution::default();
        self.shards.iter().for_each(|shard| shard.durations.add_to(&mut sum));
        sum
    }
}

/// Connections to and requests sent to one upstream.
#[derive(Debug)]
pub struct UpstreamStats {
    /// Breakers, endpoints left out, repetitions.
    pub guards: GuardStats,
    /// Lookups of its endpoints' names.
    pub dns: DnsStats,
    name: Arc<str>,
    shards: Sharded<UpstreamShard>,
}

#[derive(Debug, Default)]
struct UpstreamShard {
    opened: AtomicU64,
    closed: AtomicU64,
    reused: AtomicU64,
    requests: AtomicU64,
    failures: ErrorCounts,
    handshakes: HandshakeCounts,
    response_times: Histogram<6>,
}

impl UpstreamStats {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        UpstreamStats {
            guards: GuardStats::default(),
            dns: DnsStats::default(),
            name: name.into(),
            shards: Sharded::new(workers),
        }
    }

    /// Name of the upstream.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection was made; `connection_closed` follows in every case.
    pub fn connection_opened(&self, worker: usize) {
        count(&self.shards.of(worker).opened);
    }

    /// A connection is gone.
    pub fn connection_closed(&self, worker: usize) {
        count(&self.shards.of(worker).closed);
    }

    /// A request was sent on a connection that had served another one.
    pub fn connection_reused(&self, worker: usize) {
        add(&self.shards.of(worker).reused, 1, self.shards.is_own(worker));
    }

    /// A request was sent, or tried to be.
    pub fn request(&self, worker: usize) {
        add(&self.shards.of(worker).requests, 1, self.shards.is_own(worker));
    }

    /// A request failed, with a word of RFC 9209.
    pub fn failure(&self, worker: usize, word: &str) {
        self.shards.of(worker).failures.count(word);
    }

    /// A response head came, so long after the complete request head.
    pub fn response(&self, worker: usize, time: Duration) {
        self.shards.of(worker).response_times.observe(time, self.shards.is_own(worker));
    }

    /// A TLS handshake is over.
    pub fn handshake(&self, worker: usize, result: HandshakeResult, version: HandshakeVersion) {
        self.shards.of(worker).handshakes.count(result, version);
    }

    /// TLS handshakes that ended like this.
    pub fn handshakes(&self, result: HandshakeResult, version: HandshakeVersion) -> u64 {
        self.shards.sum(|shard| shard.handshakes.read(result, version))
    }

    /// Connections made so far.
    pub fn opened(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.opened))
    }

    /// Connections there are.
    pub fn open(&self) -> u64 {
        let closed = self.shards.sum(|shard| read(&shard.closed));
        self.opened().saturating_sub(closed)
    }

    /// Requests on a connection that had served another one.
    pub fn reused(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.reused))
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.shards.sum(|shard| read(&shard.requests))
    }

    /// Requests that failed, by [`ERROR_WORDS`].
    pub fn failures(&self) -> [u64; ERROR_WORDS.len()] {
        std::array::from_fn(|word| self.shards.sum(|shard| read(&shard.failures.0[word])))
    }

    /// From the complete request head to the response head.
    pub fn response_times(&self) -> Distribution {
        let mut sum = Distribution::default();
        self.shards.iter().for_each(|shard| shard.response_times.add_to(&mut sum));
        sum
    }
}

/// A certificate that some generation shows to peers.
#[derive(Debug)]
pub struct CertificateStats {
    side: &'static str,
    owner: Arc<str>,
    file: Arc<str>,
    not_after: AtomicI64,
}

impl CertificateStats {
    pub(super) fn new(side: &'static str, owner: &str, file: &str) -> Self {
        CertificateStats {
            side,
            owner: owner.into(),
            file: file.into(),
            not_after: AtomicI64::new(0),
        }
    }

    /// `listener` or `upstream`; the name of it; the file of the certificate.
    pub fn labels(&self) -> (&'static str, &str, &str) {
        (self.side, &self.owner, &self.file)
    }

    /// When the certificate in force expires, in seconds since 1970.
    pub fn set_not_after(&self, seconds: i64) {
        self.not_after.store(seconds, Ordering::Relaxed);
    }

    /// What was set last.
    pub fn not_after(&self) -> i64 {
        self.not_after.load(Ordering::Relaxed)
    }
}

/// What came of looking for a compiled filter in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CacheLookup {
    /// It was there.
    Hit,
    /// It was not.
    Miss,
    /// What was there was not ours, or not whole.
    Rejected,
}

impl CacheLookup {
    /// Every result.
    pub const ALL: [CacheLookup; 3] = [CacheLookup::Hit, CacheLookup::Miss, CacheLookup::Rejected];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CacheLookup::Hit => "hit",
            CacheLookup::Miss => "miss",
            CacheLookup::Rejected => "rejected",
        }
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RolloutEnd {
    /// The candidate is the running version.
    Promoted,
    /// The judge or a person went back.
    RolledBack,
    /// Another change took its place.
    CutShort,
}

impl RolloutEnd {
    /// Every end.
    pub const ALL: [RolloutEnd; 3] =
        [RolloutEnd::Promoted, RolloutEnd::RolledBack, RolloutEnd::CutShort];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RolloutEnd::Promoted => "promoted",
            RolloutEnd::RolledBack => "rolled_back",
            RolloutEnd::CutShort => "cut_short",
        }
    }
}

/// What happens seldom, and to the process as a whole.
#[derive(Debug, Default)]
pub struct ProcessStats {
    generation: AtomicU64,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    cache_lookups: [AtomicU64; CacheLookup::ALL.len()],
    rollouts: [AtomicU64; RolloutEnd::ALL.len()],
    swallowed: Mutex<BTreeMap<&'static str, u64>>,
}

impl ProcessStats {
    /// A generation was published.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// The generation published last; 0 before the first.
    pub fn generation(&self) -> u64 {
        read(&self.generation)
    }

    /// A reload has published a generation. The start is none.
    pub fn reload_succeeded(&self) {
        count(&self.reloads_ok);
    }

    /// A reload has changed nothing.
    pub fn reload_failed(&self) {
        count(&self.reloads_failed);
    }

    /// Reloads so far: those that succeeded, those that failed.
    pub fn reloads(&self) -> (u64, u64) {
        (read(&self.reloads_ok), read(&self.reloads_failed))
    }

    /// A compiled filter was looked for.
    pub fn cache_lookup(&self, result: CacheLookup) {
        count(&self.cache_lookups[result as usize]);
    }

    /// How often a lookup had this result.
    pub fn cache_lookups(&self, result: CacheLookup) -> u64 {
        read(&self.cache_lookups[result as usize])
    }

    /// A rollout is over.
    pub fn rollout_ended(&self, end: RolloutEnd) {
        count(&self.rollouts[end as usize]);
    }

    /// How many rollouts ended so.
    pub fn rollouts_ended(&self, end: RolloutEnd) -> u64 {
        read(&self.rollouts[end as usize])
    }

    /// An error was logged and otherwise passed over. `what` names the operation, in snake case,
    /// and comes from a small fixed set: `cache_write`, `filter_fail_open`, ...
    pub fn swallowed(&self, what: &'static str) {
        let mut swallowed = self.swallowed.lock().unwrap_or_else(PoisonError::into_inner);
        *swallowed.entry(what).or_default() += 1;
    }

    /// Errors passed over so far, by operation.
    pub fn swallowed_errors(&self) -> BTreeMap<&'static str, u64> {
        self.swallowed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Occurrences by [`ERROR_WORDS`].
#[derive(Debug)]
struct ErrorCounts([AtomicU64; ERROR_WORDS.len()]);

impl Default for ErrorCounts {
    fn default() -> Self {
        ErrorCounts(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ErrorCounts {
    fn count(&self, word: &str) {
        let other = ERROR_WORDS.len() - 1;
        let at = ERROR_WORDS.iter().position(|known| *known == word).unwrap_or(other);
        count(&self.0[at]);
    }
}

fn status_class(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100 - 1),
        Some(_) | None => STATUS_CLASSES.len() - 1,
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_open_until_they_are_closed() {
        let stats = ListenerStats::new("inbound", 2);
        stats.connection_accepted(0);
        stats.connection_accepted(1);
        stats.connection_closed(0);
        stats.connection_refused(1);
        assert_eq!((stats.accepted(), stats.open(), stats.refused()), (2, 1, 1));
    }

    #[test]
    fn requests_are_counted_by_class_and_error() {
        let stats = RouteStats::new("inbound", "inbound/0", 2);
        for (worker, status, error) in [
            (0, Some(101), None),
            (1, Some(204), None),
            (0, Some(200), None),
            (1, Some(504), Some("http_response_timeout")),
            (0, None, Some("no such word")),
            (0, Some(600), None),
        ] {
            stats.request_started(worker);
            stats.request_finished(worker, &Outcome { status, error, ..Outcome::default() });
        }
        stats.request_started(1);
        assert_eq!(stats.finished(), [1, 2, 0, 0, 1, 2]);
        assert_eq!(stats.active(), 1);
        assert_eq!(stats.durations().count(), 6);
        let errors = stats.errors();
        let of = |word| errors[ERROR_WORDS.iter().position(|known| *known == word).unwrap()];
        assert_eq!((of("http_response_timeout"), of("other")), (1, 1));
        assert_eq!(errors.iter().sum::<u64>(), 2);
    }

    #[test]
    fn every_fault_has_a_word_of_its_own() {
        for fault in crate::proxy::reply::Fault::ALL {
            let word = fault.row().error;
            assert!(ERROR_WORDS.contains(&word) && word != "other", "{word}");
        }
    }

    #[test]
    fn upstream_connections_and_requests_are_counted() {
        let stats = UpstreamStats::new("app", 1);
        stats.connection_opened(0);
        stats.connection_opened(usize::MAX);
        stats.connection_closed(0);
        stats.connection_reused(0);
        stats.request(0);
        stats.failure(0, "connection_refused");
        stats.response(0, Duration::from_millis(1));
        assert_eq!((stats.opened(), stats.open(), stats.reused()), (2, 1, 1));
        assert_eq!((stats.requests(), stats.failures()[6]), (1, 1));
        assert_eq!(stats.response_times().count(), 1);
    }

    #[test]
    fn the_process_counts_what_is_seldom() {
        let stats = ProcessStats::default();
        stats.set_generation(7);
        stats.reload_succeeded();
        stats.reload_failed();
        stats.reload_failed();
        stats.cache_lookup(CacheLookup::Rejected);
        stats.swallowed("cache_write");
        stats.swallowed("cache_write");
        stats.rollout_ended(RolloutEnd::RolledBack);
        assert_eq!(RolloutEnd::ALL.map(|end| stats.rollouts_ended(end)), [0, 1, 0]);
        assert_eq!((stats.generation(), stats.reloads()), (7, (1, 2)));
        assert_eq!(stats.cache_lookups(CacheLookup::Rejected), 1);
        assert_eq!(stats.cache_lookups(CacheLookup::Hit), 0);
        assert_eq!(stats.swallowed_errors(), BTreeMap::from([("cache_write", 2)]));
    }
}
