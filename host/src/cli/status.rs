//! `pillion status`: what the admin interface of a running sidecar tells, for people.

use super::{ask, say};
use anyhow::Context;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: ask::AdminArguments,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let body = arguments.admin.admin()?.get("/status")?;
    let shown = if arguments.json {
        body
    } else {
        let status: Value = serde_json::from_str(&body)
            .with_context(|| format!("{} answers something else", arguments.admin.place))?;
        table(&status)
    };
    say(shown.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn table(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut shown = String::new();
    // Writing into a string does not fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(shown, "{name:<12} {}", value.escape_debug());
    };
    for (name, key) in [
        ("state", "state"),
        ("generation", "generation"),
        ("version", "version"),
        ("pid", "pid"),
        ("uptime", "uptime_seconds"),
        ("workers", "workers"),
        ("config", "config"),
    ] {
        let unit = if key == "uptime_seconds" { " s" } else { "" };
        line(name, format!("{}{unit}", text(&status[key])));
    }
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    for listener in list("listeners") {
        line("listener", format!("{} on {}", text(&listener["name"]), text(&listener["address"])));
    }
    for filter in list("filters") {
        let [name, version, state] = ["name", "version", "state"].map(|key| text(&filter[key]));
        line("filter", format!("{name} {version} {state}"));
    }
    let last = &status["last_reload"];
    if !last.is_null() {
        let [result, cause, took] = ["result", "cause", "duration_ms"].map(|key| text(&last[key]));
        line("last reload", format!("{result} (by {cause}, {took} ms)"));
        for problem in last["diagnostics"].as_array().into_iter().flatten() {
            let _ = writeln!(shown, "\n{}", text(problem));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_every_part() {
        let shown = table(&json!({
            "state": "running", "generation": 3, "version": "0.1.0", "pid": 7,
            "uptime_seconds": 12, "workers": 2, "config": "/etc/p.toml",
            "listeners": [{ "name": "inbound", "address": "127.0.0.1:8080" }],
            "filters": [{ "name": "trace", "version": "abc", "state": "active" },
                        { "name": "x", "version": null, "state": "skipped" }],
            "last_reload": { "result": "failed", "cause": "file", "duration_ms": 4,
                             "diagnostics": ["p.toml:1:1: error: x"] },
        }));
        for line in [
            "generation   3",
            "uptime       12 s",
            "listener     inbound on 127.0.0.1:8080",
            "filter       trace abc active",
            "filter       x - skipped",
            "last reload  failed (by file, 4 ms)",
            "p.toml:1:1: error: x",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
    }
}
