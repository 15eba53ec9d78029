//! Writes `balance`, `outlier`, `retry` and `health` in the layout of the file.

use super::{Balance, Check, Condition, GRPC_STATUSES, HashKey, Health, Policy, Retry};
use crate::units::{format_duration, format_size, micros};
use serde_json::{Value, json};
use std::time::Duration;

/// Adds the keys of `policy` to those of its upstream.
pub(in crate::config) fn dump(policy: &Policy, upstream: &mut Value) {
    let Policy { balance, slow_start, outlier, retry, health } = policy;
    upstream["balance"] = match balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastRequest => "least_request",
        Balance::PeakEwma => "p2c_ewma",
        Balance::Maglev(_) => "maglev",
    }
    .into();
    if let Balance::Maglev(key) = balance {
        upstream["hash_key"] = match key {
            HashKey::Client => "client".into(),
            HashKey::Header(name) => format!("header:{name}").into(),
        };
    }
    upstream["slow_start"] = duration(*slow_start);
    if let Some(outlier) = outlier {
        upstream["outlier"] = outlier.dump();
    }
    if let Some(retry) = retry {
        upstream["retry"] = dump_retry(retry);
    }
    if let Some(health) = health {
        upstream["health"] = dump_health(health);
    }
}

fn dump_retry(retry: &Retry) -> Value {
    let Retry { on, attempts, per_try_timeout, any_method, .. } = retry;
    let Retry { replay_buffer, retry_after_max, backoff, budget, hedge, .. } = retry;
    let on: Vec<String> = on.iter().map(Condition::to_string).collect();
    let mut value = json!({
        "on": on,
        "attempts": attempts,
        "any_method": any_method,
        "replay_buffer": format_size(*replay_buffer as u64),
        "retry_after_max": duration(*retry_after_max),
        "backoff": backoff.dump(),
        "budget": budget.dump(),
    });
    if let Some(after) = hedge {
        value["hedge"] = json!({ "after": duration(*after) });
    }
    if let Some(timeout) = per_try_timeout {
        value["per_try_timeout"] = duration(*timeout);
    }
    value
}

fn dump_health(health: &Health) -> Value {
    let Health { check, interval, timeout, healthy, unhealthy } = health;
    let mut value = json!({
        "interval": duration(*interval),
        "timeout": duration(*timeout),
        "healthy": healthy,
        "unhealthy": unhealthy,
    });
    match check {
        Check::Tcp => value["check"] = "tcp".into(),
        Check::Grpc { service, host } => {
            value["check"] = "grpc".into();
            value["service"] = service.as_str().into();
            if let Some(host) = host {
                value["host"] = host.as_str().into();
            }
        }
        Check::Http { path, host, status } => {
            value["check"] = "http".into();
            value["path"] = path.as_str().into();
            if let Some(host) = host {
                value["host"] = host.as_str().into();
            }
            if let Some(status) = status {
                value["status"] = (*status).into();
            }
        }
    }
    value
}

fn duration(duration: Duration) -> Value {
    format_duration(micros(duration)).into()
}

/// As `on` has it; also the label of metrics.
impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Connect => f.write_str("connect"),
            Condition::RefusedStream => f.write_str("refused_stream"),
            Condition::Reset => f.write_str("reset"),
            Condition::Timeout => f.write_str("timeout"),
            Condition::Status(status) => write!(f, "{status}"),
            Condition::Grpc(status) => {
                let name = GRPC_STATUSES.get(usize::from(*status)).copied().unwrap_or("unknown");
                write!(f, "grpc:{name}")
            }
        }
    }
}
