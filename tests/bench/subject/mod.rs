//! The proxies that are measured, each in front of the same origin. A peer that is not installed is
//! left out, with the reason.
//!
//! `peers` knows the others' configuration files, `pillion` our own settings. The names here are
//! those of the report, and of the targets.

pub(crate) mod envoy;
mod peers;
pub(crate) mod pillion;
mod proxy_wasm;

use crate::machine::version;
use crate::measure::{PROXY_CPU, on, placed};
use crate::plan::Plan;
use pillion_tests::Sidecar;
use pillion_tests::process::{Running, binaries, find, target};
use pillion_tests::sidecar::Setup;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) const HYPER: &str = "minimal hyper proxy";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const ENVOY: &str = "Envoy";
pub(crate) const ENVOY_WASM: &str = "Envoy, three proxy-wasm filters";
pub(crate) const PILLION: &str = "Pillion";
pub(crate) const PILLION_THREE: &str = "Pillion, trace + headers + rate-limit";

/// How long a proxy may take to answer for the first time.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// A proxy to measure.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    how: How,
}

enum How {
    Program(Box<dyn Fn(Ends) -> Command>),
    /// With so many workers, on as many processors.
    Pillion(usize, Box<dyn Fn(Setup) -> Setup>),
}

/// Where a proxy listens, and what it forwards to.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) address: SocketAddr,
    pub(crate) origin: SocketAddr,
}

/// A running one; it ends with this value.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    process: Process,
}

enum Process {
    Program(Running),
    Sidecar(Box<Sidecar>),
}

impl Proxy {
    pub(crate) fn id(&self) -> u32 {
        match &self.process {
            Process::Program(running) => running.id(),
            Process::Sidecar(sidecar) => sidecar.id(),
        }
    }

    /// Ours, where it is Pillion.
    pub(crate) fn sidecar(&self) -> Option<&Sidecar> {
        match &self.process {
            Process::Program(_) => None,
            Process::Sidecar(sidecar) => Some(sidecar),
        }
    }

    fn ended(&mut self) -> bool {
        match &mut self.process {
            Process::Program(running) => running.exit_code().is_some(),
            Process::Sidecar(sidecar) => sidecar.ended(),
        }
    }
}

/// Everybody who is there, and why others are not.
#[derive(Default)]
pub(crate) struct Roster {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) skipped: Vec<String>,
    pub(crate) versions: Vec<(&'static str, String)>,
    /// Envoy, and the proxy-wasm filter that tells its version, where they are there.
    envoy: Option<PathBuf>,
    version_module: Option<PathBuf>,
}

impl Roster {
    pub(crate) fn of(plan: &Plan) -> Roster {
        let mut roster = Roster::default();
        for (name, mode) in [(HYPER, "proxy"), ("minimal hyper proxy, the jobs in Rust", "jobs")] {
            roster.program(name, move |ends| yardstick(mode, ends));
        }
        match find("nginx") {
            Some(binary) => roster.nginx(&binary),
            None => roster.skipped.push("nginx: it is not installed".to_owned()),
        }
        match find("haproxy") {
            Some(binary) => {
                roster.versions.push(("haproxy", version(Command::new(&binary).arg("-v"))));
                roster.program("haproxy", move |ends| peers::haproxy(&binary, ends));
            }
            None => roster.skipped.push("haproxy: it is not installed".to_owned()),
        }
        match envoy::find(plan.envoy.as_deref()) {
            Ok(binary) => roster.envoy(&binary, plan),
            Err(reason) => roster.skipped.push(format!("Envoy: {reason}")),
        }
        for (name, with) in pillion::ALL {
            roster.subjects.push(Subject { name, how: How::Pillion(1, Box::new(with)) });
        }
        roster
    }

    fn nginx(&mut self, binary: &Path) {
        self.versions.push(("nginx", version(Command::new(binary).arg("-v"))));
        let named = [(NGINX, peers::Jobs::None), ("nginx, equivalent logic", peers::Jobs::All)];
        for (name, jobs) in named {
            let binary = binary.to_owned();
            self.program(name, move |ends| peers::nginx_proxy(&binary, ends, jobs));
        }
    }

    fn envoy(&mut self, binary: &Path, plan: &Plan) {
        self.versions.push(("Envoy", version(Command::new(binary).arg("--version"))));
        let mut kinds =
            vec![(ENVOY, envoy::Filters::None), ("Envoy, native filters", envoy::Filters::Native)];
        match proxy_wasm::modules(plan.build_proxy_wasm) {
            Ok(modules) => {
                self.version_module = Some(modules.version());
                kinds.extend([
                    ("Envoy, a no-op proxy-wasm filter", envoy::Filters::Wasm(modules.noop())),
                    (ENVOY_WASM, envoy::Filters::Wasm(modules.three())),
                    (
                        "Envoy, three proxy-wasm filters + a no-op",
                        envoy::Filters::Wasm(modules.three_and_noop()),
                    ),
                ]);
            }
            Err(reason) => self.skipped.push(format!("Envoy with proxy-wasm filters: {reason}")),
        }
        self.envoy = Some(binary.to_owned());
        for (name, filters) in kinds {
            let binary = binary.to_owned();
            self.program(name, move |ends| envoy::command(&binary, name, ends, &filters));
        }
    }

    fn program(&mut self, name: &'static str, command: impl Fn(Ends) -> Command + 'static) {
        self.subjects.push(Subject { name, how: How::Program(Box::new(command)) });
    }

    /// Envoy with one filter that it takes from a file whenever that is replaced, and for the content
    /// of the file the module of that filter: its own one, which needs none, and proxy-wasm.
    pub(crate) fn swappable_envoys(&self) -> Vec<(Subject, PathBuf, Option<PathBuf>)> {
        let Some(binary) = &self.envoy else { return Vec::new() };
        let one = |name: &'static str, module: Option<PathBuf>| {
            let file = place().join(format!("{} {}.json", file_name(name), std::process::id()));
            let (binary, in_file) = (binary.clone(), file.clone());
            let command = move |ends| {
                let filters = envoy::Filters::Discovered(in_file.clone());
                envoy::command(&binary, name, ends, &filters)
            };
            (Subject { name, how: How::Program(Box::new(command)) }, file, module)
        };
        let native = one("Envoy, its own filter from a file", None);
        let module = self.version_module.clone();
        let wasm = module.map(|module| one("Envoy, a proxy-wasm filter from a file", Some(module)));
        std::iter::once(native).chain(wasm).collect()
    }

    /// The subjects of these names that are there, in this order.
    pub(crate) fn named(&self, names: &[&str]) -> Vec<&Subject> {
        names.iter().filter_map(|name| self.subjects.iter().find(|it| it.name == *name)).collect()
    }
}

impl Subject {
    /// Pillion with other settings than those of the roster.
    pub(crate) fn pillion(name: &'static str, with: impl Fn(Setup) -> Setup + 'static) -> Subject {
        Subject { name, how: How::Pillion(1, Box::new(with)) }
    }

    /// Pillion with so many workers, on as many processors.
    pub(crate) fn workers(mut self, count: usize) -> Subject {
        if let How::Pillion(workers, _) = &mut self.how {
            *workers = count;
        }
        self
    }

    /// Starts it; it has answered 200 when this returns. `Err` says why it did not.
    pub(crate) async fn start(&self, origin: SocketAddr) -> Result<Proxy, String> {
        Ok(self.start_timed(origin).await?.0)
    }

    /// Starts it, and tells the time from the start of the process to the first 200.
    pub(crate) async fn start_timed(
        &self,
        origin: SocketAddr,
    ) -> Result<(Proxy, Duration), String> {
        let address = free_address();
        let started;
        let proxy = match &self.how {
            How::Program(command) => {
                let command = command(Ends { address, origin });
                started = Instant::now();
                launch(command, self.name, address, true)?
            }
            How::Pillion(workers, with) => {
                let setup = with(pillion::between(Ends { address, origin }, *workers));
                started = Instant::now();
                let sidecar = on(|cpu| cpu < PROXY_CPU + workers, || setup.launch());
                Proxy { address, process: Process::Sidecar(Box::new(sidecar)) }
            }
        };
        answering(proxy, self.name).await.map(|proxy| (proxy, started.elapsed()))
    }
}

/// Waits for the first 200.
async fn answering(mut proxy: Proxy, name: &str) -> Result<Proxy, String> {
    let first = async {
        let mut turn = tokio::time::interval(Duration::from_millis(1));
        while !answers(proxy.address).await {
            if proxy.ended() {
                return Err("it ended before it answered");
            }
            turn.tick().await;
        }
        Ok(())
    };
    let why = match tokio::time::timeout(START_TIME_MAX, first).await {
        Ok(Ok(())) => return Ok(proxy),
        Ok(Err(why)) => why,
        Err(_) => "it did not answer in 20 s",
    };
    let log = place().join(format!("{}.log", file_name(name)));
    Err(format!("{name}: {why}; what it wrote is in {}", log.display()))
}

/// Whether `address` answers 200 now.
async fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = b"GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(request).await.is_ok()
        && stream.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

/// What the proxies stand before with small answers: nginx, or our own where there is none.
pub(crate) async fn origin() -> Result<Proxy, String> {
    let address = free_address();
    let command = match find("nginx") {
        Some(binary) => peers::nginx_origin(&binary, address),
        None => yardstick_origin(address),
    };
    let proxy = launch(command, "origin", address, false)?;
    answering(proxy, "origin").await
}

/// Our own origin, which has bodies of any length and reads whole requests.
pub(crate) async fn body_origin() -> Result<Proxy, String> {
    let address = free_address();
    let proxy = launch(yardstick_origin(address), "body origin", address, false)?;
    answering(proxy, "body origin").await
}

fn yardstick(mode: &str, ends: Ends) -> Command {
    let mut command = Command::new(binaries().join("bench-proxy"));
    command.args([mode, &ends.address.to_string(), &ends.origin.to_string()]);
    command
}

fn yardstick_origin(address: SocketAddr) -> Command {
    let mut command = Command::new(binaries().join("bench-proxy"));
    command.args(["origin", &address.to_string()]);
    command
}

/// Starts a program on the processor of the proxies, or on the others. What it writes goes to a file.
fn launch(
    mut command: Command,
    name: &str,
    address: SocketAddr,
    on_proxy_cpu: bool,
) -> Result<Proxy, String> {
    let log = place().join(format!("{}.log", file_name(name)));
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let child = placed(on_proxy_cpu, || command.spawn());
    let child = child.map_err(|error| format!("{name} could not be started: {error}"))?;
    Ok(Proxy { address, process: Process::Program(Running::new(child)) })
}

/// The directory of the peers' files.
fn place() -> PathBuf {
    let place = target().join("bench").join("peers");
    std::fs::create_dir_all(&place).expect("the target directory can be written");
    place
}

/// Writes a configuration file for one run of one peer.
fn write_file(name: &str, text: &str) -> PathBuf {
    let file = place().join(file_name(name));
    std::fs::write(&file, text).expect("the target directory can be written");
    file
}

fn file_name(name: &str) -> String {
    name.replace([' ', ',', ':', '+'], "-")
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port can be bound");
    listener.local_addr().expect("a bound socket has an address")
}
