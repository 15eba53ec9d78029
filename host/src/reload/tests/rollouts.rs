//! Rollouts over the reload thread: by hand, by the file, judged, returned from, and kept. What
//! requests do is put into the arms by hand.

use super::*;
use crate::chain::Members;
use crate::rollout::arm::Ended;
use crate::rollout::control::{
    Answer, Back, ChainChange, Change, Control, FilterChange, Progress, Refusal, RolloutId,
};
use crate::rollout::{Hold, Plan, Share, Stage, Step};
use crate::snapshot::differences;
use serde_json::json;

/// Waits for an answer.
fn answered<T>(answer: Answer<T>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await }).unwrap()
}

/// Waits until `wanted` says so.
fn until(what: &str, wanted: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::yield_now();
    }
}

/// A canary until told, then full.
fn by_hand() -> Plan {
    let canary = Stage::Canary(Share::from_millionths(50_000));
    let steps = vec![
        Step { stage: canary, hold: Hold::UntilTold },
        Step { stage: Stage::Full, hold: Hold::UntilTold },
    ];
    Plan { steps, ..Plan::default() }
}

fn header(value: &str) -> Change {
    let config = json!({ "response": [{ "set": { "name": "x", "value": value } }] });
    let filter = FilterChange {
        filter: "headers".to_owned(),
        component: None,
        version: Some(format!("v{value}")),
        config: Some(config),
    };
    Change { filters: vec![filter], chains: Vec::new() }
}

fn save(folder: &Folder, value: &str, more: &str) {
    folder.save(&format!("{}{more}", headers(value)));
}

fn folder(more: &str) -> Folder {
    let folder = Folder::new("");
    save(&folder, "1", more);
    folder
}

fn value(shared: &Shared) -> String {
    shared.snapshot.load().config.filters[0].config["response"][0]["set"]["value"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What the judge takes for a candidate that fails.
fn fail(shared: &Shared) {
    let snapshot = shared.snapshot.load_full();
    let candidate = snapshot.candidate.as_ref().unwrap();
    for _ in 0..500 {
        candidate.running.record(0, &Ended { status: Some(200), ..Ended::default() });
        candidate.next.record(0, &Ended { failed: true, status: Some(500), ..Ended::default() });
    }
}

fn progress(reloader: &Reloader) -> Progress {
    reloader.rollout().unwrap().progress
}

fn rolled_back(reloader: &Reloader) {
    until("a rollback", || matches!(progress(reloader), Progress::RolledBack { .. }));
}

fn numbers(reloader: &Reloader) -> Vec<u64> {
    reloader.generations().iter().map(|it| it.generation).collect()
}

#[test]
fn steps_go_on_by_hand_and_the_running_version_keeps_its_instances() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    let before = shared.snapshot.load_full();
    let prepared = before.filters[0].clone().unwrap();
    let id = answered(reloader.start(header("2"), by_hand())).unwrap();
    assert_eq!(id, RolloutId(1));

    let trying = shared.snapshot.load_full();
    let candidate = trying.candidate.as_ref().unwrap();
    assert_eq!((trying.generation, candidate.stage.to_string()), (2, "canary 5%".to_owned()));
    assert!(Arc::ptr_eq(trying.filters[0].as_ref().unwrap(), &prepared));
    assert!(!Arc::ptr_eq(candidate.filters[0].as_ref().unwrap(), &prepared));
    assert_eq!(value(&shared), "1");
    let status = reloader.rollout().unwrap();
    assert_eq!((status.id, status.step, status.progress), (id, 0, Progress::Stepping));
    assert!(status.changes[0].starts_with("filter headers: "), "{:?}", status.changes);
    assert!(status.changes[0].contains("(v2)"), "{:?}", status.changes);
    let part = trying.take_part(0).unwrap();
    assert_eq!(part.filters.len(), 2, "the one it has not taken, and the new one");

    let other = answered(reloader.promote(RolloutId(9))).unwrap_err();
    assert!(matches!(other, Refusal::Unknown(_)), "{other}");
    let status = answered(reloader.promote(id)).unwrap();
    assert_eq!(status.progress, Progress::Promoted { generation: 3 });
    let after = shared.snapshot.load_full();
    assert!(after.candidate.is_none());
    assert_eq!((after.generation, value(&shared)), (3, "2".to_owned()));
    assert!(after.take_part(0).unwrap().filters.is_empty(), "the worker has it already");
    assert_eq!(numbers(&reloader), [3, 1]);
    assert_eq!(reloader.shown().in_force, "admin: generation 3 over the file");
    let none = answered(reloader.promote(id)).unwrap_err();
    assert!(matches!(none, Refusal::Conflict(_)), "{none}");
}

#[test]
fn there_is_one_rollout_at_a_time_and_none_while_the_process_stops() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    answered(reloader.start(header("2"), by_hand())).unwrap();
    let second = answered(reloader.start(header("3"), by_hand())).unwrap_err();
    assert!(second.to_string().contains("rollout 1 is in progress"), "{second}");
    shared.shutdown.advance(crate::shutdown::Stage::Draining);
    let stopping = answered(reloader.start(header("3"), by_hand())).unwrap_err();
    assert!(stopping.to_string().contains("stopping"), "{stopping}");
    let stopping = answered(reloader.back(Back::Previous)).unwrap_err();
    assert!(stopping.to_string().contains("stopping"), "{stopping}");
}

#[test]
fn what_cannot_be_used_is_told_and_changes_nothing() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    let mut change = header("2");
    change.filters[0].config = Some(json!({ "respons": [] }));
    let refusal = answered(reloader.start(change, by_hand())).unwrap_err();
    assert!(refusal.to_string().contains("`respons`"), "{refusal}");
    let mut change = header("2");
    change.filters[0].component = Some(bytes::Bytes::from_static(b"no component"));
    let refusal = answered(reloader.start(change, by_hand())).unwrap_err();
    assert!(matches!(refusal, Refusal::Unusable(_)), "{refusal}");
    assert_eq!(shared.snapshot.load().generation, 1);
    assert!(reloader.rollout().is_none());
}

#[test]
fn a_version_found_bad_is_rolled_back_to_the_same_filters_and_pinned() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    let prepared = shared.snapshot.load().filters[0].clone().unwrap();
    answered(reloader.start(header("2"), by_hand())).unwrap();
    fail(&shared);
    rolled_back(&reloader);
    let Progress::RolledBack { generation, reason, by_judge } = progress(&reloader) else {
        panic!("it was rolled back");
    };
    assert!(by_judge && reason.contains("500"), "{reason}");
    let snapshot = shared.snapshot.load_full();
    assert_eq!((snapshot.generation, generation), (3, 3));
    assert!(snapshot.candidate.is_none());
    assert!(Arc::ptr_eq(snapshot.filters[0].as_ref().unwrap(), &prepared));
    assert_eq!(reloader.shown().in_force, "file");

    let pinned = reloader.pinned();
    assert_eq!(pinned.len(), 1);
    let refusal = answered(reloader.start(header("2"), by_hand())).unwrap_err();
    assert!(refusal.to_string().contains("found bad"), "{refusal}");
    answered(reloader.start(header("3"), by_hand())).unwrap();
    assert_eq!(answered(reloader.back(Back::Previous)).unwrap(), 5);
    answered(reloader.unpin(pinned[0].identity.clone())).unwrap();
    let unknown = answered(reloader.unpin(pinned[0].identity.clone())).unwrap_err();
    assert!(matches!(unknown, Refusal::Unknown(_)), "{unknown}");
    answered(reloader.start(header("2"), by_hand())).unwrap();
}

#[test]
fn a_chain_can_be_tried_too() {
    let folder = Folder::new("");
    let filter = headers("1");
    folder.save_whole(&format!("{LISTENER}address = \"127.0.0.1:0\"\n{filter}"));
    let (reloader, shared) = folder.start();
    let route = shared.snapshot.load().config.listeners[0].routes[0].name.to_string();
    let chain = vec!["headers".to_owned()];
    let chains = vec![ChainChange { listener: "in".to_owned(), route, chain }];
    let change = Change { filters: Vec::new(), chains };
    let id = answered(reloader.start(change, by_hand())).unwrap();
    let snapshot = shared.snapshot.load_full();
    let candidate = snapshot.candidate.as_ref().unwrap();
    assert_eq!(candidate.config.listeners[0].routes[0].chain, [0]);
    assert!(snapshot.config.listeners[0].routes[0].chain.is_empty());
    answered(reloader.promote(id)).unwrap();
    assert_eq!(shared.snapshot.load().config.listeners[0].routes[0].chain, [0]);
}

#[test]
fn the_file_wins_whenever_it_changes_and_only_then() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    let id = answered(reloader.start(header("2"), by_hand())).unwrap();
    answered(reloader.promote(id)).unwrap();
    assert_eq!(asked(&reloader).unwrap(), 4);
    assert_eq!(value(&shared), "2", "the file is as it was");
    answered(reloader.start(header("3"), by_hand())).unwrap();
    assert_eq!(asked(&reloader).unwrap(), 6);
    assert!(shared.snapshot.load().candidate.is_some(), "the rollout goes on");

    save(&folder, "4", "");
    until("the file to be in force", || value(&shared) == "4");
    until("the end of the rollout", || matches!(progress(&reloader), Progress::CutShort { .. }));
    assert!(shared.snapshot.load().candidate.is_none());
    // Told a moment after the first requests have it.
    until("the file to be told", || reloader.shown().in_force == "file");
}

const NEXT: &str = "[filter.headers.next]\n\
                    config = { response = [{ set = { name = \"x\", value = \"2\" } }] }\n\
                    [rollout]\nsteps = [\"canary 5%\", \"full\"]\n";

#[test]
fn a_next_of_the_file_is_tried_promoted_and_stays_promoted() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    save(&folder, "1", NEXT);
    until("a rollout", || reloader.rollout().is_some());
    assert_eq!(value(&shared), "1");
    let status = reloader.rollout().unwrap();
    answered(reloader.promote(status.id)).unwrap();
    assert_eq!(value(&shared), "2");
    assert_eq!(reloader.shown().in_force, "file: its next is promoted");
    let generation = asked(&reloader).unwrap();
    assert_eq!(value(&shared), "2", "the file is as it was");
    save(&folder, "1", &format!("{NEXT}[runtime]\ndrain_timeout = \"9s\"\n"));
    published(&shared, generation + 1);
    let snapshot = shared.snapshot.load_full();
    assert!(snapshot.candidate.is_none());
    assert_eq!(value(&shared), "2", "another part of the file has changed");
    save(&folder, "1", "");
    until("the file without a next", || value(&shared) == "1");
}

#[test]
fn a_next_of_the_file_that_was_found_bad_is_left_out_until_it_changes() {
    let folder = folder(NEXT);
    let (reloader, shared) = folder.start();
    until("a rollout", || shared.snapshot.load().candidate.is_some());
    fail(&shared);
    rolled_back(&reloader);
    let generation = asked(&reloader).unwrap();
    assert!(shared.snapshot.load().candidate.is_none(), "it is pinned");
    assert_eq!(generation, shared.snapshot.load().generation);
    save(&folder, "1", &NEXT.replace("\"2\"", "\"3\""));
    until("another rollout", || shared.snapshot.load().candidate.is_some());
}

#[test]
fn a_file_whose_next_cannot_be_used_is_refused_as_a_whole() {
    let folder = folder("[runtime]\nwatch = false\n");
    let (reloader, shared) = folder.start();
    save(&folder, "9", &NEXT.replace("response", "respons"));
    let told = shown(asked(&reloader));
    assert!(told.contains("`respons`"), "{told}");
    assert_eq!((shared.snapshot.load().generation, value(&shared)), (1, "1".to_owned()));
}

#[test]
fn one_may_return_to_a_generation_and_with_one_filter() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    for value in ["2", "3"] {
        let id = answered(reloader.start(header(value), by_hand())).unwrap();
        answered(reloader.promote(id)).unwrap();
    }
    assert_eq!(numbers(&reloader), [5, 3, 1]);
    assert_eq!(answered(reloader.back(Back::Generation(1))).unwrap(), 6);
    assert_eq!(value(&shared), "1");
    assert!(reloader.shown().in_force.starts_with("rollback: generation 6"));
    assert_eq!(answered(reloader.back(Back::Previous)).unwrap(), 7);
    assert_eq!(value(&shared), "3");
    assert_eq!(answered(reloader.back(Back::Filter("headers".to_owned()))).unwrap(), 8);
    assert_eq!(value(&shared), "1", "the latest generation with another one");
    assert_eq!(numbers(&reloader), [8, 7, 6, 5, 3], "five are kept");
    for back in [Back::Generation(1), Back::Filter("other".to_owned())] {
        let unknown = answered(reloader.back(back)).unwrap_err();
        assert!(matches!(unknown, Refusal::Unknown(_)), "{unknown}");
    }
    assert_eq!(asked(&reloader).unwrap(), 9);
    assert_eq!(value(&shared), "1", "the file is as it was");
}

#[test]
fn a_rollout_of_the_filter_is_what_going_back_with_it_ends() {
    let folder = folder("");
    let (reloader, shared) = folder.start();
    answered(reloader.start(header("2"), by_hand())).unwrap();
    assert_eq!(answered(reloader.back(Back::Filter("headers".to_owned()))).unwrap(), 3);
    assert!(shared.snapshot.load().candidate.is_none());
    assert!(reloader.pinned().is_empty(), "nobody has found it bad");
    assert_eq!(numbers(&reloader), [3], "the same generation under another number");
}

/// A folder whose state is kept in it.
fn keeping() -> Folder {
    let folder = folder("");
    let state = folder.0.join("state");
    save(&folder, "1", &format!("[rollout]\nstate_dir = \"{}\"\n", state.display()));
    folder
}

/// Starts as a process does, once the one before has let go of the directory.
fn start_keeping(folder: &Folder) -> (Reloader, Arc<Shared>) {
    let loaded = config::load(&folder.file(), "").unwrap();
    let metrics = Metrics::new(WORKERS, SystemTime::now());
    let end = Instant::now() + PATIENCE;
    let history = loop {
        let history = History::open(&loaded.config, metrics.clone());
        match history.fault() {
            None => break history,
            Some(fault) => assert!(Instant::now() < end, "{fault}"),
        }
    };
    folder.start_with(history)
}

#[test]
fn what_was_promoted_is_served_again_after_a_restart_unless_the_file_has_changed() {
    let folder = keeping();
    let (reloader, _) = start_keeping(&folder);
    let mut change = header("2");
    change.filters[0].component = Some(bytes::Bytes::from_static(shipped("headers")));
    let id = answered(reloader.start(change, by_hand())).unwrap();
    answered(reloader.promote(id)).unwrap();
    drop(reloader);

    let (reloader, shared) = start_keeping(&folder);
    assert_eq!((shared.snapshot.load().generation, value(&shared)), (4, "2".to_owned()));
    assert_eq!(reloader.shown().in_force, "admin: generation 4 over the file");
    assert_eq!(numbers(&reloader), [4, 1]);
    assert_eq!(asked(&reloader).unwrap(), 5);
    assert_eq!(value(&shared), "2", "it stays over a reload of the same file");
    drop(reloader);

    let text = std::fs::read_to_string(folder.file()).unwrap();
    folder.save_whole(&format!("{text}# another\n"));
    let (reloader, shared) = start_keeping(&folder);
    assert_eq!(value(&shared), "1");
    assert_eq!(reloader.shown().in_force, "file");
    assert_eq!(answered(reloader.back(Back::Generation(5))).unwrap(), 7);
    assert_eq!(value(&shared), "2", "a generation of an earlier process");
}

#[test]
fn a_rollout_that_the_process_did_not_outlive_is_told_and_the_last_full_generation_served() {
    let folder = keeping();
    let (reloader, _) = start_keeping(&folder);
    answered(reloader.start(header("2"), by_hand())).unwrap();
    drop(reloader);
    let (reloader, shared) = start_keeping(&folder);
    assert_eq!(value(&shared), "1");
    assert!(shared.snapshot.load().candidate.is_none());
    let Progress::CutShort { reason } = progress(&reloader) else { panic!("it was cut short") };
    assert_eq!(reason, "the process ended");
    drop(reloader);
    let (reloader, _) = start_keeping(&folder);
    assert!(reloader.rollout().is_none(), "it is told once");
}

#[test]
fn what_differs_between_two_chains_is_what_only_one_of_them_has() {
    let other = headers("2").replace("[filter.headers]", "[filter.other]");
    let folder = folder(&other);
    let (_reloader, shared) = folder.start();
    let snapshot = shared.snapshot.load_full();
    let [a, b] = [0, 1].map(|index| snapshot.filters[index].as_ref().unwrap());
    let members = |indexes: &[usize]| indexes.iter().copied().collect::<Members>();
    assert_eq!(differences(&[a, b], &[a, b]), None);
    assert_eq!(differences(&[], &[]), None);
    assert_eq!(differences(&[a], &[a, b]), Some((members(&[]), members(&[1]))));
    assert_eq!(differences(&[a, b], &[b]), Some((members(&[0]), members(&[]))));
    assert_eq!(differences(&[a], &[b]), Some((members(&[0]), members(&[0]))));
    let all = members(&[0, 1]);
    assert_eq!(differences(&[a, b], &[b, a]), Some((all, all)), "another order");
    assert!(snapshot.serves(a) && !snapshot.serves(b), "it is in no chain");
}
