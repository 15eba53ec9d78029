//! The capability interfaces of the contract, as glue between a guest and `capability`.
//!
//! An interface is linked only where it is granted (`linker`), so that nothing here asks for leave.

use super::instance::{Data, HostRefusal};
use super::linker::Interface;
use super::types::{KvError, Level, MetricError, MetricKind, Policy, Taken, Timestamp};
use crate::capability::{Asker, clock, kv, log, metrics, random, rate_limit};
use crate::chain::Hook;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

type Context<'a> = StoreContextMut<'a, Data>;

/// `log`.
pub(super) fn log(interface: &mut Interface<'_>) -> Result<()> {
    interface.func_wrap("enabled", |_: Context<'_>, (level,): (Level,)| {
        Ok((log::enabled(level.into()),))
    })?;
    interface.func_wrap("write", |mut store: Context<'_>, (level, line): (Level, WasmStr)| {
        let level = level.into();
        // Counted before the text is looked at: a flood costs little.
        let number = store.data_mut().next_log_line(level);
        let line = line.to_str(&store)?;
        if let Some(number) = number {
            store.data().write_log_line(level, &line, number);
        }
        Ok(())
    })
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => log::Level::Error,
            Level::Warn => log::Level::Warn,
            Level::Info => log::Level::Info,
            Level::Debug => log::Level::Debug,
            Level::Trace => log::Level::Trace,
        }
    }
}

/// `clock`.
pub(super) fn clock(interface: &mut Interface<'_>) -> Result<()> {
    interface.func_wrap("now", |mut store: Context<'_>, (): ()| Ok((now(store.data_mut()),)))?;
    interface.func_wrap("monotonic", |store: Context<'_>, (): ()| Ok((monotonic(store.data()),)))
}

/// Wall time of the exchange; of the moment before there is one.
pub(super) fn now(data: &mut Data) -> Timestamp {
    let time = match data.hook.is_of_exchange() {
        true => data.exchange_mut().now(),
        false => data.shared.sources.wall(),
    };
    let clock::Timestamp { seconds, nanoseconds } = time.into();
    Timestamp { seconds, nanoseconds }
}

/// Nanoseconds since the filter version was prepared.
pub(super) fn monotonic(data: &Data) -> u64 {
    clock::monotonic(data.shared.start, data.shared.sources.monotonic())
}

/// `random`.
pub(super) fn random(interface: &mut Interface<'_>) -> Result<()> {
    interface.func_wrap("bytes", |store: Context<'_>, (length,): (u32,)| {
        random_bytes(&store, Asker::Filter, length)
    })?;
    interface.func_wrap("number", |store: Context<'_>, (): ()| {
        Ok((random_number(&store, Asker::Filter),))
    })
}

/// So many random bytes; too many trap.
pub(super) fn random_bytes(store: &Context<'_>, asker: Asker, length: u32) -> Result<(Vec<u8>,)> {
    let bytes = random::bytes(&store.data().shared.sources, asker, length);
    Ok((bytes.map_err(|error| HostRefusal::new(error.to_string()))?,))
}

/// Eight random bytes as a number.
pub(super) fn random_number(store: &Context<'_>, asker: Asker) -> u64 {
    store.data().shared.sources.number(asker)
}

/// `metrics`.
pub(super) fn metrics(interface: &mut Interface<'_>) -> Result<()> {
    type Definition = (MetricKind, WasmStr, WasmStr, WasmList<WasmStr>);
    interface.func_wrap(
        "define",
        |mut store: Context<'_>, (kind, name, help, labels): Definition| {
            let Some(labels) = texts(&mut store, &labels, metrics::LABELS_MAX)? else {
                return Ok((Err(MetricError::LimitExceeded),));
            };
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let kind = match kind {
                MetricKind::Counter => metrics::Kind::Counter,
                MetricKind::Gauge => metrics::Kind::Gauge,
                MetricKind::Histogram => metrics::Kind::Histogram,
            };
            let registry = &store.data().shared.registry;
            let defined =
                registry.define(kind, &name.to_str(&store)?, &help.to_str(&store)?, &labels);
            Ok((defined.map_err(MetricError::from),))
        },
    )?;
    interface.func_wrap(
        "report",
        |mut store: Context<'_>, (metric, labels, value): (u32, WasmList<WasmStr>, f64)| {
            let Some(labels) = texts(&mut store, &labels, metrics::LABELS_MAX)? else {
                return Ok((Err(MetricError::InvalidValue),));
            };
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let reported = store.data().shared.registry.report(metric, &labels, value);
            Ok((reported.map_err(MetricError::from),))
        },
    )
}

/// At most `max` texts of the guest; none: there are more.
fn texts(
    store: &mut Context<'_>,
    list: &WasmList<WasmStr>,
    max: usize,
) -> Result<Option<Vec<String>>> {
    if list.len() > max {
        return Ok(None);
    }
    let mut texts = Vec::with_capacity(list.len());
    for at in 0..list.len() {
        let Some(text) = list.get(&mut *store, at) else { break };
        texts.push(text?.to_str(&*store)?.into_owned());
    }
    Ok(Some(texts))
}

/// `kv`.
pub(super) fn kv(interface: &mut Interface<'_>, store: Arc<kv::Store>) -> Result<()> {
    let map = store.clone();
    interface.func_wrap("get", move |store: Context<'_>, (key,): (WasmStr,)| {
        Ok((map.get(&key.to_str(&store)?, instant(&store)),))
    })?;
    let map = store.clone();
    type Set = (WasmStr, WasmList<u8>, Option<u64>);
    interface.func_wrap("set", move |store: Context<'_>, (key, value, ttl): Set| {
        let value = value.as_le_slice(&store);
        let set = map.set(&key.to_str(&store)?, value, milliseconds(ttl), instant(&store));
        Ok((set.map_err(KvError::from),))
    })?;
    let map = store.clone();
    interface.func_wrap("delete", move |store: Context<'_>, (key,): (WasmStr,)| {
        Ok((map.delete(&key.to_str(&store)?, instant(&store)),))
    })?;
    let map = store.clone();
    type Increment = (WasmStr, i64, Option<u64>);
    interface.func_wrap("increment", move |store: Context<'_>, (key, by, ttl): Increment| {
        let sum = map.increment(&key.to_str(&store)?, by, milliseconds(ttl), instant(&store));
        Ok((sum.map_err(KvError::from),))
    })?;
    let map = store.clone();
    interface.func_wrap("keys", move |context: Context<'_>, (after,): (Option<WasmStr>,)| {
        may_list_keys(context.data())?;
        let after = after.as_ref().map(|after| after.to_str(&context)).transpose()?;
        Ok((map.keys(after.as_deref(), instant(&context)),))
    })?;
    let map = store;
    type Exchange = (WasmStr, Option<WasmList<u8>>, WasmList<u8>, Option<u64>);
    interface.func_wrap(
        "compare-and-set",
        move |store: Context<'_>, (key, expected, value, ttl): Exchange| {
            let expected = expected.as_ref().map(|bytes| bytes.as_le_slice(&store));
            let value = value.as_le_slice(&store);
            let (key, ttl) = (key.to_str(&store)?, milliseconds(ttl));
            let set = map.compare_and_set(&key, expected, value, ttl, instant(&store));
            Ok((set.map_err(KvError::from),))
        },
    )
}

/// To list keys looks at every entry, which no request may wait for.
pub(super) fn may_list_keys(data: &Data) -> Result<()> {
    if data.hook == Hook::Migrate {
        return Ok(());
    }
    Err(HostRefusal::new("`kv.keys` can be called in `migrate` only"))
}

fn instant(store: &Context<'_>) -> Instant {
    store.data().instant()
}

pub(super) fn milliseconds(ttl: Option<u64>) -> Option<Duration> {
    ttl.map(Duration::from_millis)
}

/// `rate-limit`.
pub(super) fn rate_limit(
    interface: &mut Interface<'_>,
    buckets: Arc<rate_limit::Buckets>,
) -> Result<()> {
    let policy = buckets.policy();
    let policy = Policy {
        requests: policy.requests,
        per_ms: u64::try_from(policy.per.as_millis()).unwrap_or(u64::MAX),
        burst: policy.burst,
    };
    interface.func_wrap("policy", move |_: Context<'_>, (): ()| Ok((policy,)))?;
    interface.func_wrap("take", move |store: Context<'_>, (key, tokens): (WasmStr, u32)| {
        let taken = buckets.take(&key.to_str(&store)?, tokens, instant(&store));
        Ok((Taken {
            allowed: taken.allowed,
            remaining: taken.remaining,
            retry_after_ms: taken.retry_after_ms,
            full_after_ms: taken.full_after_ms,
        },))
    })
}
