//! Active health checks: one task for each endpoint, on one worker, for as long as the generation that
//! asks for them is in force and the endpoint is one of it. What they find is shared by all workers.
//!
//! An endpoint that was never checked is used; its first check decides at once, later ones when enough
//! of them in a row say the same.

mod grpc;

use super::balance::Member;
use super::state::{EndpointState, State};
use super::{Connection, Endpoint, Freshness, Http1, Upstream};
use crate::config::{Check, Health, Protocol};
use crate::http::{BodyLength, Fields, Name, RequestHead, ResponseHead};
use crate::http2::{Answer, BodyReader, Response};
use http::Method;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

/// Interim responses to a check, beyond which it has failed.
const INTERIM_MAX: usize = 16;

/// What checks call themselves.
const USER_AGENT: &[u8] = b"pillion-health";

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The checks of an upstream; they end when this is dropped.
pub struct Checks {
    _all: Task,
}

/// Starts the checks of `upstream`, on the runtime of the calling worker.
pub fn start(upstream: &Rc<Upstream>, settings: &Health) -> Checks {
    let all = check_all(upstream.clone(), settings.clone());
    Checks { _all: Task(spawn_local(all).abort_handle()) }
}

/// Keeps a check for each endpoint, whatever becomes of the list.
async fn check_all(upstream: Rc<Upstream>, settings: Health) {
    let mut changes = upstream.addresses.changes();
    let mut running: Vec<(SocketAddr, Task)> = Vec::new();
    loop {
        upstream.follow();
        let choice = upstream.choice.borrow().clone();
        let members: Vec<&Member> = choice.balancer.iter().flat_map(|it| it.members()).collect();
        let is_there = |address: &SocketAddr| {
            members.iter().any(|member| member.endpoint.address() == *address)
        };
        running.retain(|(address, _)| is_there(address));
        for member in members {
            let address = member.endpoint.address();
            if running.iter().any(|(known, _)| *known == address) {
                continue;
            }
            let checker = Checker {
                upstream: upstream.clone(),
                endpoint: member.endpoint.clone(),
                shared: upstream.state.clone(),
                state: member.state.clone(),
                settings: settings.clone(),
                streak: Streak::default(),
            };
            running.push((address, Task(spawn_local(checker.run()).abort_handle())));
        }
        drop(choice);
        let changed = match &mut changes {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            // The list stays; the tasks go on until this one is dropped.
            std::future::pending::<()>().await;
        }
    }
}

struct Checker {
    upstream: Rc<Upstream>,
    endpoint: Rc<Endpoint>,
    shared: Arc<State>,
    state: Arc<EndpointState>,
    settings: Health,
    streak: Streak,
}

impl Checker {
    async fn run(mut self) {
        loop {
            let checked = tokio::time::timeout(self.settings.timeout, self.check()).await;
            self.conclude(checked == Ok(true));
            tokio::time::sleep(jittered(self.settings.interval)).await;
        }
    }

    fn conclude(&mut self, good: bool) {
        self.upstream.stats.guards.checked(good);
        let is_first = !self.state.was_checked();
        let is_healthy = self.state.is_healthy();
        let Some(healthy) = self.streak.decide(good, is_healthy, is_first, &self.settings) else {
            return;
        };
        self.shared.set_healthy(&self.state, healthy);
        if healthy != is_healthy {
            tracing::warn!(
                upstream = %self.upstream.name, endpoint = %self.endpoint.address(), healthy,
                "Health checks have changed their mind about an endpoint."
            );
        }
    }

    async fn check(&self) -> bool {
        let address = self.endpoint.address();
        let authority = |host: &Option<String>| host.clone().unwrap_or_else(|| address.to_string());
        match &self.settings.check {
            Check::Tcp => TcpStream::connect(address).await.is_ok(),
            Check::Http { path, host, status: wanted } => {
                let status = self.status(authority(host), path).await;
                status.is_some_and(|status| match wanted {
                    Some(wanted) => status == *wanted,
                    None => (200..=299).contains(&status),
                })
            }
            Check::Grpc { service, host } => match self.connection().await {
                Some(Connection::Http2(client)) => {
                    grpc::is_serving(&client, authority(host), service).await == Some(true)
                }
                Some(Connection::Http1(_)) | None => false,
            },
        }
    }

    /// The status of the answer to `GET path`; none: there is no answer.
    async fn status(&self, authority: String, path: &str) -> Option<u16> {
        let mut fields = Fields::default();
        fields.append(Name::known("user-agent"), USER_AGENT);
        let target = path.to_owned();
        let head = RequestHead { authority, target, fields, ..RequestHead::default() };
        match self.connection().await? {
            Connection::Http1(connection) => over_http1(*connection, &head, self).await,
            Connection::Http2(client) => {
                let (mut answer, _) = client.request(&head, BodyLength::None, true).ok()?;
                let mut response = ResponseHead::default();
                final_head(&mut answer, &mut response).await?;
                Some(response.status)
            }
        }
    }

    /// A shared connection is as good as a new one; a lent one may be stale.
    async fn connection(&self) -> Option<Connection> {
        let freshness = match self.upstream.protocol {
            Protocol::Http2 => Freshness::Any,
            Protocol::Http1 | Protocol::Auto => Freshness::New,
        };
        let lent = self.upstream.connection(&self.endpoint, freshness).await;
        lent.ok().map(|(connection, _)| connection)
    }
}

async fn over_http1(mut connection: Http1, head: &RequestHead, by: &Checker) -> Option<u16> {
    connection.writer.request_head(head, BodyLength::None);
    let limits = &by.upstream.head_limits;
    let mut response = ResponseHead::default();
    for _ in 0..=INTERIM_MAX {
        poll_fn(|cx| {
            // What cannot be written is not answered either.
            let _ = connection.writer.poll_flush(cx);
            connection.reader.poll_response_head(cx, &Method::GET, &mut response, limits)
        })
        .await
        .ok()?;
        if response.status >= 200 {
            return Some(response.status);
        }
    }
    None
}

/// Waits for the final head of an answer, which goes into `head`; its body.
async fn final_head(answer: &mut Response, head: &mut ResponseHead) -> Option<BodyReader> {
    for _ in 0..=INTERIM_MAX {
        let next = poll_fn(|cx| answer.poll_head(cx, head)).await.ok()?;
        if let Answer::Final(_, body) = next {
            return Some(body);
        }
    }
    None
}

/// Give or take a tenth, so that sidecars that started together do not check together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.9..1.1))
}

/// Checks in a row that said the same.
#[derive(Debug, Default)]
struct Streak {
    good: usize,
    bad: usize,
}

impl Streak {
    /// What a check decides; none: nothing yet.
    fn decide(
        &mut self,
        good: bool,
        is_healthy: bool,
        is_first: bool,
        settings: &Health,
    ) -> Option<bool> {
        let (row, other) =
            if good { (&mut self.good, &mut self.bad) } else { (&mut self.bad, &mut self.good) };
        *other = 0;
        *row = row.saturating_add(1);
        let enough = if good { settings.healthy } else { settings.unhealthy };
        (is_first || (good != is_healthy && *row >= enough)).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(healthy: usize, unhealthy: usize) -> Health {
        let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
        Health { check: Check::Tcp, interval, timeout, healthy, unhealthy }
    }

    #[test]
    fn so_many_checks_in_a_row_decide() {
        let settings = settings(2, 3);
        let mut streak = Streak::default();
        let mut is_healthy = true;
        for (good, after) in [
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (false, true),
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ] {
            is_healthy = streak.decide(good, is_healthy, false, &settings).unwrap_or(is_healthy);
            assert_eq!(is_healthy, after);
        }
    }

    #[test]
    fn the_first_check_decides_at_once() {
        for good in [true, false] {
            let decided = Streak::default().decide(good, true, true, &settings(100, 100));
            assert_eq!(decided, Some(good));
        }
    }

    #[test]
    fn intervals_differ_by_a_tenth() {
        let interval = Duration::from_secs(10);
        for _ in 0..1_000 {
            let jittered = jittered(interval);
            assert!((interval.mul_f64(0.89)..interval.mul_f64(1.11)).contains(&jittered));
        }
    }
}
