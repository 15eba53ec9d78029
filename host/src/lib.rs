//! Pillion, a sidecar proxy extended with WebAssembly filters.
//!
//! The modules, top down; `ARCHITECTURE.md` beside `src/` has
//! the map, the life of a request and the life of a reload. Who may use whom is checked by a test
//! (`tests/suite/layers.rs`).

pub mod app;

pub mod cli;

pub mod config;
pub mod units;

pub mod clock;

pub mod http;
pub mod io;
pub mod private;
pub mod tls;

pub mod dns;

pub mod http1;
pub mod http2;

pub mod chain;

pub mod capability;
pub mod wasm;

pub mod upstream;

pub mod listener;
pub mod overload;
pub mod proxy;
pub mod worker;

pub mod rollout;
pub mod shadow;
pub mod snapshot;

pub mod cases;
pub mod reload;
pub mod shutdown;

pub mod telemetry;

pub mod admin;
