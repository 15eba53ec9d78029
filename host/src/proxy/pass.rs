//! Requests for hosts that no route names, on their way to the host itself: as a forward proxy does
//! it, in plain HTTP.
//!
//! Names are looked up off the worker, in bounded time, and a request goes only to addresses that
//! were checked: none of this host and its networks unless the configuration says so. What was
//! looked up is kept for a while, with its connections.

use super::reply::Fault;
use super::route::{Route, Way};
use super::split::Destination;
use crate::chain::Chain;
use crate::config::{self, PathMatch, Protocol, UpstreamLimits};
use crate::dns::Addresses;
use crate::http::{Name, RequestHead, Scheme};
use crate::telemetry::{RouteStats, UpstreamStats};
use crate::upstream::{Endpoints, State, Upstream};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long what was looked up is used: the system's resolver does not tell how long it holds.
pub const LOOKED_UP_TIME: Duration = Duration::from_secs(30);
/// Names looked up at one time, by each listener on each worker. One whose time is up keeps its
/// place until the resolver gives up.
pub const LOOKUPS_MAX: usize = 8;
/// Addresses of one host that are used.
pub const ADDRESSES_MAX: usize = 16;
/// Sidecars that a request may have come through, by its `via`, before it is taken to go in
/// circles.
pub const HOPS_MAX: usize = 8;

/// What passes on requests of one listener, on one worker.
pub struct Passing {
    config: config::Pass,
    route: config::Route,
    stats: Arc<RouteStats>,
    upstream_stats: Arc<UpstreamStats>,
    endpoints: Rc<Endpoints>,
    worker: usize,
    known: RefCell<HashMap<(String, u16), Known>>,
    lookups: Arc<Semaphore>,
}

struct Known {
    route: Rc<Route>,
    until: Instant,
}

impl Passing {
    /// Of the listener called `listener`, on one worker, whose connections are in `endpoints`.
    pub fn new(
        config: config::Pass,
        listener: &str,
        (stats, upstream_stats): (Arc<RouteStats>, Arc<UpstreamStats>),
        endpoints: Rc<Endpoints>,
        worker: usize,
    ) -> Self {
        let route = config::Route {
            name: route_name(listener).into(),
            hosts: Vec::new(),
            path: PathMatch::Any,
            methods: Vec::new(),
            headers: Vec::new(),
            peers: Vec::new(),
            chain: Vec::new(),
            next_chain: None,
            destination: config::Destination::Upstream(0),
            mirror: None,
        };
        let (known, lookups) = (RefCell::default(), Arc::new(Semaphore::new(LOOKUPS_MAX)));
        Passing { config, route, stats, upstream_stats, endpoints, worker, known, lookups }
    }

    /// The route to the host that a request names.
    ///
    /// # Errors
    /// It is not passed on.
    ///
    /// # Cancel safety
    /// A lookup that was begun goes on without effect.
    pub async fn route(&self, head: &RequestHead) -> Result<Rc<Route>, Fault> {
        // What was meant to be secret is not sent in plain text.
        if [head.scheme, head.asked_scheme].contains(&Scheme::Https) {
            return Err(Fault::NoRoute);
        }
        if has_come_around(head) {
            return Err(Fault::Loop);
        }
        let place = place(&head.authority).ok_or(Fault::NoRoute)?;
        let now = Instant::now();
        if let Some(known) = self.known.borrow().get(&place).filter(|known| known.until > now) {
            return Ok(known.route.clone());
        }
        let addresses = self.look_up(&place).await?;
        let route = Rc::new(self.route_to(&addresses));
        self.remember(place, route.clone());
        Ok(route)
    }

    async fn look_up(&self, (host, port): &(String, u16)) -> Result<Vec<SocketAddr>, Fault> {
        let found = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, *port)],
            Err(_) => {
                let looking_up = resolve(self.lookups.clone(), host.clone(), *port);
                let found = tokio::time::timeout(self.config.resolve_timeout, looking_up).await;
                found.map_err(|_| Fault::DnsTimeout)?.map_err(|error| {
                    tracing::debug!(host, %error, "A name could not be looked up.");
                    Fault::DnsError
                })?
            }
        };
        let is_allowed =
            |address: &SocketAddr| self.config.allow_private || is_public(address.ip());
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(is_allowed).take(ADDRESSES_MAX).collect();
        match (found.is_empty(), allowed.is_empty()) {
            (true, _) => Err(Fault::DnsError),
            (false, true) => Err(Fault::AddressProhibited),
            (false, false) => Ok(allowed),
        }
    }

    fn route_to(&self, addresses: &[SocketAddr]) -> Route {
        let upstream = config::Upstream {
            name: self.upstream_stats.name().into(),
            endpoints: Vec::new(),
            protocol: Protocol::Http1,
            tls: None,
            limits: UpstreamLimits::default(),
            policy: config::Policy::default(),
        };
        let stats = self.upstream_stats.clone();
        // One name stands for many hosts, which have nothing in common.
        let state = State::alone(upstream.name.clone(), addresses, stats.clone());
        let (addresses, endpoints) = (Addresses::fixed(addresses), self.endpoints.clone());
        let upstream =
            Upstream::new(&upstream, addresses, None, endpoints, state, stats, self.worker);
        Route {
            config: self.route.clone(),
            running: Way { chain: Chain::default(), versions: None, side: None },
            next: None,
            destination: Destination::Upstream(Rc::new(upstream)),
            mirror: None,
            stats: self.stats.clone(),
            shadow: None,
        }
    }

    fn remember(&self, place: (String, u16), route: Rc<Route>) {
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if known.len() >= self.config.hosts_max && !known.contains_key(&place) {
            known.retain(|_, known| known.until > now);
        }
        if known.len() >= self.config.hosts_max && !known.contains_key(&place) {
            let oldest = known.iter().min_by_key(|(_, known)| known.until);
            let oldest = oldest.map(|(place, _)| place.clone());
            oldest.and_then(|place| known.remove(&place));
        }
        known.insert(place, Known { route, until: now + LOOKED_UP_TIME });
    }
}

/// The name of the route in metrics and logs: none in a file has a `/`.
pub fn route_name(listener: &str) -> String {
    format!("{listener}/pass")
}

/// Looks a name up on a thread for waiting. The place of a lookup is taken until the resolver is
/// done.
async fn resolve(lookups: Arc<Semaphore>, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
    let looking_up = tokio::task::spawn_local(async move {
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        drop(place);
        found.map(Iterator::collect)
    });
    looking_up.await.map_err(io::Error::other)?
}

/// Host, in lower case, and port of an authority.
fn place(authority: &str) -> Option<(String, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let port = if port.is_empty() { 80 } else { port.parse().ok().filter(|port| *port != 0)? };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// Did the request come through too many sidecars? One that passes requests on to itself would do
/// so for ever.
fn has_come_around(head: &RequestHead) -> bool {
    const VIA: Name<'static> = Name::known("via");
    let hops = head.fields.get_all(VIA).flat_map(|line| line.split(|byte| *byte == b','));
    hops.filter(|hop| hop.trim_ascii().ends_with(b" pillion")).count() > HOPS_MAX
}

/// Is it an address that the whole internet reaches? By the registries of IANA for special
/// purposes.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        // This network; private; shared by a provider's customers; loopback; link-local; private.
        (0 | 10 | 127, _, _) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _)
        // Protocol assignments; examples; relays; private; benchmarks; examples.
        | (192, 0, 0 | 2) | (192, 88, 99) | (192, 168, _) | (198, 18..=19, _) | (198, 51, 100)
        // Examples; groups, reserved and broadcast.
        | (203, 0, 113) | (224..=255, _, _)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let last_v4 = || {
        let [a, b] = [segments[6].to_be_bytes(), segments[7].to_be_bytes()];
        Ipv4Addr::new(a[0], a[1], b[0], b[1])
    };
    match segments {
        // An IPv4 address in another form: mapped, or behind a translator.
        [0, 0, 0, 0, 0, 0xFFFF, ..] | [0x64, 0xFF9B, 0, 0, 0, 0, ..] => is_public_v4(last_v4()),
        // Protocol assignments, Teredo among them; examples; 6to4, which has an IPv4 address in it.
        [0x2001, 0..=0x01FF, ..]
        | [0x2001, 0xDB8, ..]
        | [0x2002, ..]
        | [0x3FFF, 0..=0x0FFF, ..] => false,
        // What is given out for the internet; everything else is special or not given out.
        [0x2000..=0x3FFF, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::time::SystemTime;
    use tokio::runtime::{Builder, LocalOptions};

    fn passing(allow_private: bool, hosts_max: usize) -> Passing {
        let config =
            config::Pass { allow_private, hosts_max, resolve_timeout: Duration::from_secs(2) };
        let metrics = Metrics::new(1, SystemTime::now());
        let stats = (metrics.route("out", "out/pass"), metrics.upstream("out/pass"));
        Passing::new(config, "out", stats, Rc::default(), 0)
    }

    fn head(authority: &str) -> RequestHead {
        RequestHead { authority: authority.into(), target: "/".into(), ..RequestHead::default() }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().start_paused(true);
        runtime.build_local(LocalOptions::default()).unwrap().block_on(future)
    }

    #[test]
    fn addresses_that_the_internet_does_not_reach_are_prohibited() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "172.15.255.255",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "100::1",
            "4000::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_a_port_or_80() {
        for (authority, expected) in [
            ("A.example", Some(("a.example", 80))),
            ("a.example:", Some(("a.example", 80))),
            ("a.example:81", Some(("a.example", 81))),
            ("[::1]", Some(("[::1]", 80))),
            ("[::1]:81", Some(("[::1]", 81))),
            ("a.example:0", None),
            ("", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(place(authority), expected, "{authority}");
        }
    }

    #[test]
    fn what_is_not_passed_on_has_its_reply() {
        run(async {
            let passing = passing(false, 10);
            let https = RequestHead { asked_scheme: Scheme::Https, ..head("1.1.1.1") };
            assert_eq!(passing.route(&https).await.err(), Some(Fault::NoRoute));
            let secured = RequestHead { scheme: Scheme::Https, ..head("1.1.1.1") };
            assert_eq!(passing.route(&secured).await.err(), Some(Fault::NoRoute));
            for private in ["127.0.0.1", "[::1]:81", "169.254.169.254", "[::ffff:10.0.0.1]"] {
                let refused = passing.route(&head(private)).await.err();
                assert_eq!(refused, Some(Fault::AddressProhibited), "{private}");
            }
            assert!(passing.route(&head("1.1.1.1")).await.is_ok());
        });
        run(async {
            assert!(passing(true, 10).route(&head("127.0.0.1")).await.is_ok());
        });
    }

    #[test]
    fn a_request_that_goes_in_circles_is_stopped() {
        run(async {
            let passing = passing(true, 10);
            for (hops, passed) in [(HOPS_MAX - 1, true), (HOPS_MAX, true), (HOPS_MAX + 1, false)] {
                let mut head = head("127.0.0.1");
                head.fields.append(Name::known("via"), "1.1 pillion, ".repeat(hops).as_bytes());
                assert_eq!(passing.route(&head).await.is_ok(), passed, "{hops}");
            }
        });
    }

    #[test]
    fn so_many_hosts_are_known_and_for_so_long() {
        run(async {
            let passing = passing(false, 2);
            let mut routes = Vec::new();
            for host in ["1.0.0.1", "1.0.0.2", "1.0.0.3"] {
                routes.push(passing.route(&head(host)).await.unwrap());
                tokio::time::advance(Duration::from_millis(1)).await;
            }
            assert_eq!(passing.known.borrow().len(), 2);
            let third = passing.route(&head("1.0.0.3")).await.unwrap();
            assert!(Rc::ptr_eq(&third, &routes[2]));
            let first = passing.route(&head("1.0.0.1")).await.unwrap();
            assert!(!Rc::ptr_eq(&first, &routes[0]), "it was forgotten");
            tokio::time::advance(LOOKED_UP_TIME).await;
            let again = passing.route(&head("1.0.0.1")).await.unwrap();
            assert!(!Rc::ptr_eq(&again, &first), "its time was over");
        });
    }

    #[test]
    fn lookups_that_hang_let_no_more_begin() {
        run(async {
            let passing = passing(false, 2);
            let held =
                passing.lookups.clone().acquire_many_owned(LOOKUPS_MAX as u32).await.unwrap();
            let refused = passing.route(&head("name.example")).await.err();
            assert_eq!(refused, Some(Fault::DnsTimeout));
            drop(held);
        });
    }
}
