//! The thread that looks names up, each when its time has come.

use super::resolver::{Failure, Resolver};
use super::{Addresses, lock};
use crate::config::{Dns, Endpoint};
use crate::telemetry::UpstreamStats;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;

/// Names looked up at one time.
pub const LOOKUPS_MAX: usize = 32;

/// Follows names. One a process; it takes nothing before the first name.
#[derive(Debug)]
pub struct Names {
    runtime: Mutex<Option<Handle>>,
    turns: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Names { runtime: Mutex::default(), turns: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Names {
    /// The addresses of an upstream, some of whose `endpoints` are followed, until the last one lets go
    /// of the result; `fixed` are those of the others, by their places.
    pub fn follow(
        &self,
        upstream: &Arc<str>,
        endpoints: &[Endpoint],
        fixed: &[Vec<SocketAddr>],
        dns: &Dns,
        stats: Arc<UpstreamStats>,
    ) -> Arc<Addresses> {
        let addresses = Addresses::followed(upstream.clone(), endpoints, dns, stats);
        addresses.renew(fixed);
        let runtime = match self.runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(
                    upstream = &**upstream, %error,
                    "failed to start the thread that looks names up; reload to try again"
                );
                return addresses;
            }
        };
        let resolver = Arc::new(Resolver::new(dns.clone()));
        let Some(followed) = &addresses.followed else { return addresses };
        let mut tasks = lock(&followed.tasks);
        for (at, endpoint) in endpoints.iter().enumerate().filter(|(_, it)| it.is_followed()) {
            let name = Name {
                addresses: Arc::downgrade(&addresses),
                at,
                endpoint: endpoint.clone(),
                resolver: resolver.clone(),
                turns: self.turns.clone(),
                dns: dns.clone(),
            };
            tasks.push(runtime.spawn(name.follow()).abort_handle());
        }
        drop(tasks);
        addresses
    }

    fn runtime(&self) -> io::Result<Handle> {
        let mut known = lock(&self.runtime);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let forever = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("names".to_owned()).spawn(forever)?;
        *known = Some(handle.clone());
        Ok(handle)
    }
}

/// One name of one upstream.
struct Name {
    addresses: Weak<Addresses>,
    at: usize,
    endpoint: Endpoint,
    resolver: Arc<Resolver>,
    turns: Arc<Semaphore>,
    dns: Dns,
}

impl Name {
    /// Looks it up again and again, until nobody wants its addresses.
    async fn follow(self) {
        let mut failures = 0;
        loop {
            let found = {
                // Never closed.
                let _turn = self.turns.acquire().await;
                let limit = self.dns.limits.timeout;
                let looked_up = tokio::time::timeout(limit, self.resolver.look_up(&self.endpoint));
                looked_up.await.unwrap_or_else(|_| Err(Failure::timeout(limit)))
            };
            let Some(addresses) = self.addresses.upgrade() else { return };
            let pause = addresses.take(self.at, found, &mut failures);
            let Some(refresh) = addresses.followed.as_ref().map(|it| it.refresh.clone()) else {
                return;
            };
            drop(addresses);
            // Cancelled branches lose nothing: both only wait.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = refresh.notified() => {}
            }
        }
    }
}
