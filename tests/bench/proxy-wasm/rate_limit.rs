//! Refuses requests with 429 when the bucket of their client is empty. The buckets stand in the data
//! that the host shares among its workers, so that they are exact.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel, Status};
use std::time::UNIX_EPOCH;

/// Tokens a second, and at most, of one client.
const TOKENS: f64 = 1e9;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_http_context(|_, _| Box::new(RateLimit));
}}

struct RateLimit;

impl Context for RateLimit {}

impl HttpContext for RateLimit {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let address = self.get_property(vec!["source", "address"]).unwrap_or_default();
        let address = String::from_utf8(address).unwrap_or_default();
        let client = address.rsplit_once(':').map_or(address.as_str(), |(client, _)| client);
        if self.take_token(client) {
            return Action::Continue;
        }
        self.send_http_response(429, vec![("retry-after", "1")], Some(b"too many requests"));
        Action::Pause
    }
}

impl RateLimit {
    fn take_token(&self, client: &str) -> bool {
        let now = self.get_current_time().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |time| time.as_secs_f64());
        loop {
            let (bucket, version) = self.get_shared_data(client);
            let (filled, tokens) = bucket.as_deref().and_then(read).unwrap_or((now, TOKENS));
            let tokens = TOKENS.min(tokens + (now - filled).max(0.0) * TOKENS);
            if tokens < 1.0 {
                return false;
            }
            let bucket = [now.to_le_bytes(), (tokens - 1.0).to_le_bytes()].concat();
            match self.set_shared_data(client, Some(&bucket), version) {
                // Another worker was faster.
                Err(Status::CasMismatch) => {}
                _ => return true,
            }
        }
    }
}

fn read(bucket: &[u8]) -> Option<(f64, f64)> {
    let (filled, tokens) = bucket.split_at_checked(8)?;
    Some((f64::from_le_bytes(filled.try_into().ok()?), f64::from_le_bytes(tokens.try_into().ok()?)))
}
