//! One generation: everything that a request needs, immutable, behind one pointer.
//!
//! `reload` is the only one to make and publish a [`Snapshot`]. A worker takes its own part of it,
//! the filter instances and sockets built for it ahead of time, the first time it sees it
//! (`worker::Worker::refresh`).

use crate::config::Config;
use crate::shutdown::Shutdown;
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::States;
use crate::wasm::{Prepared, WasmFilter};
use arc_swap::ArcSwap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
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
    /// Resolved addresses of each upstream's endpoints, in the order of `config.upstreams`. An
    /// endpoint whose name did not resolve is left out, and logged.
    pub addresses: Vec<Vec<SocketAddr>>,
    parts: Vec<Mutex<Option<WorkerPart>>>,
}

/// What one worker gets of a generation.
pub struct WorkerPart {
    /// In the order of `config.filters`.
    pub filters: Vec<Option<WasmFilter>>,
    /// Listeners that this generation opens, by name, bound and listening, not blocking.
    pub sockets: Vec<(Arc<str>, TcpListener)>,
}

impl Snapshot {
    /// A generation with a part for each worker.
    pub fn new(
        generation: u64,
        config: Arc<Config>,
        filters: Vec<Option<Arc<Prepared>>>,
        addresses: Vec<Vec<SocketAddr>>,
        parts: Vec<WorkerPart>,
    ) -> Self {
        let parts = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
        Snapshot { generation, config, filters, addresses, parts }
    }

    /// Takes over the sockets of `wanted` listeners from the parts of `running` that their workers
    /// have not taken, since these may pass `running` over. To be called right before publishing. A
    /// worker that takes its part of `running` afterwards gets these sockets a moment later, with
    /// this generation; none is ever given twice, which would end the connections of the first time.
    pub fn inherit_sockets(&self, running: &Snapshot, wanted: impl Fn(&str) -> bool) {
        for (from, to) in running.parts.iter().zip(&self.parts) {
            if let (Some(from), Some(to)) = (&mut *lock(from), &mut *lock(to)) {
                to.sockets.extend(from.sockets.extract_if(.., |(name, _)| wanted(name)));
            }
        }
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
    /// Told after every publication, so that idle workers let go of the generation before.
    pub published: watch::Sender<u64>,
    /// Counters, merged when they are read.
    pub metrics: Arc<Metrics>,
    /// What the workers know together of upstreams.
    pub upstreams: States,
    /// None where there is no access log.
    pub access_log: Option<Arc<AccessLog>>,
    /// Downstream connections of all workers.
    pub connections: AtomicUsize,
    /// Refused at accept beyond so many.
    pub connections_max: usize,
    /// Whether the process is to stop.
    pub shutdown: Shutdown,
}
