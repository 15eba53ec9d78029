//! `[dns]`: which name servers are asked for the names of endpoints, and within which bounds.
//!
//! Who asks them, the module `dns` knows.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::limits::{DnsLimits, NAME_SERVERS_MAX};
use super::reader::{TableReader, Text};
use super::spec::Presence::Optional;
use super::spec::{Key, Kind, Table};

/// Where name servers listen unless the file says otherwise.
const PORT_DEFAULT: u16 = 53;

/// `[dns]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Those that are asked; none: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Bounds on lookups.
    pub limits: DnsLimits,
}

pub(super) const DNS: Table = Table {
    doc: "How the names of endpoints that begin with `dns://` or `dns+srv://` are looked up.",
    keys: &[
        Key {
            name: "servers",
            presence: Optional,
            kind: Kind::Texts { max: NAME_SERVERS_MAX },
            doc: "Addresses of name servers, with a port other than 53 where they have one. Without \
                  it: those of `/etc/resolv.conf`, with what it says about searching.",
        },
        Key {
            name: "limits",
            presence: Optional,
            kind: Kind::Table(&DnsLimits::TABLE),
            doc: "Bounds on lookups.",
        },
    ],
};

/// Reads `[dns]`; what is wrong with it is reported.
pub(super) fn read(table: &TableReader<'_, '_>) -> Dns {
    let texts = table.texts("servers");
    let servers = texts.iter().filter_map(|text| read_server(table, text)).collect();
    let list = table.node("servers").and_then(|node| node.get_ref().as_array());
    if list.is_some_and(|list| list.is_empty()) {
        let help = "leave the key out for those of `/etc/resolv.conf`";
        table.context.error(table.span_of("servers"), "`servers` is empty", help);
    }
    let limits_table = table.table("limits");
    let limits = DnsLimits::read(&limits_table);
    for (low, is_higher, high) in [
        ("ttl_min", limits.ttl_min > limits.ttl_max, "ttl_max"),
        ("retry_min", limits.retry_min > limits.retry_max, "retry_max"),
    ] {
        if is_higher {
            let message = format!("`{low}` is longer than `{high}`");
            let help = format!("raise `{high}` too, or it is the bound");
            let named = if limits_table.has(low) { low } else { high };
            limits_table.context.warning(limits_table.span_of(named), message, help);
        }
    }
    Dns { servers, limits }
}

fn read_server(table: &TableReader<'_, '_>, text: &Text) -> Option<SocketAddr> {
    let value = text.value.as_str();
    let alone = || value.parse::<IpAddr>().ok().map(|address| (address, PORT_DEFAULT).into());
    let server = value.parse().ok().or_else(alone);
    let server = server.filter(|it: &SocketAddr| it.port() != 0 && !it.ip().is_unspecified());
    if server.is_none() {
        let message = format!("`{}` is no address of a name server", text.shown());
        let help = "write an IP address, and a port if need be, as in `10.0.0.2` or `[::1]:5353`";
        table.context.error(text.span.clone(), message, help);
    }
    server
}

pub(super) fn dump(dns: &Dns) -> Value {
    let Dns { servers, limits } = dns;
    let mut value = json!({ "limits": limits.dump() });
    if !servers.is_empty() {
        value["servers"] = servers.iter().map(ToString::to_string).collect();
    }
    value
}
