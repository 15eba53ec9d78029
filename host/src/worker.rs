//! One worker: a thread with its own runtime, sockets, upstream connections and filter instances.
//!
//! Nothing on the request path is shared with other workers but counters that must be exact. The
//! worker follows the snapshot: it takes its part of a new generation at the next request, or when it
//! is told of it, whichever comes first.

mod view;

use self::view::{Instances, View};
use crate::listener;
use crate::proxy::record::Record;
use crate::proxy::route::Listener;
use crate::shutdown::Stage;
use crate::snapshot::{Shared, WorkerPart};
use crate::telemetry::WorkerLog;
use crate::upstream::Endpoints;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::spawn_local;

/// How often connections that are idle for too long are looked for, and endpoints that have left.
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
    current: RefCell<Option<Rc<View>>>,
    endpoints: Rc<Endpoints>,
    log: Option<Rc<WorkerLog>>,
    gates: RefCell<HashMap<Arc<str>, Rc<Gate>>>,
    connections: Cell<usize>,
    last_closed: Notify,
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
            endpoints: Rc::default(),
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
                if let Some(view) = &*worker.current.borrow() {
                    view.follow();
                }
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
        let known = self.current.borrow().as_ref().map(|view| view.generation);
        if known == Some(self.shared.generation.load(Acquire)) {
            return;
        }
        let snapshot = self.shared.snapshot.load();
        let Some(WorkerPart { filters, sockets }) = snapshot.take_part(self.index) else { return };
        let view = {
            let current = self.current.borrow();
            let before = current.as_deref().map_or(&[][..], View::filters);
            let instances = Instances::new(self.index, &snapshot, before, filters);
            View::new(&snapshot, instances, &self.endpoints, &self.shared)
        };
        let mut gates = self.gates.borrow_mut();
        gates.retain(|name, gate| {
            let stays =
                view.listener(name).is_some() && !sockets.iter().any(|(opened, _)| opened == name);
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
        *self.current.borrow_mut() = Some(Rc::new(view));
    }
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
