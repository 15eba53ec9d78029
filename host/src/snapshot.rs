//! One generation: everything that a request needs, immutable, behind one pointer.
//!
//! `reload` is the only one to make and publish a [`Snapshot`]. A worker takes its own part of it,
//! the filter instances and sockets built for it ahead of time, the first time it sees it
//! (`worker::Worker::refresh`). While a rollout is on, the [`Candidate`] is part of it.

use crate::chain::Members;
use crate::config::Config;
use crate::dns::Addresses;
use crate::overload::Limiters;
use crate::rollout::{Arm, Share, Stage, Sticky};
use crate::shadow::Shadow;
use crate::shutdown::Shutdown;
use crate::telemetry::{AccessLog, Metrics};
use crate::tls::Tls;
use crate::upstream::States;
use crate::wasm::{Prepared, WasmFilter};
use arc_swap::ArcSwap;
use std::hash::RandomState;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// One generation of the configuration, ready to serve.
pub struct Snapshot {
    /// Counted from 1.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// The filters, in the order of `config.filters`. None: it could not be loaded, and its fail
    /// policy is `open`.
    pub filters: Vec<Option<Arc<Prepared>>>,
    /// Addresses of each upstream's endpoints, in the order of `config.upstreams`. Those of names that
    /// are followed change beneath the generation; other names that did not resolve are left out, and
    /// logged.
    pub addresses: Vec<Arc<Addresses>>,
    /// What its listeners and upstreams need to speak TLS.
    pub tls: Tls,
    /// What is tried beside it. None: this generation is a full one.
    pub candidate: Option<Candidate>,
    serving: Vec<Arc<Prepared>>,
    parts: Vec<Mutex<Option<WorkerPart>>>,
}

/// What is tried beside the running version, and on whom. Its configuration differs from the running
/// one in filters and chains only: listeners and routes have the same places in both.
#[derive(Clone)]
pub struct Candidate {
    /// What it was built from.
    pub config: Arc<Config>,
    /// As in [`Snapshot::filters`]; a filter that is the same in both is the same `Prepared`.
    pub filters: Vec<Option<Arc<Prepared>>>,
    /// What it gets to see.
    pub stage: Stage,
    /// Which requests it gets.
    pub sticky: Sticky,
    /// Key of the choice; the same in all stages of a rollout.
    pub salt: RandomState,
    /// Counts what the running version does on the routes that differ.
    pub running: Arc<Arm>,
    /// Counts what the candidate does.
    pub next: Arc<Arm>,
    /// In a shadow step: where copies of exchanges go.
    pub shadow: Option<Arc<Shadow>>,
}

impl Candidate {
    /// Its share of the requests, in a step in which it gets any.
    pub fn share(&self) -> Option<Share> {
        match self.stage {
            Stage::Canary(share) => Some(share),
            Stage::Shadow | Stage::Full => None,
        }
    }
}

/// Adds the filters that are in a chain and not in `all` yet.
fn in_chains(config: &Config, filters: &[Option<Arc<Prepared>>], all: &mut Vec<Arc<Prepared>>) {
    let mut used = vec![false; filters.len()];
    let routes = config.listeners.iter().flat_map(|listener| &listener.routes);
    routes.flat_map(|route| &route.chain).for_each(|index| used[*index] = true);
    for prepared in
        filters.iter().zip(used).filter(|(_, used)| *used).filter_map(|it| it.0.as_ref())
    {
        if !all.iter().any(|known| Arc::ptr_eq(known, prepared)) {
            all.push(prepared.clone());
        }
    }
}

/// The filters of a route's chain, by the places of listener and route; those that could not be loaded
/// are left out.
pub fn versions<'f>(
    config: &Config,
    filters: &'f [Option<Arc<Prepared>>],
    (listener, route): (usize, usize),
) -> Vec<&'f Arc<Prepared>> {
    let chain = &config.listeners[listener].routes[route].chain;
    chain.iter().filter_map(|index| filters[*index].as_ref()).collect()
}

/// The filters of each chain that the other does not have; in chains that differ in their order only,
/// all of them. None: the chains are the same.
pub fn differences(one: &[&Arc<Prepared>], other: &[&Arc<Prepared>]) -> Option<(Members, Members)> {
    let has = |all: &[&Arc<Prepared>], it: &Arc<Prepared>| all.iter().any(|o| Arc::ptr_eq(o, it));
    let only = |these: &[&Arc<Prepared>], those: &[&Arc<Prepared>]| -> Members {
        (0..these.len()).filter(|at| !has(those, these[*at])).collect()
    };
    let (one_only, other_only) = (only(one, other), only(other, one));
    if !one_only.is_empty() || !other_only.is_empty() {
        return Some((one_only, other_only));
    }
    let same = one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b));
    (!same).then(|| ((0..one.len()).collect(), (0..other.len()).collect()))
}

/// What one worker gets of a generation.
pub struct WorkerPart {
    /// Filters that the generation before did not have, each once. The others go on with the
    /// instances that the worker has.
    pub filters: Vec<WasmFilter>,
    /// Listeners that this generation opens, by name, bound and listening, not blocking.
    pub sockets: Vec<(Arc<str>, TcpListener)>,
}

impl Snapshot {
    /// A generation that has no parts yet.
    pub fn new(
        generation: u64,
        config: Arc<Config>,
        filters: Vec<Option<Arc<Prepared>>>,
        addresses: Vec<Arc<Addresses>>,
        candidate: Option<Candidate>,
    ) -> Self {
        let mut serving = Vec::new();
        in_chains(&config, &filters, &mut serving);
        if let Some(next) = candidate.as_ref().filter(|candidate| candidate.share().is_some()) {
            in_chains(&next.config, &next.filters, &mut serving);
        }
        let tls = Tls::default();
        let parts = Vec::new();
        Snapshot { generation, config, filters, addresses, tls, candidate, serving, parts }
    }

    /// With a part for each worker.
    #[must_use]
    pub fn with_parts(mut self, parts: Vec<WorkerPart>) -> Self {
        self.parts = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
        self
    }

    /// Takes over the sockets of `wanted` listeners and the filters that it has too from the parts of
    /// `running` that their workers have not taken, since these may pass `running` over. To be called
    /// right before publishing. A worker that takes its part of `running` afterwards gets these a
    /// moment later, with this generation; until then it makes such an instance when it is needed. No
    /// socket is ever given twice, which would end the connections of the first time.
    pub fn inherit(&self, running: &Snapshot, wanted: impl Fn(&str) -> bool) {
        for (from, to) in running.parts.iter().zip(&self.parts) {
            if let (Some(from), Some(to)) = (&mut *lock(from), &mut *lock(to)) {
                to.sockets.extend(from.sockets.extract_if(.., |(name, _)| wanted(name)));
                let used = |filter: &mut WasmFilter| self.serves(filter.prepared());
                to.filters.extend(from.filters.extract_if(.., used));
            }
        }
    }

    /// Every filter version that requests may meet, each once: those in chains of the running version,
    /// and those in chains of its candidate in a canary step.
    pub fn serving(&self) -> &[Arc<Prepared>] {
        &self.serving
    }

    /// May requests meet this filter version?
    pub fn serves(&self, prepared: &Arc<Prepared>) -> bool {
        self.serving.iter().any(|known| Arc::ptr_eq(known, prepared))
    }

    /// The part of a worker; given once.
    pub fn take_part(&self, worker: usize) -> Option<WorkerPart> {
        lock(self.parts.get(worker)?).take()
    }
}

fn lock(part: &Mutex<Option<WorkerPart>>) -> MutexGuard<'_, Option<WorkerPart>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the workers of a process share. Nothing in it is locked on the request path.
pub struct Shared {
    /// The generation in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Its number, stored behind it: what a worker looks at with every request.
    pub generation: AtomicU64,
    /// Told after every publication, so that idle workers let go of the generation before.
    pub published: watch::Sender<u64>,
    /// Counters, merged when they are read.
    pub metrics: Arc<Metrics>,
    /// What the workers know together of upstreams.
    pub upstreams: States,
    /// None where there is no access log.
    pub access_log: Option<Arc<AccessLog>>,
    /// Limits on requests under way.
    pub limiters: Limiters,
    /// Downstream connections of all workers.
    pub connections: AtomicUsize,
    /// Refused at accept beyond so many.
    pub connections_max: usize,
    /// Whether the process is to stop.
    pub shutdown: Shutdown,
}
