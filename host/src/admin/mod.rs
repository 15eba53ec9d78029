//! The admin interface: a small HTTP/1.1 server on loopback or a Unix socket for people, probes,
//! scrapers and the command line, on a thread of its own, so that a busy or stuck worker does not
//! silence it.
//!
//! It knows nothing of what it shows: [`AdminTarget`] does, and
//! [`Control`] for rollouts. Read `paths` for what there is,
//! `guard` for who is turned away, `answer` and `rollouts` for what is answered, `server`,
//! `connection` and `socket` for connections and their limits.

mod answer;
mod asked;
mod connection;
mod guard;
#[cfg(test)]
mod openapi_tests;
mod paths;
mod rollouts;
mod server;
pub mod shape;
mod socket;
mod token;

pub use answer::RELOAD_TIMEOUT;
pub use connection::{HEAD_TIMEOUT, IDLE_TIMEOUT, UPLOAD_TIMEOUT, UPLOADS_MAX, WRITE_TIMEOUT};
pub use paths::{BODY_BYTES_MAX, JSON_BYTES_MAX};
pub use server::{Admin, CONNECTIONS_MAX, Doors, run, spawn};
pub use socket::{OwnerSocket, SocketError};
pub use token::Token;

use crate::rollout::control::Control;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;

/// What the admin interface shows and sets in motion. Calls come from the admin thread and must not
/// block it.
pub trait AdminTarget: Send + Sync {
    /// May traffic be sent here? If not: every reason, one sentence each.
    fn ready(&self) -> Result<(), Vec<String>>;

    /// All metrics as OpenMetrics text.
    fn metrics(&self) -> String;

    /// The configuration as it is running, without secrets.
    fn config(&self) -> Value;

    /// Version, process, generation, workers, listeners, filters, upstreams with their addresses, the last
    /// reload.
    fn status(&self) -> Value;

    /// Reads the configuration again and publishes it as a new generation, or changes nothing. Goes
    /// on to its end also when the future is dropped.
    fn reload(&self) -> Reloading;

    /// Begins to drain: readiness is off, what is in flight is finished, then the process ends.
    fn drain(&self);

    /// What can be asked of rollouts; none before the first generation is published.
    fn control(&self) -> Option<&dyn Control>;
}

/// A reload under way.
pub type Reloading = Pin<Box<dyn Future<Output = Result<Reloaded, ReloadRefused>> + Send>>;

/// A reload that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The generation in force.
    pub generation: u64,
}

/// A reload that has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRefused {
    /// Everything that is wrong, each as the command line shows it.
    pub diagnostics: Vec<String>,
}
