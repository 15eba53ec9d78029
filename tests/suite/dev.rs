//! `pillion dev` swaps what builds into a running sidecar, and leaves the last good version running
//! when something fails.

use pillion_tests::process::{Running, target};
use pillion_tests::sidecar::pillion;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

const GRANT: &str = "grants = { log = true }";

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
            let over =
                ["the build failed", "a case failed", "the component is", "the next request"];
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

/// Replaces every `old` in a file.
fn edit(file: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(file).expect("the file is there");
    assert!(text.contains(old), "{old} in {text}");
    save(file, &text.replace(old, new));
}

/// Puts a new file in place of the old one, as editors do.
fn save(file: &Path, text: &str) {
    let fresh = file.with_file_name(".fresh");
    std::fs::write(&fresh, text).expect("a file can be written");
    std::fs::rename(&fresh, file).expect("a file can be renamed");
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
    let (source, cases) = (project.join("src/lib.rs"), project.join("cases/hello.toml"));
    let hello = std::fs::read_to_string(&source).unwrap();
    let app = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    let mut dev = Dev::start(&project, &["--app", &app, "--listen", any, "--admin", any]);
    let told = dev.told("  sidecar  http://");
    assert!(told.contains(", hooks: on-request, capabilities: none\n"), "{told}");
    let sidecar = told.lines().last().unwrap().trim_start_matches("  sidecar  http://").to_owned();
    dev.told("Ctrl-C ends it.");
    assert!(get(&sidecar).contains("\nx-hello: world\n"), "{}", get(&sidecar));

    // The cases expect another greeting.
    save(&source, &hello.replace("world", "moon"));
    let told = dev.told("a case failed; version ");
    assert!(told.contains("\nchanged: src/lib.rs\n"), "{told}");
    assert!(told.contains("expected \"world\", got \"moon\""), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: world\n"));

    edit(&cases, "x-hello = \"world\"", "x-hello = \"moon\"");
    let told = dev.told("the next request is served by it");
    assert!(told.contains("\nchanged: cases/hello.toml\n"), "{told}");
    assert!(told.contains("\nhello ") && told.contains(" (before: "), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"), "{}", get(&sidecar));

    save(&source, "nonsense");
    let told = dev.told("the build failed; version ");
    assert!(told.ends_with(" runs on\n"), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"));

    // A capability is granted to the cases and to the sidecar, each in its own file.
    let body = "log::info!(\"greeted\"); request.set_header(\"x-hello\", \"moon\")?;";
    let logging = hello.replace("request.set_header(\"x-hello\", \"world\")?;", body);
    save(&source, &logging);
    let told = dev.told("the cases cannot be played; version ");
    assert!(told.contains("cases/hello.toml:") && told.contains(GRANT), "{told}");
    edit(&cases, "filter = ", &format!("{GRANT}\nfilter = "));
    let told = dev.told("What ran before runs on.");
    assert!(told.contains("  capabilities: log (before: none)\n"), "{told}");
    assert!(told.contains("dev.toml:") && told.contains(GRANT), "{told}");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"));
    let file = project.join("dev.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    save(&file, &format!("{text}{GRANT}\n"));
    dev.told("the next request is served by it");
    assert!(get(&sidecar).contains("\nx-hello: moon\n"));

    dev.process.terminate();
    let status = dev.process.child().wait().unwrap();
    assert_eq!(status.code(), Some(0));
}
