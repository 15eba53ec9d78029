//! Generations made, refused and published, with shipped filters, real files and real sockets.

use super::{
    Attempt, Cause, First, History, Loader, Outcome, Problems, Refused, Reloader, State,
    WAITING_MAX,
};
use crate::config;
use crate::overload::Limiters;
use crate::shutdown::{Shutdown, Stage};
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::Metrics;
use crate::upstream::States;
use crate::wasm::Compiler;
use arc_swap::ArcSwap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

mod rollouts;

/// No test waits longer for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;

/// A folder with a configuration file.
struct Folder(PathBuf);

impl Folder {
    fn new(filters: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-reload-{}-{number}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        folder.save(filters);
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.join("pillion.toml")
    }

    /// Writes the file with these filters; `headers` is in the only chain.
    fn save(&self, filters: &str) {
        let chain = if filters.contains("[filter.headers]") { CHAINED } else { LISTENER };
        self.save_whole(&format!("{chain}address = \"127.0.0.1:0\"\n{filters}"));
    }

    fn save_whole(&self, text: &str) {
        let fresh = self.0.join("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.file()).unwrap();
    }

    fn first(&self) -> Result<(First, Snapshot, Arc<Metrics>), Problems> {
        self.first_with(History::in_memory("a test"))
    }

    fn first_with(&self, history: History) -> Result<(First, Snapshot, Arc<Metrics>), Problems> {
        let loaded = config::load(&self.file(), "").unwrap();
        let metrics = Metrics::new(WORKERS, SystemTime::now());
        let loader = Loader::with_compiler(Compiler::in_process().unwrap(), metrics.clone());
        let (first, snapshot) = First::build(self.file(), loader, loaded, history)?;
        Ok((first, snapshot, metrics))
    }

    fn start(&self) -> (Reloader, Arc<Shared>) {
        self.start_with(History::in_memory("a test"))
    }

    fn start_with(&self, history: History) -> (Reloader, Arc<Shared>) {
        let (first, snapshot, metrics) = self.first_with(history).unwrap();
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(snapshot.generation),
            snapshot: ArcSwap::from_pointee(snapshot),
            published: watch::Sender::new(1),
            metrics,
            access_log: None,
            upstreams: States::default(),
            limiters: Limiters::default(),
            connections: AtomicUsize::new(0),
            connections_max: 1,
            shutdown: Shutdown::default(),
        });
        (Reloader::start(first, shared.clone()).unwrap(), shared)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Up to the listener's address.
const LISTENER: &str = "upstream.app.endpoints = [\"127.0.0.1:9\"]\n[[listener]]\nname = \"in\"\n\
                        route = [{ upstream = \"app\" }]\n";

/// The same with a filter in the chain.
const CHAINED: &str = "upstream.app.endpoints = [\"127.0.0.1:9\"]\n[[listener]]\nname = \"in\"\n\
     route = [{ upstream = \"app\", chain = [\"headers\"] }]\n";

fn headers(value: &str) -> String {
    format!(
        "[filter.headers]\nsource = \"builtin:headers\"\n\
         config = {{ response = [{{ set = {{ name = \"x\", value = \"{value}\" }} }}] }}\n"
    )
}

fn asked(reloader: &Reloader) -> Outcome {
    reloader.reload(Cause::Signal).blocking_recv().unwrap()
}

fn shown(outcome: Outcome) -> String {
    outcome.unwrap_err().to_string()
}

/// Waits until `generation` is published.
fn published(shared: &Shared, generation: u64) {
    let mut receiver = shared.published.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let wait = async { receiver.wait_for(|now| *now >= generation).await.map(|now| *now) };
    let now = runtime.block_on(async { tokio::time::timeout(PATIENCE, wait).await });
    assert_eq!(now.unwrap().unwrap(), generation);
}

/// Waits for an attempt that `wanted` accepts.
fn attempted(reloader: &Reloader, wanted: impl Fn(&Attempt) -> bool) -> Attempt {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(attempt) = reloader.last().filter(&wanted) {
            return attempt;
        }
        assert!(Instant::now() < end, "no such attempt: {:?}", reloader.last());
        std::thread::yield_now();
    }
}

#[test]
fn a_generation_has_a_part_for_every_worker() {
    let folder = Folder::new(&headers("1"));
    let (_, snapshot, _) = folder.first().unwrap();
    assert_eq!(snapshot.generation, 1);
    for worker in 0..WORKERS {
        let part = snapshot.take_part(worker).unwrap();
        assert_eq!((part.filters.len(), part.sockets.len()), (1, 1));
        assert!(snapshot.take_part(worker).is_none());
    }
    assert!(snapshot.take_part(WORKERS).is_none());
}

#[test]
fn asking_publishes_the_next_generation_and_keeps_the_sockets() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    for worker in 0..WORKERS {
        drop(shared.snapshot.load().take_part(worker));
    }
    let before = reloader.listening();
    assert_eq!(asked(&reloader).unwrap(), 2);
    assert_eq!(shared.snapshot.load().generation, 2);
    assert_eq!(*shared.published.borrow(), 2);
    assert_eq!(shared.metrics.process().generation(), 2);
    assert_eq!(reloader.listening(), before);
    assert!(shared.snapshot.load().take_part(0).unwrap().sockets.is_empty());
    assert_eq!(reloader.last().unwrap().cause, Cause::Signal);
}

#[test]
fn a_worker_that_passes_a_generation_over_gets_its_sockets_with_the_next() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    let actual = reloader.listening()["in"].actual;
    // Worker 0 takes its part, worker 1 is busy.
    let first = shared.snapshot.load().take_part(0).unwrap();
    assert_eq!((asked(&reloader).unwrap(), asked(&reloader).unwrap()), (2, 3));
    let snapshot = shared.snapshot.load();
    assert!(snapshot.take_part(0).unwrap().sockets.is_empty());
    let late = snapshot.take_part(1).unwrap().sockets;
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].1.local_addr().unwrap(), actual);
    drop(first);
}

#[test]
fn a_socket_is_given_to_its_worker_once_however_late_it_takes_its_part() {
    let folder = Folder::new("");
    let (_, running, _) = folder.first().unwrap();
    let (_, next, _) = folder.first().unwrap();
    let sockets = |snapshot: &Snapshot, worker| snapshot.take_part(worker).unwrap().sockets.len();
    assert_eq!(sockets(&running, 0), 1);
    next.inherit(&running, |name| name == "in");
    // Worker 1 comes between the last step of the building and the publication.
    assert_eq!(sockets(&running, 1), 0);
    // One each was opened for the generation itself.
    assert_eq!((sockets(&next, 0), sockets(&next, 1)), (1, 2));

    let (_, running, _) = folder.first().unwrap();
    let (_, next, _) = folder.first().unwrap();
    next.inherit(&running, |name| name != "in");
    assert_eq!((sockets(&running, 1), sockets(&next, 1)), (1, 1), "it has gone or moved");
}

#[test]
fn everything_that_is_wrong_is_told_in_one_run_and_nothing_changes() {
    let folder = Folder::new("[runtime]\nwatch = false\n");
    let (reloader, shared) = folder.start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    folder.save_whole(&format!(
        "runtime.workers = 7\n{LISTENER}address = \"{address}\"\n\
         [filter.a]\nsource = \"builtin:headers\"\nconfig = {{ respons = [] }}\n\
         [filter.b]\nsource = \"./missing.wasm\"\n\
         [filter.c]\nsource = \"builtin:rate-limit\"\n"
    ));
    let told = shown(asked(&reloader));
    let expected = [
        "pillion.toml:1:19: error: `runtime.workers` cannot change while the process runs",
        "is in use by another process",
        "pillion.toml:9:22: error: filter `a` refuses its configuration: `respons`",
        "pillion.toml:11:10: error: failed to read component",
        "filter `c` imports the capability `rate-limit`, which it is not granted",
    ];
    let mut rest = told.as_str();
    for part in expected {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part}: {told}"));
        rest = &rest[at..];
    }
    assert_eq!(shared.snapshot.load().generation, 1);
    assert_eq!(shared.metrics.process().reloads(), (0, 1));
    assert!(matches!(reloader.last().unwrap().outcome, Err(Refused::Problems(_))));
}

#[test]
fn an_open_filter_that_cannot_be_loaded_is_left_out_at_the_start_only() {
    let broken = "[filter.a]\nsource = \"./missing.wasm\"\nfail_policy = \"open\"\n";
    let folder = Folder::new(broken);
    let (reloader, shared) = folder.start();
    assert!(shared.snapshot.load().filters[0].is_none());
    assert!(shared.snapshot.load().take_part(1).unwrap().filters.is_empty());
    let swallowed = shared.metrics.process().swallowed_errors();
    assert_eq!(swallowed["filter_load_fail_open"], 1);
    assert!(shown(asked(&reloader)).contains("failed to read component"));

    let closed = Folder::new(&broken.replace("open", "closed"));
    assert!(closed.first().err().unwrap().to_string().contains("failed to read component"));
}

#[test]
fn saving_the_file_publishes_and_touching_it_does_not() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    folder.save(&headers("2"));
    published(&shared, 2);
    folder.save(&headers("2"));
    folder.save(&headers("3"));
    // Were the same bytes a generation, this one were the fourth.
    published(&shared, 3);
    let config = shared.snapshot.load().config.filters[0].config.to_string();
    assert!(config.contains("\"3\""), "{config}");
    assert_eq!(attempted(&reloader, |it| it.outcome.is_ok()).cause, Cause::File);
}

#[test]
fn a_broken_file_is_told_and_the_next_good_one_published() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    folder.save_whole("[[listener]]\nname = ");
    let attempt = attempted(&reloader, |it| it.outcome.is_err());
    assert_eq!(attempt.cause, Cause::File);
    assert_eq!(shared.snapshot.load().generation, 1);
    folder.save(&headers("2"));
    published(&shared, 2);
}

#[test]
fn a_component_that_was_missing_is_waited_for() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    folder.save("[filter.a]\nsource = \"./sub/a.wasm\"\n");
    attempted(&reloader, |it| it.outcome.is_err());
    std::fs::create_dir_all(folder.0.join("sub")).unwrap();
    // A folder that comes into being is not watched; saving the file is.
    std::fs::write(folder.0.join("sub/a.wasm"), shipped("headers")).unwrap();
    folder.save("[filter.a]\nsource = \"./sub/a.wasm\" # there\n");
    published(&shared, 2);

    folder.save("[filter.a]\nsource = \"./sub/b.wasm\"\n");
    attempted(&reloader, |it| shown_of(it).contains("b.wasm"));
    std::fs::write(folder.0.join("sub/b.wasm"), shipped("trace")).unwrap();
    attempted(&reloader, |it| shown_of(it).contains("`clock`"));
    std::fs::write(folder.0.join("sub/b.wasm"), shipped("headers")).unwrap();
    published(&shared, 3);
}

fn shipped(name: &str) -> &'static [u8] {
    pillion_filters::shipped(name).unwrap().component
}

fn shown_of(attempt: &Attempt) -> String {
    attempt.outcome.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_version_that_comes_back_is_not_compiled_again_while_it_is_in_use() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    let before = shared.snapshot.load_full();
    asked(&reloader).unwrap();
    let after = shared.snapshot.load_full();
    let code = |snapshot: &Snapshot| snapshot.filters[0].as_ref().unwrap().code().clone();
    assert!(Arc::ptr_eq(&code(&before), &code(&after)));
}

#[test]
fn a_filter_that_stays_as_it_is_goes_on_with_its_instances() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    let before = shared.snapshot.load_full();
    drop(before.take_part(0));
    let prepared = |snapshot: &Snapshot| snapshot.filters[0].clone().unwrap();
    asked(&reloader).unwrap();
    let same = shared.snapshot.load_full();
    assert!(Arc::ptr_eq(&prepared(&before), &prepared(&same)));
    assert!(same.take_part(0).unwrap().filters.is_empty(), "it has its instance");
    let inherited = same.take_part(1).unwrap().filters;
    assert_eq!(inherited.len(), 1, "what it has not taken comes with the next part");

    folder.save(&headers("2"));
    asked(&reloader).unwrap();
    let other = shared.snapshot.load_full();
    assert!(!Arc::ptr_eq(&prepared(&before), &prepared(&other)));
    assert_eq!(other.take_part(0).unwrap().filters.len(), 1);
}

#[test]
fn a_process_that_stops_publishes_nothing() {
    let folder = Folder::new(&headers("1"));
    let (reloader, shared) = folder.start();
    shared.shutdown.advance(Stage::Draining);
    assert!(matches!(asked(&reloader), Err(Refused::Stopping)));
    assert_eq!(shared.snapshot.load().generation, 1);
}

#[test]
fn the_watch_can_be_turned_off_and_on() {
    let folder = Folder::new("[runtime]\nwatch = false\n");
    let (reloader, shared) = folder.start();
    folder.save("[runtime]\nwatch = true\n");
    assert_eq!(asked(&reloader).unwrap(), 2);
    folder.save(&headers("1"));
    published(&shared, 3);
}

#[test]
fn reloads_over_the_number_that_may_wait_are_refused() {
    // Nobody takes them.
    let (requests, receiver) = sync_channel(WAITING_MAX);
    let state = State::default();
    let reloader = Reloader { requests, state: Arc::new(state) };
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| reloader.reload(Cause::Admin)).collect();
    assert!(waiting.iter_mut().all(|it| it.try_recv().is_err()));
    assert!(matches!(asked(&reloader), Err(Refused::TooMany)));
    drop(receiver.recv().unwrap());
    assert!(reloader.reload(Cause::Admin).try_recv().is_err(), "there is room again");
}
