//! Outside programs: whether they are installed, and how they are started. A test whose program is
//! missing is skipped with a visible reason; with `PILLION_TEST_PEERS=required` in the environment,
//! as in CI, it fails instead.

use crate::log::Log;
use crate::process::{Running, find, repository, target};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The environment variable that turns a skipped test into a failing one when it is `required`.
pub const PEERS: &str = "PILLION_TEST_PEERS";

/// The path of a program, or `None` after saying why the test is skipped.
///
/// # Panics
/// When the program is missing and peers are required.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// A Python that has `module`, or `None` after saying why the test is skipped. The virtual
/// environment of CI (`target/venv`) goes first.
///
/// # Panics
/// When there is none and peers are required.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let venv = target().join("venv/bin/python");
    let candidates = [Some(venv), find("python3")];
    let has = |python: &PathBuf| {
        let import = format!("import {module}");
        let mut command = Command::new(python);
        command.args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(has);
    if found.is_none() {
        skip(&format!("no python3 with the module `{module}`"));
    }
    found
}

/// Says visibly that a test is skipped.
///
/// # Panics
/// When peers are required.
pub fn skip(reason: &str) {
    let required = std::env::var(PEERS).is_ok_and(|value| value == "required");
    assert!(!required, "{reason}, and {PEERS}=required");
    tell(&format!("skipped: {reason}"));
}

/// Says something visibly: what goes through `eprintln!` is shown for failing tests only.
pub fn tell(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// A server started for a test.
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it writes to standard output.
    pub output: Log,
    /// What it writes to standard error.
    pub log: Log,
    _process: Running,
}

impl Peer {
    /// Starts `tests/peers/<script>`, which writes `listening HOST:PORT` when it is ready.
    ///
    /// # Panics
    /// When it does not.
    pub async fn python(python: &PathBuf, script: &str) -> Peer {
        let mut command = Command::new(python);
        command.arg("-u").arg(repository().join("tests/peers").join(script));
        Peer::start(command).await
    }

    /// Starts a program that writes `listening HOST:PORT` when it is ready.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(mut command: Command) -> Peer {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::new(command.spawn().expect("the peer can be started"));
        let output = Log::capture(process.child().stdout.take().expect("it was asked for"));
        let log = Log::capture(process.child().stderr.take().expect("it was asked for"));
        let line = output.line("listening ").await;
        let address = line.trim_start_matches("listening ").trim();
        let address = address.parse().expect("a peer tells an address");
        Peer { address, output, log, _process: process }
    }
}

/// Runs a command to its end without blocking the test's runtime; its exit code, standard output
/// and standard error.
///
/// # Panics
/// When it cannot be started.
pub async fn run(mut command: Command) -> (i32, String, String) {
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = crate::wait::within("a command to end", output).await;
    let output = output.expect("nothing cancels it").expect("the command can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
