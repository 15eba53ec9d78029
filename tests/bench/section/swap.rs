//! Swaps: from a saved filter to the first answer of its new version, and what requests feel of it.

use crate::pace;
use crate::plan::Plan;
use crate::report::Report;
use crate::statistics::percentile;
use crate::subject::envoy::discovery;
use crate::subject::{Proxy, Roster, Subject};
use crate::table::{Column, Table};
use pillion_tests::client::{self, Protocol};
use pillion_tests::{Client, guests, within};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

const TIMES: &[Column] =
    &[("ms", "save to first answer, ms", 1), ("max_ms", "longest, ms", 1), ("swaps", "swaps", 0)];
const LATENCIES: &[Column] =
    &[("p50_us", "p50, µs", 0), ("p99_us", "p99, µs", 0), ("failed", "failed", 0)];
const BEFORE: &str = "compiled before";
const COLD: &str = "compiled cold";
const FILTER: &str = "version.wasm";
/// Between two swaps while latency is measured.
const INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let mut swapped = match Swapped::start(origin).await {
        Ok(swapped) => swapped,
        Err(reason) => return report.skip(reason),
    };
    let mut table = Table::new("swap", "Swaps", TIMES);
    let swaps = if plan.quick { 6 } else { 200 };
    let mut envoys = Vec::new();
    for (subject, file, module) in roster.swappable_envoys() {
        match Replaced::start(&subject, file, module, origin).await {
            Ok(replaced) => envoys.push((subject.name, replaced)),
            Err(reason) => report.skip(reason),
        }
    }
    // Both versions are compiled by the end of these.
    for _ in 0..2 {
        swapped.save(&[]).await;
    }
    for turn in 0..swaps {
        if turn % 20 == 0 {
            eprintln!("swap: {} of {swaps}", turn + 1);
        }
        table.add(BEFORE, "ms", swapped.save(&[]).await);
        table.add(COLD, "ms", swapped.save(&custom_section(turn)).await);
        for (name, replaced) in &mut envoys {
            match replaced.save(turn).await {
                Ok(ms) => table.add(name, "ms", ms),
                Err(reason) => report.skip(format!("{name}: {reason}")),
            }
        }
    }
    let names = [BEFORE, COLD].into_iter().chain(envoys.iter().map(|(name, _)| *name));
    for name in names {
        let figures = table.figures(name, "ms");
        let (longest, count) = (figures.iter().copied().fold(0.0, f64::max), figures.len());
        table.add(name, "max_ms", longest);
        table.add(name, "swaps", count as f64);
    }
    table.remark(
        "One small filter. Cold means that nothing like it is in the cache, so that the compiling \
         process, which shares the one processor, comes in between. Envoy takes the filter from a \
         file that another is moved over (ECDS); its own one edits fields and is not compiled, the \
         proxy-wasm module is another one each time.",
    );
    report.tables.push(table);

    let title = format!("Latency while a filter is swapped every {} ms", INTERVAL.as_millis());
    let mut table = Table::new("swap_latency", &title, LATENCIES);
    let length = Duration::from_secs(if plan.quick { 2 } else { 5 });
    for round in 1..=plan.rounds {
        for swapping in [false, true] {
            eprintln!("swap, latency: round {round} of {}", plan.rounds);
            match swapped.paced(length, swapping).await {
                Ok(paced) => {
                    let row = if swapping { "with swaps" } else { "without" };
                    let at = |part| percentile(&paced.latencies_us, part).unwrap_or(f64::NAN);
                    table.add(row, "p50_us", at(0.5));
                    table.add(row, "p99_us", at(0.99));
                    table.add(row, "failed", paced.failed as f64);
                }
                Err(reason) => report.skip(reason),
            }
        }
    }
    report.tables.push(table);
}

/// A sidecar with a filter of two versions, and where it stands.
struct Swapped {
    proxy: Proxy,
    components: [Vec<u8>; 2],
    /// Which version is in force.
    version: usize,
    generation: u64,
}

impl Swapped {
    async fn start(origin: SocketAddr) -> Result<Swapped, String> {
        let components = ["version-a", "version-b"]
            .map(|name| std::fs::read(guests::path(name)).expect("the guests are built"));
        let first = components[0].clone();
        let subject = Subject::pillion("Pillion, a filter to swap", move |setup| {
            setup.file(FILTER, &first).filter("version", &format!("./{FILTER}"), "")
        });
        let proxy = subject.start(origin).await?;
        Ok(Swapped { proxy, components, version: 0, generation: 1 })
    }

    /// Saves the other version, with `more` at its end: milliseconds to its first answer.
    async fn save(&mut self, more: &[u8]) -> f64 {
        self.version = 1 - self.version;
        self.generation += 1;
        let content = [&self.components[self.version][..], more].concat();
        let name = ["a", "b"][self.version];
        let sidecar = self.proxy.sidecar().expect("the subject is Pillion");
        // A connection of its own for each swap: asking without a pause, one connection would have
        // had all the requests it may carry after a few swaps.
        let mut client = Client::connect(self.proxy.address, Protocol::Http1).await;
        let saved = Instant::now();
        sidecar.write(FILTER, content);
        within("the first answer of the new version", async {
            while client.get("/").await.header("x-version") != name {}
        })
        .await;
        let took = saved.elapsed();
        sidecar.generation(self.generation).await;
        took.as_secs_f64() * 1e3
    }

    /// Latency at a fixed rate, with swaps meanwhile or without.
    async fn paced(&mut self, length: Duration, swapping: bool) -> Result<pace::Paced, String> {
        let mut turn = tokio::time::interval(INTERVAL);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut load = Box::pin(pace::run(self.proxy.address, length, pace::RATE));
        loop {
            tokio::select! {
                paced = &mut load => return paced,
                _ = turn.tick(), if swapping => self.swap().await,
            }
        }
    }

    /// Saves the other version and waits until it is in force, without requests of our own.
    async fn swap(&mut self) {
        self.version = 1 - self.version;
        self.generation += 1;
        let sidecar = self.proxy.sidecar().expect("the subject is Pillion");
        sidecar.write(FILTER, &self.components[self.version]);
        sidecar.generation(self.generation).await;
    }
}

/// Envoy with a filter in a file of its own.
struct Replaced {
    proxy: Proxy,
    file: PathBuf,
    /// Of a proxy-wasm filter: its content, and where each new version of it is put.
    module: Option<(Vec<u8>, PathBuf)>,
}

impl Replaced {
    async fn start(
        subject: &Subject,
        file: PathBuf,
        module: Option<PathBuf>,
        origin: SocketAddr,
    ) -> Result<Replaced, String> {
        let module = match module {
            None => None,
            Some(path) => {
                let bytes = std::fs::read(&path);
                let bytes = bytes.map_err(|error| format!("{}: {error}", path.display()))?;
                Some((bytes, file.with_extension("wasm")))
            }
        };
        put(&file, &module, "start", usize::MAX)?;
        let proxy = subject.start(origin).await?;
        Ok(Replaced { proxy, file, module })
    }

    /// Moves another version over the file: milliseconds to its first answer.
    async fn save(&mut self, turn: usize) -> Result<f64, String> {
        let version = format!("v{turn}");
        let mut client = Client::connect(self.proxy.address, Protocol::Http1).await;
        let saved = Instant::now();
        put(&self.file, &self.module, &version, turn)?;
        let new = async {
            loop {
                let request = client.request(http::Method::GET, "/").body(client::empty());
                match client.try_fetch(request.expect("the request is valid")).await {
                    Ok(reply)
                        if reply.headers.get("x-version").is_some_and(|it| *it == version) =>
                    {
                        return;
                    }
                    Ok(_) => {}
                    // It closes connections after some requests, or for another reason of its own.
                    Err(_) => client = Client::connect(self.proxy.address, Protocol::Http1).await,
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), new).await {
            Ok(()) => Ok(saved.elapsed().as_secs_f64() * 1e3),
            Err(_) => Err(format!("`{version}` did not answer in 20 s")),
        }
    }
}

/// Puts a version into the file, by a move, and its module beside it.
fn put(
    file: &Path,
    module: &Option<(Vec<u8>, PathBuf)>,
    version: &str,
    turn: usize,
) -> Result<(), String> {
    let write = || {
        if let Some((bytes, path)) = module {
            std::fs::write(path, [bytes, &custom_section(turn)[..]].concat())?;
        }
        let text = discovery(version, module.as_ref().map(|(_, path)| path.as_path()));
        let new = file.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, file)
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", file.display()))
}

/// A section that no tool reads: it makes a component one that was never seen before.
fn custom_section(turn: usize) -> Vec<u8> {
    let unique = format!("{}-{turn}", std::process::id());
    let name = b"bench";
    let length = 1 + name.len() + unique.len();
    let length = u8::try_from(length).expect("a number of a few digits");
    // Below 128 a length is one byte.
    assert!(length < 0x80);
    [&[0, length, name.len() as u8][..], name, unique.as_bytes()].concat()
}
