//! Upstreams as one worker sees them: endpoints, their connections, and which one is next.
//!
//! Connections belong to an endpoint and outlive generations; limits and names belong to the
//! generation. Knows no routes and no filters. `pool` holds the connections.

mod pool;
mod secure;

pub use pool::{Endpoint, Endpoints, Http1};

use crate::config;
use crate::config::UpstreamLimits;
use crate::http1::HeadLimits;
use crate::http2::{Client, Http2Limits};
use crate::telemetry::UpstreamStats;
use crate::tls::Originator;
use std::cell::Cell;
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
    protocol: config::Protocol,
    tls: Option<Arc<Originator>>,
    endpoints: Vec<Rc<Endpoint>>,
    next: Cell<usize>,
    worker: usize,
}

/// A connection that a request may be sent on.
pub enum Connection {
    /// Lent to one request.
    Http1(Box<Http1>),
    /// Shared.
    Http2(Client),
}

/// A connection, with what is known of it.
pub struct Lent {
    /// The connection.
    pub connection: Connection,
    /// Where it leads.
    pub address: SocketAddr,
    /// It has served another request before, so the endpoint may have closed it meanwhile.
    pub reused: bool,
}

/// Why no connection could be lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LendError {
    /// There is no endpoint, or each has `connections_max` connections.
    #[error("no endpoint is available")]
    NoEndpoint,
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
        addresses: &[SocketAddr],
        tls: Option<Arc<Originator>>,
        endpoints: &Endpoints,
        stats: Arc<UpstreamStats>,
        worker: usize,
    ) -> Self {
        let limits = config.limits.clone();
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
            protocol: config.protocol,
            endpoints: {
                let trust = tls.as_ref().map(|tls| tls.trust());
                addresses.iter().map(|address| endpoints.of(*address, trust)).collect()
            },
            tls,
            // Workers begin at different endpoints, so that few requests still spread.
            next: Cell::new(worker),
            worker,
        }
    }

    /// A connection to the next endpoint, kept alive or new.
    ///
    /// # Cancel safety
    /// A connection that is being made is given up when the future is dropped.
    pub async fn lend(&self, freshness: Freshness) -> Result<Lent, LendError> {
        let endpoint = self.pick().ok_or(LendError::NoEndpoint)?;
        let address = endpoint.address();
        self.stats.request(self.worker);
        let kept = match freshness {
            Freshness::Any => endpoint.kept(self.protocol),
            Freshness::New => None,
        };
        let reused = kept.is_some();
        let connection = match kept {
            Some(kept) => kept,
            None => endpoint.open(self).await?,
        };
        self.count(reused);
        Ok(Lent { connection, address, reused })
    }

    /// The index of the worker that this view belongs to.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Round robin.
    fn pick(&self) -> Option<Rc<Endpoint>> {
        let count = self.endpoints.len();
        if count == 0 {
            return None;
        }
        let nth = self.next.get();
        self.next.set(nth.wrapping_add(1));
        Some(self.endpoints[nth % count].clone())
    }

    fn count(&self, reused: bool) {
        if reused {
            self.stats.connection_reused(self.worker);
        }
    }
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
