//! One worker: a thread with its own runtime, sockets, upstream connections and filter instances.
//!
//! Nothing on the request path is shared with other workers but counters that must be exact. The
//! worker follows the snapshot: it takes its part of a new generation at the next request, or when it
//! is told of it, whichever comes first.

use crate::chain::{Chain, Filter};
use crate::config;
use crate::http1::HeadLimits;
use crate::http2::Http2Limits;
use crate::listener;
use crate::proxy::record::Record;
use crate::proxy::route::{Listener, Route};
use crate::shutdown::Stage;
use crate::snapshot::{Shared, Snapshot, WorkerPart};
use crate::telemetry::WorkerLog;
use crate::telemetry::counters::NO_ROUTE;
use crate::upstream::health::{self, Checks};
use crate::upstream::{Endpoints, Upstream};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// How often connections that are idle for too long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Starts worker `index` on a thread of its own, which ends once the process drains and the
/// connections are done, or at [`Stage::Cut`].
pub fn spawn(index: usize, shared: Arc<Shared>) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime =
        || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || match runtime() {
        Ok(runtime) => runtime.block_on(Worker::new(index, shared).run()),
        Err(error) => {
            tracing::error!(worker = index, error = %error, "A worker could not start its event loop.");
            shared_stop(&shared);
        }
    })
}

fn shared_stop(shared: &Shared) {
    shared.shutdown.advance(Stage::Cut);
}

/// What belongs to one worker.
pub struct Worker {
    index: usize,
    shared: Arc<Shared>,
    current: RefCell<Option<Rc<Generation>>>,
    endpoints: Endpoints,
    log: Option<Rc<WorkerLog>>,
    gates: RefCell<HashMap<Arc<str>, Rc<Gate>>>,
    connections: Cell<usize>,
    last_closed: Notify,
}

/// One generation as this worker sees it. In flight requests keep what they use of it alive.
struct Generation {
    number: u64,
    /// A handful: looking through them takes less than a hash of the name.
    listeners: Vec<Rc<Listener>>,
    /// On the first worker alone.
    _health: Vec<Checks>,
}

impl Generation {
    fn listener(&self, name: &str) -> Option<&Rc<Listener>> {
        self.listeners.iter().find(|listener| *listener.name == *name)
    }
}

/// Whether a listener takes connections and requests; closed once.
#[derive(Default)]
pub struct Gate {
    closed: Cell<bool>,
    told: Notify,
}

impl Gate {
    /// Is it closed?
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until it is.
    pub async fn closed(&self) {
        let told = self.told.notified();
        if !self.closed.get() {
            told.await;
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.told.notify_waiters();
    }
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let log = shared.access_log.as_ref().map(|log| Rc::new(log.worker()));
        Rc::new(Worker {
            index,
            shared,
            current: RefCell::default(),
            endpoints: Endpoints::default(),
            log,
            gates: RefCell::default(),
            connections: Cell::new(0),
            last_closed: Notify::new(),
        })
    }

    async fn run(self: Rc<Self>) {
        let mut published = self.shared.published.subscribe();
        self.refresh();
        if let Some(log) = self.log.clone() {
            spawn_local(async move { log.flush_in_time().await });
        }
        let worker = self.clone();
        spawn_local(async move {
            while published.changed().await.is_ok() {
                worker.refresh();
            }
        });
        let worker = self.clone();
        spawn_local(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                ticks.tick().await;
                worker.endpoints.sweep();
            }
        });
        let shutdown = self.shared.shutdown.clone();
        shutdown.reached(Stage::Draining).await;
        for gate in self.gates.borrow().values() {
            gate.close();
        }
        tokio::select! {
            () = self.all_closed() => {}
            // Connections are dropped where they stand.
            () = shutdown.reached(Stage::Cut) => {}
        }
        if let Some(log) = &self.log {
            log.flush();
        }
    }

    /// Its index, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What the workers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where exchanges are recorded.
    pub fn record(&self) -> Record<'_> {
        Record { worker: self.index, log: self.log.as_deref() }
    }

    /// A listener in the generation in force; none once it is gone.
    pub fn listener(self: &Rc<Self>, name: &Arc<str>) -> Option<Rc<Listener>> {
        self.refresh();
        self.current.borrow().as_ref()?.listener(name).cloned()
    }

    /// Counts a connection of this worker; the count goes back when the result is dropped.
    pub fn connection(self: &Rc<Self>) -> Counted {
        self.connections.set(self.connections.get() + 1);
        Counted(self.clone())
    }

    async fn all_closed(&self) {
        while self.connections.get() > 0 {
            self.last_closed.notified().await;
        }
    }

    /// Takes this worker's part of the generation in force, if it has not yet.
    fn refresh(self: &Rc<Self>) {
        let snapshot = self.shared.snapshot.load();
        let known = self.current.borrow().as_ref().map(|generation| generation.number);
        if known == Some(snapshot.generation) {
            return;
        }
        let Some(WorkerPart { filters, sockets }) = snapshot.take_part(self.index) else { return };
        let filters: Vec<Option<Rc<dyn Filter>>> = filters
            .into_iter()
            .map(|filter| filter.map(|filter| Rc::new(filter) as Rc<dyn Filter>))
            .collect();
        let generation = self.generation(&snapshot, &filters);
        let mut gates = self.gates.borrow_mut();
        gates.retain(|name, gate| {
            let stays = generation.listener(name).is_some()
                && !sockets.iter().any(|(opened, _)| opened == name);
            if !stays {
                gate.close();
            }
            stays
        });
        for (name, socket) in sockets {
            let gate = Rc::new(Gate::default());
            gates.insert(name.clone(), gate.clone());
            spawn_local(listener::run(self.clone(), name, gate, socket));
        }
        *self.current.borrow_mut() = Some(Rc::new(generation));
    }

    fn generation(&self, snapshot: &Snapshot, filters: &[Option<Rc<dyn Filter>>]) -> Generation {
        let metrics = &self.shared.metrics;
        let upstreams: Vec<Rc<Upstream>> = snapshot
            .config
            .upstreams
            .iter()
            .zip(&snapshot.addresses)
            .map(|(config, addresses)| {
                let stats = metrics.upstream(&config.name);
                let state = self.shared.upstreams.of(&config.name, addresses, &stats);
                let endpoints = &self.endpoints;
                Rc::new(Upstream::new(config, addresses, endpoints, state, stats, self.index))
            })
            .collect();
        let route = |listener: &str, config: &config::Route| Route {
            chain: Rc::new(Chain::new(
                config.chain.iter().filter_map(|index| filters[*index].clone()).collect(),
            )),
            upstream: upstreams[config.upstream].clone(),
            stats: metrics.route(listener, &config.name),
            config: config.clone(),
        };
        let listener = |config: &config::Listener| Listener {
            name: config.name.clone(),
            generation: snapshot.generation,
            trusted_proxies: config.trusted_proxies.clone(),
            head_limits: head_limits(&config.limits),
            http2_limits: Rc::new(http2_limits(&config.limits)),
            stats: metrics.listener(&config.name),
            unrouted: metrics.route(&config.name, NO_ROUTE),
            routes: config.routes.iter().map(|r| route(&config.name, r)).collect(),
            limits: config.limits.clone(),
        };
        let listeners = snapshot.config.listeners.iter();
        Generation {
            number: snapshot.generation,
            _health: if self.index == 0 { health_checks(snapshot, &upstreams) } else { Vec::new() },
            listeners: listeners.map(|config| Rc::new(listener(config))).collect(),
        }
    }
}

/// Starts the health checks that upstreams ask for.
fn health_checks(snapshot: &Snapshot, upstreams: &[Rc<Upstream>]) -> Vec<Checks> {
    let upstreams = snapshot.config.upstreams.iter().zip(upstreams);
    upstreams
        .filter_map(|(config, upstream)| {
            let settings = config.policy.health.as_ref()?;
            Some(health::start(upstream, settings))
        })
        .collect()
}

/// A connection that is counted.
pub struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        if left == 0 {
            self.0.last_closed.notify_one();
        }
    }
}

fn head_limits(limits: &config::ListenerLimits) -> HeadLimits {
    HeadLimits {
        bytes: limits.head_bytes,
        fields: limits.head_fields,
        target: limits.target_bytes,
        trailer_bytes: limits.trailer_bytes,
        trailer_fields: limits.trailer_fields,
    }
}

fn http2_limits(limits: &config::ListenerLimits) -> Http2Limits {
    let as_u32 = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Http2Limits {
        streams: as_u32(limits.h2_streams),
        stream_window_bytes: as_u32(limits.h2_stream_window),
        connection_window_bytes: as_u32(limits.h2_connection_window),
        send_buffer_bytes: limits.h2_send_buffer,
        header_list_bytes: as_u32(limits.h2_header_list),
        fields: limits.head_fields,
        target_bytes: limits.target_bytes,
        trailer_bytes: limits.trailer_bytes,
        trailer_fields: limits.trailer_fields,
        preface_timeout: limits.head_timeout,
        header_block_timeout: limits.head_timeout,
        resets: as_u32(limits.h2_resets),
        reset_window: limits.h2_resets_window,
        ping_interval: limits.h2_ping_interval,
        ping_timeout: limits.h2_ping_timeout,
        downstream_idle: limits.idle_timeout,
        requests: limits.requests_per_connection as u64,
        lifetime: limits.connection_lifetime,
        ..Http2Limits::default()
    }
}
