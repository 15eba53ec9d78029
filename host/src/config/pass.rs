//! `pass` of a listener: what becomes of requests for hosts that no route names.
//!
//! Where they go, `proxy::pass` knows.

use std::time::Duration;

use serde_json::{Value, json};

use super::reader::TableReader;
use super::spec::Presence::Optional;
use super::spec::{Key, Kind, Limit, Table, Unit};
use crate::units::{format_duration, micros};

/// Requests for hosts that no route names go to the host itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Also to addresses that only this host or its network can reach.
    pub allow_private: bool,
    /// Hosts known at once, on each worker.
    pub hosts_max: usize,
    /// Time to look up a name.
    pub resolve_timeout: Duration,
}

pub(super) const PASS: Table = Table {
    doc: "Requests for hosts that no route names go to the host itself, in plain HTTP.",
    keys: &[
        Key {
            name: "allow_private",
            presence: Optional,
            kind: Kind::Flag { default: Some(false) },
            doc: "Also to addresses that only this host or its network can reach: loopback, private, \
                  link-local and the like.",
        },
        Key {
            name: "hosts_max",
            presence: Optional,
            kind: Kind::Limit(Limit { unit: Unit::Count, default: Some(256), min: 1, max: 10_000 }),
            doc: "Hosts known at once, on each worker; beyond them the one looked up first is \
                  forgotten.",
        },
        Key {
            name: "resolve_timeout",
            presence: Optional,
            kind: Kind::Limit(Limit {
                unit: Unit::Duration,
                default: Some(2_000_000),
                min: 1_000,
                max: 60_000_000,
            }),
            doc: "Time to look up a name; then the answer is 504.",
        },
    ],
};

/// Reads `pass` of `table`; none: it is not there.
pub(super) fn read(table: &TableReader<'_, '_>) -> Option<Pass> {
    let table = table.has("pass").then(|| table.table("pass"))?;
    Some(Pass {
        allow_private: table.flag("allow_private").unwrap_or_default(),
        hosts_max: table.count("hosts_max"),
        resolve_timeout: table.duration("resolve_timeout"),
    })
}

pub(super) fn dump(pass: &Pass) -> Value {
    let Pass { allow_private, hosts_max, resolve_timeout } = pass;
    json!({
        "allow_private": allow_private,
        "hosts_max": hosts_max,
        "resolve_timeout": format_duration(micros(*resolve_timeout)),
    })
}
