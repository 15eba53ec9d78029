//! kill -9 at random moments of a process that does nothing but write: what is found is complete.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Where the writer writes; there in its own process only.
const WRITER_DIRECTORY: &str = "PILLION_TEST_STORE_WRITER";
/// Before the number of a generation that the writer knows to be on disk.
const SAID: &str = "kept ";
const KILLS: usize = 200;

/// Not a test of its own: the process that the other one kills.
#[test]
fn writer() {
    let Some(directory) = std::env::var_os(WRITER_DIRECTORY) else { return };
    let mut store = Store::open(Path::new(&directory), metrics()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let generation = store.state().last_full().map_or(1, |last| last.generation + 1);
        let persisted = store.update(&[&component(generation)], |state| {
            state.next_rollout_id();
            state.keep(full(generation));
        });
        assert!(persisted, "{:?}", store.fault());
        writeln!(out, "{SAID}{generation}").unwrap();
        out.flush().unwrap();
    }
}

fn start(directory: &Directory) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rollout::store::tests::kill::writer", "--nocapture"])
        .env(WRITER_DIRECTORY, &directory.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The next generation that the writer says is on disk; none when it is gone.
fn said(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<u64> {
    lines.find_map(|line| {
        let line = line.unwrap();
        // The test harness writes the name of the test before it, on the same line.
        let (_, number) = line.split_once(SAID)?;
        Some(number.parse().unwrap())
    })
}

#[test]
fn a_killed_process_leaves_a_complete_state() {
    let directory = Directory::new();
    let mut known = 0;
    for _ in 0..KILLS {
        let mut child = start(&directory);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = Instant::now();
        let mut last = said(&mut lines).unwrap();
        // Any moment of the writes that follow, of which each takes less than start and first write.
        let moment = before.elapsed().mul_f64(rand::random::<f64>());
        let from = Instant::now();
        while from.elapsed() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(number) = said(&mut lines) {
            last = number;
        }
        assert!(last > known, "{last} after {known}");
        known = check(&directory, last);
    }
}

/// What is on disk: all that the writer knew of, at most one more, each whole.
fn check(directory: &Directory, last: u64) -> u64 {
    let store = directory.open().unwrap_or_else(|error| panic!("{}", told(&error)));
    let state = store.state();
    let newest = state.last_full().unwrap().generation;
    assert!(newest == last || newest == last + 1, "{newest} after {last}");
    assert_eq!(state.rollout_id_last, newest);
    let expected: Vec<u64> = (newest.saturating_sub(4).max(1)..=newest).collect();
    assert_eq!(generations(state), expected);
    for record in &state.full {
        assert_eq!(*record, full(record.generation));
        let content = store.component(&record.filters[0].component).unwrap();
        assert_eq!(content, component(record.generation));
    }
    assert_eq!(directory.components().len(), expected.len());
    assert_eq!(names(&directory.0), ["components", "lock", "state"]);
    newest
}
