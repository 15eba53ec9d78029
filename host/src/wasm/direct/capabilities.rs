//! The capability interfaces of the contract for modules; `capability` does the work.

use super::Caller;
use super::memory::{
    List, bytes, count, elements, give, lend, no_such_case, parts, place, put_list, put_option,
    put_result, text, word,
};
use crate::capability::{Asker, kv, log, metrics, random, rate_limit};
use crate::wasm::capabilities::{may_list_keys, milliseconds, monotonic, now};
use crate::wasm::instance::{Data, HostRefusal};
use crate::wasm::types::{KvError, MetricError};
use std::sync::Arc;
use wasmtime::{Linker, Result};

/// `log`.
pub(super) fn log(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(module, "enabled", |mut caller: Caller<'_>, case: u32| {
        count(&mut caller);
        Ok(u32::from(log::enabled(level(case)?)))
    })?;
    linker.func_wrap(
        module,
        "write",
        |mut caller: Caller<'_>, case: u32, line: u32, length: u32| {
            let level = level(case)?;
            let (memory, data) = parts(&mut caller)?;
            // Counted before the text is looked at: a flood costs little.
            let number = data.next_log_line(level);
            let line = text(memory, line, length)?;
            if let Some(number) = number {
                data.write_log_line(level, line, number);
            }
            Ok(())
        },
    )?;
    Ok(())
}

fn level(case: u32) -> Result<log::Level> {
    Ok(match case {
        0 => log::Level::Error,
        1 => log::Level::Warn,
        2 => log::Level::Info,
        3 => log::Level::Debug,
        4 => log::Level::Trace,
        _ => return Err(no_such_case()),
    })
}

/// `clock`.
pub(super) fn clock(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(module, "now", put_now)?;
    linker.func_wrap(module, "monotonic", now_monotonic)?;
    Ok(())
}

/// Nanoseconds of the monotonic clock.
pub(super) fn now_monotonic(mut caller: Caller<'_>) -> u64 {
    count(&mut caller);
    monotonic(caller.data())
}

/// Eight random bytes as a number.
pub(super) fn number(mut caller: Caller<'_>, asker: Asker) -> u64 {
    count(&mut caller);
    caller.data().shared.sources.number(asker)
}

/// Wall time, as `clock.instant` and as `datetime` of WASI.
pub(super) fn put_now(mut caller: Caller<'_>, result: u32) -> Result<()> {
    let (memory, data) = parts(&mut caller)?;
    let time = now(data);
    let room = place::<16>(memory, result, 8)?;
    room[..8].copy_from_slice(&time.seconds.to_le_bytes());
    room[8..12].copy_from_slice(&time.nanoseconds.to_le_bytes());
    Ok(())
}

/// `random`.
pub(super) fn random(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(module, "bytes", |mut caller: Caller<'_>, length: u32, result: u32| {
        put_random(&mut caller, Asker::Filter, length, result)
    })?;
    linker.func_wrap(module, "number", |caller: Caller<'_>| number(caller, Asker::Filter))?;
    Ok(())
}

/// Random bytes as a list.
pub(super) fn put_random(
    caller: &mut Caller<'_>,
    asker: Asker,
    length: u32,
    result: u32,
) -> Result<()> {
    let bytes = random::bytes(&caller.data().shared.sources, asker, length)
        .map_err(|error| HostRefusal::new(error.to_string()))?;
    lend(caller, |_, caller, guest| {
        let pair = give(&mut *caller, guest, &bytes)?;
        put_list(caller, guest, result, pair)
    })
}

/// `metrics`.
pub(super) fn metrics(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(
        module,
        "define",
        |mut caller: Caller<'_>,
         kind: u32,
         name: u32,
         name_length: u32,
         help: u32,
         help_length: u32,
         labels: u32,
         labels_length: u32,
         result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let kind = match kind {
                0 => metrics::Kind::Counter,
                1 => metrics::Kind::Gauge,
                2 => metrics::Kind::Histogram,
                _ => return Err(no_such_case()),
            };
            let (name, help) = (text(memory, name, name_length)?, text(memory, help, help_length)?);
            let defined = match texts(memory, labels, labels_length, &mut Default::default())? {
                Some(labels) => data.shared.registry.define(kind, name, help, labels),
                None => Err(metrics::MetricError::LimitExceeded),
            };
            let room = place::<8>(memory, result, 4)?;
            let (case, payload) = match defined {
                Ok(metric) => (0, metric),
                Err(error) => (1, u32::from(MetricError::from(error) as u8)),
            };
            room[0] = case;
            room[4..].copy_from_slice(&payload.to_le_bytes());
            Ok(())
        },
    )?;
    linker.func_wrap(
        module,
        "report",
        |mut caller: Caller<'_>, metric: u32, labels: u32, length: u32, value: f64, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let reported = match texts(memory, labels, length, &mut Default::default())? {
                Some(labels) => data.shared.registry.report(metric, labels, value),
                None => Err(metrics::MetricError::InvalidValue),
            };
            put_result(memory, result, reported.err().map(|error| MetricError::from(error) as u8))
        },
    )?;
    Ok(())
}

/// At most [`metrics::LABELS_MAX`] strings, in `room`; none: there are more.
fn texts<'m, 'r>(
    memory: &'m [u8],
    at: u32,
    count: u32,
    room: &'r mut [&'m str; metrics::LABELS_MAX],
) -> Result<Option<&'r [&'m str]>> {
    let Some(room) = room.get_mut(..count as usize) else { return Ok(None) };
    let pairs = elements(memory, at, count, 8)?.chunks_exact(8);
    for (place, pair) in room.iter_mut().zip(pairs) {
        *place = text(memory, word(pair, 0), word(pair, 4))?;
    }
    Ok(Some(room))
}

/// `kv`.
pub(super) fn kv(linker: &mut Linker<Data>, module: &str, store: Arc<kv::Store>) -> Result<()> {
    let map = store.clone();
    linker.func_wrap(
        module,
        "get",
        move |mut caller: Caller<'_>, key: u32, length: u32, result: u32| {
            lend(&mut caller, |_, caller, guest| {
                let key = text(guest.memory.data(&*caller), key, length)?;
                let value = map.get(key, caller.data().instant());
                let pair = value.map(|value| give(&mut *caller, guest, &value));
                put_option(caller, guest, result, pair.transpose()?)
            })
        },
    )?;
    let map = store.clone();
    linker.func_wrap(
        module,
        "set",
        move |mut caller: Caller<'_>,
              key: u32,
              key_length: u32,
              value: u32,
              length: u32,
              some: u32,
              ttl: u64,
              result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let (key, value) = (text(memory, key, key_length)?, bytes(memory, value, length)?);
            let set = map.set(key, value, milliseconds(option(some, ttl)?), data.instant());
            put_result(memory, result, set.err().map(|error| KvError::from(error) as u8))
        },
    )?;
    let map = store.clone();
    linker.func_wrap(module, "delete", move |mut caller: Caller<'_>, key: u32, length: u32| {
        let (memory, data) = parts(&mut caller)?;
        let key = text(memory, key, length)?;
        Ok(u32::from(map.delete(key, data.instant())))
    })?;
    let map = store.clone();
    linker.func_wrap(
        module,
        "increment",
        move |mut caller: Caller<'_>,
              key: u32,
              length: u32,
              by: i64,
              some: u32,
              ttl: u64,
              result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let ttl = milliseconds(option(some, ttl)?);
            let sum = map.increment(text(memory, key, length)?, by, ttl, data.instant());
            let room = place::<16>(memory, result, 8)?;
            let (case, payload) = match sum {
                Ok(sum) => (0, sum),
                Err(error) => (1, i64::from(KvError::from(error) as u8)),
            };
            room[0] = case;
            room[8..].copy_from_slice(&payload.to_le_bytes());
            Ok(())
        },
    )?;
    keys(linker, module, store.clone())?;
    compare_and_set(linker, module, store)
}

fn keys(linker: &mut Linker<Data>, module: &str, map: Arc<kv::Store>) -> Result<()> {
    linker.func_wrap(
        module,
        "keys",
        move |mut caller: Caller<'_>, some: u32, after: u32, length: u32, result: u32| {
            may_list_keys(caller.data())?;
            lend(&mut caller, |_, caller, guest| {
                let memory = guest.memory.data(&*caller);
                let after = option(some, (after, length))?
                    .map(|(at, length)| text(memory, at, length))
                    .transpose()?;
                let mut room = List::default();
                for key in map.keys(after, caller.data().instant()) {
                    room.push(give(&mut *caller, guest, key.as_bytes())?);
                }
                let pair = room.give(caller, guest, 1)?;
                put_list(caller, guest, result, pair)
            })
        },
    )?;
    Ok(())
}

fn compare_and_set(linker: &mut Linker<Data>, module: &str, map: Arc<kv::Store>) -> Result<()> {
    linker.func_wrap(
        module,
        "compare-and-set",
        move |mut caller: Caller<'_>,
              key: u32,
              key_length: u32,
              expects: u32,
              expected: u32,
              expected_length: u32,
              value: u32,
              length: u32,
              some: u32,
              ttl: u64,
              result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let expected = option(expects, (expected, expected_length))?
                .map(|(at, length)| bytes(memory, at, length))
                .transpose()?;
            let (key, value) = (text(memory, key, key_length)?, bytes(memory, value, length)?);
            let ttl = milliseconds(option(some, ttl)?);
            let set = map.compare_and_set(key, expected, value, ttl, data.instant());
            *place::<2>(memory, result, 1)? = match set {
                Ok(set) => [0, u8::from(set)],
                Err(error) => [1, KvError::from(error) as u8],
            };
            Ok(())
        },
    )?;
    Ok(())
}

/// An optional parameter: whether it is there, and what it is then.
fn option<T>(case: u32, value: T) -> Result<Option<T>> {
    match case {
        0 => Ok(None),
        1 => Ok(Some(value)),
        _ => Err(no_such_case()),
    }
}

/// `rate-limit`.
pub(super) fn rate_limit(
    linker: &mut Linker<Data>,
    module: &str,
    buckets: Arc<rate_limit::Buckets>,
) -> Result<()> {
    let policy = buckets.policy();
    let per_ms = u64::try_from(policy.per.as_millis()).unwrap_or(u64::MAX);
    let policy = [policy.requests, per_ms, policy.burst];
    linker.func_wrap(module, "policy", move |mut caller: Caller<'_>, result: u32| {
        let (memory, _) = parts(&mut caller)?;
        put_numbers(place::<24>(memory, result, 8)?, policy);
        Ok(())
    })?;
    linker.func_wrap(
        module,
        "take",
        move |mut caller: Caller<'_>, key: u32, length: u32, tokens: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let taken = buckets.take(text(memory, key, length)?, tokens, data.instant());
            let room = place::<32>(memory, result, 8)?;
            room[0] = u8::from(taken.allowed);
            let numbers = [taken.remaining, taken.retry_after_ms, taken.full_after_ms];
            put_numbers(&mut room[8..], numbers);
            Ok(())
        },
    )?;
    Ok(())
}

fn put_numbers(room: &mut [u8], numbers: [u64; 3]) {
    for (place, number) in room.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}
