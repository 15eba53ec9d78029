//! The keys of `[upstream.NAME.retry]` and `[upstream.NAME.health]`. Those of `outlier` are limits,
//! all of them, and stand with the others.

use crate::config::limits::{
    ATTEMPTS, Backoff, HEALTH_INTERVAL, HEALTH_STATUS, HEALTH_THRESHOLD, HEALTH_TIMEOUT,
    HEDGE_AFTER, PER_TRY_TIMEOUT, REPLAY_BUFFER, RETRY_AFTER_MAX, RETRY_CONDITIONS_MAX,
    RetryBudget,
};
use crate::config::spec::Presence::{self, Optional};
use crate::config::spec::{Key, Kind, Limit, Table};

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    const PRESENCE: Presence = Optional;
    Key { name, doc, presence: PRESENCE, kind }
}

/// What `on` is where it is not there.
pub(super) const RETRY_ON_DEFAULT: [&str; 3] = ["connect", "refused_stream", "reset"];

/// Of `[upstream.NAME.retry]`.
pub(in crate::config) const RETRY: Table = Table {
    doc: "When a request is repeated, at another endpoint where there is one. Never once its answer \
          has begun.",
    keys: &[
        key(
            "on",
            Kind::Texts { max: RETRY_CONDITIONS_MAX },
            "After what: `connect`, `refused_stream`, `reset`, `timeout`, a status (`503`), or a \
             status of gRPC (`grpc:unavailable`). Without it: the first three.",
        ),
        key("attempts", Kind::Limit(ATTEMPTS), "Attempts of one request, the first included."),
        key(
            "per_try_timeout",
            Kind::Limit(PER_TRY_TIMEOUT),
            "Time from the end of the request to the head of the answer, for each attempt. Without \
             it: `response_timeout`.",
        ),
        key(
            "any_method",
            Kind::Flag { default: Some(false) },
            "Repeat requests that an endpoint may have carried out whatever their method is. \
             Without it: only where the method is idempotent, as `GET` and `PUT` are.",
        ),
        key(
            "replay_buffer",
            Kind::Limit(REPLAY_BUFFER),
            "Bytes of a body that are kept to be sent again; a request with more is not repeated \
             once they are sent.",
        ),
        key(
            "retry_after_max",
            Kind::Limit(RETRY_AFTER_MAX),
            "The longest `retry-after` of an answer that is waited for; with a longer one the \
             answer is passed on.",
        ),
        key("backoff", Kind::Table(&Backoff::TABLE), "How long is waited before a repetition."),
        key("budget", Kind::Table(&RetryBudget::TABLE), "How many requests may be repeated."),
        key(
            "hedge",
            Kind::Table(&HEDGE),
            "When a second attempt joins one that takes too long. Without it: never.",
        ),
    ],
};

/// Of `[upstream.NAME.retry.hedge]`.
pub(in crate::config) const HEDGE: Table = Table {
    doc: "A second attempt at another endpoint, beside one that takes too long; the first answer wins. \
          It counts as a repetition.",
    keys: &[Key {
        presence: Presence::Required,
        ..key(
            "after",
            Kind::Limit(HEDGE_AFTER),
            "Time from the start of an attempt to that of the second.",
        )
    }],
};

/// Of `[upstream.NAME.health]`.
pub(in crate::config) const HEALTH: Table = Table {
    doc: "How endpoints are asked whether they are well; those that are not get no requests.",
    keys: &[
        key(
            "check",
            Kind::Choice { values: &["http", "grpc", "tcp"], default: Some("http") },
            "`http`: a request in the upstream's protocol; `grpc`: the health service of gRPC; `tcp`: a \
             connection and nothing more.",
        ),
        key("path", Kind::Text { default: Some("/") }, "What an `http` check asks for."),
        key(
            "host",
            Kind::Text { default: None },
            "The host that is asked for. Without it: the endpoint's address.",
        ),
        key(
            "service",
            Kind::Text { default: None },
            "The service that a `grpc` check asks about. Without it: the whole server.",
        ),
        key(
            "status",
            Kind::Limit(HEALTH_STATUS),
            "The status of a good answer. Without it: 200 to 299.",
        ),
        key(
            "interval",
            Kind::Limit(HEALTH_INTERVAL),
            "Time between two checks of an endpoint, give or take a tenth.",
        ),
        key("timeout", Kind::Limit(HEALTH_TIMEOUT), "Time for a check."),
        key(
            "healthy",
            Kind::Limit(HEALTH_THRESHOLD),
            "Good checks in a row after which an endpoint gets requests again.",
        ),
        key(
            "unhealthy",
            Kind::Limit(Limit { default: Some(3), ..HEALTH_THRESHOLD }),
            "Bad checks in a row after which an endpoint gets none.",
        ),
    ],
};
