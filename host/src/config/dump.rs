//! The configuration in effect as JSON, in the layout of the file: every default filled in, every
//! value that came from the environment or from a file replaced.
//!
//! What admin shows. Reads back as a configuration where nothing had to be replaced and nothing was
//! uploaded.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::deadline;
use super::dns;
use super::mirror;
use super::model::{
    AccessLog, AccessLogDestination, Admin, Config, Destination, FailPolicy, Filter, FilterSource,
    Grants, HeaderValueMatch, HostMatch, Isolation, Leg, Listener, PathMatch, Protocol,
    RateLimitGrant, Rollout, Route, Runtime, Split, Upstream,
};
use super::overload;
use super::pass;
use super::rollout::judge_limits;
use super::tls::{
    dump_listener as dump_listener_tls, dump_patterns, dump_upstream as dump_upstream_tls,
};
use super::words::join;
use crate::rollout::Plan;
use crate::units::{format_duration, micros};

/// Stands for a value that is not shown.
pub const REDACTED: &str = "<redacted>";

/// What is not shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    /// Paths of keys whose values are not shown, as in `filter.limit.config.keys[0]`.
    pub(super) paths: BTreeSet<String>,
    /// Values that came from the environment or from files, to be taken out of messages.
    pub(super) values: SecretValues,
}

/// Values that must not be shown. Debug shows none of them.
#[derive(Clone, Default)]
pub(super) struct SecretValues(pub(super) Arc<BTreeSet<String>>);

impl SecretValues {
    /// `message` without these values. One or two characters are no secret, and everywhere.
    pub(super) fn removed_from(&self, message: String) -> String {
        let shown = self.0.iter().rev().filter(|value| value.len() > 2);
        shown.fold(message, |message, value| message.replace(value.as_str(), REDACTED))
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Config {
    /// The configuration in effect, in the layout of the file. Where a value came from `${NAME}` or
    /// `${file:PATH}` it says `<redacted>`.
    pub fn redacted(&self) -> Value {
        let Self {
            admin,
            runtime,
            access_log,
            dns,
            listeners,
            upstreams,
            filters,
            rollout,
            source: _,
            secrets,
        } = self;
        let mut root = Map::new();
        root.insert("admin".to_owned(), dump_admin(admin));
        root.insert("runtime".to_owned(), dump_runtime(runtime));
        if let Some(access_log) = access_log {
            root.insert("access_log".to_owned(), dump_access_log(access_log));
        }
        root.insert("dns".to_owned(), dns::dump(dns));
        let dumped: Vec<Value> = listeners.iter().map(|it| dump_listener(self, it)).collect();
        root.insert("listener".to_owned(), dumped.into());
        let dumped: Map<String, Value> =
            upstreams.iter().map(|it| (it.name.to_string(), dump_upstream(it))).collect();
        root.insert("upstream".to_owned(), dumped.into());
        let dumped: Map<String, Value> =
            filters.iter().map(|it| (it.name.to_string(), dump_filter(it))).collect();
        root.insert("filter".to_owned(), dumped.into());
        root.insert("rollout".to_owned(), dump_rollout(rollout));
        let mut root = Value::Object(root);
        redact(&mut root, "", secrets);
        root
    }
}

fn dump_admin(admin: &Admin) -> Value {
    let Admin { tcp, address, allow_remote, socket, token } = admin;
    let mut value =
        json!({ "tcp": tcp, "address": address.to_string(), "allow_remote": allow_remote });
    if let Some(socket) = socket {
        value["socket"] = socket.display().to_string().into();
    }
    if token.is_some() {
        value["token"] = REDACTED.into();
    }
    value
}

fn dump_runtime(runtime: &Runtime) -> Value {
    let Runtime { workers, drain_timeout, cache_dir, connections_max, overload, watch, compile } =
        runtime;
    let mut value = json!({
        "drain_timeout": format_duration(micros(*drain_timeout)),
        "watch": watch,
        "compile": compile.dump(),
    });
    if let Some(workers) = workers {
        value["workers"] = workers.get().into();
    }
    if let Some(cache_dir) = cache_dir {
        value["cache_dir"] = cache_dir.display().to_string().into();
    }
    if let Some(connections_max) = connections_max {
        value["connections_max"] = (*connections_max).into();
    }
    if let Some(overload) = overload {
        value["overload"] = overload::dump(overload);
    }
    value
}

fn dump_access_log(access_log: &AccessLog) -> Value {
    let AccessLog { destination } = access_log;
    let destination = match destination {
        AccessLogDestination::Stdout => "stdout".to_owned(),
        AccessLogDestination::File(path) => path.display().to_string(),
    };
    json!({ "destination": destination })
}

fn dump_listener(config: &Config, listener: &Listener) -> Value {
    let Listener { name, address, trusted_proxies, tls, limits, .. } = listener;
    let Listener { overload, deadline, pass, routes, .. } = listener;
    let trusted: Vec<String> = trusted_proxies.iter().map(ToString::to_string).collect();
    let routes: Vec<Value> = routes.iter().map(|route| dump_route(config, route)).collect();
    let mut value = json!({
        "name": &**name,
        "address": address.to_string(),
        "trusted_proxies": trusted,
        "limits": limits.dump(),
        "deadline": deadline::dump(deadline),
        "route": routes,
    });
    if let Some(tls) = tls {
        value["tls"] = dump_listener_tls(tls);
    }
    if let Some(overload) = overload {
        value["overload"] = overload::dump(overload);
    }
    if let Some(pass) = pass {
        value["pass"] = pass::dump(pass);
    }
    value
}

fn dump_route(config: &Config, route: &Route) -> Value {
    let Route { name, hosts, path, methods, headers, peers, .. } = route;
    let Route { chain, next_chain, destination, mirror, .. } = route;
    let mut matching = Map::new();
    if !hosts.is_empty() {
        let hosts = hosts.iter().map(|host| match host {
            HostMatch::Exact(host) => Value::from(host.as_str()),
            HostMatch::Below(suffix) => Value::from(format!("*{suffix}")),
        });
        matching.insert("host".to_owned(), hosts.collect());
    }
    match path {
        PathMatch::Any => None,
        PathMatch::Exact(path) => matching.insert("path".to_owned(), path.as_str().into()),
        PathMatch::Prefix(path) => matching.insert("path_prefix".to_owned(), path.as_str().into()),
    };
    if !methods.is_empty() {
        let methods = methods.iter().map(|method| Value::from(method.as_str()));
        matching.insert("method".to_owned(), methods.collect());
    }
    if !headers.is_empty() {
        let headers = headers.iter().map(|header| {
            let value = match &header.value {
                HeaderValueMatch::Present => Value::Bool(true),
                HeaderValueMatch::Exact(value) => value.as_str().into(),
                HeaderValueMatch::Prefix(prefix) => json!({ "prefix": prefix }),
            };
            (header.name.to_string(), value)
        });
        matching.insert("headers".to_owned(), headers.collect());
    }
    if !peers.is_empty() {
        matching.insert("peer".to_owned(), dump_patterns(peers));
    }
    // A name that was not given has a `/`, which no name in a file may have.
    let name = (!name.contains('/')).then_some(name);
    let mut value = json!({ "match": matching, "chain": config.filter_names(chain) });
    if let Some(next) = next_chain {
        value["next"] = json!({ "chain": config.filter_names(next) });
    }
    if let Some(name) = name {
        value["name"] = (**name).into();
    }
    let name_of = |upstream: usize| &*config.upstreams[upstream].name;
    match destination {
        Destination::Upstream(upstream) => value["upstream"] = name_of(*upstream).into(),
        Destination::Split(Split { legs, sticky }) => {
            let legs = legs.iter().map(
                |Leg { upstream, weight }| json!({ "upstream": name_of(*upstream), "weight": weight }),
            );
            value["split"] = legs.collect();
            value["sticky"] = sticky.to_string().into();
        }
    }
    if let Some(mirror) = mirror {
        value["mirror"] = mirror::dump(mirror, name_of(mirror.upstream));
    }
    value
}

fn dump_upstream(upstream: &Upstream) -> Value {
    let Upstream { name: _, endpoints, protocol, tls, policy, limits } = upstream;
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let protocol = match protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 if tls.is_some() => "h2",
        Protocol::Http2 => "h2c",
        Protocol::Auto => "auto",
    };
    let mut value =
        json!({ "endpoints": endpoints, "protocol": protocol, "limits": limits.dump() });
    if let Some(tls) = tls {
        value["tls"] = dump_upstream_tls(tls);
    }
    super::upstream::dump(policy, &mut value);
    value
}

fn dump_filter(filter: &Filter) -> Value {
    let Filter { name: _, version, source, config, grants, limits, fail_policy, isolation, next } =
        filter;
    let source = match source {
        FilterSource::Builtin(name) => format!("builtin:{name}"),
        FilterSource::File(path) => path.display().to_string(),
        FilterSource::Uploaded(upload) => format!("uploaded:{}", upload.hash()),
    };
    let fail_policy = match fail_policy {
        FailPolicy::Closed => "closed",
        FailPolicy::Open => "open",
    };
    let isolation = match isolation {
        Isolation::Shared => "shared",
        Isolation::PerRequest => "per-request",
    };
    let mut value = json!({
        "source": source,
        "config": config,
        "grants": dump_grants(grants),
        "limits": limits.dump(),
        "fail_policy": fail_policy,
        "isolation": isolation,
    });
    if let Some(version) = version {
        value["version"] = (**version).into();
    }
    if let Some(next) = next {
        value["next"] = dump_filter(next);
    }
    value
}

fn dump_rollout(rollout: &Rollout) -> Value {
    let Rollout { plan, state_dir, version_header } = rollout;
    let Plan { steps, sticky, thresholds, ignored_headers } = plan;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let ignored: Vec<&str> = ignored_headers.iter().map(HeaderName::as_str).collect();
    let mut value = json!({
        "steps": steps,
        "sticky": sticky.to_string(),
        "ignore_headers": ignored,
        "judge": judge_limits(thresholds).dump(),
    });
    if let Some(state_dir) = state_dir {
        value["state_dir"] = state_dir.display().to_string().into();
    }
    if let Some(name) = version_header {
        value["version_header"] = name.as_str().into();
    }
    value
}

fn dump_grants(grants: &Grants) -> Value {
    let Grants { log, clock, random, metrics, kv, rate_limit } = grants;
    let mut value = json!({ "log": log, "clock": clock, "random": random, "metrics": metrics });
    if let Some(kv) = kv {
        value["kv"] = kv.dump();
    }
    if let Some(RateLimitGrant { requests, per, burst, keys }) = rate_limit {
        let per = format_duration(micros(*per));
        value["rate-limit"] =
            json!({ "requests": requests, "per": per, "burst": burst, "keys": keys });
    }
    value
}

/// Replaces every value whose path is in `secrets`, with all that is in it.
fn redact(value: &mut Value, path: &str, secrets: &Secrets) {
    if secrets.paths.contains(path) {
        *value = REDACTED.into();
        return;
    }
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                redact(value, &join(path, key), secrets);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                redact(value, &format!("{path}[{index}]"), secrets);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
