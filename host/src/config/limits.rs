//! Every limit that a file can set: name, unit, default, range and meaning, each written once. The
//! structs, the reader, the JSON Schema and the dump all come from these lines.
//!
//! The fixed limits of the filter contract are here too. Who enforces a limit is not known here.

use std::time::Duration;

use serde_json::{Map, Value};

use super::reader::TableReader;
use super::spec::{Key, Kind, Limit, Presence, Table, Unit};
use crate::units;

/// Bytes of a configuration file.
pub const CONFIG_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file that a `${file:PATH}` reference names.
pub const REFERENCED_FILE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the path of a key in a filter's `config`, as in `rules[2].set.name`; bounds how deep
/// tables nest.
pub const CONFIG_KEY_PATH_BYTES_MAX: usize = 1 << 10;
/// Bytes of the path of a Unix socket: the kernel's structure has one more, for its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The fewest characters of the admin's token.
pub const TOKEN_CHARS_MIN: usize = 16;
/// The most characters of the admin's token.
pub const TOKEN_CHARS_MAX: usize = 1_024;
/// Listeners of a file.
pub const LISTENERS_MAX: usize = 64;
/// Routes of a listener.
pub const ROUTES_MAX: usize = 1_000;
/// Hosts, methods or fields that a route matches.
pub const MATCH_VALUES_MAX: usize = 100;
/// Certificates of a listener.
pub const CERTIFICATES_MAX: usize = 64;
/// Names of peers that a listener, a route or an upstream accepts.
pub const PEER_PATTERNS_MAX: usize = 1_000;
/// Networks that a listener trusts.
pub const TRUSTED_PROXIES_MAX: usize = 1_000;
/// Upstreams of one split.
pub const SPLIT_LEGS_MAX: usize = 16;
/// Upstreams of a file.
pub const UPSTREAMS_MAX: usize = 1_000;
/// Endpoints of an upstream: in the file, and again once names are looked up.
pub const ENDPOINTS_MAX: usize = 1_000;
/// Name servers of `[dns]`.
pub const NAME_SERVERS_MAX: usize = 8;
/// Conditions of `on` in `[upstream.NAME.retry]`.
pub const RETRY_CONDITIONS_MAX: usize = 32;
/// Filters of a file.
pub const FILTERS_MAX: usize = 1_000;
/// Filters in one chain.
pub const CHAIN_FILTERS_MAX: usize = 32;
/// Bytes of a name of a listener, route, upstream or filter.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of the name of a version of a filter.
pub const VERSION_BYTES_MAX: usize = 64;
/// Fields that the comparison of a shadow leaves out.
pub const IGNORED_HEADERS_MAX: usize = 100;
/// Bytes of a filter's `config` table as JSON text.
pub const FILTER_CONFIG_BYTES_MAX: usize = 256 << 10;
/// Notes of one exchange.
pub const NOTES_MAX: usize = 64;
/// Bytes of key and value of one note.
pub const NOTE_BYTES_MAX: usize = 1 << 10;
/// Bytes of one log line of a filter; longer ones are cut.
pub const LOG_LINE_BYTES_MAX: usize = 1 << 10;
/// Bytes of one chunk that a body hook gets.
pub const BODY_CHUNK_BYTES_MAX: usize = 64 << 10;

const fn us(count: u64) -> u64 {
    count
}
const fn ms(count: u64) -> u64 {
    us(count * 1_000)
}
const fn s(count: u64) -> u64 {
    ms(count * 1_000)
}
const fn m(count: u64) -> u64 {
    s(count * 60)
}
const fn h(count: u64) -> u64 {
    m(count * 60)
}
/// So many hundredths of a percent.
const fn percent(hundredths: u64) -> u64 {
    hundredths * 100
}
const fn kib(count: u64) -> u64 {
    count << 10
}
const fn mib(count: u64) -> u64 {
    count << 20
}
const fn gib(count: u64) -> u64 {
    count << 30
}

/// `field: unit = default, min..=max;` becomes a field, its key in the file, and its default.
macro_rules! limits {
    (
        $(#[doc = $doc:literal])+
        $name:ident {
            $( $(#[doc = $field_doc:literal])+
               $field:ident : $unit:ident = $default:expr, $min:expr => $max:expr; )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])+
                #[doc = concat!(
                    "\n\nDefault `", stringify!($default), "`, from `", stringify!($min), "` to `",
                    stringify!($max), "`."
                )]
                pub $field: limits!(@type $unit),
            )+
        }

        impl $name {
            pub(super) const TABLE: Table = Table {
                doc: concat!($($doc),+),
                keys: &[$(Key {
                    name: stringify!($field),
                    doc: concat!($($field_doc),+),
                    presence: Presence::Optional,
                    kind: Kind::Limit(Limit {
                        unit: limits!(@unit $unit),
                        default: Some($default),
                        min: $min,
                        max: $max,
                    }),
                }),+],
            };

            pub(super) fn read(table: &TableReader<'_, '_>) -> Self {
                Self { $($field: table.$unit(stringify!($field))),+ }
            }

            pub(super) fn dump(&self) -> Value {
                let mut object = Map::new();
                $(object.insert(
                    stringify!($field).to_owned(),
                    limits!(@dump $unit, self.$field),
                );)+
                Value::Object(object)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: limits!(@from $unit, $default)),+ }
            }
        }
    };
    (@type duration) => { Duration };
    (@type size) => { usize };
    (@type count) => { usize };
    (@type percent) => { u64 };
    (@unit duration) => { Unit::Duration };
    (@unit size) => { Unit::Size };
    (@unit count) => { Unit::Count };
    (@unit percent) => { Unit::Percent };
    (@from duration, $value:expr) => { Duration::from_micros($value) };
    (@from size, $value:expr) => { $value as usize };
    (@from count, $value:expr) => { $value as usize };
    (@from percent, $value:expr) => { $value };
    (@dump duration, $value:expr) => { units::format_duration(units::micros($value)).into() };
    (@dump size, $value:expr) => { units::format_size($value as u64).into() };
    (@dump count, $value:expr) => { $value.into() };
    (@dump percent, $value:expr) => { units::format_percent($value).into() };
}

limits! {
    /// Bounds on the connections and requests of a listener.
    ListenerLimits {
        /// Bytes of a request line and its fields; beyond them the answer is 431.
        head_bytes: size = kib(32), kib(1) => mib(1);
        /// Fields of a request head; beyond them the answer is 431.
        head_fields: count = 100, 1 => 1_000;
        /// Bytes of a request target; beyond them the answer is 414.
        target_bytes: size = kib(8), 64 => kib(512);
        /// Bytes of the trailers of a request.
        trailer_bytes: size = kib(8), 64 => kib(512);
        /// Fields of the trailers of a request.
        trailer_fields: count = 32, 1 => 1_000;
        /// Time for a whole request head, an HTTP/2 preface, or an unfinished HTTP/2 header block.
        head_timeout: duration = s(5), ms(100) => m(5);
        /// Time for a TLS handshake, from the first moment of a connection.
        handshake_timeout: duration = s(5), ms(100) => m(5);
        /// TLS handshakes in progress at once, per worker; beyond them the one that has waited
        /// longest is given up.
        handshakes_max: count = 512, 1 => 100_000;
        /// Time without a byte of a body, in either direction.
        body_idle_timeout: duration = s(30), ms(100) => h(24);
        /// Bytes per second that a body has to make on average, in either direction; 0 asks none.
        body_rate_min: size = 240, 0 => mib(64);
        /// Time before `body_rate_min` is asked of a body.
        body_rate_grace: duration = s(10), ms(100) => h(1);
        /// Time a connection may stay without a request.
        idle_timeout: duration = s(60), ms(100) => h(24);
        /// Requests on one connection; after them it is closed gracefully.
        requests_per_connection: count = 10_000, 1 => 1_000_000_000;
        /// Age at which a connection is closed gracefully.
        connection_lifetime: duration = h(1), s(1) => h(168);
        /// Bytes buffered for one connection in each direction before its sender has to wait.
        buffer_bytes: size = kib(64), kib(4) => mib(16);
        /// HTTP/2 streams open at once on a connection.
        h2_streams: count = 100, 1 => 10_000;
        /// HTTP/2 flow-control window of a stream.
        h2_stream_window: size = kib(64), kib(1) => mib(16);
        /// HTTP/2 flow-control window of a connection.
        h2_connection_window: size = mib(1), kib(64) => mib(64);
        /// Bytes waiting to be sent on an HTTP/2 stream.
        h2_send_buffer: size = kib(64), kib(4) => mib(16);
        /// Bytes of an HTTP/2 header list, decoded.
        h2_header_list: size = kib(32), kib(1) => mib(1);
        /// Streams a client may reset within `h2_resets_window` before its connection is closed.
        h2_resets: count = 200, 1 => 100_000;
        /// The window in which `h2_resets` are counted.
        h2_resets_window: duration = s(30), s(1) => h(1);
        /// Quiet time after which an HTTP/2 connection is probed with a ping.
        h2_ping_interval: duration = s(30), s(1) => h(24);
        /// Time for the answer to such a ping.
        h2_ping_timeout: duration = s(20), ms(100) => m(10);
    }
}

limits! {
    /// Bounds on the connections to an upstream and on its answers.
    UpstreamLimits {
        /// Time for a connection to be made.
        connect_timeout: duration = s(1), ms(1) => m(5);
        /// Head start of a connection before one to an address of the other family is tried too;
        /// only of a `dns` name that has both families.
        connect_race_delay: duration = ms(250), ms(10) => s(10);
        /// Time for a TLS handshake.
        handshake_timeout: duration = s(5), ms(1) => m(5);
        /// Time from the end of the request to the head of the answer.
        response_timeout: duration = s(15), ms(1) => h(1);
        /// Time without a byte of an answer's body.
        idle_timeout: duration = s(30), ms(100) => h(24);
        /// The same for gRPC and for upgraded connections, in both directions.
        stream_idle_timeout: duration = h(1), ms(100) => h(168);
        /// Time an unused connection is kept; below the upstream's own, so that it is not closed
        /// under a request.
        keepalive_timeout: duration = s(4), ms(100) => h(1);
        /// Unused connections kept to each endpoint, per worker.
        keepalive_connections: count = 64, 0 => 10_000;
        /// Connections open at once to each endpoint, per worker; beyond them the answer is 503.
        connections_max: count = 1_024, 1 => 1_000_000;
        /// Requests that wait for a connection at once, over all workers; beyond them the answer is
        /// 503.
        pending_max: count = 1_024, 1 => 1_000_000;
        /// Requests outstanding at once at all endpoints, over all workers; beyond them the answer
        /// is 503. 0: no such bound, and nothing is counted.
        requests_max: count = 0, 0 => 1_000_000;
        /// Requests that are being repeated at once, over all workers; beyond them a failure stays
        /// one.
        retries_max: count = 64, 1 => 1_000_000;
        /// Bytes of a status line and its fields; beyond them the answer is 502.
        head_bytes: size = kib(32), kib(1) => mib(1);
        /// Fields of an answer's head; beyond them the answer is 502.
        head_fields: count = 100, 1 => 1_000;
        /// Bytes of the trailers of an answer.
        trailer_bytes: size = kib(8), 64 => kib(512);
        /// Fields of the trailers of an answer.
        trailer_fields: count = 32, 1 => 1_000;
        /// HTTP/2 flow-control window of a stream.
        h2_stream_window: size = kib(64), kib(1) => mib(16);
        /// HTTP/2 flow-control window of a connection.
        h2_connection_window: size = mib(1), kib(64) => mib(64);
        /// Bytes waiting to be sent on an HTTP/2 stream.
        h2_send_buffer: size = kib(64), kib(4) => mib(16);
        /// Bytes of an HTTP/2 header list, decoded.
        h2_header_list: size = kib(32), kib(1) => mib(1);
        /// Quiet time after which an HTTP/2 connection is probed with a ping.
        h2_ping_interval: duration = s(30), s(1) => h(24);
        /// Time for the answer to such a ping.
        h2_ping_timeout: duration = s(20), ms(100) => m(10);
    }
}

limits! {
    /// Bounds on the lookups of names that are followed, and on what they bring.
    DnsLimits {
        /// Time for one lookup, with all that is asked for it.
        timeout: duration = s(2), ms(10) => m(1);
        /// The shortest time for which an answer is used, whatever its TTL says.
        ttl_min: duration = s(1), ms(100) => h(1);
        /// The longest such time.
        ttl_max: duration = m(5), s(1) => h(24);
        /// The pause after a failed lookup; it doubles with each that follows.
        retry_min: duration = s(1), ms(10) => m(5);
        /// The longest such pause.
        retry_max: duration = s(30), ms(10) => h(1);
        /// Addresses of one name that are used; further ones are counted and left out.
        addresses_max: count = 64, 1 => 1_000;
    }
}

limits! {
    /// When an endpoint is left out for a while because of how it answers.
    Outlier {
        /// Answers of 500 to 599, and attempts without an answer, in a row; 0: not looked at.
        consecutive_5xx: count = 5, 0 => 1_000;
        /// Answers of 502, 503 and 504, and attempts without an answer, in a row; 0: not looked at.
        consecutive_gateway: count = 5, 0 => 1_000;
        /// Share of good answers within `interval` below which an endpoint is left out, while the
        /// others together reach it; 0: not looked at.
        success_rate_min: percent = 0, 0 => 1_000_000;
        /// Answers that an endpoint must have given within `interval` for `success_rate_min`.
        success_rate_requests: count = 50, 1 => 1_000_000;
        /// Time over which `success_rate_min` is looked at, and after which one ejection less is
        /// remembered.
        interval: duration = s(10), ms(100) => h(1);
        /// Time for which an endpoint is left out the first time; the second time is twice that,
        /// and so on.
        ejection_time: duration = s(30), ms(100) => h(1);
        /// The longest such time.
        ejection_time_max: duration = m(5), ms(100) => h(24);
        /// Share of the endpoints that may be left out at once; of two or more always one may.
        ejected_max: percent = 500_000, 0 => 1_000_000;
    }
}

limits! {
    /// How long is waited before a request is repeated: between nothing and a bound that doubles.
    Backoff {
        /// The bound before the first repetition.
        base: duration = ms(25), ms(1) => m(1);
        /// The largest bound.
        max: duration = ms(250), ms(1) => m(5);
    }
}

limits! {
    /// How many requests may be repeated, in relation to those that come.
    RetryBudget {
        /// Repetitions for each request, in steps of 0.1 %.
        ratio: percent = 200_000, 0 => 1_000_000;
        /// Repetitions allowed in each second whatever comes.
        min_per_second: count = 10, 0 => 100_000;
        /// Time for which a request counts.
        ttl: duration = s(10), s(1) => m(1);
    }
}

limits! {
    /// Bounds on the calls of a filter.
    FilterLimits {
        /// Time of one hook call.
        time: duration = ms(5), us(100) => s(10);
        /// Time of all hook calls of one exchange.
        exchange_time: duration = ms(20), us(100) => s(60);
        /// Time of `configure`.
        configure_time: duration = s(1), ms(1) => s(60);
        /// Memory of one instance.
        memory: size = mib(32), kib(64) => gib(4);
        /// Bytes of a body that the filter may hold back.
        body: size = mib(1), 0 => mib(256);
        /// Log lines of one exchange; further ones are counted and dropped.
        log_lines: count = 20, 0 => 1_000;
        /// Bytes of the body of a local reply.
        local_reply: size = kib(64), 0 => mib(1);
    }
}

limits! {
    /// Bounds on the child process that compiles a filter.
    CompileLimits {
        /// Time for one filter.
        time: duration = s(60), s(1) => h(1);
        /// Memory of the process.
        memory: size = gib(2), mib(64) => gib(64);
    }
}

limits! {
    /// What counts as worse, in a rollout. A measure whose tolerance is its largest value informs and
    /// does not decide.
    JudgeLimits {
        /// Exchanges of the candidate, and of the running version, in a step before it can be promoted.
        samples_min: count = 100, 1 => 1_000_000;
        /// The chance that a step rolls back a candidate that is within all tolerances.
        error_chance: percent = percent(100), 1 => percent(5_000);
        /// How much worse a candidate must be shown not to be, for a verdict to call it shown.
        margin: percent = percent(100), 1 => percent(10_000);
        /// Tolerated share of failed filters, to the running version's.
        failures_ratio: percent = percent(12_500), percent(10_000) => percent(1_000_000);
        /// Tolerated share of failed filters, whatever the running version's.
        failures_share: percent = percent(10), 0 => percent(10_000);
        /// Tolerated share of answers with 5xx, to the running version's.
        errors_ratio: percent = percent(12_500), percent(10_000) => percent(1_000_000);
        /// Tolerated share of answers with 5xx, whatever the running version's.
        errors_share: percent = percent(10), 0 => percent(10_000);
        /// Tolerated share of answers by filters, to the running version's.
        local_replies_ratio: percent = percent(15_000), percent(10_000) => percent(1_000_000);
        /// Tolerated share of answers by filters, whatever the running version's.
        local_replies_share: percent = percent(500), 0 => percent(10_000);
        /// How much longer exchanges may spend in filters, beside twice as long.
        time: duration = us(100), 0 => h(1);
        /// Tolerated memory of instances, to the running version's.
        memory_ratio: percent = percent(20_000), percent(10_000) => percent(1_000_000);
        /// Tolerated memory of instances beyond the running version's.
        memory: size = mib(16), 0 => gib(64);
        /// Tolerated share of copies in shadow with another status.
        shadow_status: percent = percent(10_000), 0 => percent(10_000);
        /// Tolerated share of copies in shadow with other fields.
        shadow_headers: percent = percent(10_000), 0 => percent(10_000);
        /// Tolerated share of copies in shadow with another body.
        shadow_body: percent = percent(10_000), 0 => percent(10_000);
        /// Tolerated share of copies in shadow that are slower.
        shadow_slower: percent = percent(10_000), 0 => percent(10_000);
    }
}

limits! {
    /// The map that the host keeps for a filter.
    KvGrant {
        /// Entries at most.
        entries: count = 10_000, 1 => 10_000_000;
        /// Bytes of one value.
        value_bytes: size = kib(64), 1 => mib(16);
    }
}

/// The range of `drain_timeout`.
pub(super) const DRAIN_TIMEOUT: Limit =
    Limit { unit: Unit::Duration, default: Some(s(30)), min: 0, max: h(1) };
/// The range of `slow_start`.
pub(super) const SLOW_START: Limit =
    Limit { unit: Unit::Duration, default: Some(0), min: 0, max: h(1) };
/// The range of `attempts`.
pub(super) const ATTEMPTS: Limit = Limit { unit: Unit::Count, default: Some(3), min: 2, max: 10 };
/// The range of `per_try_timeout`.
pub(super) const PER_TRY_TIMEOUT: Limit =
    Limit { unit: Unit::Duration, default: None, min: ms(1), max: h(1) };
/// The range of `after` of `hedge`.
pub(super) const HEDGE_AFTER: Limit =
    Limit { unit: Unit::Duration, default: None, min: ms(1), max: h(1) };
/// The range of `replay_buffer`.
pub(super) const REPLAY_BUFFER: Limit =
    Limit { unit: Unit::Size, default: Some(kib(64)), min: 0, max: mib(16) };
/// The range of `retry_after_max`.
pub(super) const RETRY_AFTER_MAX: Limit =
    Limit { unit: Unit::Duration, default: Some(s(1)), min: 0, max: m(5) };
/// The range of `status` of health checks.
pub(super) const HEALTH_STATUS: Limit =
    Limit { unit: Unit::Count, default: None, min: 200, max: 599 };
/// The range of `interval` of health checks.
pub(super) const HEALTH_INTERVAL: Limit =
    Limit { unit: Unit::Duration, default: Some(s(10)), min: ms(10), max: h(1) };
/// The range of `timeout` of health checks.
pub(super) const HEALTH_TIMEOUT: Limit =
    Limit { unit: Unit::Duration, default: Some(s(1)), min: ms(1), max: m(1) };
/// The range of `healthy` and, apart from its default, of `unhealthy`.
pub(super) const HEALTH_THRESHOLD: Limit =
    Limit { unit: Unit::Count, default: Some(2), min: 1, max: 100 };
/// The range of `workers`.
pub(super) const WORKERS: Limit = Limit { unit: Unit::Count, default: None, min: 1, max: 64 };
/// The range of `connections_max`.
pub(super) const CONNECTIONS: Limit =
    Limit { unit: Unit::Count, default: None, min: 1, max: 1_000_000 };
/// The range of `requests` and, apart from its default, of `burst`.
pub(super) const RATE_LIMIT_REQUESTS: Limit =
    Limit { unit: Unit::Count, default: None, min: 1, max: 1_000_000_000 };
/// The range of `per`.
pub(super) const RATE_LIMIT_PER: Limit =
    Limit { unit: Unit::Duration, default: None, min: ms(1), max: h(24) };
/// The range of `keys`.
pub(super) const RATE_LIMIT_KEYS: Limit =
    Limit { unit: Unit::Count, default: Some(100_000), min: 1, max: 10_000_000 };
