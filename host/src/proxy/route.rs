//! Which route takes a request: the first one in file order that matches; and which of the route's
//! chains, while another one is tried on a share of the requests. `split` knows which upstream.

use super::mirror::Mirror;
use super::pass::Passing;
use super::reply::Fault;
use super::split::{Destination, field};
use crate::chain::{Chain, Exchange, Members};
use crate::config::{self, ListenerLimits};
use crate::http::{Name, PeerIdentity, RequestHead, ResponseHead};
use crate::http1::HeadLimits;
use crate::http2::Http2Limits;
use crate::overload::Admission;
use crate::rollout::{Arm, Choice};
use crate::shadow::Recorder;
use crate::telemetry::{ListenerStats, RouteStats};
use crate::tls::Terminator;
use crate::upstream::Upstream;
use http::HeaderName;
use ipnet::IpNet;
use std::rc::Rc;
use std::sync::Arc;

/// A listener of one generation, as one worker sees it.
pub struct Listener {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// The generation it is of.
    pub generation: u64,
    /// Peers that are believed about clients.
    pub trusted_proxies: Vec<IpNet>,
    /// None: it does not speak TLS.
    pub tls: Option<Arc<Terminator>>,
    /// Bounds on connections and requests.
    pub limits: ListenerLimits,
    /// Of requests.
    pub head_limits: HeadLimits,
    /// Of connections that speak HTTP/2.
    pub http2_limits: Rc<Http2Limits>,
    /// Requests under way at once.
    pub admission: Admission,
    /// Which requests say how much time they have.
    pub deadline: config::Deadline,
    /// Counters.
    pub stats: Arc<ListenerStats>,
    /// Of requests that no route took.
    pub unrouted: Arc<RouteStats>,
    /// In file order.
    pub routes: Vec<Route>,
    /// What passes on requests for hosts that no route names; none: they get 404.
    pub passing: Option<Passing>,
}

/// A route of one generation, as one worker sees it.
pub struct Route {
    /// What it takes.
    pub config: config::Route,
    /// The chain in force.
    pub running: Way,
    /// The chain that is tried, and on which requests.
    pub next: Option<(Choice, Way)>,
    /// Where it leads.
    pub destination: Destination,
    /// Where copies of its requests go.
    pub mirror: Option<Mirror>,
    /// Counters.
    pub stats: Arc<RouteStats>,
    /// While another chain is tried on copies of its exchanges: where these are recorded.
    pub shadow: Option<Recorder>,
}

/// What a request got of the route that took it.
#[derive(Clone, Copy)]
pub struct Taken<'r> {
    /// The route.
    pub route: &'r Route,
    /// Its way through the route: the chain, and who counts.
    pub way: &'r Way,
    /// Where it goes.
    pub upstream: &'r Rc<Upstream>,
}

/// One way through a route.
pub struct Way {
    /// The filters.
    pub chain: Chain,
    /// The field that tells the client their versions, where the configuration has one.
    pub versions: Option<(HeaderName, String)>,
    /// While a rollout is on that changes the chain of this route.
    pub side: Option<Side>,
}

/// Where a rollout counts what comes of a way.
pub struct Side {
    /// The counters.
    pub arm: Arc<Arm>,
    /// The filters whose failures count: those that the other way does not have.
    pub differs: Members,
}

impl Route {
    /// The way of a request through its chain.
    pub fn way(&self, exchange: &Exchange) -> &Way {
        match &self.next {
            None => &self.running,
            Some((choice, way)) => {
                let header = |name: &HeaderName| field(exchange, name);
                if choice.takes(exchange.client, header) { way } else { &self.running }
            }
        }
    }
}

impl Way {
    /// Puts the field with the versions into a response, in place of any that is there.
    pub fn tell_versions(&self, response: &mut ResponseHead) {
        if let Some((name, versions)) = &self.versions
            && let Ok(name) = Name::parse(name.as_str().as_bytes())
        {
            response.fields.set(name, versions.as_bytes());
        }
    }
}

impl Listener {
    /// The route that takes the request of a client that has proved to be `peer`.
    pub fn route(&self, head: &RequestHead, peer: Option<&PeerIdentity>) -> Option<&Route> {
        self.routes.iter().find(|route| matches(&route.config, head, peer))
    }
}

impl Listener {
    /// The route of a request that none of `routes` takes: to the host that it names, if that is one of
    /// its own and no route's.
    ///
    /// # Errors
    /// It is not passed on.
    pub async fn pass(&self, head: &RequestHead) -> Result<Rc<Route>, Fault> {
        let passing = self.passing.as_ref().ok_or(Fault::NoRoute)?;
        if self.routes.iter().any(|route| matches_host(&route.config, head)) {
            return Err(Fault::NoRoute);
        }
        passing.route(head).await
    }
}

/// Does the host match? A route that names none takes any.
fn matches_host(route: &config::Route, head: &RequestHead) -> bool {
    route.hosts.is_empty() || {
        let host = host_of(&head.authority).to_ascii_lowercase();
        route.hosts.iter().any(|expected| expected.matches(&host))
    }
}

fn matches(route: &config::Route, head: &RequestHead, peer: Option<&PeerIdentity>) -> bool {
    route.path.matches(head.path())
        && (route.methods.is_empty() || route.methods.contains(&head.method))
        && matches_host(route, head)
        && route.headers.iter().all(|expected| {
            Name::parse(expected.name.as_str().as_bytes()).is_ok_and(|name| {
                head.fields.get_all(name).any(|value| expected.value.matches(value))
            })
        })
        && (route.peers.is_empty()
            || peer.is_some_and(|peer| route.peers.iter().any(|expected| expected.matches(peer))))
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        // The colons of an IPv6 address stand within brackets.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Destination, HeaderMatch, HeaderValueMatch, HostMatch, PathMatch};
    use crate::http::{PeerNames, PeerPattern};
    use http::{HeaderName, Method};

    fn any() -> config::Route {
        config::Route {
            name: "r".into(),
            hosts: Vec::new(),
            path: PathMatch::Any,
            methods: Vec::new(),
            headers: Vec::new(),
            peers: Vec::new(),
            chain: Vec::new(),
            next_chain: None,
            destination: Destination::Upstream(0),
            mirror: None,
        }
    }

    fn request(target: &str, authority: &str) -> RequestHead {
        RequestHead { target: target.into(), authority: authority.into(), ..RequestHead::default() }
    }

    #[test]
    fn the_query_does_not_count() {
        let route = config::Route { path: PathMatch::Exact("/a".into()), ..any() };
        assert!(matches(&route, &request("/a?b=/c", "h"), None));
        assert!(!matches(&route, &request("/a/b", "h"), None));
    }

    #[test]
    fn a_host_is_compared_without_case_and_port() {
        let route = config::Route { hosts: vec![HostMatch::Exact("a.example".into())], ..any() };
        for good in ["a.example", "A.Example:80", "a.example:"] {
            assert!(matches(&route, &request("/", good), None), "{good}");
        }
        assert!(!matches(&route, &request("/", "b.example"), None));
        assert_eq!(host_of("[::1]:80"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
    }

    #[test]
    fn every_header_and_one_method_have_to_match() {
        let header =
            |name: &'static str, value| HeaderMatch { name: HeaderName::from_static(name), value };
        let route = config::Route {
            methods: vec![Method::GET, Method::POST],
            headers: vec![
                header("x-a", HeaderValueMatch::Present),
                header("x-b", HeaderValueMatch::Prefix("v".into())),
            ],
            ..any()
        };
        let mut head = request("/", "h");
        head.fields.append(Name::known("x-a"), b"");
        assert!(!matches(&route, &head, None));
        head.fields.append(Name::known("x-b"), b"w");
        assert!(!matches(&route, &head, None));
        head.fields.append(Name::known("x-b"), b"v1");
        assert!(matches(&route, &head, None), "one line of several is enough");
        head.method = Method::PUT;
        assert!(!matches(&route, &head, None));
    }

    #[test]
    fn a_peer_has_to_have_proved_its_name() {
        let pattern = PeerPattern::parse("spiffe://t/ns/*").unwrap();
        let route = config::Route { peers: vec![pattern], ..any() };
        let peer = |uri: &str| {
            let names = PeerNames { uris: vec![uri.to_owned()], ..PeerNames::default() };
            PeerIdentity::new(names, None)
        };
        let head = request("/", "h");
        assert!(matches(&route, &head, Some(&peer("spiffe://t/ns/a"))));
        assert!(!matches(&route, &head, Some(&peer("spiffe://u/ns/a"))));
        assert!(!matches(&route, &head, None));
    }
}
