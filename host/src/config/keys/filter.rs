//! The tables of filters and of what they are granted, as in `keys`.

use super::key;
use crate::config::limits::{
    FilterLimits, KvGrant, RATE_LIMIT_KEYS, RATE_LIMIT_PER, RATE_LIMIT_REQUESTS,
};
use crate::config::spec::Presence::{Optional, Required};
use crate::config::spec::{Kind, Table};

pub(super) const FILTER: Table = Table {
    doc: "A filter that chains can name.",
    keys: &[
        key(
            "version",
            Optional,
            Kind::Version,
            "What people call this version; shown beside the hash of its component. Without it: \
             the hash alone.",
        ),
        key(
            "source",
            Required,
            Kind::Text { default: None },
            "`builtin:NAME` for a shipped filter, or the path of a component, relative to this \
             file (`./limit.wasm`).",
        ),
        key(
            "config",
            Optional,
            Kind::Free,
            "What the filter is given; its own documentation tells the keys. Here only `${NAME}` \
             with an upper-case name and `${file:PATH}` are replaced, so that a filter can have \
             templates like `${method}`; write `$${NAME}` for such a text itself.",
        ),
        key(
            "grants",
            Optional,
            Kind::Table(&GRANTS),
            "The capabilities the filter may import; one that is not granted keeps it from being \
             loaded.",
        ),
        key("limits", Optional, Kind::Table(&FilterLimits::TABLE), "Bounds on its calls."),
        key(
            "fail_policy",
            Optional,
            Kind::Choice { values: &["closed", "open"], default: Some("closed") },
            "What a request gets when the filter cannot be loaded, traps, or exceeds its time or \
             memory: an error (`closed`), or to go on without it (`open`).",
        ),
        key(
            "isolation",
            Optional,
            Kind::Choice { values: &["shared", "per-request"], default: Some("shared") },
            "`shared`: one instance serves the requests of a worker, one after another. \
             `per-request`: each gets a fresh one.",
        ),
        key(
            "next",
            Optional,
            Kind::Table(&NEXT_FILTER),
            "Another version to try as `[rollout]` says. A key that it does not have is as in the \
             filter; one that it has replaces the filter's as a whole.",
        ),
    ],
};

const NEXT_FILTER: Table = Table {
    doc: "What is to take the filter's place, tried as `[rollout]` says. A key that is not here is \
          as in the filter; one that is here replaces the filter's as a whole.",
    keys: &[
        key(
            "version",
            Optional,
            Kind::Version,
            "What people call this version. Without it: the hash of its component is all.",
        ),
        key(
            "source",
            Optional,
            Kind::Text { default: None },
            "As in the filter; without it: the filter's.",
        ),
        key("config", Optional, Kind::Free, "As in the filter; without it: the filter's."),
        key(
            "grants",
            Optional,
            Kind::Table(&GRANTS),
            "As in the filter; without it: the filter's.",
        ),
        key(
            "limits",
            Optional,
            Kind::Table(&FilterLimits::TABLE),
            "As in the filter; without it: the filter's.",
        ),
        key(
            "fail_policy",
            Optional,
            Kind::Choice { values: &["closed", "open"], default: None },
            "As in the filter; without it: the filter's.",
        ),
        key(
            "isolation",
            Optional,
            Kind::Choice { values: &["shared", "per-request"], default: None },
            "As in the filter; without it: the filter's.",
        ),
    ],
};

pub(in crate::config) const GRANTS: Table = Table {
    doc: "The capabilities a filter may import.",
    keys: &[
        key(
            "log",
            Optional,
            Kind::Flag { default: None },
            "Write log lines. Without it: only shipped filters may.",
        ),
        key(
            "clock",
            Optional,
            Kind::Flag { default: None },
            "Read the time. Without it: only shipped filters may.",
        ),
        key(
            "random",
            Optional,
            Kind::Flag { default: None },
            "Get random bytes. Without it: only shipped filters may.",
        ),
        key(
            "metrics",
            Optional,
            Kind::Flag { default: None },
            "Define and report metrics. Without it: only shipped filters may.",
        ),
        key(
            "kv",
            Optional,
            Kind::FlagOrTable(&KvGrant::TABLE),
            "A map kept by the host: `true`, or a table with its bounds. Without it: none.",
        ),
        key(
            "rate-limit",
            Optional,
            Kind::Table(&RATE_LIMIT),
            "Token buckets kept by the host. Without it: none.",
        ),
    ],
};

pub(in crate::config) const RATE_LIMIT: Table = Table {
    doc: "Token buckets kept by the host, all of one size.",
    keys: &[
        key("requests", Required, Kind::Limit(RATE_LIMIT_REQUESTS), "Tokens added in each window."),
        key(
            "per",
            Required,
            Kind::Limit(RATE_LIMIT_PER),
            "Length of the window, in whole milliseconds.",
        ),
        key(
            "burst",
            Optional,
            Kind::Limit(RATE_LIMIT_REQUESTS),
            "Tokens a full bucket holds. Without it: as many as `requests`.",
        ),
        key("keys", Optional, Kind::Limit(RATE_LIMIT_KEYS), "Buckets at most."),
    ],
};
