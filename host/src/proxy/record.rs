//! What is kept of an exchange when it is over: counters, the access log, and the filters' last hook.

use super::flow::Flow;
use super::reply::Fault;
use super::route::{Listener, Route, Side};
use crate::chain::{Exchange, Members, Outcome};
use crate::clock;
use crate::http::PeerIdentity;
use crate::rollout::arm::Ended;
use crate::shadow::record::Finish;
use crate::telemetry::WorkerLog;
use crate::telemetry::access_log::Served;
use std::net::SocketAddr;
use std::time::Instant;

/// Where a worker records exchanges.
pub struct Record<'w> {
    /// Index of the worker, for its part of the counters.
    pub worker: usize,
    /// None where there is no access log.
    pub log: Option<&'w WorkerLog>,
}

/// An exchange that is counted as active; ends with [`Record::end`], or when a task is given up.
pub struct Active<'r> {
    route: &'r Route,
    worker: usize,
    outcome: Outcome,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.route.stats.request_finished(self.worker, &self.outcome);
    }
}

impl Record<'_> {
    /// An exchange has found its route.
    pub fn begin<'r>(&self, route: &'r Route) -> Active<'r> {
        route.stats.request_started(self.worker);
        let outcome = Outcome { error: Some("connection_terminated"), ..Outcome::default() };
        Active { route, worker: self.worker, outcome }
    }

    /// An exchange is over.
    pub fn end(&self, flow: Flow<'_>, fault: Option<Fault>, mut active: Active<'_>) {
        let Flow { exchange, progress, listener, route, way, started, .. } = flow;
        let exchange = exchange.into_inner();
        let head_sent = flow.head_sent.get();
        let outcome = Outcome {
            status: head_sent.then_some(exchange.response.status),
            complete: head_sent && !flow.broken_off.get(),
            error: fault.map(|fault| fault.row().error),
            request_bytes: flow.request_bytes.get(),
            response_bytes: flow.response_bytes.get(),
            duration: clock::look().saturating_duration_since(started),
            upstream: flow.upstream_time.get(),
        };
        if let Some(time) = outcome.upstream {
            route.upstream.stats.response(self.worker, time);
        }
        if let Some(fault) = fault.filter(|fault| is_upstreams(*fault)) {
            route.upstream.stats.failure(self.worker, fault.row().error);
        }
        let failed = way.chain.complete(exchange, &progress.into_inner(), &outcome);
        if let Some(side) = &way.side {
            let local_reply = flow.local_reply.get();
            side.arm.record(self.worker, &ended(side, failed, local_reply, exchange, &outcome));
        }
        if let Some(recording) = flow.recording.into_inner() {
            let failed_closed = fault == Some(Fault::FilterFailed);
            let (failed, outcome) = (!failed.is_empty(), outcome.clone());
            recording.finish(exchange, Finish { failed, failed_closed, outcome });
        }
        let identity = flow.endpoint_identity.borrow();
        let asked = Asked {
            upstream: Some(&route.upstream.name),
            endpoint: flow.endpoint.get(),
            identity: identity.as_deref(),
        };
        self.log(listener, exchange, &outcome, asked);
        active.outcome = outcome;
    }

    /// A request that no route took, or whose head was refused, was answered (`sent`) or not.
    pub fn unrouted(
        &self,
        listener: &Listener,
        exchange: &mut Exchange,
        fault: Fault,
        sent: bool,
        started: Instant,
    ) {
        let outcome = refused(exchange, fault, sent, started);
        listener.unrouted.request_started(self.worker);
        listener.unrouted.request_finished(self.worker, &outcome);
        self.log(listener, exchange, &outcome, Asked::default());
    }

    /// A request that has found its route was turned away before a filter saw it, and told so (`sent`)
    /// or not.
    pub fn turned_away(
        &self,
        listener: &Listener,
        exchange: &mut Exchange,
        (fault, sent): (Fault, bool),
        started: Instant,
        mut active: Active<'_>,
    ) {
        let outcome = refused(exchange, fault, sent, started);
        self.log(listener, exchange, &outcome, Asked::default());
        active.outcome = outcome;
    }

    fn log(&self, listener: &Listener, exchange: &Exchange, outcome: &Outcome, asked: Asked<'_>) {
        if let Some(log) = self.log {
            let endpoint = asked.endpoint.map(|endpoint| endpoint.to_string());
            let served = Served {
                upstream: asked.upstream,
                endpoint: endpoint.as_deref(),
                endpoint_peer: asked.identity.map(PeerIdentity::name),
                generation: listener.generation,
            };
            log.record(exchange, outcome, served);
        }
    }
}

/// Who was asked last.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    upstream: Option<&'a str>,
    endpoint: Option<SocketAddr>,
    identity: Option<&'a PeerIdentity>,
}

/// What a request came to that was refused before a filter saw it.
fn refused(exchange: &Exchange, fault: Fault, sent: bool, started: Instant) -> Outcome {
    Outcome {
        status: sent.then_some(exchange.response.status),
        complete: sent,
        error: Some(fault.row().error),
        duration: clock::look().saturating_duration_since(started),
        ..Outcome::default()
    }
}

/// What one side of a rollout counts of an exchange.
fn ended(
    side: &Side,
    failed: Members,
    local_reply: bool,
    exchange: &Exchange,
    outcome: &Outcome,
) -> Ended {
    Ended {
        failed: failed.meets(side.differs),
        local_reply,
        status: outcome.status,
        added_time: exchange.filter_time.iter().sum(),
    }
}

/// Is it the upstream that failed?
pub(super) fn is_upstreams(fault: Fault) -> bool {
    match fault {
        Fault::NoEndpoint
        | Fault::UpstreamDnsError
        | Fault::UpstreamDnsTimeout
        | Fault::UpstreamLimit
        | Fault::UpstreamRefused
        | Fault::UpstreamConnectTimeout
        | Fault::UpstreamUnreachable
        | Fault::UpstreamCertificate
        | Fault::UpstreamTls
        | Fault::UpstreamAlert
        | Fault::UpstreamReset
        | Fault::UpstreamResponseTimeout
        | Fault::UpstreamIdleTimeout
        | Fault::UpstreamWriteTimeout
        | Fault::UpstreamMalformed
        | Fault::UpstreamHeadTooLarge
        | Fault::UpstreamIncomplete
        | Fault::UpgradeFailed => true,
        Fault::RequestMalformed
        | Fault::TargetTooLong
        | Fault::RequestHeadTooLarge
        | Fault::RequestTrailersTooLarge
        | Fault::RequestHeadTimeout
        | Fault::RequestBodyTimeout
        | Fault::RequestIncomplete
        | Fault::ExpectationUnknown
        | Fault::MethodNotOffered
        | Fault::VersionNotOffered
        | Fault::NoRoute
        | Fault::DnsTimeout
        | Fault::DnsError
        | Fault::AddressProhibited
        | Fault::Loop
        | Fault::FilterFailed
        | Fault::Overload
        | Fault::DeadlineExceeded
        | Fault::ResponseWriteTimeout
        | Fault::ClientGone
        | Fault::Stopping => false,
    }
}
