//! `pillion test`: what it plays, what it says, and with which exit code (0 every case passed, 1 a case
//! failed, 2 a file or its filter cannot be used).

use pillion::config::case::{self, CaseFile};
use pillion_tests::log::Log;
use pillion_tests::peer::run;
use pillion_tests::process::{Running, repository};
use pillion_tests::sidecar::pillion;
use pillion_tests::{Sidecar, guests};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set to rewrite the expected messages; look at the difference before committing it.
const REWRITE: &str = "PILLION_REWRITE_EXPECTED";

/// The files of a directory that are called `*.toml`, by name.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "toml"));
    files.sort();
    assert!(!files.is_empty(), "{} has no case files", directory.display());
    files
}

/// The directories of the shipped filters.
fn shipped() -> Vec<PathBuf> {
    let named = |filter: &pillion_filters::Shipped| repository().join("filters").join(filter.name);
    pillion_filters::SHIPPED.iter().map(named).collect()
}

/// Every case file of a shipped filter.
pub(crate) fn shipped_cases() -> Vec<PathBuf> {
    shipped().iter().flat_map(|filter| files(&filter.join("cases"))).collect()
}

fn test(arguments: &[&str], place: &Path) -> Command {
    let mut command = pillion();
    command.arg("test").args(arguments).current_dir(place);
    command
}

#[tokio::test]
async fn the_cases_of_the_shipped_filters_pass() {
    let mut command = test(&[], repository());
    command.args(shipped_cases());
    let (code, out, err) = run(command).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.ends_with(" passed, 0 failed\n"), "{out}");
}

#[tokio::test]
async fn the_cases_of_the_guests_pass() {
    for path in files(&repository().join("tests/cases/guests")) {
        let guest = path.file_stem().expect("a case file has a name").to_string_lossy();
        let mut command = test(&["--filter"], repository());
        command.arg(guests::path(&guest)).arg(&path);
        let (code, out, err) = run(command).await;
        assert_eq!(code, 0, "{out}{err}");
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes_on_one_thread_and_on_many() {
    let mut told = Vec::new();
    for threads in ["1", "8"] {
        let mut command = test(&["--json", "--threads", threads], repository());
        command.args(shipped_cases());
        let (_, out, _) = run(command).await;
        let mut report: Value = serde_json::from_str(&out).expect("it is JSON");
        let files = report["files"].as_array_mut().expect("a list");
        for case in files.iter_mut().flat_map(|file| file["cases"].as_array_mut()).flatten() {
            assert!(case["usage"]["host_calls"].is_u64());
            case["usage"]["time_ns"] = 0.into();
        }
        told.push(report);
    }
    assert_eq!(told[0], told[1]);
}

/// Keys of the README and keys of the cases, one to one, and every word that a key can have.
#[test]
fn what_a_readme_says_of_keys_is_held_by_cases_and_the_reverse() {
    for filter in shipped() {
        let readme = std::fs::read_to_string(filter.join("README.md")).expect("it has a README");
        let read = |path: &PathBuf| case::load(path).unwrap_or_else(|error| panic!("{error}"));
        let files: Vec<CaseFile> = self::files(&filter.join("cases")).iter().map(read).collect();
        let (mut keys, mut words) = (BTreeSet::new(), BTreeSet::new());
        for case in files.iter().flat_map(|file| &file.cases) {
            if case.load_error.is_none() {
                collect(&case.setup.config, &mut keys, &mut words);
            }
        }
        let at = filter.display();
        let section = readme.split("\n## ").find(|it| it.starts_with("Keys")).expect("`## Keys`");
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        for cells in rows.map(|row| row.split(" | ").collect::<Vec<_>>()) {
            for key in quoted(cells[0]) {
                assert!(keys.contains(&key), "{at}: no case has the key `{key}`");
            }
            for word in quoted(cells[1]).iter().filter_map(|it| it.strip_prefix('"')) {
                let word = word.trim_end_matches('"');
                assert!(words.contains(word), "{at}: no case has the value `{word}`");
            }
        }
        let told: BTreeSet<String> = quoted(section).into_iter().collect();
        for key in &keys {
            assert!(told.contains(key), "{at}: `## Keys` does not tell of `{key}`");
        }
        // Variables of values, outcomes of metrics, keys of errors: named in the cases as in the text.
        let text: String = files.iter().map(CaseFile::text).collect();
        let rest = readme.split("\n## ").filter(|it| !it.starts_with("Keys"));
        for row in rest.flat_map(str::lines).filter(|line| line.starts_with("| `")) {
            let first = row.split(" | ").next().unwrap_or_default();
            for told in quoted(first) {
                assert!(text.contains(&told), "{at}: no case has `{told}`");
            }
        }
    }
}

/// Keys of tables, and texts.
fn collect(value: &Value, keys: &mut BTreeSet<String>, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                keys.insert(key.clone());
                collect(value, keys, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, keys, words)),
        Value::String(text) => {
            words.insert(text.clone());
        }
        _ => {}
    }
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every message that keeps a case from being played, and how a failed one looks.
#[tokio::test]
async fn messages_are_exactly_those_beside_the_files() {
    let contract = b"pillion:filter/on-request@0.1.0";
    let mut other = std::fs::read(guests::path("hello")).expect("the guest is built");
    let mut changed = 0;
    for at in 0..other.len() - contract.len() {
        if &other[at..at + contract.len()] == contract {
            other[at + contract.len() - 3] = b'2';
            changed += 1;
        }
    }
    assert!(changed > 0, "the guest exports the hook");
    let guest = |name: &str| std::fs::read(guests::path(name)).expect("the guest is built");
    let setup = Sidecar::new()
        .file("hello.wasm", guest("hello"))
        .file("kv-counter.wasm", guest("kv-counter"))
        .file("config-error.wasm", guest("config-error"))
        .file("other-contract.wasm", other)
        .file("core-module.wasm", b"\0asm\x01\0\0\0")
        .file("garbage.wasm", "(component)");
    let place = setup.directory();
    for path in files(&repository().join("tests/cases/messages")) {
        let name = path.file_name().expect("a case file has a name").to_string_lossy();
        std::fs::copy(&path, place.join(&*name)).expect("files can be copied");
        let (code, out, err) = run(test(&[&name], place)).await;
        let shown = out.replace(&place.display().to_string(), "PLACE");
        let shown = format!("{shown}{err}exit code {code}\n");
        let expected = path.with_extension("txt");
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(&expected, &shown).expect("files can be written");
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(shown, expected, "{}", path.display());
    }
}

const GREETS: &str = "filter = \"./hello.wasm\"\n[[case]]\nname = \"it greets\"\nexpect.forwarded = { \
                      headers = { x-hello = \"world\" } }\n";
const FAILS: &str =
    "filter = \"./hello.wasm\"\n[[case]]\nname = \"it fails\"\nexpect.status = 404\n";

/// A directory with the guest `hello` and these files in `cases`.
fn place(files: &[(&str, &str)]) -> pillion_tests::sidecar::Setup {
    let hello = std::fs::read(guests::path("hello")).expect("the guest is built");
    let setup = Sidecar::new().file("cases/hello.wasm", hello);
    files.iter().fold(setup, |setup, (name, text)| setup.file(&format!("cases/{name}"), text))
}

#[tokio::test]
async fn without_files_those_in_cases_are_played() {
    let setup = place(&[("a.toml", GREETS), ("b.toml", FAILS), ("notes.txt", "not a case")]);
    let (code, out, _) = run(test(&[], setup.directory())).await;
    assert_eq!(code, 1);
    assert!(out.contains("cases/a.toml\n  ok    it greets\n"), "{out}");
    assert!(out.contains("cases/b.toml\n  FAIL  it fails\n"), "{out}");
    assert!(out.ends_with("\n1 passed, 1 failed\n"), "{out}");
    let (code, out, _) = run(test(&["--only", "greets"], setup.directory())).await;
    assert_eq!(code, 0, "{out}");
    let (code, out, err) = run(test(&["--only", "no such case"], setup.directory())).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "no case has `no such case` in its name\n");
    let (code, _, err) = run(test(&[".."], &setup.directory().join("cases"))).await;
    assert_eq!((code, err.as_str()), (2, "no case files in `..`: their names end in `.toml`\n"));
    let (code, out, _) = run(test(&["gone.toml", "cases/b.toml"], setup.directory())).await;
    assert_eq!(code, 2);
    let told = "gone.toml: error: cannot read the case file: No such file or directory";
    assert!(out.contains(told), "{out}");
    assert!(out.ends_with("0 passed, 1 failed, 1 not played\n"), "{out}");
}

#[tokio::test]
async fn reports_for_machines_are_written_beside_those_for_people() {
    let setup = place(&[("a.toml", GREETS), ("b.toml", FAILS)]);
    let (code, out, _) = run(test(&["--json", "--junit", "junit.xml"], setup.directory())).await;
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &1.into()));
    let case = &report["files"][1]["cases"][0];
    assert_eq!((&case["name"], &case["result"]), (&"it fails".into(), &"failed".into()));
    assert_eq!(case["findings"][0]["what"], "status");
    let junit = std::fs::read_to_string(setup.directory().join("junit.xml")).unwrap();
    assert!(junit.contains("<testsuites tests=\"2\" failures=\"1\" errors=\"0\">"), "{junit}");
    let (_, out, _) = run(test(&["--usage"], setup.directory())).await;
    let used = out.lines().find(|line| line.contains("it greets")).expect("it is listed");
    assert!(used.ends_with(" 1 host calls)"), "{used}");
    let (code, _, err) = run(test(&["--junit", "gone/junit.xml"], setup.directory())).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("failed to write the JUnit report `gone/junit.xml`: "), "{err}");
}

#[tokio::test]
async fn expectations_are_rewritten_only_when_that_is_agreed_to() {
    let setup = place(&[("a.toml", GREETS), ("b.toml", FAILS)]);
    let file = setup.directory().join("cases/b.toml");
    let (code, _, err) = run(test(&["--update"], setup.directory())).await;
    assert_eq!(code, 1);
    assert!(err.contains("run it on a terminal, or add `--yes`"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), FAILS);
    let (code, out, _) = run(test(&["--update", "--yes"], setup.directory())).await;
    assert_eq!(code, 1, "the exit code tells of the cases as they were");
    assert!(out.contains("cases/b.toml:4: status: 404 → 200\n1 expectation is rewritten"), "{out}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), FAILS.replace("404", "200"));
    let (code, out, _) = run(test(&["--update", "--yes"], setup.directory())).await;
    assert_eq!(code, 0);
    assert!(out.ends_with("\nnothing to rewrite\n"), "{out}");
    for wrong in [&["--yes"][..], &["--threads", "0"], &["--threads", "65"]] {
        let (code, _, _) = run(test(wrong, setup.directory())).await;
        assert_eq!(code, 2, "{wrong:?}");
    }
    for fine in ["1", "2", "63", "64"] {
        let (code, _, _) = run(test(&["--threads", fine], setup.directory())).await;
        assert_eq!(code, 0, "{fine}");
    }
}

#[tokio::test]
async fn another_component_can_be_played_with_the_same_cases() {
    let setup = place(&[("a.toml", GREETS)]);
    let mut command = test(&["--filter"], setup.directory());
    command.arg(guests::path("noop"));
    let (code, out, _) = run(command).await;
    assert_eq!(code, 1);
    assert!(out.contains("expected \"world\", got no such field"), "{out}");
    let (code, out, _) = run(test(&["--filter", "builtin:nonsense"], setup.directory())).await;
    assert_eq!(code, 2);
    assert!(out.contains("there is no shipped filter `nonsense`"), "{out}");
}

#[tokio::test]
async fn watched_cases_are_played_again_when_a_file_of_theirs_is_saved() {
    let setup = place(&[("a.toml", GREETS)]);
    let mut command = test(&["--watch"], setup.directory());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Running::new(command.spawn().expect("`pillion` can be started"));
    let output = Log::capture(process.child().stdout.take().expect("it was asked for"));
    output.line("waiting for a change").await;
    let save = |name: &str, bytes: &[u8]| {
        let fresh = setup.directory().join("fresh");
        std::fs::write(&fresh, bytes).expect("files can be written");
        std::fs::rename(&fresh, setup.directory().join("cases").join(name)).expect("and renamed");
    };
    save("a.toml", FAILS.as_bytes());
    output.line("FAIL  it fails").await;
    pillion_tests::until("the second wait", async || {
        let waits = output.lines().iter().filter(|it| it.contains("waiting for")).count() == 2;
        waits.then_some(())
    })
    .await;
    let noop = std::fs::read(guests::path("noop")).expect("the guest is built");
    save("hello.wasm", &noop);
    pillion_tests::until("the third wait", async || {
        let waits = output.lines().iter().filter(|it| it.contains("waiting for")).count() == 3;
        waits.then_some(())
    })
    .await;
}
