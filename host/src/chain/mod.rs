//! The filter chain: runs filters in order over an exchange, and back in reverse.
//!
//! A filter here is a trait object: this module knows no wasm, no sockets and no TOML, so that every
//! rule of the chain is testable with filters written in a few lines of Rust. Read `exchange` for
//! what filters act on, `filter` for what they may answer, `run` for the passes over heads, `body`
//! for the passes over bodies.

pub mod body;
pub mod exchange;
pub mod filter;
pub mod run;

pub use body::{BodyPass, Direction, Passed};
pub use exchange::{EditError, Exchange, NoteError, Phase};
pub use filter::{
    BodyDecision, FailPolicy, Failure, FailureKind, Filter, HeadDecision, Hook, Hooks,
    LocalResponse, Outcome,
};
pub use run::{CHAIN_FILTERS_MAX, Chain, ClosedFailure, Members, Progress, Verdict};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
