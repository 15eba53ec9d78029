//! The tables of the file and their keys, as a user meets them: name, meaning, type, default.
//! Limits are described in `limits`, where their structs are.
//!
//! Knows nothing of how values are checked against each other; `check` does.

use super::limits::{
    CHAIN_FILTERS_MAX, CONNECTIONS, CompileLimits, DRAIN_TIMEOUT, ENDPOINTS_MAX, FILTERS_MAX,
    FilterLimits, KvGrant, LISTENERS_MAX, ListenerLimits, MATCH_VALUES_MAX, Outlier,
    RATE_LIMIT_KEYS, RATE_LIMIT_PER, RATE_LIMIT_REQUESTS, ROUTES_MAX, SLOW_START,
    TRUSTED_PROXIES_MAX, UPSTREAMS_MAX, UpstreamLimits, WORKERS,
};
use super::spec::Presence::{Optional, Required};
use super::spec::{Key, Kind, Presence, Table};
use super::upstream::keys::{HEALTH, RETRY};

/// Where the admin listener is unless the file says otherwise.
pub const ADMIN_ADDRESS_DEFAULT: &str = "127.0.0.1:9901";

const fn key(name: &'static str, presence: Presence, kind: Kind, doc: &'static str) -> Key {
    Key { name, doc, presence, kind }
}

/// The file.
pub(super) const ROOT: Table = Table {
    doc: "A Pillion configuration. Durations (`5ms`, `30s`, `1h`) and sizes (`64KiB`, `32MiB`) \
          are strings with a unit; a plain number is a size in bytes. In strings, `${NAME}` is \
          replaced by the environment variable and `${file:PATH}` by the text of the file (its \
          path relative to this file, a final line break dropped); `$$` is a dollar sign. Names \
          and references to them are taken as written.",
    keys: &[
        key("admin", Optional, Kind::Table(&ADMIN), "The admin listener."),
        key("runtime", Optional, Kind::Table(&RUNTIME), "Workers, draining, caching, compiling."),
        key(
            "access_log",
            Optional,
            Kind::Table(&ACCESS_LOG),
            "The access log; without this table there is none.",
        ),
        key(
            "listener",
            Required,
            Kind::Tables { table: &LISTENER, max: LISTENERS_MAX },
            "The sockets that take requests.",
        ),
        key(
            "upstream",
            Optional,
            Kind::NamedTables { table: &UPSTREAM, max: UPSTREAMS_MAX },
            "The servers that answer requests, by name.",
        ),
        key(
            "filter",
            Optional,
            Kind::NamedTables { table: &FILTER, max: FILTERS_MAX },
            "The filters that chains name.",
        ),
    ],
};

const ADMIN: Table = Table {
    doc: "The admin listener: health, readiness, metrics, configuration, reload. It has no access \
          control of its own, so it stays on a loopback address.",
    keys: &[
        key(
            "address",
            Optional,
            Kind::Text { default: Some(ADMIN_ADDRESS_DEFAULT) },
            "Address and port.",
        ),
        key(
            "allow_remote",
            Optional,
            Kind::Flag { default: Some(false) },
            "Accept an address that other hosts can reach.",
        ),
    ],
};

pub(super) const RUNTIME: Table = Table {
    doc: "Workers, draining, caching, compiling.",
    keys: &[
        key(
            "workers",
            Optional,
            Kind::Limit(WORKERS),
            "Worker threads. Without it: one per available core, at most two.",
        ),
        key(
            "drain_timeout",
            Optional,
            Kind::Limit(DRAIN_TIMEOUT),
            "Time for requests in flight to finish once the process is told to stop.",
        ),
        key(
            "cache_dir",
            Optional,
            Kind::Text { default: None },
            "Where compiled filters are kept, relative to this file. Without it: the user's cache \
             directory.",
        ),
        key(
            "connections_max",
            Optional,
            Kind::Limit(CONNECTIONS),
            "Downstream connections open at once; beyond them new ones are refused. Without it: \
             half the limit of file descriptors.",
        ),
        key(
            "watch",
            Optional,
            Kind::Flag { default: Some(true) },
            "Publish a new generation when this file or a filter is saved.",
        ),
        key(
            "compile",
            Optional,
            Kind::Table(&CompileLimits::TABLE),
            "Bounds on the child process that compiles a filter.",
        ),
    ],
};

const ACCESS_LOG: Table = Table {
    doc: "One JSON line for each finished request.",
    keys: &[key(
        "destination",
        Optional,
        Kind::Text { default: Some("stdout") },
        "`stdout`, or the path of a file that is appended to, relative to this file \
         (`./access.log`).",
    )],
};

const LISTENER: Table = Table {
    doc: "A socket that takes requests, HTTP/1.1 and HTTP/2 alike.",
    keys: &[
        key("name", Required, Kind::Name, "Unique among listeners; shown in logs and metrics."),
        key(
            "address",
            Required,
            Kind::Text { default: None },
            "Address and port, as in `0.0.0.0:8080` or `[::]:8080`.",
        ),
        key(
            "trusted_proxies",
            Optional,
            Kind::Texts { max: TRUSTED_PROXIES_MAX },
            "Networks (`10.0.0.0/8`) and addresses of peers whose `Forwarded` and `X-Forwarded-*` \
             fields are believed. Without it: none.",
        ),
        key(
            "limits",
            Optional,
            Kind::Table(&ListenerLimits::TABLE),
            "Bounds on connections and requests.",
        ),
        key(
            "route",
            Required,
            Kind::Tables { table: &ROUTE, max: ROUTES_MAX },
            "Which requests go through which filters to which upstream. The first route that \
             matches takes the request; without one the answer is 404.",
        ),
    ],
};

const ROUTE: Table = Table {
    doc: "Which requests go through which filters to which upstream.",
    keys: &[
        key(
            "name",
            Optional,
            Kind::Name,
            "Unique within the listener. Without it: the listener's name and the route's number, \
             as in `inbound/1`.",
        ),
        key(
            "match",
            Optional,
            Kind::Table(&MATCH),
            "What a request has to be; all of it has to hold. Without it: every request.",
        ),
        key(
            "chain",
            Optional,
            Kind::Names { max: CHAIN_FILTERS_MAX },
            "Filters, in the order in which they see requests; they see responses in reverse. \
             Without it: none.",
        ),
        key("upstream", Required, Kind::Name, "The upstream that answers."),
    ],
};

const MATCH: Table = Table {
    doc: "What a request has to be; all of it has to hold.",
    keys: &[
        key(
            "host",
            Optional,
            Kind::OneOrMany { max: MATCH_VALUES_MAX },
            "The host without its port; one of several. `*.example.com` is every host below the \
             domain.",
        ),
        key("path", Optional, Kind::Text { default: None }, "Exactly this path."),
        key(
            "path_prefix",
            Optional,
            Kind::Text { default: None },
            "This path and those below it: `/api` takes `/api` and `/api/x`, not `/apix`.",
        ),
        key(
            "method",
            Optional,
            Kind::OneOrMany { max: MATCH_VALUES_MAX },
            "The method; one of several.",
        ),
        key(
            "headers",
            Optional,
            Kind::HeaderMatches { max: MATCH_VALUES_MAX },
            "Fields the request has to have: a string is the exact value, `true` is any value, `{ \
             prefix = \"...\" }` is how it begins.",
        ),
    ],
};

pub(super) const UPSTREAM: Table = Table {
    doc: "Servers that answer requests.",
    keys: &[
        key(
            "endpoints",
            Required,
            Kind::Texts { max: ENDPOINTS_MAX },
            "Host and port of each, as in `127.0.0.1:3000`, `app.local:80` or `[::1]:80`.",
        ),
        key(
            "protocol",
            Optional,
            Kind::Choice { values: &["http1", "h2c"], default: "http1" },
            "What they speak: `http1`, or `h2c` for HTTP/2 without TLS, which gRPC needs.",
        ),
        key(
            "balance",
            Optional,
            Kind::Choice {
                values: &["round_robin", "least_request", "p2c_ewma", "maglev"],
                default: "round_robin",
            },
            "Which of them is next: each in its turn, the less loaded of two that are drawn, the \
             one of two that is expected to answer sooner, or always the same one for a key.",
        ),
        key(
            "hash_key",
            Optional,
            Kind::Text { default: None },
            "The key of `maglev`: `client`, or a field, as in `header:x-user`. Without it: \
             `client`.",
        ),
        key(
            "slow_start",
            Optional,
            Kind::Limit(SLOW_START),
            "Time for which an endpoint that has come or come back gets less than its share.",
        ),
        key(
            "outlier",
            Optional,
            Kind::Table(&Outlier::TABLE),
            "When an endpoint is left out for a while because of how it answers. Without it: never.",
        ),
        key(
            "retry",
            Optional,
            Kind::Table(&RETRY),
            "When a request is repeated. Without it: once, when a kept connection was closed under \
             an idempotent one.",
        ),
        key(
            "health",
            Optional,
            Kind::Table(&HEALTH),
            "How endpoints are asked whether they are well. Without it: they are not.",
        ),
        key(
            "limits",
            Optional,
            Kind::Table(&UpstreamLimits::TABLE),
            "Bounds on connections and answers.",
        ),
    ],
};

const FILTER: Table = Table {
    doc: "A filter that chains can name.",
    keys: &[
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
            Kind::Choice { values: &["closed", "open"], default: "closed" },
            "What a request gets when the filter cannot be loaded, traps, or exceeds its time or \
             memory: an error (`closed`), or to go on without it (`open`).",
        ),
        key(
            "isolation",
            Optional,
            Kind::Choice { values: &["shared", "per-request"], default: "shared" },
            "`shared`: one instance serves the requests of a worker, one after another. \
             `per-request`: each gets a fresh one.",
        ),
    ],
};

pub(super) const GRANTS: Table = Table {
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

pub(super) const RATE_LIMIT: Table = Table {
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
