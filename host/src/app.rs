//! Puts the sidecar together and waits for its end: one function from top to bottom.
//!
//! Read `run` first. `doors` is where the admin interface is reached, `target` what the admin interface sees of it all, `signals` what is waited for.
//! Knows no HTTP; what changes on a reload is the matter of `reload`.

mod doors;
mod signals;
mod target;

use self::signals::{Ends, Signals, Told};
use self::target::Target;
use crate::admin::{self, Admin};
use crate::config::{self, AccessLogDestination, Config, Diagnostics};
use crate::overload::Limiters;
use crate::reload::{Cause, First, History, Loader, Problems, Reloader};
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::Shared;
use crate::telemetry::sink::Destination;
use crate::telemetry::tracing_setup::{self, LogError, Logging};
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::States;
use crate::wasm::CacheError;
use crate::worker;
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::{oneshot, watch};

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
    /// The admin interface; none where it has no address.
    pub admin: Option<SocketAddr>,
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

/// What to do about a configuration file that cannot be read, where `-c` names it.
pub const HELP_UNREADABLE: &str = "name the file with `-c FILE`";

/// Runs a sidecar until it is told to stop.
///
/// # Errors
/// It did not start.
pub fn run(options: Options) -> Result<ExitCode, StartError> {
    let logging = tracing_setup::init(options.log.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed_to_start("the handling of signals"))?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::catch().map_err(failed_to_start("the handling of signals"))?
    };
    let loaded = config::load(&options.config, HELP_UNREADABLE).map_err(StartError::Config)?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration has a doubtful part");
    }
    let config = Arc::new(loaded.config.clone());
    let workers = workers(&config);
    let metrics = Metrics::new(workers, SystemTime::now());
    metrics.set_log_sink(logging.sink().clone());
    let access_log = open_access_log(&config, &metrics)?;

    // Probes are answered while filters compile.
    let shutdown = Shutdown::default();
    let target = Arc::new(Target::new(config.clone(), metrics.clone(), shutdown.clone(), workers));
    let admin = doors::open(&loaded).map(|doors| admin::spawn(doors, target.clone()));

    let loader = Loader::new(&config, metrics.clone())?;
    let history = History::open(&config, metrics.clone());
    let build = move || First::build(options.config, loader, loaded, history);
    let built = runtime.block_on(unless_stopped(&mut signals, &shutdown, build));
    let Some(built) = built.map_err(failed_to_start("the first generation"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let (admin, (first, snapshot)) = Problems::both(admin, built)?;
    let admin = admin.map_err(failed_to_start("the admin interface"))?;

    let generation = snapshot.generation;
    let shared = Arc::new(Shared {
        generation: AtomicU64::new(generation),
        snapshot: ArcSwap::from_pointee(snapshot),
        published: watch::Sender::new(generation),
        metrics,
        access_log: access_log.clone(),
        upstreams: States::default(),
        limiters: Limiters::default(),
        connections: AtomicUsize::new(0),
        connections_max: config.runtime.connections_max.unwrap_or_else(connections_default),
        shutdown,
    });
    // Before the reload thread: it begins with writing down what is served, and requests need not wait
    // for a disk.
    let threads = (0..workers)
        .map(|index| worker::spawn(index, shared.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed_to_start("a worker"))?;
    let reloader = Reloader::start(first, shared.clone());
    let reloader = Arc::new(reloader.map_err(failed_to_start("the reload thread"))?);
    target.runs(shared.clone(), reloader.clone());
    announce(&admin, &reloader, (generation, workers), options.on_ready);

    let code = runtime.block_on(serve(&shared, &reloader, threads, signals));
    finish(admin, access_log, logging);
    Ok(code)
}

fn failed_to_start(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Does `work` on a thread of its own, since compiling can take minutes. None: told to stop before it
/// was done.
async fn unless_stopped<T: Send + 'static>(
    signals: &mut Signals,
    shutdown: &Shutdown,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, done) = oneshot::channel();
    std::thread::Builder::new().name("start".to_owned()).spawn(move || {
        // When nobody waits any more, the process ends.
        let _ = sender.send(work());
    })?;
    // The cancelled branch is the work: it is left behind.
    tokio::select! {
        done = done => done.map(Some).map_err(io::Error::other),
        signal = signals.stop() => {
            tracing::info!(signal, "told to stop before the start was complete");
            Ok(None)
        }
        () = shutdown.reached(Stage::Draining) => {
            tracing::info!("told to stop before the start was complete");
            Ok(None)
        }
    }
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
        // Cancelled branches lose nothing: signals and ends stay where they are. In this order: with
        // nothing in flight, workers have ended already when the drain is noticed here.
        tokio::select! {
            biased;
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

fn announce(
    admin: &Admin,
    reloader: &Reloader,
    (generation, workers): (u64, usize),
    on_ready: Option<OnReady>,
) {
    let listening = reloader.listening();
    let listeners = listening.into_iter().map(|(name, it)| (name, it.actual));
    let ready = Ready { admin: admin.address(), listeners: listeners.collect() };
    let shown: Vec<String> =
        ready.listeners.iter().map(|(name, address)| format!("{name}={address}")).collect();
    tracing::info!(
        admin = ready.admin.map(tracing::field::display),
        listeners = shown.join(","),
        generation,
        workers,
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

fn open_access_log(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<Arc<AccessLog>>, StartError> {
    let Some(config::AccessLog { destination }) = &config.access_log else { return Ok(None) };
    let (destination, path) = match destination {
        AccessLogDestination::Stdout => (Destination::Stdout, PathBuf::from("stdout")),
        AccessLogDestination::File(path) => (Destination::File(path.clone()), path.clone()),
    };
    let opened = AccessLog::open(destination);
    let opened = opened.map_err(|source| StartError::AccessLog { path, source })?;
    metrics.set_access_log_sink(opened.sink().clone());
    Ok(Some(Arc::new(opened)))
}
