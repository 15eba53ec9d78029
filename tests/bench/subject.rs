//! The proxies that are measured, each in front of the same origin: a minimal one on hyper, nginx
//! where it is installed, and Pillion without filters, with a no-op one, and with the three shipped.

use crate::measure::placed;
use pillion_tests::process::{Running, binaries, find, target};
use pillion_tests::sidecar::Setup;
use pillion_tests::{Sidecar, until, within};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A proxy to measure.
pub(crate) enum Subject {
    Minimal,
    Nginx(PathBuf),
    Pillion(&'static str, fn(Setup) -> Setup),
}

/// A running one.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    process: Process,
}

enum Process {
    Other(Running),
    Sidecar(Box<Sidecar>),
}

impl Proxy {
    pub(crate) fn id(&self) -> u32 {
        match &self.process {
            Process::Other(running) => running.id(),
            Process::Sidecar(sidecar) => sidecar.id(),
        }
    }
}

impl Subject {
    pub(crate) fn all() -> Vec<Subject> {
        let mut all = vec![Subject::Minimal];
        all.extend(find("nginx").map(Subject::Nginx));
        all.push(Subject::Pillion("pillion, no filter", |setup| setup));
        all.push(Subject::Pillion("pillion, a no-op filter", |setup| setup.guest("noop", "")));
        all.push(Subject::Pillion("pillion, the three filters", three));
        all
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Subject::Minimal => "a minimal hyper proxy".to_owned(),
            Subject::Nginx(_) => "nginx".to_owned(),
            Subject::Pillion(name, _) => (*name).to_owned(),
        }
    }

    /// Starts it; it has answered 200 when this returns.
    pub(crate) async fn start(&self, origin: SocketAddr) -> Proxy {
        self.start_timed(origin).await.0
    }

    /// Starts it, and tells the time from the start of the process to the first 200.
    pub(crate) async fn start_timed(&self, origin: SocketAddr) -> (Proxy, Duration) {
        let started = Instant::now();
        let proxy = match self {
            Subject::Minimal => {
                let address = free_address();
                let mut command = Command::new(binaries().join("bench-proxy"));
                command.args(["proxy", &address.to_string(), &origin.to_string()]);
                other(command, address)
            }
            Subject::Nginx(binary) => {
                let address = free_address();
                other(nginx(binary, &nginx_proxy(address, origin)), address)
            }
            Subject::Pillion(_, with) => {
                let address = free_address();
                let setup = with(Sidecar::new().endpoint(origin).runtime("workers = 1"));
                let text = setup.text().replacen(
                    "name = \"inbound\"\naddress = \"127.0.0.1:0\"",
                    &format!("name = \"inbound\"\naddress = \"{address}\""),
                    1,
                );
                let setup = Sidecar::with(&text);
                let sidecar = placed(true, || setup.launch());
                Proxy { address, process: Process::Sidecar(Box::new(sidecar)) }
            }
        };
        within("the first 200", async {
            let mut turn = tokio::time::interval(Duration::from_millis(1));
            while !answers(proxy.address).await {
                turn.tick().await;
            }
        })
        .await;
        (proxy, started.elapsed())
    }
}

/// The three shipped filters, each doing its work on every request and refusing none.
pub(crate) fn three(setup: Setup) -> Setup {
    setup
        .builtin("trace", "")
        .builtin(
            "headers",
            "config = { request = [{ set = { name = \"x-client\", value = \"${client.address}\" } \
             }], response = [{ set = { name = \"x-served-by\", value = \"pillion\" } }] }",
        )
        .builtin("rate-limit", "grants = { rate-limit = { requests = 1000000000, per = \"1s\" } }")
}

fn other(mut command: Command, address: SocketAddr) -> Proxy {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = placed(true, || command.spawn()).expect("the proxy can be started");
    Proxy { address, process: Process::Other(Running::new(child)) }
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

/// What the proxies stand before: nginx, or our own where there is none.
pub(crate) async fn origin() -> Proxy {
    let address = free_address();
    let mut command = match find("nginx") {
        Some(binary) => nginx(&binary, &nginx_origin(address)),
        None => {
            let mut command = Command::new(binaries().join("bench-proxy"));
            command.args(["origin", &address.to_string()]);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = placed(false, || command.spawn()).expect("the origin can be started");
    let process = Process::Other(Running::new(child));
    until("the origin to answer", async || answers(address).await.then_some(())).await;
    Proxy { address, process }
}

fn nginx(binary: &PathBuf, http: &str) -> Command {
    let place = target().join("bench").join("nginx");
    std::fs::create_dir_all(&place).expect("the target directory can be written");
    let name = http.lines().next().unwrap_or_default().trim_start_matches("# ").replace(':', "-");
    let file = place.join(format!("{name}.conf"));
    let directory = place.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        kinds.iter().map(|kind| format!("{kind}_temp_path {directory}/{kind};\n")).collect();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/{name}.pid;\n\
         error_log stderr crit;\nevents {{}}\nhttp {{\naccess_log off;\n\
         keepalive_requests 1000000000;\n{temporary}{http}\n}}\n"
    );
    std::fs::write(&file, text).expect("the target directory can be written");
    let mut command = Command::new(binary);
    command.arg("-c").arg(&file).arg("-p").arg(&place);
    command
}

fn nginx_proxy(address: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "# {address}\nupstream app {{\nserver {origin};\nkeepalive 64;\n\
         keepalive_requests 1000000000;\n}}\nserver {{\nlisten {address};\nlocation / {{\n\
         proxy_pass http://app;\nproxy_http_version 1.1;\nproxy_set_header connection \"\";\n\
         proxy_set_header host $host;\nproxy_set_header x-forwarded-for $remote_addr;\n}}\n}}"
    )
}

fn nginx_origin(address: SocketAddr) -> String {
    format!(
        "# {address}\nserver {{\nlisten {address};\nlocation / {{\ndefault_type text/plain;\n\
         return 200 \"hello, hello, hello, hello, hello\";\n}}\n}}"
    )
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port can be bound");
    listener.local_addr().expect("a bound socket has an address")
}
