//! From the exported functions of a component to the author's trait.
//!
//! A component has one filter, kept here from its first call on. The attribute exports the hooks that
//! are written; this file implements all of them for every filter.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::{any::Any, cell::Cell, marker::PhantomData, time::Duration};

use crate::{
    BodyDecision, Chunk, Decision, Error, Filter, Hooks, Outcome, Request, Response, Result,
    Trailers, bindings, failure, json, message::Body,
};

/// Stands for the filter `F` towards the generated export macros.
#[doc(hidden)]
pub struct Exported<F>(PhantomData<F>);

/// Says in the component which SDK made it; the host shows it to people.
#[used]
#[unsafe(link_section = "pillion-sdk")]
static MARK: [u8; MARK_TEXT.len()] = {
    let mut mark = [0; MARK_TEXT.len()];
    mark.copy_from_slice(MARK_TEXT.as_bytes());
    mark
};
const MARK_TEXT: &str = concat!("pillion-sdk ", env!("CARGO_PKG_VERSION"), " (Rust)");

/// Leaked: it lives as long as the instance.
static FILTER: Instance = Instance(Cell::new(None));

/// The filter, while no hook has it.
struct Instance(Cell<Option<&'static mut dyn Any>>);

// SAFETY: a component has one thread.
unsafe impl Sync for Instance {}

/// Runs a hook on the filter of this component; an error ends the call as a failure of the filter.
///
/// The impossible traps without a text. There is no `panic!` here: it would link the standard library's
/// printing of panics into filters that have no panic of their own.
fn hook<F: Filter, R>(name: &str, run: impl FnOnce(&mut F) -> Result<R>) -> R {
    let present = FILTER.0.take().or_else(|| Some(keep(F::__without_config()?)));
    let Some(filter) = present else {
        // `configure` was not called.
        core::arch::wasm32::unreachable()
    };
    let Some(present) = filter.downcast_mut::<F>() else {
        // The component exports hooks of two filters.
        core::arch::wasm32::unreachable()
    };
    let result = run(present);
    FILTER.0.set(Some(filter));
    match result {
        Ok(result) => result,
        Err(error) => fail(name, &error),
    }
}

fn keep<F: Filter>(filter: F) -> &'static mut dyn Any {
    Box::leak(Box::new(filter))
}

#[cold]
fn fail(hook: &str, error: &Error) -> ! {
    failure::end(format_args!("hook `{hook}` failed: {error}"))
}

impl<F: Filter> bindings::configure::exports::pillion::filter::configure::Guest for Exported<F> {
    fn configure(
        config: String,
    ) -> Result<(), bindings::configure::exports::pillion::filter::configure::ConfigError> {
        let filter = json::parse(&config).and_then(F::new).map_err(|error| {
            bindings::configure::exports::pillion::filter::configure::ConfigError {
                key: error.key,
                message: error.message,
            }
        })?;
        FILTER.0.set(Some(keep(filter)));
        Ok(())
    }
}

impl<F: Filter> bindings::wanted_hooks::exports::pillion::filter::wanted_hooks::Guest
    for Exported<F>
{
    fn wanted_hooks() -> Hooks {
        hook::<F, _>("wanted-hooks", |filter| Ok(filter.wants()))
    }
}

impl<F: Filter> bindings::state::exports::pillion::filter::state::Guest for Exported<F> {
    fn state_version() -> u32 {
        F::STATE_VERSION
    }

    fn migrate(from: u32) -> Result<(), String> {
        hook::<F, _>("migrate", |filter| {
            Ok(filter.migrate(from).map_err(|error| error.to_string()))
        })
    }
}

impl<F: Filter> bindings::on_request::exports::pillion::filter::on_request::Guest for Exported<F> {
    fn on_request() -> Decision {
        hook::<F, _>("on-request", |filter| filter.on_request(&mut Request::token()))
    }
}

impl<F: Filter> bindings::on_request_body::exports::pillion::filter::on_request_body::Guest
    for Exported<F>
{
    fn on_request_body(chunk: Vec<u8>, last: bool) -> BodyDecision {
        hook::<F, _>("on-request-body", |filter| {
            let chunk = Chunk::new(&chunk, last, Body::Request);
            filter.on_request_body(&mut Request::token(), chunk)
        })
    }
}

impl<F: Filter> bindings::on_request_trailers::exports::pillion::filter::on_request_trailers::Guest
    for Exported<F>
{
    fn on_request_trailers() {
        hook::<F, _>("on-request-trailers", |filter| {
            filter.on_request_trailers(&Request::token(), &mut Trailers::token())
        })
    }
}

impl<F: Filter> bindings::on_response::exports::pillion::filter::on_response::Guest
    for Exported<F>
{
    fn on_response() -> Decision {
        hook::<F, _>("on-response", |filter| {
            filter.on_response(&Request::token(), &mut Response::token())
        })
    }
}

impl<F: Filter> bindings::on_response_body::exports::pillion::filter::on_response_body::Guest
    for Exported<F>
{
    fn on_response_body(chunk: Vec<u8>, last: bool) -> BodyDecision {
        hook::<F, _>("on-response-body", |filter| {
            let chunk = Chunk::new(&chunk, last, Body::Response);
            filter.on_response_body(&Request::token(), &mut Response::token(), chunk)
        })
    }
}

impl<F: Filter>
    bindings::on_response_trailers::exports::pillion::filter::on_response_trailers::Guest
    for Exported<F>
{
    fn on_response_trailers() {
        hook::<F, _>("on-response-trailers", |filter| {
            filter.on_response_trailers(
                &Request::token(),
                &Response::token(),
                &mut Trailers::token(),
            )
        })
    }
}

impl<F: Filter> bindings::on_complete::exports::pillion::filter::on_complete::Guest
    for Exported<F>
{
    fn on_complete(outcome: bindings::on_complete::exports::pillion::filter::on_complete::Outcome) {
        let outcome = Outcome {
            status: outcome.status,
            complete: outcome.complete,
            error: outcome.error,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            duration: Duration::from_nanos(outcome.duration_ns),
            upstream: outcome.upstream_ns.map(Duration::from_nanos),
        };
        hook::<F, _>("on-complete", |filter| filter.on_complete(&Request::token(), &outcome))
    }
}
