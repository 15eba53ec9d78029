//! A running Pillion: its file, its directory, its process, its log, and ways to talk to it.
//!
//! The file is written from parts (`Setup`) or given whole. Every port is 0; the log tells which ones
//! the kernel chose. Compiled filters are cached for the whole run of the tests.

use crate::client::{Client, Protocol, Reply};
use crate::log::{Event, Log};
use crate::origin::Origin;
use crate::process::{Running, binaries, resident_kib, target};
use crate::wait::{until, within};
use crate::wire::Wire;
use bytes::Bytes;
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of a whole file that stands for the origin's address, in quotes.
pub const APP: &str = "@APP@";

/// A sidecar to be started.
pub struct Setup {
    whole: Option<String>,
    address: SocketAddr,
    endpoints: Vec<String>,
    chain: Vec<String>,
    filters: String,
    runtime: String,
    listener: String,
    route: String,
    upstream: String,
    listener_limits: String,
    upstream_limits: String,
    extra: String,
    environment: Vec<(String, String)>,
    mounted: bool,
    directory: Directory,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            whole: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            endpoints: Vec::new(),
            chain: Vec::new(),
            filters: String::new(),
            runtime: String::new(),
            listener: String::new(),
            route: String::new(),
            upstream: String::new(),
            listener_limits: String::new(),
            upstream_limits: String::new(),
            extra: String::new(),
            environment: Vec::new(),
            mounted: false,
            directory: Directory::new(),
        }
    }
}

impl Setup {
    /// The listener's address, where a port of the kernel's choice will not do.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Setup {
        self.address = address;
        self
    }

    /// Adds `origin` to the endpoints of the upstream `app`.
    #[must_use]
    pub fn origin(self, origin: &Origin) -> Setup {
        self.endpoint(origin.address)
    }

    /// Adds an endpoint to the upstream `app`, as it is written.
    #[must_use]
    pub fn named(mut self, endpoint: &str) -> Setup {
        self.endpoints.push(endpoint.to_owned());
        self
    }

    /// Adds an endpoint to the upstream `app`.
    #[must_use]
    pub fn endpoint(mut self, address: SocketAddr) -> Setup {
        self.endpoints.push(address.to_string());
        self
    }

    /// The upstream speaks HTTP/2.
    #[must_use]
    pub fn h2c(self) -> Setup {
        self.upstream("protocol = \"h2c\"")
    }

    /// Adds a filter to the end of the chain; `keys` are further lines of its table.
    #[must_use]
    pub fn filter(mut self, name: &str, source: &str, keys: &str) -> Setup {
        self.chain.push(name.to_owned());
        let table = format!("[filter.{name}]\nsource = {source:?}\n{keys}\n");
        self.filters.push_str(&table);
        self
    }

    /// Adds a shipped filter to the end of the chain, under its own name.
    #[must_use]
    pub fn builtin(self, name: &str, keys: &str) -> Setup {
        self.filter(name, &format!("builtin:{name}"), keys)
    }

    /// Adds a test guest to the end of the chain, under its own name.
    #[must_use]
    pub fn guest(self, name: &str, keys: &str) -> Setup {
        let path = crate::guests::path(name);
        self.filter(name, &path.to_string_lossy(), keys)
    }

    /// Further keys of `[runtime]`.
    #[must_use]
    pub fn runtime(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.runtime, "{keys}");
        self
    }

    /// Further keys of the listener.
    #[must_use]
    pub fn listener(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.listener, "{keys}");
        self
    }

    /// Further keys of its route.
    #[must_use]
    pub fn route(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.route, "{keys}");
        self
    }

    /// Further keys of the upstream.
    #[must_use]
    pub fn upstream(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.upstream, "{keys}");
        self
    }

    /// Keys of the listener's limits.
    #[must_use]
    pub fn listener_limits(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.listener_limits, "{keys}");
        self
    }

    /// Keys of the upstream's limits.
    #[must_use]
    pub fn upstream_limits(mut self, keys: &str) -> Setup {
        let _ = writeln!(self.upstream_limits, "{keys}");
        self
    }

    /// Further tables at the end of the file.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Setup {
        let _ = writeln!(self.extra, "{text}");
        self
    }

    /// An environment variable of the process.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the sidecar's directory, there before it starts.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        self.directory.write(name, content);
        self
    }

    /// The file is reached through two symlinks, as in a mounted ConfigMap.
    #[must_use]
    pub fn mounted(mut self) -> Setup {
        self.mounted = true;
        self
    }

    /// The sidecar's directory.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// The file as it will be written.
    pub fn text(&self) -> String {
        if let Some(whole) = &self.whole {
            let app = self.endpoints.first().cloned().unwrap_or_else(|| "127.0.0.1:9".to_owned());
            return whole.replace(APP, &app);
        }
        let Setup { address, runtime, listener, route, upstream, filters, extra, .. } = self;
        let Setup { listener_limits, upstream_limits, chain, endpoints, .. } = self;
        let text = format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n\n[runtime]\n{runtime}\n\
             [[listener]]\nname = \"inbound\"\naddress = \"{address}\"\n{listener}\n\
             [listener.limits]\n{listener_limits}\n\
             [[listener.route]]\nchain = {chain:?}\nupstream = \"app\"\n{route}\n\
             [upstream.app]\nendpoints = {endpoints:?}\n{upstream}\n\
             [upstream.app.limits]\n{upstream_limits}\n{filters}\n{extra}\n"
        );
        text
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> Sidecar {
        let mut sidecar = self.launch();
        sidecar.is_ready().await;
        sidecar
    }

    /// Starts it and waits for it to end by itself.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn refused(self) -> Refusal {
        let mut sidecar = self.launch();
        let code = sidecar.exit_code().await;
        sidecar.log.ended().await;
        Refusal { code, text: sidecar.log.lines().join("\n") }
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn launch(self) -> Sidecar {
        let file = if self.mounted {
            self.directory.mount(&self.text())
        } else {
            self.directory.write("pillion.toml", self.text())
        };
        let (process, log, output) = spawn(&file, &self.directory, &self.environment);
        Sidecar {
            process,
            log,
            output,
            file,
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            listeners: Vec::new(),
            environment: self.environment,
            directory: self.directory,
        }
    }
}

fn spawn(
    file: &Path,
    directory: &Directory,
    environment: &[(String, String)],
) -> (Running, Log, Log) {
    let mut command = pillion();
    command.arg("run").arg("-c").arg(file).current_dir(&directory.path);
    // Beside the file, and gone with it.
    command.env("XDG_STATE_HOME", directory.path.join("state"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Running::new(command.spawn().expect("`pillion` can be started"));
    let log = Log::capture(process.child().stderr.take().expect("it was asked for"));
    let output = Log::capture(process.child().stdout.take().expect("it was asked for"));
    (process, log, output)
}

/// The command `pillion`, with the cache of compiled filters that all tests share.
pub fn pillion() -> Command {
    let mut command = Command::new(binaries().join("pillion"));
    command.env("XDG_CACHE_HOME", target().join("tmp").join("suite-cache"));
    command.env("XDG_STATE_HOME", target().join("tmp").join("suite-state"));
    command.env_remove("PILLION_LOG");
    command
}

/// Why a sidecar did not start.
pub struct Refusal {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard error.
    pub text: String,
}

/// A running sidecar; it ends with this value.
pub struct Sidecar {
    /// What it writes to standard error.
    pub log: Log,
    /// What it writes to standard output.
    pub output: Log,
    /// Its configuration file.
    pub file: PathBuf,
    /// Its admin listener.
    pub admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    process: Running,
    environment: Vec<(String, String)>,
    directory: Directory,
}

impl Sidecar {
    /// One listener `inbound`, whose only route leads to the upstream `app`.
    #[expect(
        clippy::new_ret_no_self,
        reason = "`Sidecar::new().origin(&o).start().await` is speech"
    )]
    pub fn new() -> Setup {
        Setup::default()
    }

    /// With this file, in which [`APP`] stands for the address of the first origin.
    pub fn with(toml: &str) -> Setup {
        Setup { whole: Some(toml.to_owned()), ..Setup::default() }
    }

    /// Where the listener called `name` is.
    ///
    /// # Panics
    /// When there is none.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let named = self.listeners.iter().find(|(listener, _)| listener == name);
        named.unwrap_or_else(|| panic!("no listener `{name}` in {:?}", self.listeners)).1
    }

    /// Where the first listener is.
    ///
    /// # Panics
    /// When there is none.
    pub fn address(&self) -> SocketAddr {
        self.listeners.first().expect("a sidecar has a listener").1
    }

    /// A URL of the first listener.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address())
    }

    /// A connection to the first listener.
    pub async fn connect(&self, protocol: Protocol) -> Client {
        Client::connect(self.address(), protocol).await
    }

    /// A raw connection to the first listener.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.address()).await
    }

    /// `GET target` on a connection of its own.
    pub async fn get(&self, target: &str) -> Reply {
        self.connect(Protocol::Http1).await.get(target).await
    }

    /// `GET target` with fields, on a connection of its own.
    pub async fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        let mut client = self.connect(Protocol::Http1).await;
        let mut request = client.request(http::Method::GET, target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(crate::client::empty()).expect("the request is valid");
        client.fetch(request).await
    }

    /// `POST target` on a connection of its own.
    pub async fn post(&self, target: &str, body: impl Into<Bytes>) -> Reply {
        self.connect(Protocol::Http1).await.post(target, body).await
    }

    /// `GET target` of the admin listener.
    pub async fn admin(&self, target: &str) -> Reply {
        self.admin_as("GET", target).await
    }

    /// Any request without a body to the admin listener.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn admin_as(&self, method: &str, target: &str) -> Reply {
        let request = self.admin_request(method, target).body(crate::client::empty());
        let mut client = Client::connect(self.admin, Protocol::Http1).await;
        client.fetch(request.expect("the request is valid")).await
    }

    /// `POST target` with a body of this type to the admin listener.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn admin_post(&self, target: &str, kind: &str, body: impl Into<Bytes>) -> Reply {
        let request = self.admin_request("POST", target).header("content-type", kind);
        let request = request.body(crate::client::full(body)).expect("the request is valid");
        Client::connect(self.admin, Protocol::Http1).await.fetch(request).await
    }

    fn admin_request(&self, method: &str, target: &str) -> http::request::Builder {
        let host = self.admin.to_string();
        http::Request::builder().method(method).uri(target).header("host", host)
    }

    /// `/status` of the admin listener.
    ///
    /// # Panics
    /// When it is not JSON.
    pub async fn status(&self) -> Value {
        let reply = self.admin("/status").await;
        serde_json::from_slice(&reply.body).expect("the status is JSON")
    }

    /// The value of a metric, summed over the series whose labels contain all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.admin("/metrics").await.text(), name, labels)
    }

    /// Waits until a metric has a value that `wanted` accepts.
    pub async fn metric_is(
        &self,
        name: &str,
        labels: &[&str],
        wanted: impl Fn(f64) -> bool,
    ) -> f64 {
        let what = format!("{name}{labels:?} to be as wanted");
        until(&what, async || Some(self.metric(name, labels).await).filter(|value| wanted(*value)))
            .await
    }

    /// Replaces `from` by `to` in the configuration file, as an editor saves it.
    ///
    /// # Panics
    /// When `from` is not in it.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.file).expect("the file is there");
        assert!(text.contains(from), "{from:?} is not in the file:\n{text}");
        self.save(&text.replace(from, to));
    }

    /// Saves the configuration file.
    pub fn save(&self, text: &str) {
        self.directory.write("pillion.toml", text);
    }

    /// Replaces the file of a [`Setup::mounted`] sidecar, as an updated ConfigMap does.
    pub fn remount(&self, text: &str) {
        self.directory.mount(text);
    }

    /// Writes a file in the sidecar's directory, by renaming: whole or not at all.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.directory.write(name, content)
    }

    /// The sidecar's directory.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// Waits until generation `number` is published.
    pub async fn generation(&self, number: u64) -> Event {
        self.log
            .event(&format!("generation {number}"), |event| {
                event.message() == "generation published"
                    && event.field("generation") == number.to_string()
            })
            .await
    }

    /// Waits for the first failed reload.
    pub async fn reload_failed(&self) -> Event {
        self.log.event("a failed reload", |event| event.message() == "reload failed").await
    }

    /// Waits until it serves, and learns where.
    async fn is_ready(&mut self) {
        let ready = self.log.event("`ready`", |event| event.message() == "ready").await;
        self.admin = address(&ready.field("admin"));
        self.listeners = ready
            .field("listeners")
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, at)| (name.trim().to_owned(), address(at)))
            .collect();
    }

    /// Kills the process where it stands, and starts another one over the same file and state. The
    /// log begins anew.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn kill_and_restart(&mut self) {
        self.process.kill();
        let (process, log, output) = spawn(&self.file, &self.directory, &self.environment);
        (self.process, self.log, self.output) = (process, log, output);
        self.is_ready().await;
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.hang_up();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.process.id())
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> bool {
        self.process.exit_code().is_some()
    }

    /// Waits for its end, and tells its exit code.
    pub async fn exit_code(&mut self) -> i32 {
        until("the process to end", async || self.process.exit_code()).await
    }

    /// Waits until the admin listener says that the sidecar is (not) ready.
    pub async fn ready_is(&self, status: u16) {
        within("readiness to change", async {
            until("readyz", async || (self.admin("/readyz").await.status == status).then_some(()))
                .await;
        })
        .await;
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the sidecar's log ends with\n{}\n---", self.log.tail(15));
        }
    }
}

/// The sum of the series of `name` whose labels contain all of `labels`.
pub fn sum(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let series = exposition.lines().filter(|line| !line.starts_with('#'));
    let values = series.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, rest) = series.split_once('{').unwrap_or((series, ""));
        let wanted = found == name && labels.iter().all(|label| rest.contains(label));
        wanted.then(|| value.parse::<f64>().ok()).flatten()
    });
    values.sum()
}

fn address(text: &str) -> SocketAddr {
    text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no address in the line `ready`"))
}

/// A directory of one sidecar, removed with it unless its test fails.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let path = target().join("tmp").join("suite").join(name);
        // What an earlier process of the same id left behind.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target directory can be written");
        Directory { path }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        let fresh = self.path.join(format!(".{}.new", name.replace('/', "-")));
        let parent = path.parent().expect("a file is in a directory");
        std::fs::create_dir_all(parent).expect("directories can be made");
        std::fs::write(&fresh, content).expect("files can be written");
        std::fs::rename(&fresh, &path).expect("files can be renamed");
        path
    }

    /// `mount/pillion.toml` is a link to `..data/pillion.toml`, and `..data` one to a directory with
    /// this content; an earlier such directory is removed, as the kubelet does.
    fn mount(&self, text: &str) -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mount = self.path.join("mount");
        let content = format!("..content-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.write(&format!("mount/{content}/pillion.toml"), text);
        let (data, fresh) = (mount.join("..data"), mount.join("..data_tmp"));
        let former = std::fs::read_link(&data).ok();
        symlink(&content, &fresh).expect("links can be made");
        std::fs::rename(&fresh, &data).expect("links can be renamed");
        let file = mount.join("pillion.toml");
        match former {
            Some(former) => {
                std::fs::remove_dir_all(mount.join(former)).expect("directories can be removed");
            }
            None => symlink("..data/pillion.toml", &file).expect("links can be made"),
        }
        file
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
