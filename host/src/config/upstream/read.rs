//! Reads `balance`, `outlier`, `retry` and `health` of an upstream.

use super::keys::RETRY_ON_DEFAULT;
use super::{Balance, Check, Condition, GRPC_STATUSES, HashKey, Health, Policy, Retry};
use crate::config::limits::{Backoff, Outlier, RetryBudget};
use crate::config::model::Protocol;
use crate::config::reader::{TableReader, Text};
use crate::config::words::did_you_mean;
use crate::http::edit::{is_authority, is_origin_form};
use std::time::Duration;

/// The policy of the upstream in `table`; what is wrong with it is reported.
pub(in crate::config) fn policy(table: &TableReader<'_, '_>, protocol: Protocol) -> Policy {
    Policy {
        balance: balance(table),
        slow_start: table.duration("slow_start"),
        outlier: table.has("outlier").then(|| outlier(&table.table("outlier"))),
        retry: table.has("retry").then(|| retry(&table.table("retry"))),
        health: table.has("health").then(|| health(&table.table("health"), protocol)),
    }
}

fn balance(table: &TableReader<'_, '_>) -> Balance {
    let key = table.text("hash_key");
    let word = table.choice("balance");
    if let Some(key) = key.as_ref().filter(|_| word != "maglev") {
        let message = "`hash_key` has no meaning here: requests are not chosen for by a hash";
        table.context.error(key.span.clone(), message, "add `balance = \"maglev\"`");
    }
    match word {
        "least_request" => Balance::LeastRequest,
        "p2c_ewma" => Balance::PeakEwma,
        "maglev" => {
            Balance::Maglev(key.and_then(|key| hash_key(table, &key)).unwrap_or(HashKey::Client))
        }
        _ => Balance::RoundRobin,
    }
}

fn hash_key(table: &TableReader<'_, '_>, text: &Text) -> Option<HashKey> {
    let key = match text.value.as_str() {
        "client" => Some(HashKey::Client),
        value => value
            .strip_prefix("header:")
            .and_then(|name| name.to_ascii_lowercase().parse().ok())
            .map(HashKey::Header),
    };
    if key.is_none() {
        let message = format!("`{}` is nothing to hash", text.shown());
        let help = "write `client`, or `header:` and a field, as in `header:x-user`";
        table.context.error(text.span.clone(), message, help);
    }
    key
}

fn outlier(table: &TableReader<'_, '_>) -> Outlier {
    let outlier = Outlier::read(table);
    if outlier.ejection_time > outlier.ejection_time_max {
        let message = "`ejection_time` is longer than `ejection_time_max`";
        let help = "raise `ejection_time_max` too, or the first ejection takes that time";
        table.context.warning(table.span_of("ejection_time"), message, help);
    }
    outlier
}

fn retry(table: &TableReader<'_, '_>) -> Retry {
    let texts = table.texts("on");
    let mut on: Vec<Condition> = Vec::new();
    for text in &texts {
        let Some(condition) = condition(table, text) else { continue };
        if on.contains(&condition) {
            let message = format!("`{}` is listed twice", text.shown());
            table.context.warning(text.span.clone(), message, "remove one");
        }
        on.push(condition);
    }
    if !table.has("on") {
        on.extend(RETRY_ON_DEFAULT.iter().filter_map(|word| parse_condition(word)));
    } else if table
        .node("on")
        .and_then(|it| it.get_ref().as_array())
        .is_some_and(|it| it.is_empty())
    {
        let help = "leave the key out for the default, or the table for no repetition";
        table.context.error(table.span_of("on"), "`on` is empty", help);
    }
    let backoff_table = table.table("backoff");
    let backoff = Backoff::read(&backoff_table);
    if backoff.base > backoff.max {
        let message = "`base` is longer than `max`";
        let help = "raise `max` too, or it is the bound from the first repetition on";
        backoff_table.context.warning(backoff_table.span_of("base"), message, help);
    }
    let per_try_timeout = table.limit("per_try_timeout").map(Duration::from_micros);
    Retry {
        on,
        attempts: table.count("attempts"),
        per_try_timeout,
        any_method: table.flag("any_method").unwrap_or_default(),
        replay_buffer: table.size("replay_buffer"),
        retry_after_max: table.duration("retry_after_max"),
        backoff,
        budget: RetryBudget::read(&table.table("budget")),
        hedge: table.has("hedge").then(|| table.table("hedge").duration("after")),
    }
}

fn condition(table: &TableReader<'_, '_>, text: &Text) -> Option<Condition> {
    let condition = parse_condition(&text.value);
    if condition.is_none() {
        let value = text.value.as_str();
        let help = match value.strip_prefix("grpc:") {
            Some(name) => did_you_mean(name, GRPC_STATUSES[1..].iter().copied()),
            None => {
                let known = ["connect", "refused_stream", "reset", "timeout"];
                did_you_mean(value, known.into_iter())
            }
        };
        let help = help.filter(|_| !text.secret).unwrap_or_else(|| {
            "write `connect`, `refused_stream`, `reset`, `timeout`, a status from 400 to 599, or \
             one of gRPC, as in `grpc:unavailable`"
                .to_owned()
        });
        let message = format!("`{}` is no condition of a repetition", text.shown());
        table.context.error(text.span.clone(), message, help);
    }
    condition
}

fn parse_condition(text: &str) -> Option<Condition> {
    match text {
        "connect" => Some(Condition::Connect),
        "refused_stream" => Some(Condition::RefusedStream),
        "reset" => Some(Condition::Reset),
        "timeout" => Some(Condition::Timeout),
        _ => match text.strip_prefix("grpc:") {
            Some(name) => {
                let number = GRPC_STATUSES.iter().position(|known| *known == name)?;
                u8::try_from(number).ok().filter(|number| *number != 0).map(Condition::Grpc)
            }
            None => {
                let status: u16 = text.parse().ok()?;
                (400..=599).contains(&status).then_some(Condition::Status(status))
            }
        },
    }
}

fn health(table: &TableReader<'_, '_>, protocol: Protocol) -> Health {
    let path = table.text("path");
    if let Some(text) = path.as_ref().filter(|text| !is_origin_form(&text.value)) {
        let message = format!("`{}` is no path", text.shown());
        table.context.error(text.span.clone(), message, "it begins with `/`, as in `/healthz`");
    }
    let host = table.text("host");
    if let Some(text) = host.as_ref().filter(|text| !is_authority(&text.value)) {
        let message = format!("`{}` is no host", text.shown());
        let help = "write a name and, if need be, a port, as in `app.local`";
        table.context.error(text.span.clone(), message, help);
    }
    let status = table.limit("status").and_then(|status| u16::try_from(status).ok());
    let word = table.choice("check");
    let meaningless: &[&str] = match word {
        "tcp" => &["path", "host", "status", "service"],
        "grpc" => &["path", "status"],
        _ => &["service"],
    };
    for name in meaningless.iter().filter(|name| table.has(name)) {
        let message = format!("`{name}` has no meaning for a check by `{word}`");
        table.context.error(table.span_of(name), message, "remove it");
    }
    if word == "grpc" && protocol != Protocol::Http2 {
        let message = "gRPC needs HTTP/2, which the upstream does not speak";
        let help = "give the upstream `protocol = \"h2c\"`, or `\"h2\"` with TLS";
        table.context.error(table.span_of("check"), message, help);
    }
    let host = host.map(|text| text.value);
    let check = match word {
        "tcp" => Check::Tcp,
        "grpc" => {
            let service = table.text("service").map(|text| text.value).unwrap_or_default();
            Check::Grpc { service, host }
        }
        _ => {
            let path = path.map_or_else(|| "/".to_owned(), |text| text.value);
            Check::Http { path, host, status }
        }
    };
    Health {
        check,
        interval: table.duration("interval"),
        timeout: table.duration("timeout"),
        healthy: table.count("healthy"),
        unhealthy: table.count("unhealthy"),
    }
}
