//! The tables of a case file and their keys, as an author meets them: name, meaning, type, default;
//! and the bounds on a file.
//!
//! Knows nothing of how values are read; `read`, `message` and `expect` do.

use std::time::Duration;

use crate::config::keys::GRANTS;
use crate::config::limits::FilterLimits;
use crate::config::spec::Presence::{Optional, Required};
use crate::config::spec::{Key, Kind, Limit, Presence, Table, Unit};

/// Cases of a file.
pub const CASES_MAX: usize = 1_000;
/// Steps of a case.
pub const STEPS_MAX: usize = 1_000;
/// Names in one table of fields, notes or metrics.
pub const CASE_FIELDS_MAX: usize = 100;
/// Entries of one list: values of a field, log lines, failures, texts to contain.
pub const LISTED_MAX: usize = 1_000;
/// Bytes of a body.
pub const CASE_BODY_BYTES_MAX: usize = 16 << 20;
/// Pieces of a body.
pub const CHUNKS_MAX: usize = 100_000;
/// Where the clocks stand unless the file says otherwise, 2026-01-01T00:00:00Z, since 1970.
pub const NOW_DEFAULT: Duration = Duration::from_secs(1_767_225_600);

pub(super) const METHOD_DEFAULT: &str = "GET";
pub(super) const PATH_DEFAULT: &str = "/";
pub(super) const AUTHORITY_DEFAULT: &str = "app.example";
pub(super) const CLIENT_DEFAULT: &str = "192.0.2.1";
pub(super) const LISTENER_DEFAULT: &str = "inbound";

/// Where the chunk sizes of a body are bounded.
pub(super) const CHUNK: Limit =
    Limit { unit: Unit::Size, default: None, min: 1, max: CASE_BODY_BYTES_MAX as u64 };
const SEED: Limit =
    Limit { unit: Unit::Count, default: Some(0), min: 0, max: 9_007_199_254_740_991 };
const REPEAT: Limit = Limit { unit: Unit::Count, default: Some(1), min: 1, max: 100_000 };
const YEAR_MICROS: u64 = 8_760 * 3_600 * 1_000_000;
const ADVANCE: Limit = Limit { unit: Unit::Duration, default: Some(0), min: 0, max: YEAR_MICROS };
const STATUS: Limit = Limit { unit: Unit::Count, default: Some(200), min: 200, max: 599 };
const STATUS_WANTED: Limit = Limit { default: None, ..STATUS };
const BUDGET_TIME: Limit =
    Limit { unit: Unit::Duration, default: None, min: 1, max: 60 * 1_000_000 };
const BUDGET_MEMORY: Limit = Limit { unit: Unit::Size, default: None, min: 0, max: 4 << 30 };
const BUDGET_CALLS: Limit = Limit { unit: Unit::Count, default: None, min: 0, max: 1_000_000_000 };
const LINE: Limit = Limit { unit: Unit::Count, default: None, min: 1, max: 1 << 20 };

const fn key(name: &'static str, presence: Presence, kind: Kind, doc: &'static str) -> Key {
    Key { name, doc, presence, kind }
}

const CONFIG: Key = key(
    "config",
    Optional,
    Kind::Free,
    "What the filter is given, as in `[filter.NAME.config]` of a configuration file.",
);
const GRANTED: Key =
    key("grants", Optional, Kind::Table(&GRANTS), "The capabilities the filter may import.");
const LIMITS: Key =
    key("limits", Optional, Kind::Table(&FilterLimits::TABLE), "Bounds on its calls.");
const FAIL_POLICY: Key = key(
    "fail_policy",
    Optional,
    Kind::Choice { values: &["closed", "open"], default: Some("closed") },
    "What a request gets when the filter traps, or exceeds its time or memory.",
);
const ISOLATION: Key = key(
    "isolation",
    Optional,
    Kind::Choice { values: &["shared", "per-request"], default: Some("shared") },
    "`shared`: one instance serves the exchanges of a case. `per-request`: each gets a fresh one.",
);
const LOG_LEVEL: Key = key(
    "log_level",
    Optional,
    Kind::Choice { values: &["error", "warn", "info", "debug", "trace"], default: Some("trace") },
    "The least important log lines of the filter that are written.",
);
const SEEDED: Key = key(
    "seed",
    Optional,
    Kind::Limit(SEED),
    "What the filter's random bytes follow from: the same seed, the same bytes.",
);
const NOW: Key = key(
    "now",
    Optional,
    Kind::Any,
    "Date and time at the beginning of a case, as in `2026-01-01T00:00:00Z`, which is the default. \
     The clocks stand still from there, but for `advance` and `delay`.",
);
const BUDGETED: Key = key(
    "budget",
    Optional,
    Kind::Table(&BUDGET),
    "What the dearest exchange of a case may use. Without it: only what `limits` say.",
);

/// The file.
pub(super) const ROOT: Table = Table {
    doc: "Cases for one filter, which `pillion test` plays. What stands here holds for every case \
          that does not have the same key itself. Texts are taken as they are written; only in \
          `filter` and `config` is `${NAME}` replaced by the environment variable, and \
          `${file:PATH}` by the text of the file.",
    keys: &[
        key(
            "filter",
            Required,
            Kind::Text { default: None },
            "`builtin:NAME` for a shipped filter, or the path of a component, relative to this \
             file; where it is not there, to the directories above it, nearest first.",
        ),
        CONFIG,
        GRANTED,
        LIMITS,
        FAIL_POLICY,
        ISOLATION,
        LOG_LEVEL,
        SEEDED,
        NOW,
        BUDGETED,
        key(
            "upstream",
            Optional,
            Kind::Table(&UPSTREAM),
            "What the upstream answers where neither the step nor its case says so.",
        ),
        key(
            "case",
            Required,
            Kind::Tables { table: &CASE, max: CASES_MAX },
            "The cases. Each begins with a fresh filter, fresh buckets and maps, and the clocks at \
             `now`.",
        ),
    ],
};

const CASE: Table = Table {
    doc: "A case: one step, whose keys stand in the case itself, or several in `[[case.step]]`.",
    keys: &[
        key("name", Required, Kind::Any, "A sentence that says what holds; unique in the file."),
        CONFIG,
        GRANTED,
        LIMITS,
        FAIL_POLICY,
        ISOLATION,
        LOG_LEVEL,
        SEEDED,
        NOW,
        BUDGETED,
        ADVANCED,
        REPEATED,
        REQUESTED,
        ANSWERED,
        EXPECTED,
        key(
            "step",
            Optional,
            Kind::Tables { table: &STEP, max: STEPS_MAX },
            "Steps, in order, which share the filter, its buckets and maps, and the clocks.",
        ),
        key(
            "load_error",
            Optional,
            Kind::Table(&LOAD_ERROR),
            "The filter must not load. Such a case sends no request.",
        ),
    ],
};

const STEP: Table = Table {
    doc: "One request and what comes of it.",
    keys: &[ADVANCED, REPEATED, REQUESTED, ANSWERED, EXPECTED],
};

const ADVANCED: Key =
    key("advance", Optional, Kind::Limit(ADVANCE), "How far the clocks move before the request.");
const REPEATED: Key = key(
    "repeat",
    Optional,
    Kind::Limit(REPEAT),
    "How often the request is sent. `expect` is of the last time.",
);
const REQUESTED: Key =
    key("request", Optional, Kind::Table(&REQUEST), "The request of the client.");
const ANSWERED: Key = key(
    "upstream",
    Optional,
    Kind::Table(&UPSTREAM),
    "What the upstream answers. Without it: what `upstream` of the case or of the file says.",
);
const EXPECTED: Key = key(
    "expect",
    Optional,
    Kind::Table(&EXPECT),
    "What has to come of it. What is not named is not looked at, with two exceptions: a failure of \
     the filter and a response that is broken off fail a case that does not expect them.",
);

const BUDGET: Table = Table {
    doc: "What the dearest exchange of a case may use.",
    keys: &[
        key(
            "time",
            Optional,
            Kind::Limit(BUDGET_TIME),
            "Processor time of its hook calls. A case that is over it is played again, up to ten \
             times: the cheapest counts.",
        ),
        key("memory", Optional, Kind::Limit(BUDGET_MEMORY), "Memory of an instance."),
        key(
            "host_calls",
            Optional,
            Kind::Limit(BUDGET_CALLS),
            "Calls of functions of the host by its hook calls.",
        ),
    ],
};

const REQUEST: Table = Table {
    doc: "A request of a client. Fields that frame a message belong to the host and cannot be \
          written here: `host` is `authority`, and `content-length` follows from the body.",
    keys: &[
        key("method", Optional, Kind::Text { default: Some(METHOD_DEFAULT) }, "Any but `CONNECT`."),
        key("path", Optional, Kind::Text { default: Some(PATH_DEFAULT) }, "Path and query."),
        key(
            "scheme",
            Optional,
            Kind::Choice { values: &["http", "https"], default: Some("http") },
            "As a trusted proxy reports it.",
        ),
        key(
            "authority",
            Optional,
            Kind::Text { default: Some(AUTHORITY_DEFAULT) },
            "Host and optional port.",
        ),
        key(
            "protocol",
            Optional,
            Kind::Choice { values: &["HTTP/1.0", "HTTP/1.1", "HTTP/2"], default: Some("HTTP/1.1") },
            "What the client speaks.",
        ),
        key(
            "client",
            Optional,
            Kind::Text { default: Some(CLIENT_DEFAULT) },
            "Address of the client: the connection's peer, of which no proxy is trusted.",
        ),
        key(
            "listener",
            Optional,
            Kind::Text { default: Some(LISTENER_DEFAULT) },
            "Name of the listener that takes it.",
        ),
        key("headers", Optional, Kind::Any, FIELDS_DOC),
        key("body", Optional, Kind::Any, BODY_DOC),
        key("trailers", Optional, Kind::Any, "Fields after the body, written as in `headers`."),
        key("notes", Optional, Kind::Any, "Notes that earlier filters of a chain left, by key."),
    ],
};

const FIELDS_DOC: &str = "Fields by name: a string, a list of strings for several lines, or `{ \
                          base64 = \"...\" }` for a value that is no text.";
const BODY_DOC: &str = "A string, or a table with `text`, `base64` or `file` (a path relative to \
                        this file), and with `chunks`: the size of every piece, or a list of sizes, \
                        after which the rest comes in one. Without `chunks`: one piece. Without \
                        `body`: none.";

const UPSTREAM: Table = Table {
    doc: "An answer of the upstream.",
    keys: &[
        key("status", Optional, Kind::Limit(STATUS), "Final status."),
        key("headers", Optional, Kind::Any, FIELDS_DOC),
        key("body", Optional, Kind::Any, BODY_DOC),
        key("trailers", Optional, Kind::Any, "Fields after the body, written as in `headers`."),
        key(
            "delay",
            Optional,
            Kind::Limit(ADVANCE),
            "How far the clocks move between the request and the head of the answer.",
        ),
    ],
};

const EXPECT: Table = Table {
    doc: "What has to come of a request.",
    keys: &[
        key("status", Optional, Kind::Limit(STATUS_WANTED), "Status that the client gets."),
        key("headers", Optional, Kind::Any, FIELDS_WANTED_DOC),
        key("body", Optional, Kind::Any, BODY_WANTED_DOC),
        key(
            "trailers",
            Optional,
            Kind::Any,
            "Fields after the body that the client gets, written as in `headers`.",
        ),
        key(
            "complete",
            Optional,
            Kind::Flag { default: Some(true) },
            "Does the client get the whole response? `false`: it is broken off.",
        ),
        key(
            "forwarded",
            Optional,
            Kind::FlagOrTable(&FORWARDED),
            "The request that the upstream gets: a table, `true` for any, `false` for none.",
        ),
        key(
            "log",
            Optional,
            Kind::Any,
            "Every log line of the filter, in order: a list of texts, or of tables with `level`, \
             and `is`, `contains`, `lacks` or `matches`. `[]`: none.",
        ),
        key(
            "notes",
            Optional,
            Kind::Any,
            "Notes at the end of the exchange, by key: a text, a table with `is`, `contains` or \
             `matches`, or `false` for none.",
        ),
        key(
            "metrics",
            Optional,
            Kind::Any,
            "Metrics of the filter since the beginning of the case, by `name` or \
             `name{label=value}`, summed over the series that have these labels: a number, `false` \
             for none, or for histograms `{ count = 2, sum = 0.5 }`.",
        ),
        key(
            "failure",
            Optional,
            Kind::Any,
            "Every failure of the filter, in order: `trap`, `deadline`, `memory`, \
             `invalid_output`, `body_limit` or `unavailable`; a table with `kind`, `hook` and \
             `message`; or a list of these. Without it: none.",
        ),
    ],
};

const FIELDS_WANTED_DOC: &str = "Fields by name: a string for exactly one line of this value, a \
                                 list of strings for exactly these lines, `true` for any, `false` \
                                 for none, or a table with `count` (how many lines), and `is`, \
                                 `contains`, `lacks` or `matches`, which one of the lines has to meet.";
const BODY_WANTED_DOC: &str = "A string, or a table with one of `text`, `base64`, `file`, `json` \
                               and `bytes` (how many), or with `contains`, `lacks` and `matches`.";

const FORWARDED: Table = Table {
    doc: "What is expected of the request that the upstream gets.",
    keys: &[
        key("method", Optional, Kind::Any, "Its method."),
        key("path", Optional, Kind::Any, "Its path and query."),
        key("scheme", Optional, Kind::Any, "Its scheme, `http` or `https`."),
        key("authority", Optional, Kind::Any, "Its host and optional port."),
        key("headers", Optional, Kind::Any, FIELDS_WANTED_DOC),
        key("body", Optional, Kind::Any, BODY_WANTED_DOC),
        key("trailers", Optional, Kind::Any, "Fields after its body, written as in `headers`."),
    ],
};

const LOAD_ERROR: Table = Table {
    doc: "How the filter does not load.",
    keys: &[
        key("key", Optional, Kind::Any, "The key of `config` that `configure` names."),
        key(
            "message",
            Optional,
            Kind::Any,
            "The message: a text, or a table with `is`, `contains`, `lacks` or `matches`.",
        ),
        key("line", Optional, Kind::Limit(LINE), "The line of this file it points at."),
    ],
};
