//! The regression gate: instructions of the hot path, counted by callgrind and held against the
//! counts in `tests/bench/instructions.toml`. Counts repeat where times do not.
//!
//! `cargo --config tests/bench/instructions/profile.toml bench -p pillion --bench instructions --profile dev`,
//! with `-- --update` to store new counts. The same program is what is counted: `pieces` runs pieces
//! of the hot path, `requests` the whole sidecar with a client and an origin around it. `callgrind`
//! starts it under valgrind, `stored` knows the file.

mod callgrind;
mod filters;
mod pieces;
mod requests;
mod stored;

use callgrind::Callgrind;
use pillion_tests::peer::PEERS;
use pillion_tests::process::{find, target};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use stored::Stored;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let done = match texts[..] {
        [pillion::wasm::compile::SUBCOMMAND, ..] => {
            return pillion::wasm::compile::child_main(&arguments[1..]);
        }
        ["piece", name, rounds, cache] => pieces::run(name, rounds, Path::new(cache)),
        ["serve", file] => requests::serve(Path::new(file)),
        // `cargo bench` adds an argument of its own.
        [] | ["--bench"] => check(Mode::Check),
        ["--update"] | ["--update", "--bench"] => check(Mode::Update),
        _ => Err("usage: instructions [--update]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Check,
    Update,
}

/// Counts everything, and compares or stores.
fn check(mode: Mode) -> Result<(), String> {
    let Some(valgrind) = find("valgrind") else {
        let required = std::env::var(PEERS).is_ok_and(|value| value == "required");
        let reason = "skipped: valgrind is not installed".to_owned();
        if required {
            return Err(reason);
        }
        eprintln!("{reason}");
        return Ok(());
    };
    let place = target().join("instructions");
    let callgrind = Callgrind::new(&valgrind, &place)?;
    let cache = filters::compile(&valgrind, &place)?;
    let mut stored = Stored::read()?;
    let mut worse = Vec::new();
    for name in pieces::NAMES.iter().chain(requests::NAMES) {
        let count = if pieces::NAMES.contains(name) {
            pieces::count(&callgrind, name, &cache)?
        } else {
            requests::count(&callgrind, name, &cache)?
        };
        let verdict = stored.compare(name, count);
        println!("{count:>9}  {name}: {verdict}");
        if verdict.fails() {
            worse.push(format!("{name}: {verdict}"));
        }
        stored.set(name, count);
    }
    if mode == Mode::Update {
        return stored.write();
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "\nthe hot path takes more instructions than `{}` allows:\n  {}\n\
         Find out why (`callgrind_annotate` reads the profiles in `{}`), or, where the increase is \
         meant, store the new counts with `-- --update` and say in the commit what they buy.",
        stored::FILE,
        worse.join("\n  "),
        place.display(),
    ))
}
