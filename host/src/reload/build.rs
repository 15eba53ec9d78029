//! One generation, built whole or not at all: filters, keys, addresses, sockets, then a part for each
//! worker. Nothing that is running is touched.

use super::filters::{Loader, OnLoadFailure, located};
use super::fixed;
use super::problems::Problems;
use super::resolve::resolve;
use super::sockets::{self, Listening};
use crate::config::Loaded;
use crate::snapshot::{Snapshot, WorkerPart};
use crate::tls::Tls;
use crate::wasm::{Prepared, WasmFilter};
use std::sync::Arc;

/// A generation that can be published.
pub(super) struct Built {
    pub(super) snapshot: Snapshot,
    pub(super) listening: Listening,
}

/// The first generation.
pub(super) fn first(loader: &mut Loader, loaded: &Loaded) -> Result<Built, Problems> {
    let filters = loader.load(loaded, OnLoadFailure::FollowPolicy);
    assemble(loader, loaded, filters, None)
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
    assemble(loader, loaded, filters, Some((running, listening)))
}

fn assemble(
    loader: &Loader,
    loaded: &Loaded,
    filters: Result<Vec<Option<Arc<Prepared>>>, Problems>,
    running: Option<(&Snapshot, &Listening)>,
) -> Result<Built, Problems> {
    let workers = loader.workers();
    let none = Listening::new();
    let listening = running.map_or(&none, |(_, listening)| listening);
    let opened = sockets::open(loaded, listening, workers);
    let running_tls = running.map(|(running, _)| &running.tls);
    let tls = Tls::build(loaded, running_tls, loader.metrics()).map_err(Problems::from);
    let (filters, (opened, tls)) = Problems::both(filters, Problems::both(opened, tls))?;
    let instances = (0..workers)
        .map(|worker| instances(loaded, &filters, worker))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = resolve(&loaded.config.upstreams);
    let (listening, sockets) = opened.listen(workers).map_err(|error| {
        Problems::from(loaded.locate("listener", format!("failed to listen: {error}")))
    })?;
    let parts = instances
        .into_iter()
        .zip(sockets)
        .map(|(filters, sockets)| WorkerPart { filters, sockets })
        .collect();
    let generation = running.map_or(1, |(running, _)| running.generation + 1);
    let config = Arc::new(loaded.config.clone());
    let snapshot = Snapshot::new(generation, config, filters, addresses, parts).with_tls(tls);
    Ok(Built { snapshot, listening })
}

/// An instance of every filter for one worker.
fn instances(
    loaded: &Loaded,
    filters: &[Option<Arc<Prepared>>],
    worker: usize,
) -> Result<Vec<Option<WasmFilter>>, Problems> {
    let mut problems = Problems::default();
    let mut all = Vec::with_capacity(filters.len());
    for (filter, prepared) in loaded.config.filters.iter().zip(filters) {
        match prepared.as_ref().map(|prepared| prepared.instantiate_for_worker(worker)) {
            None => all.push(None),
            Some(Ok(instance)) => all.push(Some(instance)),
            Some(Err(error)) => problems.push(located(loaded, filter, &error)),
        }
    }
    problems.or(all)
}
