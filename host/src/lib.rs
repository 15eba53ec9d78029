//! Pillion, a sidecar proxy extended with WebAssembly filters.

pub mod capability;
pub mod chain;
pub mod http;
pub mod proxy;
pub mod telemetry;
pub mod wasm;
