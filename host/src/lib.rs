//! Pillion, a sidecar proxy extended with WebAssembly filters.

pub mod chain;
pub mod http;
pub mod http2;
pub mod proxy;
