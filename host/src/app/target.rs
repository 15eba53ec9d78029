//! What the admin interface shows and sets in motion, of all the parts of a running sidecar.

use crate::admin::{AdminTarget, ReloadRefused, Reloaded, Reloading};
use crate::config::Config;
use crate::reload::{Cause, Refused, Reloader, Shown};
use crate::rollout::control::{Control, Progress, RolloutStatus};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::Metrics;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, UNIX_EPOCH};

/// What the admin interface shows and sets in motion.
pub(super) struct Target {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    workers: usize,
    started: Instant,
    /// From the first generation on.
    running: OnceLock<(Arc<Shared>, Arc<Reloader>)>,
}

impl Target {
    pub(super) fn new(
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        workers: usize,
    ) -> Self {
        let running = OnceLock::new();
        Target { config, metrics, shutdown, workers, started: Instant::now(), running }
    }

    pub(super) fn runs(&self, shared: Arc<Shared>, reloader: Arc<Reloader>) {
        // Called once.
        let _ = self.running.set((shared, reloader));
    }
}

impl AdminTarget for Target {
    fn ready(&self) -> Result<(), Vec<String>> {
        if self.shutdown.stage() != Stage::Running {
            return Err(vec!["The process is draining.".to_owned()]);
        }
        match self.running.get() {
            Some(_) => Ok(()),
            None => Err(vec!["Filters are being compiled and loaded.".to_owned()]),
        }
    }

    fn metrics(&self) -> String {
        self.metrics.expose()
    }

    fn config(&self) -> Value {
        match self.running.get() {
            Some((shared, _)) => shared.snapshot.load().config.redacted(),
            None => self.config.redacted(),
        }
    }

    fn status(&self) -> Value {
        let state = match (self.shutdown.stage(), self.running.get()) {
            (Stage::Draining | Stage::Cut, _) => "draining",
            (Stage::Running, None) => "starting",
            (Stage::Running, Some(_)) => "running",
        };
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "state": state,
            "generation": self.metrics.process().generation(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "workers": self.workers,
            "config": self.config.source.display().to_string(),
            "listeners": [],
            "filters": [],
            "upstreams": [],
            "last_reload": null,
            "in_force": null,
            "rollout": null,
            "kept": null,
        });
        if let Some((shared, reloader)) = self.running.get() {
            status["listeners"] = listeners(reloader);
            status["filters"] = filters(&shared.snapshot.load());
            status["upstreams"] = upstreams(&shared.snapshot.load());
            status["last_reload"] = last_reload(reloader);
            let shown = reloader.shown();
            status["in_force"] = shown.in_force.as_str().into();
            status["rollout"] = shown.rollout.as_ref().map(rollout).into();
            status["kept"] = kept(&shown);
        }
        status
    }

    fn reload(&self) -> Reloading {
        let Some((shared, reloader)) = self.running.get() else {
            let diagnostics = vec!["the first generation is not published yet".to_owned()];
            return Box::pin(std::future::ready(Err(ReloadRefused { diagnostics })));
        };
        let (shared, outcome) = (shared.clone(), reloader.reload(Cause::Admin));
        Box::pin(async move {
            match outcome.await {
                Ok(Ok(generation)) => Ok(Reloaded { generation }),
                Ok(Err(refused)) => Err(ReloadRefused { diagnostics: diagnostics(&refused) }),
                Err(_) => {
                    let generation = shared.snapshot.load().generation;
                    let gone = format!(
                        "reloading is not possible any more; generation {generation} stays in force"
                    );
                    Err(ReloadRefused { diagnostics: vec![gone] })
                }
            }
        })
    }

    fn drain(&self) {
        self.shutdown.advance(Stage::Draining);
    }

    fn control(&self) -> Option<&dyn Control> {
        self.running.get().map(|(_, reloader)| &**reloader as &dyn Control)
    }
}

fn listeners(reloader: &Reloader) -> Value {
    let listening = reloader.listening();
    let shown = listening
        .iter()
        .map(|(name, it)| json!({ "name": &**name, "address": it.actual.to_string() }));
    shown.collect()
}

fn filters(snapshot: &Snapshot) -> Value {
    let filters = snapshot.config.filters.iter().zip(&snapshot.filters);
    let shown = filters.map(|(filter, prepared)| {
        let state = match prepared {
            None => "skipped",
            Some(prepared) if prepared.stats().quarantined() => "quarantined",
            Some(_) => "active",
        };
        json!({
            "name": &*filter.name,
            "version": prepared.as_ref().map(|prepared| prepared.version().to_string()),
            "state": state,
        })
    });
    shown.collect()
}

/// With the addresses of their endpoints as they are now.
fn upstreams(snapshot: &Snapshot) -> Value {
    let upstreams = snapshot.config.upstreams.iter().zip(&snapshot.addresses);
    let shown = upstreams.map(|(upstream, addresses)| {
        let list = addresses.list();
        let endpoints: Vec<String> =
            list.places.iter().map(|place| place.address.to_string()).collect();
        json!({ "name": &*upstream.name, "endpoints": endpoints })
    });
    shown.collect()
}

fn last_reload(reloader: &Reloader) -> Value {
    let Some(attempt) = reloader.last() else { return Value::Null };
    let at = attempt.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut shown = json!({
        "cause": attempt.cause.name(),
        "at_unix_seconds": at.as_secs(),
        "duration_ms": attempt.duration.as_millis() as u64,
    });
    match &attempt.outcome {
        Ok(generation) => {
            shown["result"] = "ok".into();
            shown["generation"] = (*generation).into();
        }
        Err(refused) => {
            shown["result"] = "failed".into();
            shown["diagnostics"] = diagnostics(refused).into();
        }
    }
    shown
}

/// The rollout in progress, or the latest: in short.
fn rollout(status: &RolloutStatus) -> Value {
    let (state, why) = match &status.progress {
        Progress::Stepping => ("in_progress", None),
        Progress::Promoted { .. } => ("promoted", None),
        Progress::RolledBack { reason, .. } => ("rolled_back", Some(reason)),
        Progress::CutShort { reason } => ("cut_short", Some(reason)),
    };
    let steps = &status.plan.steps;
    json!({
        "id": status.id.0,
        "state": state,
        "reason": why,
        "changes": status.changes,
        "step": status.step + 1,
        "of": steps.len(),
        "stage": steps.get(status.step).map(|step| step.stage.to_string()),
        "verdict": status.verdict,
    })
}

/// What would outlive the process.
fn kept(shown: &Shown) -> Value {
    let generations: Vec<u64> = shown.generations.iter().map(|it| it.generation).collect();
    json!({
        "directory": shown.state_dir.as_ref().map(|path| path.display().to_string()),
        "fault": shown.unkept,
        "generations": generations,
        "pinned": shown.pinned.len(),
    })
}

fn diagnostics(refused: &Refused) -> Vec<String> {
    match refused {
        Refused::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
        Refused::TooMany | Refused::Stopping => vec![refused.to_string()],
    }
}
