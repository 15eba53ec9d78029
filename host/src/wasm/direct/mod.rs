//! Components that are one core module in a wrapping are run as that module, without the wrapping.
//!
//! What toolchains make of a filter is one core module, whose imports and exports are named by a
//! convention, inside a component that lifts and lowers every call. Here the host does the lifting and
//! lowering itself, by the component model's canonical ABI, on the module: measured with wasmtime 48,
//! an empty hook call costs a fifth of one through the component, and an import a quarter. A component
//! of any other shape (several modules, other imports) runs as a component; filters cannot tell.
//!
//! `shape` finds the module when a component is compiled, `link` gives it its imports (`messages`,
//! `capabilities`, `wasi`), `memory` is the view of a guest's memory, `hooks` the calls into it.

mod capabilities;
mod hooks;
mod link;
mod memory;
mod messages;
mod shape;
mod wasi;

pub(super) use hooks::Hooks;
pub(super) use link::{Pre, link};
pub(super) use memory::Guest;
pub(super) use shape::{MODULE_EXPORTS, PostReturn, expose};

/// What host functions of a module get beside their parameters.
type Caller<'a> = wasmtime::Caller<'a, super::instance::Data>;
