//! The `trace` filter: W3C Trace Context (level 2), B3 and request ids.
//!
//! The hooks read the caller's context and write what goes on. The rules are pure and elsewhere:
//! `context` (continue or begin), `traceparent`, `tracestate`, `b3`, `request_id`. README.md
//! describes the configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::vec::Vec;

mod b3;
mod config;
mod context;
mod hex;
mod ids;
mod request_id;
#[cfg(test)]
mod tests;
mod traceparent;
mod tracestate;

use core::time::Duration;

use pillion_sdk::prelude::*;

use crate::b3::{B3, MultiValues, Sampling};
pub use crate::config::Config;
use crate::config::{B3Out, Incoming, RequestId, Settings};
use crate::context::{Caller, Context, Entropy};
use crate::request_id::Uuid;
use crate::traceparent::TraceParent;
use crate::tracestate::TraceState;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const REQUEST_ID: &str = "x-request-id";
const TRACE_ID: &str = "x-trace-id";

/// Notes that carry the ids from the request to the response.
const TRACE_ID_NOTE: &str = "trace.trace-id";
const REQUEST_ID_NOTE: &str = "trace.request-id";

/// The filter: its settings, and random bytes that no request has used.
#[derive(Debug)]
pub struct Trace {
    settings: Settings,
    random: Random,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for Trace {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { settings: config.check()?, random: Random::default() })
    }

    fn wants(&self) -> Hooks {
        if self.settings.show_trace_id || self.settings.show_request_id {
            Hooks::ALL
        } else {
            Hooks::ALL.without(Hooks::ON_RESPONSE)
        }
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let caller = self.caller(request)?;
        let context = Context::new(caller, self.settings.sample_ratio, &mut self.random);
        request.set_header_bytes(TRACEPARENT, &context.traceparent().to_value())?;
        if self.settings.show_trace_id {
            request.set_note(TRACE_ID_NOTE, context.trace_id.as_str())?;
        }
        if self.settings.b3_in || self.settings.b3_out != B3Out::None {
            self.send_b3(request, &context)?;
        }

        if self.settings.request_id != RequestId::Off {
            self.send_request_id(request)?;
        }
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        if self.settings.show_trace_id
            && let Some(id) = request.note(TRACE_ID_NOTE)
        {
            response.set_header(TRACE_ID, &id)?;
        }
        if self.settings.show_request_id
            && let Some(id) = request.note(REQUEST_ID_NOTE)
        {
            response.set_header(REQUEST_ID, &id)?;
        }
        Ok(Decision::Proceed)
    }
}

impl Trace {
    /// What the caller sent: `traceparent` before `b3` before `x-b3-*`. `tracestate` is made fit to
    /// go on; without a valid `traceparent` it is removed unread.
    fn caller(&self, request: &mut Request) -> Result<Caller> {
        let mut caller = None;
        if self.settings.incoming == Incoming::Continue {
            if let Some(parent) = TraceParent::from_lines(&request.header_all(TRACEPARENT)) {
                self.pass_on_tracestate(request)?;
                return Ok(parent.into());
            }
            if self.settings.b3_in {
                caller = read_b3(request);
            }
        }
        request.remove_header(TRACESTATE)?;
        Ok(caller.map_or(Caller::Nothing(Sampling::Deferred), Caller::from))
    }

    fn pass_on_tracestate(&self, request: &mut Request) -> Result<()> {
        let lines = request.header_all(TRACESTATE);
        match tracestate::pass_on(&lines, self.settings.tracestate_max) {
            TraceState::Untouched => {}
            TraceState::Remove => {
                request.remove_header(TRACESTATE)?;
            }
            TraceState::Replace(value) => request.set_header(TRACESTATE, &value)?,
        }
        Ok(())
    }

    /// Keep the caller's id where that is configured and it is fit, or send a new one.
    fn send_request_id(&mut self, request: &mut Request) -> Result<()> {
        let shown = self.settings.show_request_id;
        if self.settings.request_id == RequestId::Keep
            && let Some(id) = request_id::kept(&request.header_all(REQUEST_ID))
        {
            if shown {
                request.set_note(REQUEST_ID_NOTE, id)?;
            }
            return Ok(());
        }
        let id = Uuid::v7(unix_ms(clock::now()), self.random.take());
        request.set_header_bytes(REQUEST_ID, id.as_bytes())?;
        if shown {
            request.set_note(REQUEST_ID_NOTE, id.as_str())?;
        }
        Ok(())
    }

    /// Send the configured forms of B3 and remove the others, which would name the caller's
    /// operation as the parent.
    fn send_b3(&self, request: &mut Request, context: &Context) -> Result<()> {
        let Context { trace_id, span_id, parent_id, sampling, random: _ } = context;
        let (single, multi) = match self.settings.b3_out {
            B3Out::None => (false, false),
            B3Out::Single => (true, false),
            B3Out::Multi => (false, true),
            B3Out::Both => (true, true),
        };
        if single {
            let value = b3::single_value(trace_id, span_id, *sampling, parent_id.as_ref());
            request.set_header(b3::SINGLE, &value)?;
        } else {
            request.remove_header(b3::SINGLE)?;
        }
        let (sampled, flags) = match sampling {
            Sampling::Deferred => (None, None),
            Sampling::Denied => (Some("0"), None),
            Sampling::Accepted => (Some("1"), None),
            Sampling::Debug => (None, Some("1")),
        };
        for (name, value) in [
            (b3::TRACE_ID, Some(trace_id.as_str())),
            (b3::SPAN_ID, Some(span_id.as_str())),
            (b3::PARENT_SPAN_ID, parent_id.as_ref().map(|id| id.as_str())),
            (b3::SAMPLED, sampled),
            (b3::FLAGS, flags),
        ] {
            match value {
                Some(value) if multi => request.set_header(name, value)?,
                _ => {
                    request.remove_header(name)?;
                }
            }
        }
        Ok(())
    }
}

fn read_b3(request: &Request) -> Option<Caller> {
    if let Some(b3) = request.header(b3::SINGLE).and_then(|value| B3::parse_single(&value)) {
        return Some(b3.into());
    }
    let values =
        [b3::TRACE_ID, b3::SPAN_ID, b3::SAMPLED, b3::FLAGS].map(|name| request.header(name));
    let [trace_id, span_id, sampled, flags] = values.each_ref().map(Option::as_deref);
    B3::parse_multi(&MultiValues { trace_id, span_id, sampled, flags }).map(Caller::from)
}

fn unix_ms(since_epoch: Duration) -> u64 {
    let seconds = since_epoch.as_secs().saturating_mul(1_000);
    seconds.saturating_add(u64::from(since_epoch.subsec_millis()))
}

/// Random bytes drawn from the host, enough of them for several requests at once: the call costs more
/// than the bytes. None is used twice.
#[derive(Debug, Default)]
struct Random {
    unused: Vec<u8>,
}

impl Random {
    /// What 15 requests take that begin a trace and get an id.
    const BATCH: u32 = 15 * (16 + 8 + request_id::RANDOM_BYTES as u32);
}

impl Entropy for Random {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.unused.len() < N {
            self.unused = random::bytes(Self::BATCH);
        }
        let (rest, taken) = self.unused.split_last_chunk().expect("a batch is more than is taken");
        let (rest, taken) = (rest.len(), *taken);
        self.unused.truncate(rest);
        taken
    }
}
