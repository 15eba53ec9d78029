//! `pillion status`: what the admin interface of a running sidecar tells, for people.

use super::say;
use crate::config::ADMIN_ADDRESS_DEFAULT;
use anyhow::{Context, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// To connect, and then for each piece of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The address of the sidecar's admin interface
    #[arg(long, value_name = "ADDR", default_value = ADMIN_ADDRESS_DEFAULT)]
    admin: SocketAddr,
    /// Print the answer as it is
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let body = get(arguments.admin, "/status")?;
    let shown = if arguments.json {
        body
    } else {
        let status: Value = serde_json::from_str(&body)
            .with_context(|| format!("{} answers something else", arguments.admin))?;
        table(&status)
    };
    say(shown.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// The body of a successful answer.
fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT).with_context(|| {
        format!("no sidecar answers on {admin}; name its admin address with `--admin`")
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("failed to read the answer of {admin}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{admin} does not speak HTTP");
    };
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        bail!("{admin} answers `{}`: {}", status.escape_debug(), body.trim().escape_debug());
    }
    Ok(body.to_owned())
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
    use std::net::TcpListener;

    /// Answers one connection with `answer`.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_body_of_an_answer_is_shown() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(get(address, "/status").unwrap(), "{}");
    }

    #[test]
    fn other_answers_are_told() {
        let address = answering("HTTP/1.1 404 Not Found\r\n\r\nnothing\n");
        let error = get(address, "/status").unwrap_err().to_string();
        assert!(error.ends_with("answers `HTTP/1.1 404 Not Found`: nothing"), "{error}");
        let error = get(answering("SSH-2.0\r\n"), "/status").unwrap_err().to_string();
        assert!(error.ends_with("does not speak HTTP"), "{error}");
    }

    #[test]
    fn nobody_there_is_told_with_the_option_to_use() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = get(gone, "/status").unwrap_err().to_string();
        assert!(error.contains("`--admin`"), "{error}");
    }

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
