//! Reads a route's `match` table, and tells whether one route takes all that another could.
//!
//! Knows nothing of chains and upstreams.

use std::str::FromStr;

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::model::{HeaderMatch, HeaderValueMatch, HostMatch, PathMatch, Route};
use super::problems::Span;
use super::reader::{Node, TableReader, Text};
use super::tls;
use super::words::{did_you_mean, join};
use crate::http::PeerPattern;

/// The methods of RFC 9110 and RFC 5789, for suggestions.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What a request has to be.
pub(super) struct Match {
    pub(super) hosts: Vec<HostMatch>,
    pub(super) path: PathMatch,
    pub(super) methods: Vec<Method>,
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) peers: Vec<PeerPattern>,
}

/// Reads the table.
pub(super) fn read(table: &TableReader<'_, '_>) -> Match {
    let hosts = table.texts("host");
    let methods = table.texts("method");
    let peers = table.texts("peer");
    for (name, empty) in
        [("host", hosts.is_empty()), ("method", methods.is_empty()), ("peer", peers.is_empty())]
    {
        let list = table.node(name).and_then(|node| node.get_ref().as_array());
        if empty && list.is_some() {
            let message = format!("`{name}` is empty, so nothing would match");
            table.context.error(table.span_of(name), message, "leave it out to match every one");
        }
    }
    Match {
        hosts: hosts.iter().filter_map(|host| read_host(table, host)).collect(),
        path: read_path(table),
        methods: methods.iter().filter_map(|method| read_method(table, method)).collect(),
        headers: read_headers(table),
        peers: peers.iter().filter_map(|peer| tls::read::pattern(table, peer)).collect(),
    }
}

fn read_host(table: &TableReader<'_, '_>, text: &Text) -> Option<HostMatch> {
    let host = text.value.to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = address.filter(|it| it.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Some(HostMatch::Exact(format!("[{address}]")));
    }
    let (name, wildcard) = match host.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (host.as_str(), false),
    };
    if is_host_name(name) {
        let below = || HostMatch::Below(format!(".{name}"));
        return Some(if wildcard { below() } else { HostMatch::Exact(host.clone()) });
    }
    let help = if host.contains("://") {
        "write the host alone, without scheme and path"
    } else if host.contains(':') {
        "a host is matched without its port; an IPv6 address has brackets"
    } else if host.contains('*') {
        "`*.` may stand at the beginning only; leave `host` out to match every host"
    } else {
        "write a name, as in `api.example.com` or `*.example.com`"
    };
    table.context.error(text.span.clone(), format!("`{}` is no host", text.shown()), help);
    None
}

/// Labels of letters, digits, `-` and `_`, divided by single dots.
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn read_path(table: &TableReader<'_, '_>) -> PathMatch {
    let exact = table.text("path").filter(|path| check_path(table, path));
    let prefix = table.text("path_prefix").filter(|path| check_path(table, path));
    if table.has("path") && table.has("path_prefix") {
        let message = "`path` and `path_prefix` exclude each other";
        table.context.error(table.span_of("path_prefix"), message, "write one of them");
    }
    match (exact, prefix) {
        (Some(path), _) => PathMatch::Exact(path.value),
        (None, Some(prefix)) => match prefix.value.trim_end_matches('/') {
            "" => PathMatch::Any,
            prefix => PathMatch::Prefix(prefix.to_owned()),
        },
        (None, None) => PathMatch::Any,
    }
}

fn check_path(table: &TableReader<'_, '_>, path: &Text) -> bool {
    let odd = |byte: u8| byte <= b' ' || byte == 0x7F || matches!(byte, b'?' | b'#');
    let problem = if !path.value.starts_with('/') {
        Some(("it does not begin with `/`", "a path begins with `/`"))
    } else if path.value.bytes().any(odd) {
        Some((
            "it has a `?`, a `#`, a blank or a control character",
            "the path is matched as it is sent, without its query; write a blank as `%20`",
        ))
    } else {
        None
    };
    if let Some((problem, help)) = problem {
        let message = format!("`{}` is no path: {problem}", path.shown());
        table.context.error(path.span.clone(), message, help);
    }
    problem.is_none()
}

fn read_method(table: &TableReader<'_, '_>, text: &Text) -> Option<Method> {
    let method = Method::from_str(&text.value).ok();
    let upper = text.value.to_ascii_uppercase();
    let lower_case = upper != text.value && METHODS.contains(&upper.as_str());
    if let Some(method) = method.filter(|_| !lower_case) {
        return Some(method);
    }
    let suggestion = did_you_mean(&text.value, METHODS.into_iter()).filter(|_| !text.secret);
    let help = suggestion.unwrap_or_else(|| "a method is a word, as in `GET`".to_owned());
    table.context.error(text.span.clone(), format!("`{}` is no method", text.shown()), help);
    None
}

fn read_headers(table: &TableReader<'_, '_>) -> Vec<HeaderMatch> {
    let Some(node) = table.node("headers") else { return Vec::new() };
    let DeValue::Table(entries) = node.get_ref() else {
        table.wrong_type("headers", node, "a table of field names");
        return Vec::new();
    };
    let path = join(table.path(), "headers");
    let mut matches: Vec<HeaderMatch> = Vec::new();
    let max = table.header_matches_max("headers");
    let entries = table.bounded("headers", node, entries.len(), max, entries.iter());
    for (key, node) in entries {
        let written: &str = key.get_ref();
        table.context.locate(join(&path, written), key.span());
        let Ok(name) = HeaderName::from_str(written) else {
            let message = format!("`{}` is no field name", written.escape_debug());
            table.context.error(key.span(), message, "field names have letters, digits and `-`");
            continue;
        };
        if matches.iter().any(|it| it.name == name) {
            let message = format!("field `{name}` is asked for twice");
            table.context.error(key.span(), message, "field names are the same in any case");
            continue;
        }
        // The dump has the name in lower case, and so has the path of a value to be redacted.
        let value_path = join(&path, name.as_str());
        if let Some(value) = read_header_value(table, &name, node, value_path) {
            matches.push(HeaderMatch { name, value });
        }
    }
    matches
}

fn read_header_value(
    table: &TableReader<'_, '_>,
    name: &HeaderName,
    node: &Node<'_>,
    path: String,
) -> Option<HeaderValueMatch> {
    let only_prefix = |entries: &toml::de::DeTable<'_>| entries.len() == 1;
    match node.get_ref() {
        DeValue::Boolean(true) => Some(HeaderValueMatch::Present),
        DeValue::String(_) => {
            let text = table.expanded(name.as_str(), node, path)?;
            check_value(table, &text).then_some(HeaderValueMatch::Exact(text.value))
        }
        DeValue::Table(entries) if only_prefix(entries) && entries.contains_key("prefix") => {
            let node = entries.get("prefix")?;
            let text = table.expanded("prefix", node, join(&path, "prefix"))?;
            check_value(table, &text).then_some(HeaderValueMatch::Prefix(text.value))
        }
        _ => {
            let message = format!("cannot tell what is asked of field `{name}`");
            let help = "write the exact value as a string, `true` for any value, or `{ prefix = \
                        \"...\" }`";
            table.context.error(node.span(), message, help);
            None
        }
    }
}

/// A value that no field can have would never match.
fn check_value(table: &TableReader<'_, '_>, text: &Text) -> bool {
    let value = text.value.as_str();
    let possible = http::HeaderValue::from_str(value).is_ok() && value.trim() == value;
    if !possible {
        let message = format!("no field can have the value `{}`", text.shown());
        let help = "values are without control characters and without blanks around them";
        table.context.error(text.span.clone(), message, help);
    }
    possible
}

/// Warns of routes that no request can reach. `spans`: where each route is.
pub(super) fn warn_unreachable(table: &TableReader<'_, '_>, routes: &[Route], spans: &[Span]) {
    for (index, (route, span)) in routes.iter().zip(spans).enumerate() {
        if let Some(earlier) = routes[..index].iter().find(|earlier| covers(earlier, route)) {
            let message = format!("route `{}` is never reached", route.name);
            let help = format!(
                "`{}` stands before it and takes all its requests; put the narrower one first",
                earlier.name
            );
            table.context.conclusion(span.clone(), message, &help);
        }
    }
}

/// Does every request that matches `other` match `route`?
fn covers(route: &Route, other: &Route) -> bool {
    let hosts = route.hosts.is_empty()
        || !other.hosts.is_empty()
            && other.hosts.iter().all(|host| route.hosts.iter().any(|it| covers_host(it, host)));
    let methods = route.methods.is_empty()
        || !other.methods.is_empty()
            && other.methods.iter().all(|method| route.methods.contains(method));
    let headers = route.headers.iter().all(|header| {
        let same = other.headers.iter().filter(|it| it.name == header.name);
        same.into_iter().any(|it| covers_value(&header.value, &it.value))
    });
    let peers = route.peers.is_empty()
        || !other.peers.is_empty()
            && other.peers.iter().all(|peer| route.peers.iter().any(|it| it.covers(peer)));
    hosts && methods && headers && peers && covers_path(&route.path, &other.path)
}

fn covers_host(host: &HostMatch, other: &HostMatch) -> bool {
    match (host, other) {
        (_, HostMatch::Exact(name)) => host.matches(name),
        (HostMatch::Below(suffix), HostMatch::Below(narrower)) => narrower.ends_with(suffix),
        (HostMatch::Exact(_), HostMatch::Below(_)) => false,
    }
}

fn covers_path(path: &PathMatch, other: &PathMatch) -> bool {
    match (path, other) {
        (PathMatch::Any, _) => true,
        (_, PathMatch::Any) | (PathMatch::Exact(_), PathMatch::Prefix(_)) => false,
        (_, PathMatch::Exact(one) | PathMatch::Prefix(one)) => path.matches(one),
    }
}

fn covers_value(value: &HeaderValueMatch, other: &HeaderValueMatch) -> bool {
    match (value, other) {
        (HeaderValueMatch::Present, _) => true,
        (HeaderValueMatch::Prefix(prefix), HeaderValueMatch::Prefix(narrower)) => {
            narrower.starts_with(prefix.as_str())
        }
        (_, HeaderValueMatch::Exact(exact)) => value.matches(exact.as_bytes()),
        (_, HeaderValueMatch::Present) | (HeaderValueMatch::Exact(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_a_segment() {
        let api = PathMatch::Prefix("/api".to_owned());
        for (path, expected) in
            [("/api", true), ("/api/", true), ("/api/x", true), ("/apix", false), ("/", false)]
        {
            assert_eq!(api.matches(path), expected, "{path}");
        }
        assert!(PathMatch::Any.matches("*"));
        assert!(!PathMatch::Exact("/a".to_owned()).matches("/a/"));
    }

    #[test]
    fn a_wildcard_takes_hosts_below_its_domain_only() {
        let below = HostMatch::Below(".example.com".to_owned());
        for (host, expected) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("badexample.com", false),
        ] {
            assert_eq!(below.matches(host), expected, "{host}");
        }
    }

    #[test]
    fn one_path_covers_another_only_if_it_takes_all_of_it() {
        let exact = |path: &str| PathMatch::Exact(path.to_owned());
        let prefix = |path: &str| PathMatch::Prefix(path.to_owned());
        for (path, other, expected) in [
            (PathMatch::Any, prefix("/a"), true),
            (prefix("/a"), PathMatch::Any, false),
            (prefix("/a"), prefix("/a"), true),
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), exact("/a/b"), true),
            (prefix("/a/b"), prefix("/a"), false),
            (prefix("/a"), prefix("/ab"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (exact("/a"), prefix("/a"), false),
        ] {
            assert_eq!(covers_path(&path, &other), expected, "{path:?} {other:?}");
        }
    }

    #[test]
    fn one_value_covers_another_only_if_it_takes_all_of_it() {
        let exact = |value: &str| HeaderValueMatch::Exact(value.to_owned());
        let prefix = |value: &str| HeaderValueMatch::Prefix(value.to_owned());
        for (value, other, expected) in [
            (HeaderValueMatch::Present, exact("a"), true),
            (exact("a"), HeaderValueMatch::Present, false),
            (exact("a"), exact("a"), true),
            (exact("a"), prefix("a"), false),
            (prefix("a"), prefix("ab"), true),
            (prefix("ab"), prefix("a"), false),
            (prefix("a"), exact("ab"), true),
            (prefix("a"), HeaderValueMatch::Present, false),
        ] {
            assert_eq!(covers_value(&value, &other), expected, "{value:?} {other:?}");
        }
    }
}
