//! Builds the model from the tables of the file: addresses, names, references, and what only shows
//! when several tables are seen together.
//!
//! Types and ranges are checked by `reader`; `[admin]`, `match`, `[filter.NAME]` and `[rollout]` have
//! files of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{PathBuf, absolute};
use std::sync::Arc;

use ipnet::IpNet;

use super::admin;
use super::deadline;
use super::dns;
use super::dump::Secrets;
use super::endpoint::{self, Endpoint};
use super::filters;
use super::limits::{CompileLimits, ListenerLimits, UpstreamLimits};
use super::matches;
use super::mirror;
use super::model::{
    AccessLog, AccessLogDestination, Config, Listener, Protocol, Route, Runtime, Upstream,
};
use super::overload;
use super::pass;
use super::problems::{Context, Span};
use super::reader::{TableReader, Text};
use super::rollout;
use super::split;
use super::tls;
use super::upstream;
use super::words::did_you_mean;

/// The configuration, if enough of it is usable to build one. Whether it may be used, the context
/// knows: it has the problems.
pub(super) fn config(
    context: &Context<'_>,
    root: &TableReader<'_, '_>,
    source: PathBuf,
) -> Option<Config> {
    let admin = admin::read(&root.table("admin"));
    let runtime = read_runtime(&root.table("runtime"));
    let rollout = rollout::read(&root.table("rollout"));
    let dns = dns::read(&root.table("dns"));
    let access_log = root.has("access_log").then(|| root.table("access_log"));
    let access_log = access_log.map(|table| read_access_log(&table));

    let upstream_tables = root.named_tables("upstream");
    let filter_tables = root.named_tables("filter");
    let mut upstream_names = References::new("upstream", &upstream_tables);
    let mut filter_names = References::new("filter", &filter_tables);
    let listener_tables = root.tables("listener");
    check_unique(&listener_tables, "listener");
    let mut addresses = Addresses::new(admin.tcp.then_some(admin.address));
    let listeners: Vec<Option<Listener>> = listener_tables
        .iter()
        .map(|table| read_listener(table, &mut addresses, &mut upstream_names, &mut filter_names))
        .collect();

    let upstreams: Vec<Option<Upstream>> =
        upstream_tables.iter().map(|(name, table)| read_upstream(name, table)).collect();
    let filters: Vec<_> =
        filter_tables.iter().map(|(name, table)| filters::read(name, table)).collect();
    upstream_names.warn_unused(context, "no route sends requests to it");
    filter_names.warn_unused(context, "no chain has it");
    Some(Config {
        admin,
        runtime,
        access_log,
        dns,
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        upstreams: upstreams.into_iter().collect::<Option<_>>()?,
        filters: filters.into_iter().collect::<Option<_>>()?,
        rollout,
        source,
        secrets: Secrets::default(),
    })
}

/// The names that tables of one kind define, and which of them are used.
pub(super) struct References {
    kind: &'static str,
    defined: BTreeMap<String, (usize, Span)>,
    used: Vec<bool>,
}

impl References {
    fn new(kind: &'static str, tables: &[(Text, TableReader<'_, '_>)]) -> Self {
        let place = |(index, (name, _)): (usize, &(Text, _))| {
            (name.value.clone(), (index, name.span.clone()))
        };
        let defined = tables.iter().enumerate().map(place).collect();
        Self { kind, defined, used: vec![false; tables.len()] }
    }

    /// The index of the table called `name`; none, and a problem: there is no such table.
    pub(super) fn resolve(&mut self, context: &Context<'_>, name: &Text) -> Option<usize> {
        if let Some((index, _)) = self.defined.get(&name.value) {
            if let Some(used) = self.used.get_mut(*index) {
                *used = true;
            }
            return Some(*index);
        }
        if context.count_if_full() {
            return None;
        }
        let known = self.defined.keys().map(String::as_str);
        let help = did_you_mean(&name.value, known)
            .unwrap_or_else(|| format!("define it as `[{}.{}]`", self.kind, name.value));
        let message = format!("unknown {} `{}`", self.kind, name.value);
        context.absence(name.span.clone(), message, help);
        None
    }

    fn warn_unused(&self, context: &Context<'_>, reason: &str) {
        for (name, (index, span)) in &self.defined {
            if !self.used.get(*index).copied().unwrap_or_default() {
                let message = format!("{} `{name}` is not used: {reason}", self.kind);
                context.conclusion(span.clone(), message, "name it there, or remove it");
            }
        }
    }
}

/// Stands in for an address that is reported as unusable.
pub(super) fn unspecified() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) fn read_address(
    table: &TableReader<'_, '_>,
    text: &Text,
    example: &str,
) -> Option<SocketAddr> {
    let parsed = text.value.parse();
    if parsed.is_err() {
        let value = text.value.as_str();
        let port = value.strip_prefix(':').unwrap_or(value);
        let help = if !text.secret && port.parse::<u16>().is_ok() {
            format!("write `0.0.0.0:{port}` for all addresses, or `127.0.0.1:{port}`")
        } else if value.starts_with("localhost:") {
            "write an IP address, as in `127.0.0.1`".to_owned()
        } else {
            format!("write an IP address and a port, as in `{example}`")
        };
        let message = format!("`{}` is no address to listen on", text.shown());
        table.context.error(text.span.clone(), message, help);
    }
    parsed.ok()
}

/// An absolute path, from one that is relative to the file.
pub(super) fn read_path(table: &TableReader<'_, '_>, text: &Text) -> Option<PathBuf> {
    if text.value.is_empty() {
        table.context.error(
            text.span.clone(),
            "the path is empty",
            "leave the key out, or name one",
        );
        return None;
    }
    let path = absolute(table.context.base.join(&text.value));
    if let Err(error) = &path {
        let message = format!("`{}` is no path: {error}", text.shown());
        table.context.error(text.span.clone(), message, "write an absolute path");
    }
    path.ok()
}

fn read_runtime(table: &TableReader<'_, '_>) -> Runtime {
    let count = |name| table.limit(name).and_then(|value| usize::try_from(value).ok());
    Runtime {
        workers: count("workers").and_then(NonZeroUsize::new),
        drain_timeout: table.duration("drain_timeout"),
        cache_dir: table.text("cache_dir").and_then(|text| read_path(table, &text)),
        connections_max: count("connections_max"),
        overload: overload::read(table),
        watch: table.flag("watch").unwrap_or(true),
        compile: CompileLimits::read(&table.table("compile")),
    }
}

fn read_access_log(table: &TableReader<'_, '_>) -> AccessLog {
    let destination = table.text("destination").and_then(|text| match text.value.as_str() {
        "stdout" => Some(AccessLogDestination::Stdout),
        value if value.contains('/') => read_path(table, &text).map(AccessLogDestination::File),
        _ => {
            let message = format!("`{}` is no destination", text.shown());
            let help = "write `stdout`, or a path with a `/`, as in `./access.log`";
            table.context.error(text.span.clone(), message, help);
            None
        }
    });
    AccessLog { destination: destination.unwrap_or(AccessLogDestination::Stdout) }
}

fn read_listener(
    table: &TableReader<'_, '_>,
    addresses: &mut Addresses,
    upstreams: &mut References,
    filters: &mut References,
) -> Option<Listener> {
    let name = table.name("name");
    let address = addresses.read(table);
    let trusted = table.texts("trusted_proxies");
    let trusted_proxies = trusted.iter().filter_map(|text| read_network(table, text)).collect();
    let tls = tls::read::listener(table);
    let limits_table = table.table("limits");
    let limits = ListenerLimits::read(&limits_table);
    check_listener_limits(&limits_table, &limits);
    let (overload, pass) = (overload::read(table), pass::read(table));
    let deadline = deadline::read(table);

    let listener_name = name.map(|name| name.value);
    let route_tables = table.tables("route");
    let mut routes = Vec::new();
    let mut spans = Vec::new();
    for (index, route) in route_tables.iter().enumerate() {
        let default_name =
            format!("{}/{}", listener_name.as_deref().unwrap_or_default(), index + 1);
        if let Some(read) = read_route(route, default_name, upstreams, filters) {
            routes.push(read);
            spans.push(route.span.clone());
        }
    }
    check_unique(&route_tables, "route");
    matches::warn_unreachable(table, &routes, &spans);
    // A route that could not be read is reported; without it the others are of no use.
    let complete = routes.len() == route_tables.len();
    let name: Arc<str> = listener_name?.into();
    let address = address?;
    complete.then_some(Listener {
        name,
        address,
        trusted_proxies,
        tls,
        limits,
        overload,
        deadline,
        pass,
        routes,
    })
}

fn check_listener_limits(table: &TableReader<'_, '_>, limits: &ListenerLimits) {
    if limits.target_bytes > limits.head_bytes {
        let message = "`target_bytes` is larger than `head_bytes`";
        let help = "the target is part of the head: raise `head_bytes` too";
        table.context.warning(table.span_of("target_bytes"), message, help);
    }
    if limits.h2_stream_window > limits.h2_connection_window {
        let message = "`h2_stream_window` is larger than `h2_connection_window`";
        let help = "the connection's window bounds its streams: raise it too";
        table.context.warning(table.span_of("h2_stream_window"), message, help);
    }
}

fn read_network(table: &TableReader<'_, '_>, text: &Text) -> Option<IpNet> {
    let network = text.value.parse::<IpNet>().ok();
    let network = network.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
    if network.is_none() {
        let message = format!("`{}` is no network", text.shown());
        let help = "write a network or an address, as in `10.0.0.0/8` or `::1`";
        table.context.error(text.span.clone(), message, help);
    }
    network
}

fn read_route(
    table: &TableReader<'_, '_>,
    default_name: String,
    upstreams: &mut References,
    filters: &mut References,
) -> Option<Route> {
    let name = table.name("name").map_or(default_name, |name| name.value);
    let matching = matches::read(&table.table("match"));
    let chain = read_chain(table, filters);
    let next = table.has("next").then(|| table.table("next"));
    let next_chain = next.as_ref().map(|next| read_chain(next, filters));
    if let Some(next) = next
        && next_chain.as_ref() == Some(&chain)
    {
        let message = format!("the next chain of route `{name}` is what runs already");
        let help = "change what is to be tried, or remove `next`";
        next.context.conclusion(next.span.clone(), message, help);
    }
    let mirror = mirror::read(table, upstreams);
    let destination = split::read(table, upstreams)?;
    let matches::Match { hosts, path, methods, headers, peers } = matching;
    let name = name.into();
    Some(Route {
        name,
        hosts,
        path,
        methods,
        headers,
        peers,
        chain,
        next_chain,
        destination,
        mirror,
    })
}

fn read_chain(table: &TableReader<'_, '_>, filters: &mut References) -> Vec<usize> {
    let mut chain = Vec::new();
    for filter in table.names("chain") {
        let Some(index) = filters.resolve(table.context, &filter) else { continue };
        if chain.contains(&index) {
            let message = format!("filter `{}` is in the chain twice", filter.value);
            let help = "define a second filter with the same `source` to run it twice";
            table.context.error(filter.span.clone(), message, help);
            continue;
        }
        chain.push(index);
    }
    chain
}

/// Reports names that several tables of one list have.
fn check_unique(tables: &[TableReader<'_, '_>], kind: &str) {
    let mut seen = BTreeMap::new();
    for (index, table) in tables.iter().enumerate() {
        let Some(raw) = table.node("name").and_then(|node| node.get_ref().as_str()) else {
            continue;
        };
        if let Some(first) = seen.insert(raw, index) {
            let message = format!("{kind} `{}` is defined twice", raw.escape_debug());
            let help = format!("`{}` has the name already", tables[first].path());
            table.context.error(table.span_of("name"), message, help);
        }
    }
}

/// The addresses that are taken, and by whom.
struct Addresses(Vec<(SocketAddr, String)>);

impl Addresses {
    fn new(admin: Option<SocketAddr>) -> Self {
        Self(admin.map(|admin| (admin, "the admin listener".to_owned())).into_iter().collect())
    }

    /// The address of a listener; that it is taken already is reported.
    fn read(&mut self, table: &TableReader<'_, '_>) -> Option<SocketAddr> {
        let text = table.text("address")?;
        let address = read_address(table, &text, "0.0.0.0:8080")?;
        if let Some((_, other)) = self.0.iter().find(|(other, _)| overlap(*other, address)) {
            let message = format!("`{}` is taken by {other}", text.shown());
            table.context.error(text.span, message, "choose another port or address");
        }
        self.0.push((address, format!("`{}`", table.path())));
        Some(address)
    }
}

/// Would a connection to one of them reach the other? Port 0 is another port every time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everything = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || everything)
}

fn read_upstream(name: &Text, table: &TableReader<'_, '_>) -> Option<Upstream> {
    let texts = table.texts("endpoints");
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in &texts {
        let Some(endpoint) = endpoint::read(table, text) else { continue };
        if endpoints.contains(&endpoint) {
            let message = format!("endpoint `{}` is listed twice", text.shown());
            let help = "it counts once; remove one";
            table.context.warning(text.span.clone(), message, help);
        }
        endpoints.push(endpoint);
    }
    let list = table.node("endpoints").and_then(|node| node.get_ref().as_array());
    if list.is_some_and(|list| list.is_empty()) {
        let help = "write host and port of each, as in `[\"127.0.0.1:3000\"]`";
        table.context.error(table.span_of("endpoints"), "`endpoints` is empty", help);
    }
    let tls = tls::read::upstream(table, &endpoints);
    let protocol = read_protocol(table);
    let policy = upstream::read::policy(table, protocol);
    let limits = UpstreamLimits::read(&table.table("limits"));
    let name: Arc<str> = name.value.as_str().into();
    table.has("endpoints").then_some(Upstream { name, endpoints, protocol, tls, policy, limits })
}

fn read_protocol(table: &TableReader<'_, '_>) -> Protocol {
    let word = table.choice("protocol");
    let help = match (word, table.has("tls")) {
        ("h2c", true) => Some("write `h2`: it is negotiated with TLS"),
        ("h2", false) => Some("write `h2c` for HTTP/2 without TLS, or add the table `tls`"),
        ("auto", false) => Some("write `http1` or `h2c`, or add the table `tls`"),
        _ => None,
    };
    if let Some(help) = help {
        let with = if table.has("tls") { "with" } else { "without" };
        let message = format!("`{word}` is not spoken {with} TLS");
        table.context.error(table.span_of("protocol"), message, help);
    }
    match word {
        "h2c" | "h2" => Protocol::Http2,
        "auto" => Protocol::Auto,
        _ => Protocol::Http1,
    }
}
