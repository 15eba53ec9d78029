//! The tables of the file and their keys, as a user meets them: name, meaning, type, default.
//! Limits are described in `limits`, where their structs are.
//!
//! Knows nothing of how values are checked against each other; `check` does.

mod filter;

use self::filter::FILTER;
pub(super) use self::filter::GRANTS;
#[cfg(test)]
pub(super) use self::filter::RATE_LIMIT;
use super::deadline::DEADLINE;
use super::dns::DNS;
use super::limits::{
    CHAIN_FILTERS_MAX, CONNECTIONS, CompileLimits, DRAIN_TIMEOUT, ENDPOINTS_MAX, FILTERS_MAX,
    IGNORED_HEADERS_MAX, JudgeLimits, LISTENERS_MAX, ListenerLimits, MATCH_VALUES_MAX, Outlier,
    PEER_PATTERNS_MAX, ROUTES_MAX, SLOW_START, SPLIT_LEGS_MAX, TRUSTED_PROXIES_MAX, UPSTREAMS_MAX,
    UpstreamLimits, WORKERS,
};
use super::mirror::MIRROR;
use super::overload::OVERLOAD;
use super::pass::PASS;
use super::spec::Presence::{Optional, Required};
use super::spec::{Key, Kind, Limit, Presence, Table, Unit};
use super::tls::keys::{LISTENER_TLS, UPSTREAM_TLS};
use super::upstream::keys::{HEALTH, RETRY};
use crate::rollout::plan::STEPS_MAX;

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
        key("admin", Optional, Kind::Table(&ADMIN), "The admin interface."),
        key("runtime", Optional, Kind::Table(&RUNTIME), "Workers, draining, caching, compiling."),
        key(
            "access_log",
            Optional,
            Kind::Table(&ACCESS_LOG),
            "The access log; without this table there is none.",
        ),
        key(
            "dns",
            Optional,
            Kind::Table(&DNS),
            "How the names of endpoints that begin with `dns://` or `dns+srv://` are looked up.",
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
        key(
            "rollout",
            Optional,
            Kind::Table(&ROLLOUT),
            "How changes of filters and chains are tried before they take over.",
        ),
    ],
};

const ADMIN: Table = Table {
    doc: "The admin interface: health, readiness, metrics, configuration, reload, rollouts.",
    keys: &[
        key(
            "tcp",
            Optional,
            Kind::Flag { default: Some(true) },
            "Listen on `address`. `false` leaves the `socket`.",
        ),
        key(
            "address",
            Optional,
            Kind::Text { default: Some(ADMIN_ADDRESS_DEFAULT) },
            "Address and port. Whoever can connect to it may do everything, unless there is a \
             `token`; so it stays on a loopback address.",
        ),
        key(
            "allow_remote",
            Optional,
            Kind::Flag { default: Some(false) },
            "Accept an address that other hosts can reach.",
        ),
        key(
            "socket",
            Optional,
            Kind::Text { default: None },
            "The path of a Unix socket to listen on, relative to this file; only the user that \
             Pillion runs as may connect to it. Without it: none.",
        ),
        key(
            "token",
            Optional,
            Kind::Text { default: None },
            "What requests have to bring along, as in `authorization: Bearer TOKEN`; always a \
             reference, as in `${file:token.key}`. Without it: nothing.",
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
            "overload",
            Optional,
            Kind::Table(&OVERLOAD),
            "How many requests of all listeners may be under way at once. Without it: as many as come.",
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

const ROLLOUT: Table = Table {
    doc: "How a `next` of a filter or of a route is tried beside what runs, judged, and promoted or \
          rolled back.",
    keys: &[
        key(
            "steps",
            Optional,
            Kind::Texts { max: STEPS_MAX },
            "In order: `shadow 10m`, `canary 5% 10m`, `full`. `shadow` comes first or not at all, \
             shares grow, `full` is last; a step without a time lasts until it is told to end. \
             Without it: `shadow 1m`, `canary 5% 5m`, `canary 50% 5m`, `full`.",
        ),
        key(
            "sticky",
            Optional,
            Kind::Text { default: Some("random") },
            "Which requests a canary gets: all of a client address or none (`client`), any \
             (`random`), or all with one value of a field or none (`header:x-user`).",
        ),
        key(
            "ignore_headers",
            Optional,
            Kind::Texts { max: IGNORED_HEADERS_MAX },
            "Fields that the comparison of a shadow leaves out, since every exchange has another \
             value. Without it: none.",
        ),
        key(
            "judge",
            Optional,
            Kind::Table(&JudgeLimits::TABLE),
            "What counts as worse; meant to be left alone.",
        ),
        key(
            "version_header",
            Optional,
            Kind::Text { default: None },
            "A field that is added to responses and tells the versions of the filters that served. \
             Without it: none.",
        ),
        key(
            "state_dir",
            Optional,
            Kind::Text { default: None },
            "Where the last generations are kept, relative to this file. Without it: a directory \
             of this file's own in the user's directory of states.",
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
            "tls",
            Optional,
            Kind::Table(&LISTENER_TLS),
            "What the listener needs to speak TLS. Without it: it speaks HTTP alone.",
        ),
        key(
            "limits",
            Optional,
            Kind::Table(&ListenerLimits::TABLE),
            "Bounds on connections and requests.",
        ),
        key(
            "overload",
            Optional,
            Kind::Table(&OVERLOAD),
            "How many requests may be under way at once. Without it: as many as come.",
        ),
        key(
            "deadline",
            Optional,
            Kind::Table(&DEADLINE),
            "Which requests say how much time they have.",
        ),
        key(
            "pass",
            Optional,
            Kind::Table(&PASS),
            "Lets requests for hosts that no route names go to the host itself. Without it: 404.",
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
        key("next", Optional, Kind::Table(&NEXT_ROUTE), "A chain to try as `[rollout]` says."),
        key(
            "upstream",
            Optional,
            Kind::Name,
            "The upstream that answers. Needed where there is no `split`.",
        ),
        key(
            "split",
            Optional,
            Kind::Tables { table: &LEG, max: SPLIT_LEGS_MAX },
            "Upstreams that share the requests by weight, in place of `upstream`.",
        ),
        key(
            "sticky",
            Optional,
            Kind::Text { default: Some("random") },
            "Which requests of a `split` stay together: all of a client address (`client`), none \
             (`random`), or all with one value of a field (`header:x-user`).",
        ),
        key(
            "mirror",
            Optional,
            Kind::Table(&MIRROR),
            "Where copies of the requests go. Without it: nowhere.",
        ),
    ],
};

const LEG: Table = Table {
    doc: "An upstream that gets a share of the requests.",
    keys: &[
        key("upstream", Required, Kind::Name, "The upstream."),
        key(
            "weight",
            Required,
            Kind::Limit(SPLIT_WEIGHT),
            "Its share, of the sum of all weights of the split; 0 is none.",
        ),
    ],
};

/// The range of `weight`.
pub(super) const SPLIT_WEIGHT: Limit =
    Limit { unit: Unit::Count, default: None, min: 0, max: 1_000_000 };

const NEXT_ROUTE: Table = Table {
    doc: "What is to take the place of the route's chain, tried as `[rollout]` says.",
    keys: &[key(
        "chain",
        Required,
        Kind::Names { max: CHAIN_FILTERS_MAX },
        "Filters, in the order in which they see requests.",
    )],
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
        key(
            "peer",
            Optional,
            Kind::OneOrMany { max: PEER_PATTERNS_MAX },
            "A name that the client's certificate has, as in `client_allow`; one of several.",
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
            "Host and port of each, as in `127.0.0.1:3000`, `app.local:80` or `[::1]:80`; or a name \
             whose addresses are followed, as in `dns://app.local:80`, or those of a service, as in \
             `dns+srv://_http._tcp.app.local`.",
        ),
        key(
            "protocol",
            Optional,
            Kind::Choice { values: &["http1", "h2c", "h2", "auto"], default: Some("http1") },
            "What they speak: `http1`; HTTP/2, which gRPC needs, as `h2c` without TLS and `h2` with \
             it; or, with TLS, what they choose (`auto`).",
        ),
        key(
            "tls",
            Optional,
            Kind::Table(&UPSTREAM_TLS),
            "How they are spoken to in TLS. Without it: they speak HTTP alone.",
        ),
        key(
            "balance",
            Optional,
            Kind::Choice {
                values: &["round_robin", "least_request", "p2c_ewma", "maglev"],
                default: Some("round_robin"),
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
