//! One entry of `endpoints`: an address, or a name and how its addresses are found.
//!
//! Who looks names up is not known here.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::matches::is_host_name;
use super::reader::{TableReader, Text};

/// What a name begins with whose addresses are followed.
const DNS: &str = "dns://";
/// What the name of a service begins with whose instances are followed.
const DNS_SRV: &str = "dns+srv://";

/// One entry of an upstream's `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name or an address; IPv6 without brackets. Only a name that is followed may end with a
    /// dot.
    pub host: String,
    /// 0 where the records tell it, and only there.
    pub port: u16,
    /// How it becomes addresses.
    pub lookup: Lookup,
}

/// How an endpoint becomes addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// It is one, or the system looks the name up when a generation is built.
    Once,
    /// Its A and AAAA records are followed.
    Addresses,
    /// Its SRV records are followed, and the addresses of their targets (RFC 2782).
    Services,
}

impl Endpoint {
    /// Do its addresses change while a generation is in force?
    pub fn is_followed(&self) -> bool {
        self.lookup != Lookup::Once
    }

    /// The name that a certificate is expected to have: of a service that of its domain, since what
    /// its records say is not proven (RFC 6125 section 6.2.1).
    pub fn server_name(&self) -> &str {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host);
        match self.lookup {
            Lookup::Once | Lookup::Addresses => host,
            Lookup::Services => host.splitn(3, '.').last().unwrap_or(host),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { host, port, lookup } = self;
        match lookup {
            Lookup::Once if host.contains(':') => write!(f, "[{host}]:{port}"),
            Lookup::Once => write!(f, "{host}:{port}"),
            Lookup::Addresses => write!(f, "{DNS}{host}:{port}"),
            Lookup::Services => write!(f, "{DNS_SRV}{host}"),
        }
    }
}

/// The endpoint that `text` is; none: it is none, which is reported.
pub(super) fn read(table: &TableReader<'_, '_>, text: &Text) -> Option<Endpoint> {
    let value = text.value.as_str();
    let (endpoint, help) = if let Some(rest) = value.strip_prefix(DNS) {
        (followed(rest), help_followed(rest))
    } else if let Some(rest) = value.strip_prefix(DNS_SRV) {
        (
            service(rest),
            "write `_SERVICE._PROTOCOL.` and a name, as in `dns+srv://_http._tcp.app.local`",
        )
    } else {
        (plain(value), help_plain(value))
    };
    if endpoint.is_none() {
        table.context.error(text.span.clone(), format!("`{}` is no endpoint", text.shown()), help);
    }
    endpoint
}

fn plain(value: &str) -> Option<Endpoint> {
    let (host, port) = value.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
        None => Some(host.to_ascii_lowercase()).filter(|host| is_host_name(host))?,
    };
    Some(Endpoint { host, port: read_port(port)?, lookup: Lookup::Once })
}

fn help_plain(value: &str) -> &'static str {
    let scheme = value.split_once(":/").map(|(scheme, _)| scheme);
    if matches!(scheme, Some("dns" | "srv" | "dns+srv")) {
        "a name that is followed is written as in `dns://app.local:80` or \
         `dns+srv://_http._tcp.app.local`"
    } else if value.contains("://") {
        "write host and port alone; `protocol` tells how to speak to it"
    } else if value.parse::<Ipv6Addr>().is_ok() || value.matches(':').count() > 1 {
        "an IPv6 address has brackets, as in `[::1]:80`"
    } else if is_host_name(value) {
        "add the port, as in `app.local:80`"
    } else {
        "write host and port, as in `127.0.0.1:3000` or `app.local:80`"
    }
}

fn followed(value: &str) -> Option<Endpoint> {
    let (host, port) = value.rsplit_once(':')?;
    let host = dns_name(host).filter(|host| host.parse::<IpAddr>().is_err())?;
    Some(Endpoint { host, port: read_port(port)?, lookup: Lookup::Addresses })
}

fn help_followed(value: &str) -> &'static str {
    let host = value.rsplit_once(':').map_or(value, |(host, _)| host);
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        "an address is not looked up: write it without `dns://`"
    } else if dns_name(value).is_some() {
        "add the port, as in `dns://app.local:80`"
    } else {
        "write a name and a port, as in `dns://app.local:80`"
    }
}

fn service(value: &str) -> Option<Endpoint> {
    let host = dns_name(value)?;
    let mut labels = host.splitn(3, '.');
    let is_marked = |label: &str| label.len() > 1 && label.starts_with('_');
    let marked = labels.next().is_some_and(is_marked) && labels.next().is_some_and(is_marked);
    let has_domain = labels.next().is_some_and(|domain| !domain.is_empty());
    (marked && has_domain).then_some(Endpoint { host, port: 0, lookup: Lookup::Services })
}

/// In lower case; it may end with the dot of the root, which keeps it from being searched for.
fn dns_name(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    is_host_name(name.strip_suffix('.').unwrap_or(&name)).then_some(name)
}

fn read_port(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_the_name_as_it_is_written() {
        for (endpoint, name) in [
            (plain("App.local:80"), "app.local"),
            (plain("[::1]:80"), "::1"),
            (followed("App.local:80"), "app.local"),
            (followed("app.local.:80"), "app.local"),
            (service("_http._tcp.app.local"), "app.local"),
            (service("_http._tcp.app.local."), "app.local"),
            (service("_http._tcp.app"), "app"),
        ] {
            assert_eq!(endpoint.unwrap().server_name(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_not_followed() {
        for bad in ["", "app", "app:0", "app:65536", "127.0.0.1:80", "[::1]:80", "a b:80", "..:80"]
        {
            assert_eq!(followed(bad), None, "{bad}");
        }
        for bad in [
            "",
            "app",
            "_http._tcp",
            "_http._tcp.",
            "_http.tcp.app",
            "_._tcp.app",
            "_http._tcp.app:80",
        ] {
            assert_eq!(service(bad), None, "{bad}");
        }
    }
}
