//! `overload` of a listener and of the process: how many requests may be under way at once.
//!
//! What holds them to it, the module `overload` knows.

use std::time::Duration;

use serde_json::{Value, json};

use super::reader::TableReader;
use super::spec::Presence::Optional;
use super::spec::{Key, Kind, Limit, Table, Unit};
use crate::units::{format_duration, micros};

/// How many requests may be under way at once, and what becomes of those beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overload {
    /// Requests under way at once; where it is adaptive, at most.
    pub requests_max: usize,
    /// Requests that wait for a place; those beyond are turned away.
    pub queue_max: usize,
    /// Time that one waits before it is turned away.
    pub queue_timeout: Duration,
    /// The limit follows the times of answers.
    pub adaptive: bool,
    /// What it never falls below then; at most `requests_max`.
    pub requests_min: usize,
}

const fn count(default: u64, min: u64, max: u64) -> Kind {
    Kind::Limit(Limit { unit: Unit::Count, default: Some(default), min, max })
}

/// Microseconds.
const MILLISECOND: u64 = 1_000;

pub(super) const OVERLOAD: Table = Table {
    doc: "How many requests may be under way at once, over all workers; what is beyond waits or gets \
          503.",
    keys: &[
        Key {
            name: "requests_max",
            presence: Optional,
            kind: count(1_000, 1, 1_000_000),
            doc: "Requests under way at once.",
        },
        Key {
            name: "queue_max",
            presence: Optional,
            kind: count(100, 0, 100_000),
            doc: "Requests that wait for a place; beyond them the answer is 503.",
        },
        Key {
            name: "queue_timeout",
            presence: Optional,
            kind: Kind::Limit(Limit {
                unit: Unit::Duration,
                default: Some(100 * MILLISECOND),
                min: MILLISECOND,
                max: 60_000 * MILLISECOND,
            }),
            doc: "Time a request waits; then the answer is 503.",
        },
        Key {
            name: "adaptive",
            presence: Optional,
            kind: Kind::Flag { default: Some(false) },
            doc: "Let the limit follow the times of answers, from `requests_min` to `requests_max`.",
        },
        Key {
            name: "requests_min",
            presence: Optional,
            kind: count(20, 1, 1_000_000),
            doc: "What an adaptive limit never falls below.",
        },
    ],
};

/// Reads `overload` of `table`; none: it is not there.
pub(super) fn read(table: &TableReader<'_, '_>) -> Option<Overload> {
    let table = table.has("overload").then(|| table.table("overload"))?;
    let overload = Overload {
        requests_max: table.count("requests_max"),
        queue_max: table.count("queue_max"),
        queue_timeout: table.duration("queue_timeout"),
        adaptive: table.flag("adaptive").unwrap_or_default(),
        requests_min: table.count("requests_min"),
    };
    if overload.adaptive && overload.requests_min > overload.requests_max {
        let message = "`requests_min` is larger than `requests_max`";
        let help = format!("set it to at most {}", overload.requests_max);
        table.context.error(table.span_of("requests_min"), message, help);
    }
    if !overload.adaptive && table.has("requests_min") {
        let message = "`requests_min` is not used without `adaptive`";
        table.context.warning(table.span_of("requests_min"), message, "add `adaptive = true`");
    }
    Some(overload)
}

pub(super) fn dump(overload: &Overload) -> Value {
    let Overload { requests_max, queue_max, queue_timeout, adaptive, requests_min } = overload;
    let mut value = json!({
        "requests_max": requests_max,
        "queue_max": queue_max,
        "queue_timeout": format_duration(micros(*queue_timeout)),
        "adaptive": adaptive,
    });
    if *adaptive {
        value["requests_min"] = (*requests_min).into();
    }
    value
}
