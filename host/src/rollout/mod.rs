//! Guarded swap: a next version of a chain is tried beside the running one, judged, and promoted or
//! rolled back.
//!
//! A rollout has two whole configurations, the running one and its candidate, which differ in chains
//! and filters only; the unit is the chain of a route. `plan` says how far and how fast, `words` how
//! that is written, `choice` which requests the candidate gets, `arm` counts what each side does,
//! `judge` compares the two, `driver` makes one step after the other, `control` is what people and the
//! admin interface may ask for, `store` keeps on disk what outlives the process. Knows no sockets, no
//! components and no TOML: `reload` drives it.

pub mod arm;
pub mod choice;
pub mod control;
pub mod driver;
pub mod judge;
pub mod plan;
pub mod store;
pub mod words;

pub use arm::Arm;
pub use choice::Choice;
pub use driver::{Driver, Effect};
pub use plan::{Hold, Plan, Share, Stage, Step, Sticky};
pub use words::WordProblem;
