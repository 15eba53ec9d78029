//! A case being played: a filter of its own, the world it lives in, and what is seen of its exchanges.
//!
//! `exchange` carries out one of them. Whether what is seen is as expected is not known here.

use super::capture::{Captured, FailureSeen, LogLine, capture};
use super::exchange::play;
use crate::capability::{self, Script, metrics};
use crate::chain::{Chain, FailureKind};
use crate::config::case::{Case, LogLevel, Step};
use crate::telemetry::Metrics;
use crate::wasm::{FilterCode, FilterSpec, LoadError, Prepared, Usage};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes of a body behind the filter; one that grows beyond them is broken off.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Names in lower case, and values, in order.
pub type Lines = Vec<(String, Vec<u8>)>;

/// What came of an exchange, as far as it can be seen where it was played.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Status that the client got.
    pub status: u16,
    /// Fields that the client got.
    pub headers: Lines,
    /// Body that the client got.
    pub body: Vec<u8>,
    /// Trailers that the client got.
    pub trailers: Lines,
    /// The client got the whole response.
    pub complete: bool,
    /// What the upstream got, if it got a whole request.
    pub forwarded: Option<Forwarded>,
    /// Log lines of the filter. None: they cannot be seen.
    pub log: Option<Vec<LogLine>>,
    /// Notes at the end. None: they cannot be seen.
    pub notes: Option<Vec<(String, String)>>,
    /// The filter's metrics. None: they cannot be seen.
    pub metrics: Option<Vec<metrics::Snapshot>>,
    /// Failures of the filter. None: they cannot be seen.
    pub failures: Option<Vec<FailureSeen>>,
    /// A body grew beyond [`OUTPUT_BYTES_MAX`].
    pub outgrown: bool,
}

/// A request as the upstream got it.
#[derive(Clone, Debug, Default)]
pub struct Forwarded {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its scheme; none: it cannot be seen.
    pub scheme: Option<String>,
    /// Its authority.
    pub authority: String,
    /// Its fields.
    pub headers: Lines,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Lines,
}

/// A filter of its own, and the world it lives in, for one case.
pub struct Player {
    script: Arc<Script>,
    prepared: Arc<Prepared>,
    chain: Chain,
    level: LogLevel,
}

impl Player {
    /// Links, instantiates and configures the filter. Belongs to the thread that calls it.
    ///
    /// # Errors
    /// The filter cannot be used as the case sets it up.
    pub fn load(case: &Case, spec: FilterSpec, code: Arc<FilterCode>) -> Result<Self, LoadError> {
        let script = Arc::new(Script::new(case.now, case.seed));
        let state = capability::State::scripted(script.clone());
        let numbers = Metrics::new(1, UNIX_EPOCH);
        let prepared = Prepared::build(spec, code, &state, &numbers)?;
        let filter = prepared.instantiate_for_worker(0)?;
        let chain = Chain::new(vec![Rc::new(filter)]);
        Ok(Player { script, prepared, chain, level: case.setup.log_level })
    }

    /// Sends the request of `step` once: what came of it, and what its hook calls used. Log lines and
    /// failures are seen under the subscriber of a run ([`super::recording`]) alone.
    pub fn exchange(&self, step: &Step) -> (Observed, Usage) {
        let stats = self.prepared.stats();
        let refused_before = stats.failures(FailureKind::Unavailable);
        let (mut observed, captured) =
            capture(self.level, || play(&self.chain, &self.script, &step.request, &step.upstream));
        let Captured { lines, mut failures } = captured;
        // What quarantine refuses is counted and not logged.
        let refused = stats.failures(FailureKind::Unavailable) - refused_before;
        let logged = failures.iter().filter(|it| it.kind == FailureKind::Unavailable.name());
        for _ in logged.count() as u64..refused {
            let (hook, message) = (String::new(), "the filter is in quarantine".to_owned());
            let kind = FailureKind::Unavailable.name().to_owned();
            failures.push(FailureSeen { kind, hook, message });
        }
        observed.log = Some(lines);
        observed.failures = Some(failures);
        observed.metrics = Some(self.prepared.registry().snapshot());
        (observed, self.prepared.take_usage())
    }

    /// Moves the clocks.
    pub fn advance(&self, by: Duration) {
        self.script.advance(by);
    }
}
