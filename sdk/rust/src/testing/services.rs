//! The capabilities that the fake host offers: the half of `fake.rs` that needs no message.

use super::{
    fake::{scope, state},
    rules,
};

pub(crate) mod log {
    use super::{rules, scope, state};
    use crate::{log::Level, testing::LogLine};

    pub(crate) fn enabled(level: Level) -> bool {
        state(|state| level <= state.level)
    }

    pub(crate) fn write(level: Level, message: &str) {
        let text = rules::printable(message, rules::LOG_LINE_BYTES);
        scope(|scope| {
            if let Some(exchange) = &mut scope.exchange {
                exchange.lines += 1;
                if exchange.lines > rules::LOG_LINES {
                    return;
                }
            }
            let mut state = scope.host.0.borrow_mut();
            if level <= state.level {
                state.lines.push(LogLine { level, text });
            }
        });
    }
}

pub(crate) mod clock {
    use std::time::Duration;

    use super::{scope, state};

    pub(crate) fn now() -> Duration {
        scope(|scope| match &scope.exchange {
            Some(exchange) => exchange.wall,
            None => scope.host.0.borrow().wall,
        })
    }

    /// Moves by a microsecond with each call.
    pub(crate) fn monotonic() -> Duration {
        state(|state| {
            state.monotonic = state.monotonic.saturating_add(Duration::from_micros(1));
            state.monotonic
        })
    }
}

pub(crate) mod random {
    use super::{rules, state};

    pub(crate) fn bytes(length: u32) -> Vec<u8> {
        assert!(
            length <= rules::RANDOM_BYTES,
            "`random.bytes` was asked for {length} bytes; at most {} a call",
            rules::RANDOM_BYTES
        );
        let length = length as usize;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// The next number of a Weyl sequence through a mixing function (SplitMix64).
    pub(crate) fn number() -> u64 {
        state(|state| {
            state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }
}

pub(crate) mod metrics {
    use super::state;
    use crate::{MetricError, metrics::Kind};

    pub(crate) fn define(
        kind: Kind,
        name: &str,
        _help: &str,
        labels: &[&str],
    ) -> Result<u32, MetricError> {
        state(|state| state.metrics.define(kind, name, labels))
    }

    pub(crate) fn report(metric: u32, labels: &[&str], value: f64) -> Result<(), MetricError> {
        state(|state| state.metrics.report(metric, labels, value))
    }
}

pub(crate) mod kv {
    use super::{scope, state};
    use crate::KvError;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        state(|state| state.store.get(key, state.monotonic))
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), KvError> {
        state(|state| state.store.set(key, value, ttl_ms, state.monotonic))
    }

    pub(crate) fn delete(key: &str) -> bool {
        state(|state| state.store.delete(key, state.monotonic))
    }

    pub(crate) fn keys(after: Option<&str>) -> Vec<String> {
        scope(|scope| assert!(scope.migrates, "`kv::keys` was called outside of `migrate`"));
        state(|state| state.store.keys(after, state.monotonic))
    }

    pub(crate) fn increment(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, KvError> {
        state(|state| state.store.increment(key, by, ttl_ms, state.monotonic))
    }

    pub(crate) fn compare_and_set(
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, KvError> {
        state(|state| state.store.compare_and_set(key, expected, value, ttl_ms, state.monotonic))
    }
}

pub(crate) mod rate_limit {
    use super::state;
    use crate::rate_limit::{Policy, Taken};

    const GRANT: &str = "no grant `rate-limit`: give the fake host one with `Host::rate_limit`";

    pub(crate) fn policy() -> Policy {
        state(|state| state.buckets.as_ref().expect(GRANT).policy())
    }

    pub(crate) fn take(key: &str, tokens: u32) -> Taken {
        state(|state| state.buckets.as_mut().expect(GRANT).take(key, tokens, state.monotonic))
    }
}
