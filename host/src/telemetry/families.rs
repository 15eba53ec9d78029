//! The metric families that Pillion exposes: one table, from which `exposition` takes names and
//! help and against which a test holds `host/METRICS.md`.

use prometheus_client::metrics::MetricType;

/// One metric family. A counter's samples have `_total` behind the name, an info's `_info`.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) help: &'static str,
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal, $help:literal;)*) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, kind: MetricType::$kind, help: $help };)*

        /// Every family but those that filters define, in the order of exposition.
        #[cfg(test)]
        pub(super) const ALL: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD: Info "pillion_build", "Version of the binary";
    START_TIME: Gauge "pillion_start_time_seconds", "Start of the process, since 1970";
    GENERATION: Gauge "pillion_generation", "Generation that new requests are served by";
    RELOADS: Counter "pillion_reloads", "Attempts to publish a new generation";
    CACHE_LOOKUPS: Counter "pillion_compile_cache_lookups", "Lookups of compiled filters";
    ROLLOUTS: Counter "pillion_rollouts", "Rollouts that are over, by how they ended";
    SWALLOWED: Counter "pillion_swallowed_errors", "Errors that were logged and passed over";
    LOG_LINES: Counter "pillion_log_lines", "Lines of the structured log";
    ACCESS_LOG_LINES: Counter "pillion_access_log_lines", "Lines of the access log";
    CONNECTIONS: Gauge "pillion_downstream_connections", "Open downstream connections";
    CONNECTIONS_ACCEPTED: Counter "pillion_downstream_connections_accepted",
        "Downstream connections accepted";
    CONNECTIONS_REFUSED: Counter "pillion_downstream_connections_refused",
        "Downstream connections refused at accept because there were too many";
    HANDSHAKES: Counter "pillion_downstream_tls_handshakes",
        "TLS handshakes with clients that are over";
    DEADLINES: Counter "pillion_request_deadlines",
        "Requests that say how much time they have, by what became of it";
    REQUESTS_ACTIVE: Gauge "pillion_requests_active", "Exchanges in progress";
    REQUESTS: Counter "pillion_requests", "Exchanges that are over, by class of their status";
    REQUEST_ERRORS: Counter "pillion_request_errors", "Exchanges that ended with an error";
    REQUEST_DURATION: Histogram "pillion_request_duration_seconds",
        "From the complete request head to the last byte of the response";
    MIRRORED: Counter "pillion_mirrored", "Copies of requests by what became of them";
    OVERLOAD_LIMIT: Gauge "pillion_overload_limit", "Requests that may be under way at once";
    OVERLOAD_RUNNING: Gauge "pillion_overload_running", "Requests under way that a limit counts";
    OVERLOAD_QUEUED: Gauge "pillion_overload_queued", "Requests that wait for a place";
    OVERLOAD_SHED: Counter "pillion_overload_shed", "Requests turned away";
    UPSTREAM_CONNECTIONS: Gauge "pillion_upstream_connections", "Open upstream connections";
    UPSTREAM_CONNECTIONS_OPENED: Counter "pillion_upstream_connections_opened",
        "Upstream connections made";
    UPSTREAM_CONNECTIONS_REUSED: Counter "pillion_upstream_connections_reused",
        "Requests sent on a connection that had served another one";
    UPSTREAM_HANDSHAKES: Counter "pillion_upstream_tls_handshakes",
        "TLS handshakes with endpoints that are over";
    UPSTREAM_REQUESTS: Counter "pillion_upstream_requests", "Requests sent or tried to be sent";
    UPSTREAM_FAILURES: Counter "pillion_upstream_failures", "Requests that failed upstream";
    UPSTREAM_RESPONSE: Histogram "pillion_upstream_response_seconds",
        "From the complete request head to the response head of the upstream";
    UPSTREAM_ENDPOINTS: Gauge "pillion_upstream_endpoints", "Endpoints by whether they are in use";
    UPSTREAM_ENDPOINT_AVAILABLE: Gauge "pillion_upstream_endpoint_available",
        "1 while the endpoint is neither ejected nor unhealthy";
    UPSTREAM_EJECTIONS: Counter "pillion_upstream_ejections",
        "Endpoints left out for a while because of their answers";
    UPSTREAM_EJECTIONS_WITHHELD: Counter "pillion_upstream_ejections_withheld",
        "Endpoints kept although they should have been left out, because too many are";
    UPSTREAM_HEALTH_CHECKS: Counter "pillion_upstream_health_checks", "Active health checks";
    UPSTREAM_GUARDED: Gauge "pillion_upstream_guarded",
        "What is under way of what a limit over all workers bounds";
    UPSTREAM_LIMIT_REACHED: Counter "pillion_upstream_limit_reached",
        "Requests refused or not repeated because a limit over all workers was reached";
    UPSTREAM_RETRIES: Counter "pillion_upstream_retries", "Requests sent again";
    UPSTREAM_RETRIES_REFUSED: Counter "pillion_upstream_retries_refused",
        "Requests not sent again although their failure was one to be repeated after";
    UPSTREAM_HEDGES: Counter "pillion_upstream_hedges",
        "Second attempts beside one that took too long, by what became of them";
    UPSTREAM_RETRY_BUDGET: Gauge "pillion_upstream_retry_budget",
        "Requests that the retry budget lets be sent again";
    DNS_LOOKUPS: Counter "pillion_dns_lookups", "Lookups of endpoints' names, by how they ended";
    DNS_ADDRESSES: Gauge "pillion_dns_addresses", "Addresses known of an upstream with such names";
    DNS_ADDRESSES_LEFT_OUT: Counter "pillion_dns_addresses_left_out",
        "Addresses in answers that were too many to be used";
    DNS_ANSWERED: Gauge "pillion_dns_answered_seconds",
        "When the name that has gone longest without an answer had its last, since 1970";
    CERTIFICATE_EXPIRY: Gauge "pillion_certificate_expiry_seconds",
        "When a certificate in force expires, since 1970";
    FILTER_CALL: Histogram "pillion_filter_call_duration_seconds", "Time of a hook call";
    FILTER_DECISIONS: Counter "pillion_filter_decisions", "Answers of hooks";
    FILTER_FAILURES: Counter "pillion_filter_failures", "Hook calls without an answer";
    FILTER_INSTANCES: Gauge "pillion_filter_instances", "Live instances";
    FILTER_INSTANCES_CREATED: Counter "pillion_filter_instances_created", "Instances made";
    FILTER_INSTANCES_RETIRED: Counter "pillion_filter_instances_retired", "Instances given up";
    FILTER_QUARANTINED: Gauge "pillion_filter_quarantined",
        "1 while the filter is kept from running because most of its calls failed";
    FILTER_LOG_LINES_DROPPED: Counter "pillion_filter_log_lines_dropped",
        "Log lines over the budget of their exchange";
    ROLLOUT_STEP: Gauge "pillion_rollout_step", "Step of the rollout in progress, counted from 1";
    ROLLOUT_SHARE: Gauge "pillion_rollout_share", "Share of the requests that the candidate gets";
    ROLLOUT_EXCHANGES: Counter "pillion_rollout_exchanges",
        "Exchanges of the running version and of the candidate, on the routes that differ";
    ROLLOUT_FAILURES: Counter "pillion_rollout_failures",
        "Those in which a filter that the other side does not have failed";
    ROLLOUT_LOCAL_REPLIES: Counter "pillion_rollout_local_replies",
        "Those that a filter answered";
    ROLLOUT_ERRORS: Counter "pillion_rollout_errors", "Those answered with 500 to 599";
    ROLLOUT_SHADOW: Counter "pillion_rollout_shadow",
        "Copies of exchanges in a shadow step, by what the comparison found";
}
