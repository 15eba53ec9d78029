//! One generation as a worker sees it: its listeners with their routes, the chains of each made of
//! the worker's own instances.
//!
//! A filter version that the worker has had in the generation before goes on with its instance. Knows
//! nothing of connections and sockets.

use crate::chain::{Chain, Filter};
use crate::config;
use crate::http1::HeadLimits;
use crate::http2::Http2Limits;
use crate::overload::Admission;
use crate::proxy::mirror::Mirror;
use crate::proxy::pass::{Passing, route_name};
use crate::proxy::route::{Listener, Route, Side, Way};
use crate::proxy::split::Destination;
use crate::rollout::{Arm, Choice};
use crate::snapshot::{Candidate, Shared, Snapshot, differences, versions};
use crate::telemetry::counters::NO_ROUTE;
use crate::upstream::health::{self, Checks};
use crate::upstream::{Endpoints, Upstream};
use crate::wasm::{Prepared, WasmFilter};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// One generation as one worker sees it. Requests in flight keep what they use of it alive.
pub(super) struct View {
    /// Its number.
    pub(super) generation: u64,
    /// A handful: looking through them takes less than a hash of the name.
    listeners: Vec<Rc<Listener>>,
    filters: Vec<Rc<WasmFilter>>,
    /// Those whose addresses change.
    followed: Vec<Rc<Upstream>>,
    /// On the first worker alone.
    _health: Vec<Checks>,
}

impl View {
    /// Makes the view of `snapshot`.
    pub(super) fn new(
        snapshot: &Snapshot,
        instances: Instances,
        endpoints: &Rc<Endpoints>,
        shared: &Shared,
    ) -> Self {
        let Shared { metrics, limiters, upstreams: states, .. } = shared;
        let worker = instances.worker;
        let upstreams = snapshot.config.upstreams.iter().zip(&snapshot.addresses);
        let upstreams: Vec<Rc<Upstream>> = upstreams
            .enumerate()
            .map(|(at, (config, addresses))| {
                let stats = metrics.upstream(&config.name);
                let tls = snapshot.tls.upstream(at).cloned();
                let known: Vec<SocketAddr> =
                    addresses.list().places.iter().map(|place| place.address).collect();
                let state = states.of(&config.name, &known, &stats);
                let (addresses, endpoints) = (addresses.clone(), endpoints.clone());
                Rc::new(Upstream::new(config, addresses, tls, endpoints, state, stats, worker))
            })
            .collect();
        let route = |place: (usize, usize), listener: &str, config: &config::Route| {
            let (running, next) = ways(snapshot, place, &instances);
            let stats = metrics.route(listener, &config.name);
            let mirror = config.mirror.as_ref();
            let shadow = snapshot.candidate.as_ref().and_then(|it| it.shadow.as_ref());
            Route {
                shadow: shadow.and_then(|shadow| shadow.recorder(listener, &config.name)),
                running,
                next,
                destination: Destination::new(
                    &config.destination,
                    &upstreams,
                    (listener, &config.name),
                    worker,
                ),
                mirror: mirror.map(|it| Mirror::new(it, &upstreams, stats.clone(), worker)),
                stats,
                config: config.clone(),
            }
        };
        let process = snapshot.config.runtime.overload.as_ref();
        let process = limiters.of("process", process, metrics);
        let admission = |listener: &config::Listener| Admission {
            listener: limiters.of(
                &format!("listener:{}", listener.name),
                listener.overload.as_ref(),
                metrics,
            ),
            process: process.clone(),
        };
        let passing = |pass: &config::Pass, listener: &str| {
            let name = route_name(listener);
            let stats = (metrics.route(listener, &name), metrics.upstream(&name));
            Passing::new(pass.clone(), listener, stats, endpoints.clone(), worker)
        };
        let listener = |(at, config): (usize, &config::Listener)| Listener {
            name: config.name.clone(),
            generation: snapshot.generation,
            trusted_proxies: config.trusted_proxies.clone(),
            tls: snapshot.tls.listener(at).cloned(),
            head_limits: head_limits(&config.limits),
            http2_limits: Rc::new(http2_limits(&config.limits)),
            stats: metrics.listener(&config.name),
            unrouted: metrics.route(&config.name, NO_ROUTE),
            routes: (config.routes.iter().enumerate())
                .map(|(nth, it)| route((at, nth), &config.name, it))
                .collect(),
            limits: config.limits.clone(),
            admission: admission(config),
            deadline: config.deadline.clone(),
            passing: config.pass.as_ref().map(|pass| passing(pass, &config.name)),
        };
        let listeners = snapshot.config.listeners.iter().enumerate();
        View {
            generation: snapshot.generation,
            listeners: listeners.map(|it| Rc::new(listener(it))).collect(),
            filters: instances.all,
            followed: upstreams.iter().filter(|it| it.is_followed()).cloned().collect(),
            _health: if worker == 0 { health_checks(snapshot, &upstreams) } else { Vec::new() },
        }
    }

    /// A listener by its name.
    pub(super) fn listener(&self, name: &str) -> Option<&Rc<Listener>> {
        self.listeners.iter().find(|listener| *listener.name == *name)
    }

    /// Takes up the addresses of upstreams as they are now, also where no request asks for it.
    pub(super) fn follow(&self) {
        self.followed.iter().for_each(|upstream| upstream.follow());
    }

    /// The filters that it uses.
    pub(super) fn filters(&self) -> &[Rc<WasmFilter>] {
        &self.filters
    }
}

/// The filters of one worker in one generation: each version once.
pub(super) struct Instances {
    worker: usize,
    all: Vec<Rc<WasmFilter>>,
}

impl Instances {
    /// What `snapshot` needs, out of what the worker has from the generation before and what was made
    /// for it ahead of time.
    pub(super) fn new(
        worker: usize,
        snapshot: &Snapshot,
        before: &[Rc<WasmFilter>],
        part: Vec<WasmFilter>,
    ) -> Self {
        let made: Vec<Rc<WasmFilter>> = part.into_iter().map(Rc::new).collect();
        let mut instances = Instances { worker, all: Vec::new() };
        for prepared in snapshot.serving() {
            let known = find(before, prepared).or_else(|| find(&made, prepared));
            // Neither: the worker takes its part while its filters go to the next generation's.
            let new = || Rc::new(prepared.on_demand(worker));
            instances.all.push(known.cloned().unwrap_or_else(new));
        }
        instances
    }

    fn find(&self, prepared: &Arc<Prepared>) -> Option<&Rc<WasmFilter>> {
        find(&self.all, prepared)
    }

    fn chain(&self, filters: &[&Arc<Prepared>]) -> Chain {
        let found = filters.iter().filter_map(|prepared| self.find(prepared));
        Chain::new(found.map(|filter| filter.clone() as Rc<dyn Filter>).collect())
    }
}

fn find<'f>(filters: &'f [Rc<WasmFilter>], prepared: &Arc<Prepared>) -> Option<&'f Rc<WasmFilter>> {
    filters.iter().find(|filter| Arc::ptr_eq(filter.prepared(), prepared))
}

/// The ways through the route at `place`: the running one, and the one that is tried.
fn ways(
    snapshot: &Snapshot,
    place: (usize, usize),
    instances: &Instances,
) -> (Way, Option<(Choice, Way)>) {
    let running = versions(&snapshot.config, &snapshot.filters, place);
    let field = snapshot.config.rollout.version_header.as_ref();
    let way = |filters: &[&Arc<Prepared>], side| Way {
        chain: instances.chain(filters),
        versions: field.map(|name| (name.clone(), shown(filters))),
        side,
    };
    let Some(candidate) = &snapshot.candidate else {
        return (way(&running, None), None);
    };
    let next = versions(&candidate.config, &candidate.filters, place);
    let Some((running_only, next_only)) = differences(&running, &next) else {
        return (way(&running, None), None);
    };
    let side = |arm: &Arc<Arm>, differs| Some(Side { arm: arm.clone(), differs });
    let running = way(&running, side(&candidate.running, running_only));
    let choice = candidate.share().map(|share| {
        let Candidate { sticky, salt, .. } = candidate;
        let choice = Choice::new(share, sticky.clone(), salt.clone(), instances.worker);
        (choice, way(&next, side(&candidate.next, next_only)))
    });
    (running, choice)
}

/// The filters of a chain with their versions: `trace=0123456789ab; limit=ba9876543210(v2)`.
fn shown(filters: &[&Arc<Prepared>]) -> String {
    let one = |prepared: &&Arc<Prepared>| format!("{}={}", prepared.name(), prepared.version());
    filters.iter().map(one).collect::<Vec<_>>().join("; ")
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
