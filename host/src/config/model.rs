//! The configuration as the rest of Pillion uses it: every reference resolved, every default filled
//! in, every value within its range. Plain data; only `check` builds it from a file.
//!
//! Knows nothing of TOML, positions or messages. Limits and their defaults are in `limits`.

mod filter;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;

pub use self::filter::{
    FailPolicy, Filter, FilterSource, Grants, Isolation, RateLimitGrant, Upload,
};
use super::deadline::Deadline;
use super::dns::Dns;
use super::dump::Secrets;
use super::endpoint::Endpoint;
use super::limits::{CompileLimits, ListenerLimits, UpstreamLimits};
use super::mirror::Mirror;
use super::overload::Overload;
use super::pass::Pass;
use super::tls::{ListenerTls, UpstreamTls};
use super::upstream::Policy;
use crate::http::PeerPattern;
use crate::rollout::{Plan, Sticky};

/// One configuration file, checked. Debug shows what `redacted` does.
#[derive(Clone)]
pub struct Config {
    /// The admin interface.
    pub admin: Admin,
    /// Workers, draining, caching, compiling.
    pub runtime: Runtime,
    /// Where access log lines go; none: no access log.
    pub access_log: Option<AccessLog>,
    /// How names of endpoints are looked up.
    pub dns: Dns,
    /// In file order; at least one.
    pub listeners: Vec<Listener>,
    /// In order of their names; a route refers to one by index.
    pub upstreams: Vec<Upstream>,
    /// In order of their names; a chain refers to them by index.
    pub filters: Vec<Filter>,
    /// How changes of filters and chains are tried.
    pub rollout: Rollout,
    /// The file this was read from, as an absolute path.
    pub source: PathBuf,
    /// Which values came from the environment or from files, so that they are never shown.
    pub(super) secrets: Secrets,
}

impl Config {
    /// Which filters are in a chain, or in a next one; in the order of `filters`.
    pub(super) fn used_filters(&self) -> Vec<bool> {
        let mut used = vec![false; self.filters.len()];
        let routes = self.listeners.iter().flat_map(|listener| &listener.routes);
        for index in
            routes.flat_map(|route| route.chain.iter().chain(route.next_chain.iter().flatten()))
        {
            if let Some(used) = used.get_mut(*index) {
                *used = true;
            }
        }
        used
    }

    /// The names of the filters of a chain.
    pub fn filter_names(&self, chain: &[usize]) -> Vec<&str> {
        chain.iter().filter_map(|index| self.filters.get(*index)).map(|it| &*it.name).collect()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({})", self.redacted())
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// It listens on `address`. There is a `socket` where it does not.
    pub tcp: bool,
    /// Loopback unless `allow_remote`.
    pub address: SocketAddr,
    /// The operator accepts that others than this host reach the admin interface.
    pub allow_remote: bool,
    /// A Unix socket that it listens on, by absolute path, short enough for one.
    pub socket: Option<PathBuf>,
    /// What requests have to bring along.
    pub token: Option<Token>,
}

/// A secret that requests to the admin interface bring along: 16 to 1,024 visible characters of
/// ASCII. Debug leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(super) Arc<str>);

impl Token {
    /// The secret.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Worker threads; none: one per available core, at most two.
    pub workers: Option<NonZeroUsize>,
    /// How long requests in flight may take to finish once the process is told to stop.
    pub drain_timeout: Duration,
    /// Where compiled filters are kept; none: the user's cache directory.
    pub cache_dir: Option<PathBuf>,
    /// Downstream connections open at once; none: half the limit of file descriptors.
    pub connections_max: Option<usize>,
    /// Requests under way at once, over all listeners; none: as many as come.
    pub overload: Option<Overload>,
    /// Publish a new generation when this file or a filter is saved.
    pub watch: bool,
    /// Bounds on the child process that compiles a filter.
    pub compile: CompileLimits,
}

/// `[rollout]`
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The steps, which requests a canary gets, and what counts as worse.
    pub plan: Plan,
    /// Where generations are kept over a restart, as an absolute path; none: in the user's
    /// directory of states.
    pub state_dir: Option<PathBuf>,
    /// A field of responses that tells the versions of the filters that served; none: no such
    /// field. Never one of the host's own.
    pub version_header: Option<HeaderName>,
}

/// `[access_log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub destination: AccessLogDestination,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogDestination {
    /// Standard output.
    Stdout,
    /// A file, by absolute path; appended to.
    File(PathBuf),
}

/// `[[listener]]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique among listeners.
    pub name: Arc<str>,
    /// Unique among listeners, except for port 0.
    pub address: SocketAddr,
    /// Peers whose `Forwarded` and `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What it needs to speak TLS; none: it does not.
    pub tls: Option<ListenerTls>,
    /// Bounds on connections and requests.
    pub limits: ListenerLimits,
    /// Requests under way at once; none: as many as come.
    pub overload: Option<Overload>,
    /// Which requests say how much time they have.
    pub deadline: Deadline,
    /// What becomes of requests for hosts that no route names; none: 404.
    pub pass: Option<Pass>,
    /// In file order; the first that matches takes the request. At least one.
    pub routes: Vec<Route>,
}

/// `[[listener.route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// As given, or `<listener>/<n>` counted from 1. Unique within the listener.
    pub name: Arc<str>,
    /// One of them has to match; none given: any host.
    pub hosts: Vec<HostMatch>,
    /// The path, without the query.
    pub path: PathMatch,
    /// One of them has to match; none given: any method.
    pub methods: Vec<Method>,
    /// All of them have to match.
    pub headers: Vec<HeaderMatch>,
    /// The client has to have proved one of these names; none given: any client.
    pub peers: Vec<PeerPattern>,
    /// Indexes into `Config::filters`, in the order of the request hooks, each at most once.
    pub chain: Vec<usize>,
    /// The chain that is to take its place, written the same way.
    pub next_chain: Option<Vec<usize>>,
    /// Where it leads.
    pub destination: Destination,
    /// Where copies of its requests go.
    pub mirror: Option<Mirror>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this one of `Config::upstreams`.
    Upstream(usize),
    /// To several.
    Split(Split),
}

/// Upstreams that share the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// At least one, each upstream at most once, not all of weight 0.
    pub legs: Vec<Leg>,
    /// Which requests stay together.
    pub sticky: Sticky,
}

/// One upstream of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// Its share, of the sum of all weights.
    pub weight: u32,
}

/// The host a request is for, compared in lower case and without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This host. Lower case.
    Exact(String),
    /// `*.example.com`: every host below this domain, at any depth, but not the domain itself.
    /// Holds `.example.com`, in lower case.
    Below(String),
}

impl HostMatch {
    /// `host`: in lower case, without a port.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(expected) => host == expected,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// The path of a request, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Every path, `*` of `OPTIONS *` included.
    Any,
    /// This path.
    Exact(String),
    /// This path and every path below it: `/api` takes `/api`, `/api/` and `/api/x`, not `/apix`.
    /// Never ends with `/`.
    Prefix(String),
}

impl PathMatch {
    /// `path`: without its query.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => path == expected,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// A field a request has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The field's name.
    pub name: HeaderName,
    /// What is asked of its value.
    pub value: HeaderValueMatch,
}

/// What is asked of a field's value. A field with several lines matches when one of them does.
/// Debug leaves the texts out: they may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValueMatch {
    /// Nothing: the field is there.
    Present,
    /// Exactly this.
    Exact(String),
    /// It begins with this.
    Prefix(String),
}

impl HeaderValueMatch {
    /// `value`: one line of the field, without blanks around it.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(expected) => value == expected.as_bytes(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        }
    }
}

impl fmt::Debug for HeaderValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Present => "Present",
            Self::Exact(_) => "Exact(..)",
            Self::Prefix(_) => "Prefix(..)",
        })
    }
}

/// `[upstream.NAME]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Unique among upstreams.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// What its endpoints speak.
    pub protocol: Protocol,
    /// How they are spoken to in TLS; none: without it.
    pub tls: Option<UpstreamTls>,
    /// How they are chosen and guarded, and when requests are repeated.
    pub policy: Policy,
    /// Bounds on connections and answers.
    pub limits: UpstreamLimits,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by prior knowledge without TLS (`h2c`), negotiated with it (`h2`). gRPC needs it.
    Http2,
    /// With TLS: what the endpoint chooses.
    Auto,
}
