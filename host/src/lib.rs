//! Pillion, a sidecar proxy extended with WebAssembly filters.

pub mod http;
