//! The command line: what each verb says, and with which exit code (0 fine, 1 findings, 2 usage).

use pillion_tests::log::Log;
use pillion_tests::peer::{program, run};
use pillion_tests::process::Running;
use pillion_tests::sidecar::pillion;
use pillion_tests::{Origin, Sidecar, guests, until};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

fn command(arguments: &[&str], place: &Path) -> Command {
    let mut command = pillion();
    command.args(arguments).current_dir(place);
    command
}

#[tokio::test]
async fn validate_is_content_with_a_good_file() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).builtin("trace", "").guest("hello", "");
    let file = setup.directory().join("pillion.toml");
    std::fs::write(&file, setup.text()).unwrap();
    let (code, out, err) = run(command(&["validate", "pillion.toml"], setup.directory())).await;
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test]
async fn validate_loads_next_versions_too_and_tells_what_is_to_be_tried() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).builtin("trace", "").guest("hello", "");
    let file = setup.directory().join("pillion.toml");
    let next = |key: &str| format!("{}\n[filter.hello.next]\n{key}\n", setup.text());
    std::fs::write(&file, next("version = \"v2\"\nfail_policy = \"open\"")).unwrap();
    let (code, out, err) = run(command(&["validate", "pillion.toml"], setup.directory())).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.ends_with("\nto be tried: filter hello: fail_policy (v2)\n"), "{out}");

    std::fs::write(&file, next("source = \"./no-such.wasm\"")).unwrap();
    let (code, out, err) = run(command(&["validate", "pillion.toml"], setup.directory())).await;
    assert_eq!(code, 1, "{out}{err}");
    assert_eq!(out.matches(": error: ").count(), 1, "{out}");
    assert!(out.contains("source = \"./no-such.wasm\""), "{out}");
}

#[tokio::test]
async fn a_file_that_is_not_there_comes_with_the_way_to_name_it() {
    let setup = Sidecar::new();
    for (verb, option, help) in [
        ("validate", None, "help: name the file as in `pillion validate FILE`"),
        ("compile", Some("-c"), "help: name the file with `-c FILE`"),
        ("run", Some("-c"), "help: name the file with `-c FILE`"),
    ] {
        let mut arguments = vec![verb];
        arguments.extend(option);
        arguments.push("gone.toml");
        let (code, out, err) = run(command(&arguments, setup.directory())).await;
        let said = out + &err;
        assert_eq!(code, 1, "{verb}: {said}");
        assert!(said.contains("gone.toml: error: cannot read the configuration"), "{verb}: {said}");
        assert!(said.contains(help), "{verb}: {said}");
    }
}

#[tokio::test]
async fn validate_reports_every_problem_in_one_run_each_with_its_place() {
    let setup = Sidecar::new();
    let text = r#"[admin]
adress = "127.0.0.1:0"

[[listener]]
name = "inbound"
address = "nonsense"

[[listener.route]]
chain = ["trcae"]
upstream = "app"

[listener.limits]
head_bytes = "1KB"
head_timeout = 5

[upstream.app]
endpoints = []

[filter.trace]
source = "builtin:trace"
fail_policy = "ajar"
"#;
    std::fs::write(setup.directory().join("pillion.toml"), text).unwrap();
    let (code, out, err) = run(command(&["validate", "pillion.toml"], setup.directory())).await;
    assert_eq!(code, 1);
    let said = out + &err;
    for (part, line) in [
        ("`address`", 2),
        ("nonsense", 6),
        ("`trace`", 9),
        ("head_bytes", 13),
        ("head_timeout", 14),
        ("endpoints", 17),
        ("`closed`", 21),
    ] {
        assert!(said.contains(&format!("pillion.toml:{line}:")), "line {line} in {said}");
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(said.contains("did you mean") && said.contains('^'), "{said}");
}

#[tokio::test]
async fn validate_loads_the_filters() {
    let setup = Sidecar::new().guest("random-clock", "").endpoint(([127, 0, 0, 1], 9).into());
    std::fs::write(setup.directory().join("pillion.toml"), setup.text()).unwrap();
    let (code, out, err) = run(command(&["validate", "pillion.toml"], setup.directory())).await;
    assert_eq!(code, 1);
    let said = out + &err;
    assert!(said.contains("pillion.toml:") && said.contains("`clock`"), "{said}");
    let check = ["validate", "--config-only", "pillion.toml"];
    let (code, out, err) = run(command(&check, setup.directory())).await;
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test]
async fn a_wrong_use_is_exit_code_2_and_a_missing_file_1() {
    let setup = Sidecar::new();
    let (code, _, err) = run(command(&["vaildate"], setup.directory())).await;
    assert_eq!(code, 2);
    assert!(err.contains("validate"), "{err}");
    let (code, out, err) = run(command(&["validate", "gone.toml"], setup.directory())).await;
    assert_eq!(code, 1);
    assert!((out + &err).contains("gone.toml"));
    let (code, out, _) = run(command(&["--help"], setup.directory())).await;
    assert_eq!(code, 0);
    for verb in ["run", "validate", "schema", "compile", "filter", "dev", "demo", "status"] {
        assert!(out.contains(verb), "{verb} in {out}");
    }
    let (code, out, _) = run(command(&["--version"], setup.directory())).await;
    assert_eq!((code, out.starts_with("pillion ")), (0, true), "{out}");
}

#[tokio::test]
async fn schema_prints_a_json_schema() {
    let setup = Sidecar::new();
    let (code, out, err) = run(command(&["schema"], setup.directory())).await;
    assert_eq!(code, 0, "{err}");
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
    assert!(schema["properties"]["listener"].is_object());
}

#[tokio::test]
async fn compile_fills_the_cache_so_that_a_start_compiles_nothing() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).builtin("trace", "").guest("hello", "");
    let cache = setup.directory().join("own-cache");
    let cache = cache.to_str().expect("the path is text").to_owned();
    let setup = setup.runtime(&format!("cache_dir = {cache:?}"));
    std::fs::write(setup.directory().join("pillion.toml"), setup.text()).unwrap();
    let compile = ["compile", "-c", "pillion.toml"];
    let (code, out, err) = run(command(&compile, setup.directory())).await;
    assert_eq!(code, 0, "{out}{err}");
    let sidecar = setup.start().await;
    let lookups = "pillion_compile_cache_lookups_total";
    assert_eq!(sidecar.metric(lookups, &["result=\"miss\""]).await, 0.0);
    assert!(sidecar.metric(lookups, &["result=\"hit\""]).await >= 2.0);
}

#[tokio::test]
async fn a_cache_entry_that_was_tampered_with_is_not_trusted() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).guest("hello", "");
    let cache = setup.directory().join("own-cache");
    let setup = setup.runtime(&format!("cache_dir = {cache:?}"));
    std::fs::write(setup.directory().join("pillion.toml"), setup.text()).unwrap();
    let compile = ["compile", "-c", "pillion.toml"];
    assert_eq!(run(command(&compile, setup.directory())).await.0, 0);
    let mut tampered = 0;
    for entry in std::fs::read_dir(&cache).unwrap().flatten() {
        let mut bytes = std::fs::read(entry.path()).unwrap_or_default();
        if bytes.len() > 4096 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(entry.path(), bytes).unwrap();
            tampered += 1;
        }
    }
    assert!(tampered > 0, "the cache has entries");
    let sidecar = setup.start().await;
    assert_eq!(sidecar.get("/").await.seen().header("x-hello"), Some("world"));
    let lookups = "pillion_compile_cache_lookups_total";
    assert!(sidecar.metric(lookups, &["result=\"rejected\""]).await >= 1.0);
}

#[tokio::test]
async fn status_shows_a_running_sidecar_and_says_when_there_is_none() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("hello", "").start().await;
    let admin = sidecar.admin.to_string();
    let ask = ["status", "--admin", &admin];
    let (code, out, err) = run(command(&ask, sidecar.directory())).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("hello") && out.contains("generation"), "{out}");
    let ask = ["status", "--json", "--admin", &admin];
    let (_, out, _) = run(command(&ask, sidecar.directory())).await;
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["generation"], 1);

    let nobody = Origin::refusing().await.to_string();
    let ask = ["status", "--admin", &nobody];
    let (code, out, err) = run(command(&ask, sidecar.directory())).await;
    assert_eq!(code, 1);
    assert!((out + &err).contains(&nobody));
}

#[tokio::test]
async fn a_port_in_use_is_said_plainly_at_its_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let origin = Origin::echo().await;
    let text = Sidecar::new().origin(&origin).text();
    let old = "name = \"inbound\"\naddress = \"127.0.0.1:0\"";
    let text = text.replacen(old, &old.replace("127.0.0.1:0", &address), 1);
    let line = 1 + text.lines().position(|line| line.contains(&address)).unwrap();
    let refusal = Sidecar::with(&text).refused().await;
    assert_eq!(refusal.code, 1);
    assert!(refusal.text.contains(&format!("pillion.toml:{line}:")), "{}", refusal.text);
    assert!(refusal.text.contains(&address) && refusal.text.contains("in use"), "{}", refusal.text);
}

#[tokio::test]
async fn the_demo_starts_and_its_printed_commands_work() {
    let Some(curl) = program("curl") else { return };
    drop(curl);
    let setup = Sidecar::new();
    let free: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address: Vec<String> =
        free.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
    drop(free);
    let [app, listen, admin] = &address[..] else { unreachable!("there are three") };
    let arguments = ["demo", "--app", app, "--listen", listen, "--admin", admin, "--dir", "here"];
    let mut demo = command(&arguments, setup.directory());
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Running::new(demo.spawn().unwrap());
    let output = Log::capture(demo.child().stdout.take().unwrap());
    let log = Log::capture(demo.child().stderr.take().unwrap());
    output.line("curl ").await;
    let ready = |line: String| line.contains("ready");
    until("the demo to be ready", async || {
        let lines = log.lines().into_iter().chain(output.lines());
        lines.into_iter().any(ready).then_some(())
    })
    .await;

    // What it prints is meant for a terminal: so is a shell.
    let lines = output.lines();
    let printed: Vec<_> = lines.iter().filter(|line| line.contains("curl ")).collect();
    assert!(printed.len() >= 3, "{lines:#?}");
    let mut said = String::new();
    for line in &printed {
        let line = line.trim().trim_start_matches("$ ");
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(setup.directory());
        let (code, out, err) = run(shell).await;
        assert_eq!(code, 0, "{line}: {out}{err}");
        said.push_str(&out);
    }
    let said = said.to_lowercase();
    for part in ["traceparent", "429", "pillion_"] {
        assert!(said.contains(part), "no command shows {part}: {said}");
    }
    let file = setup.directory().join("here").join("pillion.toml");
    assert!(file.is_file(), "the file it uses is there");
    let all = lines.join("\n");
    assert!(all.contains("here/pillion.toml"), "the line to edit is told: {all}");

    demo.terminate();
    until("the demo to end", async || demo.exit_code()).await;
}

#[tokio::test]
async fn the_demo_says_which_flag_changes_a_port_in_use() {
    let setup = Sidecar::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--app", "--listen", "--admin"] {
        let mut arguments = vec!["demo", "--dir", "there"];
        for other in ["--app", "--listen", "--admin"] {
            let place = if other == flag { address.as_str() } else { "127.0.0.1:0" };
            arguments.extend([other, place]);
        }
        let (code, out, err) = run(command(&arguments, setup.directory())).await;
        let said = out + &err;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&address) && said.contains("in use"), "{said}");
        assert!(said.contains(flag), "{said}");
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_ends() {
    let refusal = Sidecar::with("nonsense").refused().await;
    assert_eq!(refusal.code, 1);
    assert!(refusal.text.contains("pillion.toml:1:"), "{}", refusal.text);
    let name = guests::path("hello").display().to_string();
    let text = format!(
        "{}\n[filter.x]\nsource = {name:?}\nlimits = {{ time = \"1h\" }}",
        Sidecar::new().text()
    );
    let refusal = Sidecar::with(&text).refused().await;
    assert_eq!(refusal.code, 1);
    assert!(refusal.text.contains("time"), "{}", refusal.text);
}
