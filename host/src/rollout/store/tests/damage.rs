//! Torn, foreign and newer files; components that were removed or changed; a disk that fails.

use super::*;

/// What [`Store::open`] says of a state file.
fn refusal(directory: &Directory) -> Unusable {
    match directory.open().unwrap_err() {
        StoreError::Unusable { why, .. } => why,
        other => panic!("{}", told(&other)),
    }
}

#[test]
fn a_state_that_is_torn_anywhere_is_refused_and_left_alone() {
    let directory = Directory::new();
    assert!(keep(&mut directory.open().unwrap(), 1));
    let whole = std::fs::read(directory.state_file()).unwrap();
    for length in 0..whole.len() {
        std::fs::write(directory.state_file(), &whole[..length]).unwrap();
        assert_eq!(refusal(&directory), Unusable::Torn, "{length}");
        assert_eq!(std::fs::read(directory.state_file()).unwrap(), &whole[..length]);
        assert_eq!(directory.components().len(), 1);
    }
    std::fs::write(directory.state_file(), &whole).unwrap();
    assert_eq!(generations(directory.open().unwrap().state()), [1]);
}

#[test]
fn a_write_that_ends_anywhere_leaves_the_state_before_it() {
    let directory = Directory::new();
    assert!(keep(&mut directory.open().unwrap(), 1));
    let mut later = directory.open().unwrap().state().clone();
    later.keep(full(2));
    let later = format::encode(&later).unwrap();
    let unfinished = directory.0.join("state.0123456789abcdef.new");
    for length in 0..=later.len() {
        std::fs::write(&unfinished, &later[..length]).unwrap();
        assert_eq!(generations(directory.open().unwrap().state()), [1], "{length}");
        assert!(!unfinished.exists());
    }
    // The same of a component: one that is whole, too, but that no state names.
    let content = component(2);
    let named = directory.component_file(&content);
    let unfinished = PathBuf::from(format!("{}.0123456789abcdef.new", named.display()));
    for length in 0..=content.len() {
        for place in [&unfinished, &named] {
            std::fs::write(place, &content[..length]).unwrap();
        }
        drop(directory.open().unwrap());
        assert_eq!(directory.components().len(), 1, "{length}");
    }
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let directory = Directory::new();
    assert!(keep(&mut directory.open().unwrap(), 1));
    let whole = std::fs::read(directory.state_file()).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(format::decode(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(directory.state_file(), &flipped).unwrap();
    assert_eq!(refusal(&directory), Unusable::Torn);
}

#[test]
fn a_foreign_or_newer_state_is_refused_with_what_to_do() {
    let directory = Directory::new();
    drop(directory.open().unwrap());
    let message = |contents: &[u8]| {
        std::fs::write(directory.state_file(), contents).unwrap();
        let refused = directory.open().unwrap_err();
        assert_eq!(std::fs::read(directory.state_file()).unwrap(), contents);
        told(&refused)
    };
    let expected = |why: &str, help: &str| {
        format!(
            "the state file `{}` cannot be used: {why}; nothing of it is used or changed, and \
             nothing is kept on disk meanwhile; {help}",
            directory.state_file().display()
        )
    };
    for foreign in [b"{}".as_slice(), b"\x7fELF", &[0; 1000], b"illion"] {
        assert_eq!(
            message(foreign),
            expected(
                "it is not a state file of Pillion",
                "move the directory away, and start again"
            )
        );
    }
    assert_eq!(
        message(b"pillion rollout state, format 2, something new\n..."),
        expected(
            "it has format 2, and this version of Pillion knows format 1 only",
            "start the version that wrote it, or move the directory away"
        )
    );
    std::fs::remove_file(directory.state_file()).unwrap();
    std::fs::create_dir(directory.state_file()).unwrap();
    let refused = told(&directory.open().unwrap_err());
    assert!(refused.contains("cannot be trusted: it is not a file"), "{refused}");
}

#[test]
fn a_component_that_was_changed_or_removed_is_not_used() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    for generation in [1, 2] {
        assert!(keep(&mut store, generation));
    }
    let first = blake3::hash(&component(1));
    let file = directory.component_file(&component(1));
    std::fs::write(&file, "something else").unwrap();
    let damaged = format!(
        "the kept component `{}` is damaged: its content does not match its name",
        file.display()
    );
    assert_eq!(store.component(&first).unwrap_err().to_string(), damaged);
    // Written anew when it is recorded again.
    assert!(keep(&mut store, 1));
    assert_eq!(store.component(&first).unwrap(), component(1));
    std::fs::remove_file(&file).unwrap();
    let absent = format!("the kept component `{}` is not there any more", file.display());
    assert_eq!(store.component(&first).unwrap_err().to_string(), absent);
    // A generation that cannot be returned to is forgotten by the next change.
    assert!(keep(&mut store, 3));
    assert_eq!(generations(store.state()), [2, 3]);
    drop(store);
    assert_eq!(generations(directory.open().unwrap().state()), [2, 3]);
}

#[test]
fn files_of_other_names_are_left_alone() {
    let directory = Directory::new();
    drop(directory.open().unwrap());
    let digits = "0".repeat(64);
    let others =
        ["README".to_owned(), "a.wasm".to_owned(), digits.clone(), format!("{digits}.txt")];
    for name in &others {
        std::fs::write(directory.0.join(components::COMPONENTS).join(name), "").unwrap();
    }
    for name in ["state.toml", "other.new"] {
        std::fs::write(directory.0.join(name), "").unwrap();
    }
    let mut store = directory.open().unwrap();
    assert!(keep(&mut store, 1));
    assert_eq!(directory.components().len(), others.len() + 1);
    let expected = ["components", "lock", "other.new", "state", "state.toml"];
    assert_eq!(names(&directory.0), expected);
}

#[test]
fn a_disk_that_fails_is_told_once_and_tried_again() {
    let directory = Directory::new();
    let metrics = metrics();
    let mut store = Store::open(&directory.0, metrics.clone()).unwrap();
    let counted = || metrics.process().swallowed_errors().get(COUNTED_AS).copied();
    assert!(keep(&mut store, 1));
    assert_eq!(counted(), None);
    // As good as full: nothing can be created.
    let away = Directory::new();
    std::fs::rename(&directory.0, &away.0).unwrap();
    for generation in [2, 3] {
        assert!(!keep(&mut store, generation));
        assert!(!store.persisted());
    }
    let fault = store.fault().unwrap().to_owned();
    assert!(fault.starts_with("failed to create a file beside `"), "{fault}");
    assert!(fault.ends_with("No such file or directory (os error 2)"), "{fault}");
    assert_eq!(counted(), Some(1));
    assert_eq!(generations(store.state()), [1, 2, 3]);
    std::fs::rename(&away.0, &directory.0).unwrap();
    // Without the component of the generation in force its record cannot be written; the rest is.
    assert!(!store.update(&[], |state| state.pin(pinned("bad"))));
    assert_eq!(store.fault(), Some("the components of generation 3 are not all there"));
    assert_eq!(counted(), Some(2));
    let on_disk = format::decode(&std::fs::read(directory.state_file()).unwrap()).unwrap();
    assert_eq!((generations(&on_disk), on_disk.pinned.len()), (vec![1], 1));
    assert!(keep(&mut store, 4));
    assert!(store.persisted() && store.fault().is_none());
    assert_eq!(generations(store.state()), [1, 4]);
    assert_eq!(counted(), Some(2));
    drop(store);
    assert_eq!(generations(directory.open().unwrap().state()), [1, 4]);
}

#[test]
fn a_failed_write_leaves_no_component_that_the_state_on_disk_needs_behind_or_removed() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    assert!(keep(&mut store, 1));
    // A directory cannot be replaced by a file: components are written, the state is not.
    let aside = directory.0.join("aside");
    std::fs::rename(directory.state_file(), &aside).unwrap();
    std::fs::create_dir_all(directory.state_file().join("full")).unwrap();
    for generation in 2..=20 {
        assert!(!keep(&mut store, generation));
    }
    let fault = store.fault().unwrap().to_owned();
    assert!(fault.starts_with("failed to put a new file in the place of `"), "{fault}");
    // Those of the file, and of what is in memory; the file may be any of those that were tried.
    assert!(directory.component_file(&component(1)).exists());
    assert!(directory.component_file(&component(20)).exists());
    std::fs::remove_dir_all(directory.state_file()).unwrap();
    std::fs::rename(&aside, directory.state_file()).unwrap();
    assert!(keep(&mut store, 21));
    assert_eq!(generations(store.state()), [17, 18, 19, 20, 21]);
    assert_eq!(directory.components().len(), 5);
}
