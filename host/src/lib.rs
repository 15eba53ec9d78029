//! Pillion, a sidecar proxy extended with WebAssembly filters.
//!
//! The modules in reading order; `ARCHITECTURE.md` beside `src/` has the map, the life of a request
//! and the life of a reload. Who may use whom is checked by a test (`tests/suite/layers.rs`).

pub mod admin;
pub mod app;
pub mod capability;
pub mod chain;
pub mod cli;
pub mod config;
pub mod http;
pub mod http1;
pub mod http2;
pub mod io;
pub mod proxy;
pub mod reload;
pub mod shutdown;
pub mod snapshot;
pub mod telemetry;
pub mod wasm;
pub mod worker;
