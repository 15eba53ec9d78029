//! The verbs of guarded swaps, against an admin interface that plays a part: what each asks for, what
//! it tells, and with which exit code (0 promoted, 1 rolled back or refused, 2 usage).

use pillion_tests::log::Log;
use pillion_tests::peer::run;
use pillion_tests::process::Running;
use pillion_tests::sidecar::{Setup, pillion};
use pillion_tests::{Sidecar, until};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// An admin interface that answers `GET /rollout` with one state after the other, the last one again
/// and again, and everything else as it is told.
struct Stage {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The first line of a request, and its body.
type Asked = (String, Vec<u8>);

impl Stage {
    fn playing(states: Vec<Value>, other: (u16, Value)) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = asked.clone();
        std::thread::spawn(move || {
            let mut states = VecDeque::from(states);
            for stream in listener.incoming().flatten() {
                let Some((line, body)) = received(&stream) else { continue };
                let (status, answer) = if line.starts_with("GET /rollout ") {
                    let shown = json!({ "in_force": "file", "rollout": states.front() });
                    if states.len() > 1 {
                        states.pop_front();
                    }
                    (200, shown)
                } else {
                    record.lock().expect("nobody panics with it").push((line, body));
                    other.clone()
                };
                let answer = answer.to_string();
                let length = answer.len();
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
                // Whoever has gone meanwhile does not mind.
                let _ = (&stream).write_all((head + &answer).as_bytes());
            }
        });
        Stage { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

fn received(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        first.get_or_insert_with(|| line.trim_end_matches(" HTTP/1.1").to_owned() + " ");
    }
    if length > 0 {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first?, body))
}

fn state(state: &str, step: usize, verdict: &str) -> Value {
    let side = json!({
        "exchanges": 1000, "failures": 0, "local_replies": 0, "errors": 0, "added_p50_us": 16,
        "added_p99_us": 32, "memory_bytes": 1048576,
    });
    json!({
        "id": 3, "origin": "admin", "changes": ["filter limit: 0123 -> 4567"], "state": state,
        "generation": 8, "reason": "worse: 37 of 412 failed", "by_judge": true,
        "steps": ["shadow 1m", "canary 5% 5m", "full"], "step": step, "step_elapsed_ms": 1000,
        "step_began_unix_seconds": 0, "began_unix_seconds": 0, "sticky": "client",
        "running": side, "next": side, "shadow": null, "samples": [], "verdict": verdict,
    })
}

/// A place with a file that can be sent; what it is, is not looked at here.
fn place() -> Setup {
    let place = Sidecar::new();
    std::fs::write(place.directory().join("new.wasm"), b"\0asm-ish").expect("it can be written");
    place
}

fn command(stage: &Stage, place: &Setup, arguments: &[&str]) -> Command {
    let mut command = pillion();
    command.args(arguments).args(["--admin", &stage.address]).current_dir(place.directory());
    command
}

#[tokio::test]
async fn a_swap_sends_the_component_with_its_plan() {
    let place = place();
    let stage = Stage::playing(vec![Value::Null], (200, json!({ "rollout": 3 })));
    let arguments = ["swap", "limit", "new.wasm", "--canary", "5%", "--version-name", "v2"];
    let (code, out, err) = run(command(&stage, &place, &arguments)).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("rollout 3 has begun\n"), "{out}");
    let target = "/filters/limit/next?steps=canary%205%25%2010m%2C%20full&version=v2";
    assert_eq!(stage.asked(), [(format!("POST {target} "), b"\0asm-ish".to_vec())]);
}

#[tokio::test]
async fn a_watched_rollout_is_a_line_for_each_change_and_the_exit_code_says_how_it_ended() {
    let place = place();
    for (end, code, words) in [
        ("promoted", 0, "promoted: the next version serves everything, as generation 8"),
        ("rolled_back", 1, "rolled back to generation 8 by the judge: worse: 37 of 412 failed"),
        ("cut_short", 1, "cut short: worse: 37 of 412 failed"),
    ] {
        let states = vec![
            state("stepping", 0, "too few: 10 of 100"),
            state("stepping", 0, "too few: 20 of 100"),
            state("stepping", 1, "sound: nothing is worse"),
            state(end, 2, "sound: nothing is worse"),
        ];
        let stage = Stage::playing(states, (200, json!({ "rollout": 3 })));
        let arguments = ["swap", "limit", "new.wasm", "--watch"];
        let (exit, out, err) = run(command(&stage, &place, &arguments)).await;
        assert_eq!(exit, code, "{end}: {out}{err}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("rollout 3: step 1 of 3, shadow 1m; next: 1,000"), "{out}");
        assert!(lines[0].ends_with("; too few: 10 of 100"), "{out}");
        assert!(lines[1].starts_with("rollout 3: step 2 of 3, canary 5% 5m"), "{out}");
        assert_eq!(lines[3], words);
        assert!(!out.contains('\u{1b}'), "{out}");
    }
}

#[tokio::test]
async fn a_refused_swap_says_why_with_exit_code_1_and_a_wrong_one_2() {
    let place = place();
    let refusal = json!({ "error": "this cannot be used", "diagnostics": ["no hook", "b"] });
    let stage = Stage::playing(vec![Value::Null], (422, refusal));
    let (code, _, err) = run(command(&stage, &place, &["swap", "limit", "new.wasm"])).await;
    assert_eq!((code, err.as_str()), (1, "refused: this cannot be used\nno hook\nb\n"));
    for (arguments, message) in [
        (&["swap", "limit", "new.wasm", "--canary", "5"][..], "`5` is no share"),
        (&["swap", "limit", "new.wasm", "--steps", "shadow"], "the last step is `full`"),
        (&["swap", "limit"], "FILE"),
        (&["rollback", "limit", "--generation", "3"], "cannot be used with"),
    ] {
        let (code, _, err) = run(command(&stage, &place, arguments)).await;
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(message), "{err}");
    }
    let (code, _, err) = run(command(&stage, &place, &["swap", "limit", "gone.wasm"])).await;
    assert!(code == 1 && err.contains("`gone.wasm`"), "{err}");
    assert_eq!(stage.asked().len(), 1);
}

#[tokio::test]
async fn ctrl_c_ends_the_watching_and_not_the_rollout() {
    let place = place();
    let states = vec![state("stepping", 1, "too few: 10 of 100")];
    let stage = Stage::playing(states, (200, json!({ "rollout": 3 })));
    let mut watching = command(&stage, &place, &["rollout", "--watch"]);
    watching.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = Running::new(watching.spawn().unwrap());
    let output = Log::capture(watching.child().stdout.take().unwrap());
    output.line("step 2 of 3").await;
    watching.interrupt();
    let code = until("the watching to end", async || watching.exit_code()).await;
    assert_eq!(code, 130);
    output.line("the watching ends, and the rollout goes on").await;
    assert!(stage.asked().is_empty(), "nothing was asked for");
}

#[tokio::test]
async fn each_verb_asks_for_one_thing() {
    let place = place();
    for (arguments, line, body, said) in [
        (&["rollback"][..], "POST /rollback ", "{}", "rolled back: generation 7 is in force\n"),
        (&["rollback", "limit"], "POST /rollback ", r#"{"filter":"limit"}"#, "rolled back"),
        (&["rollback", "--generation", "5"], "POST /rollback ", r#"{"generation":5}"#, "rolled"),
    ] {
        let stage = Stage::playing(vec![Value::Null], (200, json!({ "generation": 7 })));
        let (code, out, err) = run(command(&stage, &place, arguments)).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with(said), "{out}");
        assert_eq!(stage.asked(), [(line.to_owned(), body.as_bytes().to_vec())]);
    }
    let stage = Stage::playing(vec![Value::Null], (200, state("stepping", 1, "")));
    let (code, out, _) = run(command(&stage, &place, &["promote"])).await;
    assert_eq!((code, out.as_str()), (0, "rollout 3: step 2 of 3, canary 5% 5m\n"));
    assert_eq!(stage.asked(), [("POST /rollout/promote ".to_owned(), b"{}".to_vec())]);

    let stage = Stage::playing(vec![Value::Null], (200, json!({ "done": true })));
    let (code, out, err) = run(command(&stage, &place, &["unpin", "4f/ 1"])).await;
    assert_eq!((code, out.as_str()), (0, "unpinned: it may be tried again\n"), "{err}");
    assert_eq!(stage.asked(), [("DELETE /pinned/4f%2F%201 ".to_owned(), Vec::new())]);

    let (code, out, _) = run(command(&stage, &place, &["rollout"])).await;
    assert_eq!((code, out.as_str()), (0, "no rollout since the start; in force: file\n"));
    let stage = Stage::playing(vec![state("promoted", 2, "sound")], (200, Value::Null));
    let (_, out, _) = run(command(&stage, &place, &["rollout"])).await;
    assert!(out.contains("shadow 1m > canary 5% 5m > [full]"), "{out}");
    assert!(out.ends_with("as generation 8\n"), "{out}");
}
