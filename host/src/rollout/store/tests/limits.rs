//! Each bound: one below, at, one above.

use super::*;

#[test]
fn a_component_has_a_largest_size() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    let mut record = |generation: u64, length: usize| {
        let content = vec![0; length];
        let mut record = full(generation);
        record.filters[0].component = blake3::hash(&content);
        let persisted = store.update(&[&content], |state| state.keep(record));
        (persisted, store.fault().map(str::to_owned))
    };
    assert_eq!(record(1, COMPONENT_BYTES_MAX - 1), (true, None));
    assert_eq!(record(2, COMPONENT_BYTES_MAX), (true, None));
    let fault = "a component has 67108865 bytes, and 67108864 is the most that is kept";
    assert_eq!(record(3, COMPONENT_BYTES_MAX + 1), (false, Some(fault.to_owned())));
    // One that has grown is not even read.
    let file = directory.component_file(&vec![0; COMPONENT_BYTES_MAX]);
    let longer = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    longer.set_len(COMPONENT_BYTES_MAX as u64 + 1).unwrap();
    let refused = store.component(&blake3::hash(&vec![0; COMPONENT_BYTES_MAX])).unwrap_err();
    let expected = format!("`{}` is larger than 67108864 bytes", file.display());
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_state_file_has_a_largest_size() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    assert!(
        store.update(&[], |state| state
            .pin(PinnedRecord { reason: String::new(), ..pinned("bad") }))
    );
    let empty = std::fs::metadata(directory.state_file()).unwrap().len() as usize;
    let mut fill = |file_bytes: usize| {
        let reason = "r".repeat(file_bytes - empty);
        let persisted =
            store.update(&[], |state| state.pin(PinnedRecord { reason, ..pinned("bad") }));
        let written = std::fs::metadata(directory.state_file()).unwrap().len() as usize;
        (persisted, written)
    };
    assert_eq!(fill(STATE_BYTES_MAX - 1), (true, STATE_BYTES_MAX - 1));
    assert_eq!(fill(STATE_BYTES_MAX), (true, STATE_BYTES_MAX));
    assert_eq!(fill(STATE_BYTES_MAX + 1), (false, STATE_BYTES_MAX));
    let fault = "the state has 8388609 bytes, and 8388608 is the most that is kept";
    assert_eq!(store.fault(), Some(fault));
    drop(store);
    assert_eq!(directory.open().unwrap().state().pinned.len(), 1);
    let mut longer = std::fs::read(directory.state_file()).unwrap();
    longer.push(b' ');
    std::fs::write(directory.state_file(), longer).unwrap();
    let refused = told(&directory.open().unwrap_err());
    let expected = format!("`{}` is larger than 8388608 bytes", directory.state_file().display());
    assert!(refused.ends_with(&expected), "{refused}");
}

#[test]
fn the_oldest_generations_go_when_the_state_is_too_large() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    for generation in 1..=4 {
        let mut record = full(generation);
        record.config_text = Kept("#".repeat(3 << 20));
        let component = component(generation);
        assert!(store.update(&[&component], |state| state.keep(record)), "{:?}", store.fault());
    }
    assert_eq!(generations(store.state()), [3, 4]);
    assert_eq!(directory.components().len(), 2);
}

#[test]
fn so_many_generations_and_pins_are_kept() {
    for (count, kept) in
        [(KEPT_MAX - 1, KEPT_MAX - 1), (KEPT_MAX, KEPT_MAX), (KEPT_MAX + 1, KEPT_MAX)]
    {
        let mut state = State::default();
        (0..count as u64).for_each(|generation| state.keep(full(generation)));
        assert_eq!(state.full.len(), kept);
        assert_eq!(state.last_full().unwrap().generation, count as u64 - 1);
    }
    for over in [-1, 0, 1] {
        let count = PINNED_MAX.saturating_add_signed(over);
        let mut state = State::default();
        (0..count).for_each(|number| state.pin(pinned(&number.to_string())));
        assert_eq!(state.pinned.len(), count.min(PINNED_MAX));
        assert_eq!(state.pinned("0").is_some(), over <= 0);
    }
    // However the lists were filled.
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    assert!(store.update(&[], |state| {
        state.pinned = (0..=PINNED_MAX).map(|number| pinned(&number.to_string())).collect();
    }));
    assert_eq!(store.state().pinned.len(), PINNED_MAX);
}

#[test]
fn times_before_1970_and_far_from_now_are_no_obstacle() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    let far = UNIX_EPOCH.checked_add(Duration::from_secs(1 << 50)).unwrap();
    let early = UNIX_EPOCH.checked_sub(Duration::from_secs(5)).unwrap();
    for (identity, at) in [("far", far), ("early", early)] {
        assert!(store.update(&[], |state| state.pin(PinnedRecord { at, ..pinned(identity) })));
    }
    drop(store);
    let store = directory.open().unwrap();
    assert_eq!(store.state().pinned("far").unwrap().at, far);
    assert_eq!(store.state().pinned("early").unwrap().at, UNIX_EPOCH);
}
