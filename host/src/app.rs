//! Puts the sidecar together and waits for its end: one function from top to bottom.
//!
//! Read `run` first. What the admin interface shows of it all is at the end. Knows no HTTP; what
//! changes on a reload is the matter of `reload`.

use crate::admin::{self, Admin, AdminTarget, ReloadRefused, Reloaded, Reloading};
use crate::config::{self, AccessLogDestination, Config, Diagnostics};
use crate::reload::{self, Cause, First, Loader, Problems, Refused, Reloader};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::sink::Destination;
use crate::telemetry::tracing_setup::{self, LogError, Logging};
use crate::telemetry::{AccessLog, Metrics};
use crate::wasm::CacheError;
use crate::worker;
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Workers where the file does not say: one for each core, and no more than this.
pub const WORKERS_DEFAULT_MAX: usize = 2;
/// After the last bound of a stop, how long workers may take to notice. One that is stuck in a guest
/// does not keep the process from ending.
pub const CUT_TIME: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the access log.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// Connections where the limit of descriptors is unlimited.
const CONNECTIONS_DEFAULT_MAX: usize = 512 * 1024;

/// What is given on the command line.
#[derive(Default)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// A log filter.
    pub log: Option<String>,
    /// Called once traffic is served.
    pub on_ready: Option<OnReady>,
}

/// What to do once traffic is served.
pub type OnReady = Box<dyn FnOnce(&Ready)>;

/// Where a sidecar that is ready can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The admin interface.
    pub admin: SocketAddr,
    /// By name.
    pub listeners: Vec<(Arc<str>, SocketAddr)>,
}

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration file.
    #[error("{0}")]
    Config(Diagnostics),
    /// What the configuration asks for: filters, addresses.
    #[error(transparent)]
    Generation(#[from] Problems),
    /// The cache of compiled filters.
    #[error("failed to set up the cache of compiled filters")]
    Cache(#[from] CacheError),
    /// The access log.
    #[error("failed to open the access log `{}`", path.display())]
    AccessLog {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A thread, or the handling of signals.
    #[error("failed to start {what}")]
    System {
        /// What was to be started.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Runs a sidecar until it is told to stop.
///
/// # Errors
/// It did not start.
pub fn run(options: Options) -> Result<ExitCode, StartError> {
    let logging = tracing_setup::init(options.log.as_deref())?;
    let signals_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System { what: "the handling of signals", source })?;
    let signals = {
        let _inside = signals_runtime.enter();
        Signals::catch()
            .map_err(|source| StartError::System { what: "the handling of signals", source })?
    };
    let loaded = config::load(&options.config).map_err(StartError::Config)?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration has a doubtful part");
    }
    let config = Arc::new(loaded.config.clone());
    let workers = workers(&config);
    let metrics = Metrics::new(workers, SystemTime::now());
    metrics.set_log_sink(logging.sink().clone());
    let access_log = open_access_log(&config)?.map(Arc::new);
    if let Some(access_log) = &access_log {
        metrics.set_access_log_sink(access_log.sink().clone());
    }

    // Probes are answered while filters compile.
    let shutdown = Shutdown::default();
    let target = Arc::new(Target::new(config.clone(), metrics.clone(), shutdown.clone(), workers));
    let admin = admin::spawn(reload::open_admin(&loaded)?, target.clone())
        .map_err(|source| StartError::System { what: "the admin interface", source })?;

    let loader = Loader::new(&config, metrics.clone())?;
    let (first, snapshot) = First::build(options.config, loader, loaded)?;
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(snapshot),
        published: watch::Sender::new(1),
        metrics,
        access_log: access_log.clone(),
        connections: AtomicUsize::new(0),
        connections_max: config.runtime.connections_max.unwrap_or_else(connections_default),
        shutdown,
    });
    let reloader = Reloader::start(first, shared.clone())
        .map_err(|source| StartError::System { what: "the reload thread", source })?;
    let threads = (0..workers)
        .map(|index| worker::spawn(index, shared.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|source| StartError::System { what: "a worker", source })?;
    let reloader = Arc::new(reloader);
    target.runs(shared.clone(), reloader.clone());
    announce(&admin, &reloader, workers, options.on_ready);

    let code = signals_runtime.block_on(serve(&shared, &reloader, threads, signals));
    finish(admin, access_log, logging);
    Ok(code)
}

/// From the start of the workers to their end.
async fn serve(
    shared: &Arc<Shared>,
    reloader: &Reloader,
    threads: Vec<JoinHandle<()>>,
    mut signals: Signals,
) -> ExitCode {
    let mut ends = Ends::of(threads);
    let shutdown = &shared.shutdown;
    let mut code = ExitCode::SUCCESS;
    loop {
        // Cancelled branches lose nothing: signals and ends stay where they are.
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(signal) => {
                    tracing::info!(signal, "draining: what is in flight is finished");
                    break;
                }
                Told::HangUp => {
                    if let Some(access_log) = &shared.access_log {
                        access_log.reopen();
                    }
                    drop(reloader.reload(Cause::Signal));
                }
            },
            () = shutdown.reached(Stage::Draining) => {
                tracing::info!("draining: what is in flight is finished");
                break;
            }
            () = ends.one() => {
                // Its listeners are gone; whoever supervises this process can mend that.
                tracing::error!("a worker has ended; draining the others");
                code = ExitCode::FAILURE;
                break;
            }
        }
    }
    shutdown.advance(Stage::Draining);
    let bound = shared.snapshot.load().config.runtime.drain_timeout;
    // Cancelled branches lose nothing: as above.
    tokio::select! {
        () = ends.all() => {}
        () = tokio::time::sleep(bound) => {
            let seconds = bound.as_secs_f64();
            tracing::warn!(seconds, "`drain_timeout` is over; what is still in flight is cut off");
        }
        signal = signals.stop() => {
            tracing::warn!(signal, "told to stop again; what is in flight is cut off");
        }
    }
    shutdown.advance(Stage::Cut);
    if tokio::time::timeout(CUT_TIME, ends.all()).await.is_err() {
        tracing::warn!("a worker is stuck and is left behind");
    }
    code
}

/// What was written gets out, the structured log last.
fn finish(admin: Admin, access_log: Option<Arc<AccessLog>>, logging: Logging) {
    drop(admin);
    if let Some(access_log) = access_log
        && !access_log.flush(FLUSH_TIME)
    {
        tracing::warn!("the access log was not written to its end");
    }
    tracing::info!("stopped");
    drop(logging);
}

fn announce(admin: &Admin, reloader: &Reloader, workers: usize, on_ready: Option<OnReady>) {
    let listening = reloader.listening();
    let listeners = listening.into_iter().map(|(name, it)| (name, it.actual));
    let ready = Ready { admin: admin.address(), listeners: listeners.collect() };
    let shown: Vec<String> =
        ready.listeners.iter().map(|(name, address)| format!("{name}={address}")).collect();
    tracing::info!(
        admin = %ready.admin, listeners = shown.join(","), generation = 1, workers,
        "ready"
    );
    if let Some(on_ready) = on_ready {
        on_ready(&ready);
    }
}

fn workers(config: &Config) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
    config.runtime.workers.map_or_else(|| available().min(WORKERS_DEFAULT_MAX), |it| it.get())
}

/// Half the limit of file descriptors: a connection may need another one upstream.
fn connections_default() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` to write to for the length of the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let descriptors = if known { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { 0 };
    (descriptors / 2).clamp(1, CONNECTIONS_DEFAULT_MAX)
}

fn open_access_log(config: &Config) -> Result<Option<AccessLog>, StartError> {
    let Some(config::AccessLog { destination }) = &config.access_log else { return Ok(None) };
    let (destination, path) = match destination {
        AccessLogDestination::Stdout => (Destination::Stdout, PathBuf::from("stdout")),
        AccessLogDestination::File(path) => (Destination::File(path.clone()), path.clone()),
    };
    let opened = AccessLog::open(destination);
    opened.map(Some).map_err(|source| StartError::AccessLog { path, source })
}

/// What a signal tells.
enum Told {
    /// To stop; with the signal's name.
    Stop(&'static str),
    /// To read the files again.
    HangUp,
}

/// The signals that the process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    async fn next(&mut self) -> Told {
        // Cancelled branches lose nothing: `recv` is cancel safe.
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => Told::HangUp,
        }
    }

    /// The name of the next signal to stop.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    async fn stop(&mut self) -> &'static str {
        // Cancelled branches lose nothing: `recv` is cancel safe.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The ends of the workers' threads.
struct Ends {
    left: usize,
    ended: mpsc::Receiver<()>,
}

impl Ends {
    /// Joins each thread on one of its own, as joining cannot be bounded.
    fn of(threads: Vec<JoinHandle<()>>) -> Self {
        let (sender, ended) = mpsc::channel(threads.len().max(1));
        let left = threads.len();
        for thread in threads {
            let sender = sender.clone();
            let join = move || {
                // A panic was reported by the panic hook.
                let _ = thread.join();
                // There is room for every thread.
                let _ = sender.try_send(());
            };
            let joiner = std::thread::Builder::new().name("join".to_owned()).stack_size(64 * 1024);
            if let Err(error) = joiner.spawn(join) {
                tracing::warn!(%error, "failed to watch a worker");
            }
        }
        Ends { left, ended }
    }

    /// # Cancel safety
    /// No end is lost when the future is dropped.
    async fn one(&mut self) {
        let _ = self.ended.recv().await;
        self.left = self.left.saturating_sub(1);
    }

    /// # Cancel safety
    /// No end is lost when the future is dropped.
    async fn all(&mut self) {
        while self.left > 0 {
            self.one().await;
        }
    }
}

/// What the admin interface shows and sets in motion.
struct Target {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    workers: usize,
    started: Instant,
    /// From the first generation on.
    running: OnceLock<(Arc<Shared>, Arc<Reloader>)>,
}

impl Target {
    fn new(config: Arc<Config>, metrics: Arc<Metrics>, shutdown: Shutdown, workers: usize) -> Self {
        let running = OnceLock::new();
        Target { config, metrics, shutdown, workers, started: Instant::now(), running }
    }

    fn runs(&self, shared: Arc<Shared>, reloader: Arc<Reloader>) {
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
            "last_reload": null,
        });
        if let Some((shared, reloader)) = self.running.get() {
            status["listeners"] = listeners(reloader);
            status["filters"] = filters(&shared.snapshot.load());
            status["last_reload"] = last_reload(reloader);
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

fn diagnostics(refused: &Refused) -> Vec<String> {
    match refused {
        Refused::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
        Refused::TooMany | Refused::Stopping => vec![refused.to_string()],
    }
}
