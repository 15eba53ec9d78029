//! One generation, built whole or not at all: filters, keys, addresses, sockets, then a part for each
//! worker. Nothing that is running is touched.

use super::filters::{Loader, OnLoadFailure, located};
use super::fixed;
use super::problems::Problems;
use super::resolve::resolve;
use super::sockets::{self, Listening};
use crate::config::{Config, Loaded};
use crate::dns::Addresses;
use crate::snapshot::{Candidate, Snapshot, WorkerPart};
use crate::tls::Tls;
use crate::wasm::{Prepared, WasmFilter};
use std::sync::Arc;

/// The filters of a configuration, in its order.
pub(super) type Filters = Vec<Option<Arc<Prepared>>>;

/// A generation that can be published.
pub(super) struct Built {
    pub(super) snapshot: Snapshot,
    pub(super) listening: Listening,
}

/// The first generation of the process, with this number.
pub(super) fn first(
    loader: &mut Loader,
    loaded: &Loaded,
    generation: u64,
) -> Result<Built, Problems> {
    let filters = loader.load(loaded, OnLoadFailure::FollowPolicy);
    assemble(loader, loaded, filters, None, generation)
}

/// The generation after `running`, which listens at `listening`.
pub(super) fn next(
    loader: &mut Loader,
    loaded: &Loaded,
    running: &Snapshot,
    listening: &Listening,
) -> Result<Built, Problems> {
    let fixed = fixed::check(&running.config, loaded);
    let filters = Problems::both(fixed, loader.load(loaded, OnLoadFailure::Refuse));
    let filters = filters.map(|((), filters)| filters);
    assemble(loader, loaded, filters, Some((running, listening)), running.generation + 1)
}

fn assemble(
    loader: &Loader,
    loaded: &Loaded,
    filters: Result<Filters, Problems>,
    running: Option<(&Snapshot, &Listening)>,
    generation: u64,
) -> Result<Built, Problems> {
    let workers = loader.workers();
    let none = Listening::new();
    let listening = running.map_or(&none, |(_, listening)| listening);
    let opened = sockets::open(loaded, listening, workers);
    let before = running.map(|(running, _)| running);
    let tls = Tls::build(loaded, before.map(|it| &it.tls), loader.metrics());
    let opened = Problems::both(opened, tls.map_err(Problems::from));
    let (filters, (opened, tls)) = Problems::both(filters, opened)?;
    let config = Arc::new(loaded.config.clone());
    let mut bare = Snapshot::new(generation, config, filters, Vec::new(), None);
    let instances = instances(&bare, before, workers, loaded)?;
    bare.addresses = resolve(loader, &loaded.config, before);
    bare.tls = tls;
    let (listening, sockets) = opened.listen(workers).map_err(|error| {
        Problems::from(loaded.locate("listener", format!("failed to listen: {error}")))
    })?;
    let parts = instances
        .into_iter()
        .zip(sockets)
        .map(|(filters, sockets)| WorkerPart { filters, sockets })
        .collect();
    Ok(Built { snapshot: bare.with_parts(parts), listening })
}

/// What a generation has that listens and sends as the running one does.
pub(super) struct Staged {
    /// Differs from the running one in filters and chains only.
    pub(super) config: Arc<Config>,
    pub(super) filters: Filters,
    pub(super) addresses: Vec<Arc<Addresses>>,
    pub(super) tls: Tls,
    pub(super) candidate: Option<Candidate>,
}

impl Staged {
    /// As it is running, with `candidate`.
    pub(super) fn of(running: &Snapshot, candidate: Option<Candidate>) -> Self {
        Staged {
            config: running.config.clone(),
            filters: running.filters.clone(),
            addresses: running.addresses.clone(),
            tls: running.tls.clone(),
            candidate,
        }
    }
}

/// The generation after `running` with the same listeners. Fails only where a filter is in it that
/// `running` does not serve, and that cannot be instantiated once more.
pub(super) fn staged(
    (running, listening): (&Snapshot, &Listening),
    staged: Staged,
    workers: usize,
    loaded: &Loaded,
) -> Result<Built, Problems> {
    let Staged { config, filters, addresses, tls, candidate } = staged;
    let mut bare = Snapshot::new(running.generation + 1, config, filters, addresses, candidate);
    bare.tls = tls;
    let instances = instances(&bare, Some(running), workers, loaded)?;
    let parts = instances.into_iter().map(|filters| WorkerPart { filters, sockets: Vec::new() });
    let snapshot = bare.with_parts(parts.collect());
    Ok(Built { snapshot, listening: listening.clone() })
}

/// For each worker, an instance of every filter that the generation before does not serve.
fn instances(
    snapshot: &Snapshot,
    before: Option<&Snapshot>,
    workers: usize,
    loaded: &Loaded,
) -> Result<Vec<Vec<WasmFilter>>, Problems> {
    let is_new = |prepared: &&Arc<Prepared>| !before.is_some_and(|before| before.serves(prepared));
    let new: Vec<&Arc<Prepared>> = snapshot.serving().iter().filter(is_new).collect();
    let make = |worker| {
        let made = new.iter().map(|prepared| {
            let made = prepared.instantiate_for_worker(worker);
            made.map_err(|error| Problems::from(located(loaded, prepared.name(), &error)))
        });
        made.collect()
    };
    (0..workers).map(make).collect()
}
