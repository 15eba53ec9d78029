//! A project that `pillion filter new` makes builds and passes its tests as it is, with the author's
//! own cargo, and `pillion filter build` says plainly what keeps a component from being made.

use pillion_tests::process::target;
use pillion_tests::sidecar::pillion;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An empty directory for one test, at the same path in every run: what cargo built from it before
/// is not built again, and does not pile up.
fn empty_directory(test: &str) -> PathBuf {
    let path = target().join("tmp/scaffold").join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the target directory can be written");
    path
}

/// Runs a command in `place`. It takes as long as cargo needs; cargo comes to an end.
fn run(mut command: Command, place: &Path) -> (i32, String, String) {
    command.current_dir(place).stdin(Stdio::null());
    // Dependencies are built once for all runs.
    command.env("CARGO_TARGET_DIR", target().join("scaffold"));
    let output = command.output().expect("the command can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn filter(arguments: &[&str], place: &Path) -> (i32, String, String) {
    let mut command = pillion();
    command.arg("filter").args(arguments);
    run(command, place)
}

/// `PATH` with this directory first.
fn path_with(directory: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [directory.to_owned()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(places).expect("no directory of ours has a colon")
}

#[test]
fn a_new_project_builds_and_passes_as_it_is() {
    let place = empty_directory("new");
    let (code, out, err) = filter(&["new", "my-hello"], &place);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("created `my-hello`, a filter in Rust. Next:\n"), "{out}");
    let project = place.join("my-hello");

    let mut test = Command::new("cargo");
    test.arg("test");
    let (code, out, err) = run(test, &project);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("test every_request_is_greeted ... ok"), "{out}");
    assert!(!err.contains("warning"), "{err}");

    assert_eq!(workflow(&project), ["cargo test", "pillion filter build", "pillion test"]);

    let component = "target/wasm32-wasip2/release/my_hello.wasm";
    let (code, out, err) = filter(&["build"], &project);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with(&format!("{component}  ")), "{out}");
    assert!(out.ends_with(" KiB, hooks: on-request\n"), "{out}");

    let (code, out, err) = filter(&["inspect", component], &project);
    assert_eq!(code, 0, "{err}");
    for line in [
        "hooks         on-request",
        "capabilities  nothing that has to be granted",
        "[filter.my-hello]",
        "source = \"./target/wasm32-wasip2/release/my_hello.wasm\"",
    ] {
        assert!(out.lines().any(|told| told == line), "{line}\n{out}");
    }

    let mut test = pillion();
    test.arg("test");
    let (code, out, err) = run(test, &project);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("2 passed"), "{out}");

    // What does not compile leaves the component as it was, and cargo says why.
    std::fs::write(project.join("src/lib.rs"), "nonsense").unwrap();
    let before = std::fs::read(project.join(component)).unwrap();
    let (code, out, err) = filter(&["build", "src"], &project);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("error: ") && err.contains("src/lib.rs:1:"), "{err}");
    assert_eq!(std::fs::read(project.join(component)).unwrap(), before);

    // A library that is no filter builds, and is told.
    std::fs::write(project.join("src/lib.rs"), "").unwrap();
    let (code, _, err) = filter(&["build"], &project);
    assert_eq!(code, 1);
    let told = "filter `my-hello` exports no hook; was `#[filter]` forgotten?\n";
    assert!(err.ends_with(told), "{err}");

    // The SDK of this binary comes back in one piece.
    let sdk = project.join("vendor/pillion/sdk/rust/src/lib.rs");
    let source = std::fs::read_to_string(&sdk).unwrap();
    std::fs::write(&sdk, "old").unwrap();
    let (code, out, err) = filter(&["vendor"], &project);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(std::fs::read_to_string(&sdk).unwrap(), source);
}

/// The commands that CI runs on every push, after Pillion is installed.
fn workflow(project: &Path) -> Vec<String> {
    let text =
        std::fs::read_to_string(project.join(".github/workflows/ci.yml")).expect("it is there");
    let steps = text.lines().filter_map(|line| line.trim().strip_prefix("- run: "));
    steps.map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_made_is_told_and_leaves_nothing() {
    let place = empty_directory("refused");
    std::fs::create_dir(place.join("taken")).unwrap();
    for (arguments, code, told) in [
        (
            &["new", "taken"][..],
            1,
            "`taken` exists already\nhelp: choose another name, or remove it\n",
        ),
        (&["new", "Rate"], 2, "error: invalid value 'Rate' for '<NAME>': it has 'R'; a name is"),
        (&["new", "a", "--lang", "cobol"], 2, "error: invalid value 'cobol' for '--lang <LANG>'"),
        (&["new", "a", "--sdk", "./gone"], 1, "there is no `pillion-sdk` in `./gone`\nhelp: "),
        (&["vendor"], 1, "there is no SDK in `./vendor/pillion` to replace\nhelp: run this in a"),
        (&["build", "gone"], 1, "failed to find `gone`: No such file or directory"),
        (&["build", "/"], 1, "there is no `Cargo.toml` in `/` or above it\nhelp: run this in the"),
    ] {
        let (exit, out, err) = filter(arguments, &place);
        assert_eq!((exit, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.starts_with(told), "{arguments:?}: {err}");
    }
    let left: Vec<_> = std::fs::read_dir(&place).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [place.join("taken")]);
}

#[test]
fn a_compiler_without_the_target_is_told_with_the_command_that_adds_it() {
    let place = empty_directory("target");
    std::fs::write(place.join("Cargo.toml"), "").unwrap();
    let program = |name: &str, script: &str| {
        let path = place.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let compiler = program("compiler", "echo /nowhere");
    program("rustup", "echo 'error: no network' >&2; exit 1");
    let mut build = pillion();
    build.args(["filter", "build"]).env("RUSTC", compiler).env("PATH", path_with(&place));
    build.env_remove("RUSTUP_TOOLCHAIN");
    let (code, out, err) = run(build, &place);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "the target `wasm32-wasip2` is not installed and could not be added: run `rustup target add \
         wasm32-wasip2`\nerror: no network\n\n"
    );

    let mut build = pillion();
    build.args(["filter", "build"]).env("RUSTC", "/nowhere/rustc");
    let (code, _, err) = run(build, &place);
    assert_eq!(code, 1);
    assert!(err.starts_with("failed to start `/nowhere/rustc`: No such file"), "{err}");
}
