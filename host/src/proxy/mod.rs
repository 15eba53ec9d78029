//! One request: the data path. `service` is the page to read first.
//!
//! `downstream` reads requests off a connection and calls it; `forward`, `attempt`, `flow`, `pump` and
//! `respond` are the way to the upstream and back, within the `deadline` of a request; `reply` is the
//! table of faults.

pub mod admit;
mod answering;
mod attempt;
pub mod deadline;
pub mod downstream;
pub mod ends;
pub mod flow;
pub mod forward;
mod hedge;
pub mod mirror;
pub mod pass;
pub mod pump;
pub mod record;
pub mod reply;
pub mod respond;
pub mod retry;
pub mod route;
pub mod service;
pub mod split;
pub mod timer;
pub mod tunnel;

#[cfg(test)]
mod tests;
