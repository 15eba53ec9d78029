//! `deadline` of a listener: which requests say how much time they have, and how much that may be.
//!
//! How it is said, and who holds a request to it, `proxy::deadline` knows.

use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};

use super::reader::TableReader;
use super::rollout::read_own_header;
use super::spec::Presence::Optional;
use super::spec::{Key, Kind, Limit, Table, Unit};
use crate::units::{format_duration, micros};

/// Which requests say how much time they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Calls of gRPC, in `grpc-timeout`.
    pub grpc: bool,
    /// Other requests, in this field; none: they do not say. Never one of the host's own.
    pub header: Option<HeaderName>,
    /// The longest time; a longer one is taken for this one.
    pub max: Duration,
}

const MAX: Limit = Limit { unit: Unit::Duration, default: Some(DAY), min: 1_000, max: 7 * DAY };

/// Microseconds.
const DAY: u64 = 86_400_000_000;

pub(super) const DEADLINE: Table = Table {
    doc: "Which requests say how much time they have. When it is over the answer is 504, or \
          `DEADLINE_EXCEEDED` for gRPC; the upstream is told what is left of it.",
    keys: &[
        Key {
            name: "grpc",
            presence: Optional,
            kind: Kind::Flag { default: Some(true) },
            doc: "Hold calls of gRPC to their `grpc-timeout`.",
        },
        Key {
            name: "header",
            presence: Optional,
            kind: Kind::Text { default: None },
            doc: "The field in which other requests say it, as `250ms` or as a number of \
                  milliseconds. Without it: they do not.",
        },
        Key {
            name: "max",
            presence: Optional,
            kind: Kind::Limit(MAX),
            doc: "The longest time; a longer one is taken for this one.",
        },
    ],
};

/// Reads `deadline` of `table`, where everything has a default.
pub(super) fn read(table: &TableReader<'_, '_>) -> Deadline {
    let table = table.table("deadline");
    let deadline = Deadline {
        grpc: table.flag("grpc").unwrap_or_default(),
        header: read_own_header(&table, "header", "x-request-timeout"),
        max: table.duration("max"),
    };
    let is_of_grpc = |name: &HeaderName| name.as_str() == "grpc-timeout";
    if deadline.header.as_ref().is_some_and(is_of_grpc) {
        let message = "`grpc-timeout` is read by `grpc`, and has a form of its own";
        table.context.error(
            table.span_of("header"),
            message,
            "choose another field, or leave it out",
        );
    }
    if !deadline.grpc && deadline.header.is_none() && table.has("max") {
        let message = "`max` is not used: no request says how much time it has";
        table.context.warning(
            table.span_of("max"),
            message,
            "add `header`, or remove `grpc = false`",
        );
    }
    deadline
}

pub(super) fn dump(deadline: &Deadline) -> Value {
    let Deadline { grpc, header, max } = deadline;
    let mut value = json!({ "grpc": grpc, "max": format_duration(micros(*max)) });
    if let Some(header) = header {
        value["header"] = header.as_str().into();
    }
    value
}
