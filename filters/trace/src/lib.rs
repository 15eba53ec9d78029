//! The `trace` filter.

mod b3;
mod context;
mod hex;
mod ids;
mod request_id;
mod traceparent;
mod tracestate;
