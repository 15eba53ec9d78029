//! Guests: WebAssembly components as filters of the chain. wasmtime lives here only.
//!
//! `compile` and `cache` turn a component into code on disk, `component` maps it and learns its
//! hooks, `prepared` links what was granted and configures it, `filter` is what a worker calls.
//! Knows no sockets, no TOML and no routes. Read `filter` first for the life of a hook call.

pub mod cache;
pub mod compile;
pub mod component;
pub mod engine;
pub mod filter;
pub mod health;
pub mod origin;
pub mod prepared;

mod answer;
mod barrier;
mod capabilities;
mod direct;
mod hooks;
mod instance;
mod limits;
mod linker;
mod messages;
mod meter;
mod output;
mod replacement;
mod state;
mod trust;
mod types;
mod wasi;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use barrier::register as register_barrier;
pub use cache::{CacheError, Compiler};
pub use compile::CompileLimits;
pub use component::{Capability, FilterCode, LoadError};
pub use engine::Runtime;
pub use filter::WasmFilter;
pub use meter::Usage;
pub use origin::Origin;
pub use prepared::{FilterSpec, Grants, Isolation, Limits, Prepared, check_imports};
