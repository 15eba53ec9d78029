//! Pillion, a sidecar proxy extended with WebAssembly filters.
//!
//! The modules in reading order; `ARCHITECTURE.md` beside `src/` has the map, the life of a request
//! and the life of a reload. Who may use whom is checked by a test (`tests/suite/layers.rs`).

pub mod config;
pub mod http;
pub mod io;
pub mod http1;
pub mod http2;
pub mod chain;
pub mod capability;
pub mod wasm;
pub mod telemetry;
pub mod proxy;
pub mod admin;
