//! A real name server on loopback: dnsmasq, which knows the names of one test and nothing else.

use crate::log::Log;
use crate::peer;
use crate::process::Running;
use crate::wait::until;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The domain that the server answers for.
pub const DOMAIN: &str = "test";

/// A name server; it ends with this value.
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    /// What it writes: every question, and what it has read.
    pub log: Log,
    program: PathBuf,
    directory: PathBuf,
    options: Vec<String>,
    process: Running,
}

impl NameServer {
    /// Answers for names of [`DOMAIN`] with addresses, which hold for `ttl` seconds; with more options
    /// of dnsmasq, without their dashes. `directory`: where it keeps its files. None, after saying why
    /// the test is skipped: there is no dnsmasq.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(
        directory: &Path,
        ttl: u32,
        hosts: &[(&str, &[IpAddr])],
        options: &[&str],
    ) -> Option<NameServer> {
        let program = peer::program("dnsmasq")?;
        write_hosts(directory, hosts);
        let mut options: Vec<String> = options.iter().map(|option| format!("--{option}")).collect();
        options.push(format!("--local-ttl={ttl}"));
        let started = until("dnsmasq to start", async || {
            // Taken by somebody else before dnsmasq has it: another port.
            let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
            let address = socket.local_addr().ok()?;
            drop(socket);
            let (process, log) = launch(&program, directory, address, &options).await?;
            Some((address, process, log))
        });
        let (address, process, log) = started.await;
        let directory = directory.to_owned();
        Some(NameServer { address, log, program, directory, options, process })
    }

    /// What stands in a configuration so that it is asked.
    pub fn table(&self, limits: &str) -> String {
        format!("[dns]\nservers = [\"{}\"]\n[dns.limits]\n{limits}\n", self.address)
    }

    /// Has other addresses from now on.
    pub async fn change(&self, hosts: &[(&str, &[IpAddr])]) {
        let reads = self.reads();
        write_hosts(&self.directory, hosts);
        self.process.hang_up();
        until("dnsmasq to read its names", async || (self.reads() > reads).then_some(())).await;
    }

    /// Questions so far for records of this type of this name.
    pub fn questions(&self, kind: &str, name: &str) -> usize {
        let text = format!("query[{kind}] {name}.{DOMAIN} ");
        self.log.lines().iter().filter(|line| line.contains(&text)).count()
    }

    /// Ends it where it stands.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, after `kill`, with these options and at the same address.
    pub async fn start_again(&mut self, options: &[&str]) {
        let local_ttl = self.options.pop().expect("it is the last one");
        self.options = options.iter().map(|option| format!("--{option}")).collect();
        self.options.push(local_ttl);
        let started = until("dnsmasq to start again", async || {
            launch(&self.program, &self.directory, self.address, &self.options).await
        });
        (self.process, self.log) = started.await;
    }

    fn reads(&self) -> usize {
        self.log.lines().iter().filter(|line| line.contains(" read ")).count()
    }
}

fn write_hosts(directory: &Path, hosts: &[(&str, &[IpAddr])]) {
    let mut text = String::new();
    for (name, addresses) in hosts {
        for address in *addresses {
            writeln!(text, "{address} {name}.{DOMAIN}").expect("text takes everything");
        }
    }
    let (new, file) = (directory.join("hosts.new"), directory.join("hosts"));
    std::fs::write(&new, text).expect("the directory can be written to");
    std::fs::rename(new, file).expect("a file can take the place of another");
}

/// None: it ended at once, since its port is taken.
async fn launch(
    program: &Path,
    directory: &Path,
    address: SocketAddr,
    options: &[String],
) -> Option<(Running, Log)> {
    let mut command = Command::new(program);
    command.args(["--keep-in-foreground", "--log-facility=-", "--log-queries", "--pid-file="]);
    command.args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    // A user that is there everywhere; without privileges it is not looked at.
    command.args(["--user=root", "--no-poll"]);
    command.arg(format!("--local=/{DOMAIN}/"));
    command.arg(format!("--listen-address={}", address.ip()));
    command.arg(format!("--port={}", address.port()));
    command.arg(format!("--addn-hosts={}", directory.join("hosts").display()));
    command.args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Running::new(command.spawn().expect("dnsmasq can be started"));
    let log = Log::capture(process.child().stderr.take().expect("it was asked for"));
    let reading = async || {
        if log.lines().iter().any(|line| line.contains(" read ")) {
            return Some(true);
        }
        process.exit_code().map(|_| false)
    };
    until("dnsmasq to start or to end", reading).await.then_some((process, log))
}
