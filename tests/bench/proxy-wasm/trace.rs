//! Continues or begins a W3C trace, and gives every request an id.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};
use std::cell::Cell;
use std::time::UNIX_EPOCH;

const TRACEPARENT: &str = "traceparent";
const REQUEST_ID: &str = "x-request-id";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_http_context(|_, _| Box::new(Trace));
}}

struct Trace;

impl Context for Trace {}

impl HttpContext for Trace {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let parent = self.get_http_request_header(TRACEPARENT);
        let trace = parent
            .as_deref()
            .and_then(trace_id)
            .unwrap_or_else(|| u128::from(self.random()) << 64 | u128::from(self.random()));
        let parent = format!("00-{trace:032x}-{:016x}-01", self.random());
        self.set_http_request_header(TRACEPARENT, Some(&parent));
        if self.get_http_request_header(REQUEST_ID).is_none() {
            let id = format!("{:016x}{:016x}", self.random(), self.random());
            self.set_http_request_header(REQUEST_ID, Some(&id));
        }
        Action::Continue
    }
}

impl Trace {
    /// Random enough for an id (SplitMix64). The virtual machine is seeded once, by its clock.
    fn random(&self) -> u64 {
        thread_local! { static STATE: Cell<u64> = const { Cell::new(0) } }
        let state = match STATE.get() {
            0 => {
                let now = self.get_current_time().duration_since(UNIX_EPOCH);
                now.map_or(1, |time| time.as_nanos() as u64)
            }
            state => state,
        };
        let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The trace id of a valid field.
fn trace_id(text: &str) -> Option<u128> {
    let id = text.strip_prefix("00-")?.get(..32)?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0 && text.len() == 55)
}
