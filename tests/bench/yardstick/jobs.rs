//! What the three shipped filters do, in plain Rust: the floor under any filter.
//!
//! A trace continued or begun, a request id, a field set each way, a token bucket for each client.

use crate::Failure;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT: HeaderName = HeaderName::from_static("x-client");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// Tokens a second, and at most, of one client.
const TOKENS: f64 = 1e9;
/// Clients with a bucket; beyond them a request is refused.
const CLIENTS_MAX: usize = 100_000;

/// What is kept between requests.
pub(crate) struct Jobs {
    buckets: HashMap<IpAddr, (Instant, f64)>,
    seed: u64,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs { buckets: HashMap::new(), seed: RandomState::new().hash_one(0) }
    }
}

impl Jobs {
    /// The work on a request. `Err`: its client has no token left.
    pub(crate) fn request(
        &mut self,
        client: IpAddr,
        fields: &mut HeaderMap,
    ) -> Result<(), Failure> {
        let trace = fields.get(&TRACEPARENT).and_then(trace_id);
        let trace =
            trace.unwrap_or_else(|| u128::from(self.random()) << 64 | u128::from(self.random()));
        let parent = format!("00-{trace:032x}-{:016x}-01", self.random());
        fields.insert(TRACEPARENT, HeaderValue::try_from(parent)?);
        if !fields.contains_key(&REQUEST_ID) {
            let id = format!("{:016x}{:016x}", self.random(), self.random());
            fields.insert(REQUEST_ID, HeaderValue::try_from(id)?);
        }
        fields.insert(CLIENT, HeaderValue::try_from(client.to_string())?);
        self.take_token(client)
    }

    fn take_token(&mut self, client: IpAddr) -> Result<(), Failure> {
        let now = Instant::now();
        let room = self.buckets.len() < CLIENTS_MAX;
        let (filled, tokens) = match self.buckets.entry(client) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => entry.insert((now, TOKENS)),
            Entry::Vacant(_) => return Err("too many clients".into()),
        };
        *tokens = TOKENS.min(*tokens + now.duration_since(*filled).as_secs_f64() * TOKENS);
        *filled = now;
        if *tokens < 1.0 {
            return Err("too many requests".into());
        }
        *tokens -= 1.0;
        Ok(())
    }

    /// Random enough for an id, not for a secret (SplitMix64).
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The work on a response.
pub(crate) fn response(fields: &mut HeaderMap) {
    fields.insert(SERVED_BY, HeaderValue::from_static("hyper"));
}

/// The trace id of a valid field.
fn trace_id(value: &HeaderValue) -> Option<u128> {
    let text = value.to_str().ok()?;
    let id = text.strip_prefix("00-")?.get(..32)?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0 && text.len() == 55)
}
