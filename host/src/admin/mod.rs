//! The admin interface: a small HTTP/1.1 server on loopback for people, probes and scrapers, on a
//! thread of its own, so that a busy or stuck worker does not silence it.
//!
//! It knows nothing of what it shows: [`AdminTarget`] does. Read `answer` for the paths, `guard`
//! for who is turned away, `server` for connections and their limits.

mod answer;
mod guard;
mod server;

pub use server::{
    Admin, BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_TIMEOUT, IDLE_TIMEOUT, RELOAD_TIMEOUT,
    WRITE_TIMEOUT, run, spawn,
};

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

    /// Version, process, generation, workers, listeners, filters, the last reload.
    fn status(&self) -> Value;

    /// Reads the configuration again and publishes it as a new generation, or changes nothing. Goes
    /// on to its end also when the future is dropped.
    fn reload(&self) -> Reloading;

    /// Begins to drain: readiness is off, what is in flight is finished, then the process ends.
    fn drain(&self);
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
