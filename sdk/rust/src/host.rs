//! The host as a component sees it: the imports of the bindings with this crate's types.
//!
//! Natively `testing::fake` has the same modules and functions. Nothing here decides anything.

pub(crate) use crate::bindings::pillion::filter::{
    random, request, request_body, response, response_body, trailers,
};

pub(crate) mod notes {
    use crate::{
        NoteError,
        bindings::pillion::filter::notes::{self, NoteError as Refused},
    };

    pub(crate) use notes::note;

    pub(crate) fn set_note(key: &str, value: &str) -> Result<(), NoteError> {
        notes::set_note(key, value).map_err(|refused| match refused {
            Refused::LimitExceeded => NoteError::LimitExceeded,
            Refused::WrongPhase => NoteError::WrongPhase,
        })
    }
}

pub(crate) mod log {
    use crate::{bindings::pillion::filter::log, log::Level};

    fn level(level: Level) -> log::Level {
        match level {
            Level::Error => log::Level::Error,
            Level::Warn => log::Level::Warn,
            Level::Info => log::Level::Info,
            Level::Debug => log::Level::Debug,
            Level::Trace => log::Level::Trace,
        }
    }

    pub(crate) fn enabled(of: Level) -> bool {
        log::enabled(level(of))
    }

    pub(crate) fn write(of: Level, message: &str) {
        log::write(level(of), message);
    }
}

pub(crate) mod clock {
    use core::time::Duration;

    use crate::bindings::pillion::filter::clock;

    pub(crate) fn now() -> Duration {
        let instant = clock::now();
        Duration::from_secs(instant.seconds)
            .saturating_add(Duration::from_nanos(u64::from(instant.nanoseconds)))
    }

    pub(crate) fn monotonic() -> Duration {
        Duration::from_nanos(clock::monotonic())
    }
}

pub(crate) mod metrics {
    use crate::{
        MetricError,
        bindings::pillion::filter::metrics::{self, MetricError as Refused},
        metrics::Kind,
    };

    fn error(refused: Refused) -> MetricError {
        match refused {
            Refused::InvalidName => MetricError::InvalidName,
            Refused::LimitExceeded => MetricError::LimitExceeded,
            Refused::Conflict => MetricError::Conflict,
            Refused::InvalidValue => MetricError::InvalidValue,
        }
    }

    pub(crate) fn define(
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<u32, MetricError> {
        let kind = match kind {
            Kind::Counter => metrics::Kind::Counter,
            Kind::Gauge => metrics::Kind::Gauge,
            Kind::Histogram => metrics::Kind::Histogram,
        };
        metrics::define(kind, name, help, labels).map_err(error)
    }

    pub(crate) fn report(metric: u32, labels: &[&str], value: f64) -> Result<(), MetricError> {
        metrics::report(metric, labels, value).map_err(error)
    }
}

pub(crate) mod kv {
    use crate::{
        KvError,
        bindings::pillion::filter::kv::{self, KvError as Refused},
    };

    pub(crate) use kv::{delete, get, keys};

    fn error(refused: Refused) -> KvError {
        match refused {
            Refused::Full => KvError::Full,
            Refused::TooLarge => KvError::TooLarge,
            Refused::NotANumber => KvError::NotANumber,
        }
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), KvError> {
        kv::set(key, value, ttl_ms).map_err(error)
    }

    pub(crate) fn increment(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, KvError> {
        kv::increment(key, by, ttl_ms).map_err(error)
    }

    pub(crate) fn compare_and_set(
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, KvError> {
        kv::compare_and_set(key, expected, value, ttl_ms).map_err(error)
    }
}

pub(crate) mod rate_limit {
    use core::time::Duration;

    use crate::{
        bindings::pillion::filter::rate_limit,
        rate_limit::{Policy, Taken},
    };

    pub(crate) fn policy() -> Policy {
        let policy = rate_limit::policy();
        Policy {
            requests: policy.requests,
            per: Duration::from_millis(policy.per_ms),
            burst: policy.burst,
        }
    }

    pub(crate) fn take(key: &str, tokens: u32) -> Taken {
        let taken = rate_limit::take(key, tokens);
        Taken {
            allowed: taken.allowed,
            remaining: taken.remaining,
            retry_after: Duration::from_millis(taken.retry_after_ms),
            full_after: Duration::from_millis(taken.full_after_ms),
        }
    }
}
