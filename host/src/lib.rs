//! Pillion, a sidecar proxy extended with WebAssembly filters.

pub mod admin;
pub mod capability;
pub mod chain;
pub mod http;
pub mod http1;
pub mod io;
pub mod proxy;
pub mod telemetry;
