//! Upstreams as one worker sees them: endpoints, their connections, and which one is next.
//!
//! Connections belong to an endpoint and outlive generations; limits and names belong to the
//! generation. Knows no routes and no filters. `pool` holds the connections; `choice` is who may be
//! chosen, anew with each change of the addresses; `balance` chooses where the file asks for more than
//! turns; `race` connects to names with two families; `state` is what the workers share.

mod balance;
mod budget;
mod choice;
pub mod health;
mod lease;
mod load;
mod maglev;
mod outlier;
mod pool;
mod race;
mod secure;
mod state;

pub use lease::Lease;
pub use maglev::hash;
pub use pool::{Endpoint, Endpoints, Http1};
pub use race::RACE_REMEMBERED;
pub use state::{Counted, State, States};

use choice::Choice;
use race::Winner;

use crate::config;
use crate::config::UpstreamLimits;
use crate::dns::{Addresses, Missing};
use crate::http::PeerIdentity;
use crate::http1::HeadLimits;
use crate::http2::{Client, Http2Limits};
use crate::telemetry::{Guard, RetryRefusal, UpstreamStats};
use crate::tls::Originator;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// One upstream of one generation, on one worker.
pub struct Upstream {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Bounds on connections and answers.
    pub limits: UpstreamLimits,
    /// Of answers.
    pub head_limits: HeadLimits,
    /// Of connections that speak HTTP/2.
    pub http2_limits: Rc<Http2Limits>,
    /// Counters.
    pub stats: Arc<UpstreamStats>,
    /// When requests are repeated.
    pub retry: Option<config::Retry>,
    /// What decides on the endpoint, where a hash does.
    pub hash_key: Option<config::HashKey>,
    protocol: config::Protocol,
    tls: Option<Arc<Originator>>,
    addresses: Arc<Addresses>,
    /// Made of the addresses as this worker has last seen them.
    choice: RefCell<Rc<Choice>>,
    policy: config::Policy,
    endpoints: Rc<Endpoints>,
    next: Cell<usize>,
    worker: usize,
    state: Arc<State>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'t> {
    /// May it be a kept-alive connection?
    pub freshness: Freshness,
    /// Of the request, where a hash decides.
    pub key: u64,
    /// Endpoints that have failed the request, to be passed over while there is another; the one that
    /// is chosen is added. None: it is not repeated.
    pub tried: Option<&'t RefCell<Vec<SocketAddr>>>,
}

impl Wanted<'static> {
    /// Whatever comes: for a request that no client waits for.
    pub fn whatever() -> Self {
        Wanted { freshness: Freshness::Any, key: rand::random(), tried: None }
    }
}

/// A connection that a request may be sent on.
pub enum Connection {
    /// Lent to one request.
    Http1(Box<Http1>),
    /// Shared.
    Http2(Client),
}

impl Connection {
    /// Who the endpoint has proved to be; none without TLS.
    pub fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        match self {
            Connection::Http1(connection) => connection.identity.as_ref(),
            Connection::Http2(client) => client.identity(),
        }
    }
}

/// A connection, with what is known of it.
pub struct Lent {
    /// The connection.
    pub connection: Connection,
    /// Where it leads.
    pub address: SocketAddr,
    /// It has served another request before, so the endpoint may have closed it meanwhile.
    pub reused: bool,
    /// To be kept to the end of the request and told of its answer; none: nobody wants to know.
    pub lease: Option<Lease>,
}

/// There is no connection.
#[derive(Clone, Copy, Debug)]
pub struct NotLent {
    /// Why.
    pub error: LendError,
    /// The endpoint that was asked, if one was.
    pub address: Option<SocketAddr>,
}

/// Why no connection could be lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LendError {
    /// There is no endpoint, or each has `connections_max` connections.
    #[error("no endpoint is available")]
    NoEndpoint,
    /// No endpoint's name has an address.
    #[error("the names of the endpoints have no address")]
    Unresolved,
    /// No endpoint's name was answered in time, or yet.
    #[error("the names of the endpoints were not looked up in time")]
    UnresolvedInTime,
    /// `pending_max` or `requests_max` is reached.
    #[error("the upstream has as much to do as it may")]
    Limit,
    /// The endpoint refused the connection.
    #[error("the endpoint refused the connection")]
    Refused,
    /// The endpoint did not accept it within `connect_timeout`.
    #[error("the endpoint did not accept a connection in time")]
    TimedOut,
    /// There is no way to the address.
    #[error("the endpoint cannot be reached")]
    Unreachable,
    /// The connection broke before it could be used.
    #[error("the connection broke before it could be used")]
    Handshake,
    /// The endpoint's certificate is not to be believed.
    #[error("the endpoint's certificate is not accepted")]
    Certificate,
    /// The endpoint refused the TLS session with an alert.
    #[error("the endpoint refused the TLS session")]
    Alert,
    /// The endpoint does not speak TLS, or nothing that is spoken here.
    #[error("the endpoint does not speak TLS as expected")]
    Tls,
}

/// May a kept-alive connection be used?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Yes.
    Any,
    /// No: the request is repeated because one was closed under it.
    New,
}

impl Upstream {
    /// The view of `config` on one worker; `endpoints` keeps the connections.
    pub fn new(
        config: &config::Upstream,
        addresses: Arc<Addresses>,
        tls: Option<Arc<Originator>>,
        endpoints: Rc<Endpoints>,
        state: Arc<State>,
        stats: Arc<UpstreamStats>,
        worker: usize,
    ) -> Self {
        let limits = config.limits.clone();
        let policy = &config.policy;
        let trust = tls.as_ref().map(|tls| tls.trust());
        let list = addresses.list();
        let choice = Choice::new(&list, (policy, &limits), &endpoints, trust, &state, worker);
        Upstream {
            name: config.name.clone(),
            head_limits: HeadLimits {
                bytes: limits.head_bytes,
                fields: limits.head_fields,
                trailer_bytes: limits.trailer_bytes,
                trailer_fields: limits.trailer_fields,
                ..HeadLimits::default()
            },
            http2_limits: Rc::new(Http2Limits {
                stream_window_bytes: as_u32(limits.h2_stream_window),
                connection_window_bytes: as_u32(limits.h2_connection_window),
                send_buffer_bytes: limits.h2_send_buffer,
                header_list_bytes: as_u32(limits.h2_header_list),
                fields: limits.head_fields,
                trailer_bytes: limits.trailer_bytes,
                trailer_fields: limits.trailer_fields,
                ping_interval: limits.h2_ping_interval,
                ping_timeout: limits.h2_ping_timeout,
                upstream_idle: limits.keepalive_timeout,
                ..Http2Limits::default()
            }),
            limits,
            stats,
            retry: policy.retry.clone(),
            hash_key: match &policy.balance {
                config::Balance::Maglev(key) => Some(key.clone()),
                _ => None,
            },
            protocol: config.protocol,
            addresses,
            choice: RefCell::new(Rc::new(choice)),
            policy: policy.clone(),
            endpoints,
            tls,
            // Workers begin at different endpoints, so that few requests still spread.
            next: Cell::new(worker),
            worker,
            state,
        }
    }

    /// Do its addresses change?
    pub fn is_followed(&self) -> bool {
        self.addresses.is_followed()
    }

    /// Takes up the addresses as they are now. Endpoints that stay keep their connections; one that
    /// has left gets no further request.
    pub fn follow(&self) {
        if !self.is_followed() || self.choice.borrow().version == self.addresses.version() {
            return;
        }
        let trust = self.tls.as_ref().map(|tls| tls.trust());
        let (by, list) = ((&self.policy, &self.limits), self.addresses.list());
        let choice = Choice::new(&list, by, &self.endpoints, trust, &self.state, self.worker);
        let before = self.choice.replace(Rc::new(choice));
        // Only now, since those that stay are in both.
        drop(before);
    }

    /// A connection to the next endpoint, kept alive or new.
    ///
    /// # Cancel safety
    /// A connection that is being made is given up when the future is dropped.
    pub async fn lend(&self, wanted: Wanted<'_>) -> Result<Lent, NotLent> {
        self.follow();
        let choice = self.choice.borrow().clone();
        let chosen = self.choose(&choice, &wanted);
        let (chosen, mut lease) = chosen.map_err(|error| NotLent { error, address: None })?;
        self.stats.request(self.worker);
        let (at, lent) = self.connection_of(&choice, chosen, wanted.freshness).await;
        let address = choice.endpoints[at].endpoint().address();
        if at != chosen {
            lease.iter_mut().for_each(|lease| lease.pass_on(at));
            wanted.tried.iter().for_each(|tried| tried.borrow_mut().push(address));
        }
        let (connection, reused) = lent.map_err(|error| {
            if let Some(lease) = lease.as_ref().filter(|_| error.is_endpoints()) {
                lease.failed();
            }
            NotLent { error, address: Some(address) }
        })?;
        if reused {
            self.stats.connection_reused(self.worker);
        }
        Ok(Lent { connection, address, reused, lease })
    }

    /// A connection to the endpoint that was chosen, or to one that stands in for it, and whether it has
    /// served another request before.
    async fn connection_of(
        &self,
        choice: &Choice,
        at: usize,
        freshness: Freshness,
    ) -> (usize, Result<(Connection, bool), LendError>) {
        let endpoint = choice.endpoints[at].endpoint();
        let Some(other) = choice.stand_in(at) else {
            return (at, self.connection(endpoint, freshness).await);
        };
        let stand_in = choice.endpoints[other].endpoint();
        if freshness == Freshness::Any {
            if let Some(kept) = endpoint.kept(self.protocol) {
                return (at, Ok((kept, true)));
            }
            if endpoint.has_lost()
                && let Some(kept) = stand_in.kept(self.protocol)
            {
                return (other, Ok((kept, true)));
            }
        }
        let Some(_pending) = self.enter(Guard::Pending, self.limits.pending_max) else {
            return (at, Err(LendError::Limit));
        };
        // Kept apart, so that no other request has room for two connections in the making.
        let (winner, opened) = Box::pin(race::open(self, endpoint, stand_in)).await;
        let winner = match winner {
            Winner::Chosen => at,
            Winner::StandIn => other,
        };
        (winner, opened.map(|connection| (connection, false)))
    }

    /// A connection to an endpoint, and whether it has served another request before.
    async fn connection(
        &self,
        endpoint: &Rc<Endpoint>,
        freshness: Freshness,
    ) -> Result<(Connection, bool), LendError> {
        if freshness == Freshness::Any
            && let Some(kept) = endpoint.kept(self.protocol)
        {
            return Ok((kept, true));
        }
        // Counted while it is being made.
        let _pending =
            self.enter(Guard::Pending, self.limits.pending_max).ok_or(LendError::Limit)?;
        Ok((endpoint.open(self).await?, false))
    }

    fn enter(&self, guard: Guard, max: usize) -> Option<Counted> {
        let entered = self.state.count(guard).enter(max);
        if entered.is_none() {
            self.stats.guards.guard_reached(guard);
        }
        entered
    }

    /// A request has come that may have to be repeated.
    pub fn expect(&self) {
        if let Some(retry) = &self.retry {
            self.state.budget.deposit(&retry.budget, self.state.now());
        }
    }

    /// Leave to repeat a request; what is returned is kept while that lasts.
    pub fn repeat(&self) -> Result<Counted, RetryRefusal> {
        let retry = self.retry.as_ref().ok_or(RetryRefusal::Budget)?;
        let entered = self.enter(Guard::Retries, self.limits.retries_max);
        let counted = entered.ok_or(RetryRefusal::RetriesMax)?;
        let allowed = self.state.budget.withdraw(&retry.budget, self.state.now());
        if allowed { Ok(counted) } else { Err(RetryRefusal::Budget) }
    }

    /// Is there an endpoint in use beside these?
    pub fn has_other(&self, tried: &[SocketAddr]) -> bool {
        let choice = self.choice.borrow();
        choice.balancer.as_ref().is_some_and(|balancer| balancer.has_other(tried))
    }

    /// The index of the worker that this view belongs to.
    pub fn worker(&self) -> usize {
        self.worker
    }

    fn choose(
        &self,
        choice: &Choice,
        wanted: &Wanted<'_>,
    ) -> Result<(usize, Option<Lease>), LendError> {
        if choice.endpoints.is_empty() {
            return Err(match choice.missing {
                None => LendError::NoEndpoint,
                Some(Missing::NotFound) => LendError::Unresolved,
                Some(Missing::TimedOut) => LendError::UnresolvedInTime,
            });
        }
        let Some(balancer) = &choice.balancer else {
            return Ok((self.in_turn(choice.endpoints.len()), None));
        };
        let outstanding = match self.limits.requests_max {
            0 => None,
            max => Some(self.enter(Guard::Requests, max).ok_or(LendError::Limit)?),
        };
        let tried = wanted.tried.map(RefCell::borrow);
        let at = balancer.pick(wanted.key, tried.as_deref().map_or(&[], Vec::as_slice));
        drop(tried);
        let at = at.ok_or(LendError::NoEndpoint)?;
        if let Some(tried) = wanted.tried {
            tried.borrow_mut().push(balancer.member(at).endpoint.address());
        }
        let penalty = self.limits.connect_timeout;
        Ok((at, Some(Lease::new(balancer.clone(), at, penalty, outstanding))))
    }

    /// One of so many; there is one.
    fn in_turn(&self, count: usize) -> usize {
        let nth = self.next.get();
        self.next.set(nth.wrapping_add(1));
        nth % count
    }
}

impl LendError {
    /// Is it the endpoint that failed?
    pub fn is_endpoints(self) -> bool {
        match self {
            LendError::NoEndpoint
            | LendError::Unresolved
            | LendError::UnresolvedInTime
            | LendError::Limit => false,
            LendError::Refused
            | LendError::TimedOut
            | LendError::Unreachable
            | LendError::Handshake
            | LendError::Certificate
            | LendError::Tls
            | LendError::Alert => true,
        }
    }
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
