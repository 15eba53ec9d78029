//! The filter that stands in `tests/languages` in other languages, in Rust: continues or starts a
//! trace, refuses one path, and tells the client the trace id. `tests/languages/cases.toml` is what
//! all of them have to do.

use pillion_sdk::prelude::*;

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    refuse: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { refuse: "/private".to_owned() }
    }
}

struct Reference {
    refuse: String,
}

#[filter]
impl Filter for Reference {
    type Config = Settings;

    fn new(config: Settings) -> Result<Self, ConfigError> {
        if !config.refuse.starts_with('/') {
            return Err(ConfigError::at("refuse", "a path begins with `/`"));
        }
        Ok(Self { refuse: config.refuse })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let path = request.path();
        if path == self.refuse {
            log::warn!("refused {path}");
            let reply = LocalResponse::new(403).header("content-type", "text/plain");
            return Ok(Decision::Respond(reply.body("not for you\n")));
        }
        let lines = request.header_all("traceparent");
        let (trace, flags) = match lines.as_slice() {
            [line] if is_valid(line) => (line[3..35].to_owned(), line[53..].to_owned()),
            _ => {
                request.remove_header("tracestate")?;
                (hex(&random::bytes(16)), "01".to_owned())
            }
        };
        let parent = hex(&random::bytes(8));
        request.set_header("traceparent", &format!("00-{trace}-{parent}-{flags}"))?;
        request.set_note("reference.trace", &trace)?;
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        if let Some(trace) = request.note("reference.trace") {
            response.set_header("x-trace-id", &trace)?;
        }
        Ok(Decision::Proceed)
    }
}

/// Version 00 of `traceparent`: digits in lower case, and no id of zeros.
fn is_valid(line: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = line.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let lengths = [version.len(), trace.len(), parent.len(), flags.len()];
    let zeros = |id: &str| id.bytes().all(|digit| digit == b'0');
    lengths == [2, 32, 16, 2]
        && version == "00"
        && [trace, parent, flags].into_iter().all(digits)
        && ![trace, parent].into_iter().any(zeros)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}
