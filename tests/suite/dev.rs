//! `pillion dev` swaps what builds into a running sidecar, and leaves the last good version running
//! when something fails.

use pillion_tests::process::{Running, target};
use pillion_tests::sidecar::pillion;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

/// A running `pillion dev`.
struct Dev {
    process: Running,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    fn start(project: &Path, arguments: &[&str]) -> Dev {
        let mut command = in_project(pillion(), project);
        command.arg("dev").args(arguments).stdin(Stdio::null());
        // A pipe that nobody reads would fill.
        let log = std::fs::File::create(project.with_extension("log")).expect("a file can be made");
        command.stdout(Stdio::piped()).stderr(log);
        let mut process = Running::new(command.spawn().expect("the program can be started"));
        let output = process.child().stdout.take().expect("it was asked for");
        Dev { process, lines: BufReader::new(output).lines() }
    }

    /// Reads lines to the one that begins like this; all of them. Cargo takes its time in between.
    fn told(&mut self, wanted: &str) -> String {
        let mut told = String::new();
        loop {
            let line = self.lines.next().expect("the program runs").expect("lines are text");
            told.push_str(&format!("{line}\n"));
            if line.starts_with(wanted) {
                return told;
            }
            // It would wait for ever.
            let over = ["the build failed", "the component is the same", "the next request is"];
            assert!(!over.iter().any(|over| line.starts_with(over)), "{told}");
            assert!(!line.starts_with("waiting for a change"), "{told}");
        }
    }
}

fn in_project(mut command: Command, project: &Path) -> Command {
    // Dependencies are built once for all runs.
    command.current_dir(project).env("CARGO_TARGET_DIR", target().join("scaffold"));
    command
}

fn new_project() -> PathBuf {
    let place = target().join("tmp/scaffold/dev");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).expect("the target directory can be written");
    let mut new = pillion();
    new.args(["filter", "new", "hello"]).current_dir(&place).stdout(Stdio::null());
    assert!(new.status().expect("the program can be started").success());
    place.join("hello")
}

/// The app's answer to a request through the sidecar.
fn get(sidecar: &str) -> String {
    let mut stream = TcpStream::connect(sidecar).expect("the sidecar listens");
    let request = "GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the sidecar reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the sidecar answers");
    answer
}

#[test]
fn what_builds_is_swapped_in_and_what_fails_changes_nothing() {
    let project = new_project();
    let source = project.join("src/lib.rs");
    let hello = std::fs::read_to_string(&source).unwrap();
    let app = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    let mut dev = Dev::start(&project, &["--app", &app, "--listen", any, "--admin", any]);
    let told = dev.told("  sidecar  http://");
    assert!(told.contains(", hooks: on-request, capabilities: none\n"), "{told}");
    let sidecar = told.lines().last().unwrap().trim_start_matches("  sidecar  http://").to_owned();
    dev.told("Ctrl-C ends it.");
    assert!(get(&sidecar).contains("\nx-hello: world\n"), "{}", get(&sidecar));

    std::fs::write(&source, hello.replace("world", "moon")).unwrap();
    let told = dev.told("the next request is served by it");
    assert!(told.contains("changed: src/lib.rs\nhello ") && told.contains(" (before: "), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"), "{}", get(&sidecar));

    std::fs::write(&source, "nonsense").unwrap();
    let told = dev.told("the build failed; version ");
    assert!(told.ends_with(" runs on\n"), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"));

    // A capability that is not granted is told with the table that grants it.
    let body = "log::info!(\"greeted\"); request.set_header(\"x-hello\", \"sun\")?;";
    let logging = hello.replace("request.set_header(\"x-hello\", \"world\")?;", body);
    std::fs::write(&source, logging).unwrap();
    let told = dev.told("What ran before runs on.");
    assert!(told.contains("  capabilities: log (before: none)\n"), "{told}");
    assert!(told.contains("dev.toml:") && told.contains("`grants = { log = true }`"), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"));

    let file = project.join("dev.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "grants = { log = true }\n").unwrap();
    dev.told("the next request is served by it");
    assert!(get(&sidecar).contains("\nx-hello: sun\n"));

    dev.process.terminate();
    let status = dev.process.child().wait().unwrap();
    assert_eq!(status.code(), Some(0));
}
