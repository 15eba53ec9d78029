//! `mirror` of a route: where copies of its requests go.
//!
//! How they are sent, `proxy::mirror` knows.

use serde_json::{Value, json};

use super::check::References;
use super::reader::TableReader;
use super::spec::Presence::{Optional, Required};
use super::spec::{Key, Kind, Limit, Table, Unit};
use crate::rollout::Share;
use crate::units::{format_percent, format_size};

/// Where copies of a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// How many requests are copied.
    pub share: Share,
    /// Copies under way at once, on each worker; requests beyond are not copied.
    pub requests_max: usize,
    /// Bytes of a body; requests with a larger one are not copied.
    pub body: usize,
}

/// All of them, in millionths.
const ALL: u64 = 1_000_000;

pub(super) const MIRROR: Table = Table {
    doc: "Where copies of the requests go; their answers are not read.",
    keys: &[
        Key { name: "upstream", presence: Required, kind: Kind::Name, doc: "The upstream." },
        Key {
            name: "share",
            presence: Optional,
            kind: Kind::Limit(Limit { unit: Unit::Percent, default: Some(ALL), min: 1, max: ALL }),
            doc: "The share of the requests that is copied, drawn anew each time.",
        },
        Key {
            name: "requests_max",
            presence: Optional,
            kind: Kind::Limit(Limit { unit: Unit::Count, default: Some(100), min: 1, max: 10_000 }),
            doc: "Copies under way at once, on each worker; requests beyond are not copied.",
        },
        Key {
            name: "body",
            presence: Optional,
            kind: Kind::Limit(Limit {
                unit: Unit::Size,
                default: Some(64 << 10),
                min: 0,
                max: 1 << 20,
            }),
            doc: "Bytes of a body; requests with a larger one are not copied.",
        },
    ],
};

/// Reads `mirror` of `table`; none: it is not there, or not usable, which is reported.
pub(super) fn read(table: &TableReader<'_, '_>, upstreams: &mut References) -> Option<Mirror> {
    let table = table.has("mirror").then(|| table.table("mirror"))?;
    let share = u32::try_from(table.percent("share")).unwrap_or(u32::MAX);
    let name = table.name("upstream")?;
    Some(Mirror {
        upstream: upstreams.resolve(table.context, &name)?,
        share: Share::from_millionths(share),
        requests_max: table.count("requests_max"),
        body: table.size("body"),
    })
}

pub(super) fn dump(mirror: &Mirror, upstream: &str) -> Value {
    let Mirror { upstream: _, share, requests_max, body } = mirror;
    json!({
        "upstream": upstream,
        "share": format_percent(share.millionths().into()),
        "requests_max": requests_max,
        "body": format_size(*body as u64),
    })
}
