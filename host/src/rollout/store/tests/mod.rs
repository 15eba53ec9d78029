//! What is found again: after a restart, after damage, after kill -9.

mod damage;
mod kill;
mod limits;

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A state directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-store-{}-{number}", std::process::id());
        Directory(std::env::temp_dir().join(name))
    }

    fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.0, metrics())
    }

    fn state_file(&self) -> PathBuf {
        self.0.join(STATE_FILE)
    }

    fn component_file(&self, content: &[u8]) -> PathBuf {
        let name = format!("{}.wasm", blake3::hash(content));
        self.0.join(components::COMPONENTS).join(name)
    }

    /// Names of all component files.
    fn components(&self) -> Vec<String> {
        names(&self.0.join(components::COMPONENTS))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _there_may_be_none = std::fs::remove_dir_all(&self.0);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let listing = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        listing.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(1, SystemTime::now())
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The component of a generation, of another length each.
fn component(generation: u64) -> Vec<u8> {
    format!("\0asm component {generation} ").repeat(1 + generation as usize % 7).into_bytes()
}

/// A generation with one filter, whose component is [`component`].
fn full(generation: u64) -> FullRecord {
    FullRecord {
        generation,
        published: at(1_000 + generation),
        cause: "rollout".to_owned(),
        source_hash: blake3::hash(b"source"),
        config_path: PathBuf::from("/etc/pillion/pillion.toml"),
        config_text: Kept("token = \"hunter2\"\nkey = \"${KEY}\"\n".to_owned()),
        on_top: None,
        filters: vec![KeptFilter {
            name: "limit".to_owned(),
            version: Some(format!("v{generation}")),
            component: blake3::hash(&component(generation)),
        }],
    }
}

fn keep(store: &mut Store, generation: u64) -> bool {
    store.update(&[&component(generation)], |state| state.keep(full(generation)))
}

fn pinned(identity: &str) -> PinnedRecord {
    PinnedRecord {
        identity: identity.to_owned(),
        what: "filter limit".to_owned(),
        reason: "12 of 100 exchanges failed".to_owned(),
        at: at(5),
    }
}

fn generations(state: &State) -> Vec<u64> {
    state.full.iter().map(|record| record.generation).collect()
}

/// A message with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn everything_is_found_again() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    assert_eq!(*store.state(), State::default());
    let mut record = full(3);
    record.on_top = Some(OnTop {
        by: crate::rollout::control::Origin::Admin,
        changes: vec!["filter limit: 0123456789ab -> ba9876543210 (v3)".to_owned()],
        next_promoted: true,
        filters: vec![FilterOnTop {
            filter: "limit".to_owned(),
            component: Some(blake3::hash(&component(4))),
            version: None,
            // Deeper than a JSON parser goes.
            config_json: Some(Kept(format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)))),
        }],
        chains: vec![crate::rollout::control::ChainChange {
            listener: "inbound".to_owned(),
            route: "all".to_owned(),
            chain: vec!["limit".to_owned()],
        }],
    });
    let persisted = store.update(&[&component(3), &component(4)], |state| {
        assert_eq!(state.next_rollout_id().0, 1);
        assert_eq!(state.next_rollout_id().0, 2);
        state.keep(record);
        state.pin(pinned("bad"));
        state.in_progress = Some(InProgress {
            id: 2,
            origin: crate::rollout::control::Origin::File,
            changes: vec!["filter limit".to_owned()],
            running: 3,
            step: 1,
            stage: "canary 5%".to_owned(),
            began: at(7),
            step_began: at(8),
        });
        state.promoted_next =
            Some(PromotedNext { identity: "good".to_owned(), generation: 3, at: at(6) });
    });
    assert!(persisted && store.persisted() && store.fault().is_none());
    let kept = store.state().clone();
    drop(store);
    let store = directory.open().unwrap();
    assert_eq!(*store.state(), kept);
    assert_eq!(store.state().last_full(), store.state().full(3));
    assert_eq!(store.state().full(4), None);
    for number in [3, 4] {
        let content = component(number);
        assert_eq!(store.component(&blake3::hash(&content)).unwrap(), content);
    }
}

#[test]
fn five_generations_are_kept_and_the_sixth_drops_the_oldest_with_its_component() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    for generation in 1..=KEPT_MAX as u64 {
        assert!(keep(&mut store, generation));
    }
    assert_eq!(generations(store.state()), [1, 2, 3, 4, 5]);
    assert!(directory.component_file(&component(1)).exists());
    // The sixth has the component of the second.
    let mut sixth = full(6);
    sixth.filters.clone_from(&full(2).filters);
    assert!(store.update(&[], |state| state.keep(sixth)));
    assert_eq!(generations(store.state()), [2, 3, 4, 5, 6]);
    assert!(!directory.component_file(&component(1)).exists());
    assert!(keep(&mut store, 7));
    assert_eq!(generations(store.state()), [3, 4, 5, 6, 7]);
    assert!(directory.component_file(&component(2)).exists());
    assert_eq!(directory.components().len(), 5);
}

#[test]
fn pins_are_found_and_forgotten_by_their_identity() {
    let mut state = State::default();
    state.pin(pinned("a"));
    state.pin(pinned("b"));
    state.pin(PinnedRecord { reason: "again".to_owned(), ..pinned("a") });
    assert_eq!(state.pinned.len(), 2);
    assert_eq!(state.pinned("a").unwrap().reason, "again");
    assert!(state.unpin("a"));
    assert!(!state.unpin("a"));
    assert_eq!(state.pinned("a"), None);
    let shown = crate::rollout::control::Pinned::from(state.pinned("b").unwrap());
    assert_eq!((shown.identity.as_str(), shown.at), ("b", at(5)));
}

#[test]
fn what_is_kept_is_for_this_user_alone() {
    let directory = Directory::new();
    let mut store = directory.open().unwrap();
    assert!(keep(&mut store, 1));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    for path in [directory.0.clone(), directory.0.join(components::COMPONENTS)] {
        assert_eq!(mode(&path), 0o700);
    }
    let lock = directory.0.join(lock::LOCK_FILE);
    for path in [directory.state_file(), directory.component_file(&component(1)), lock] {
        assert_eq!(mode(&path), 0o600);
    }
    let shown = format!("{store:?}");
    assert!(shown.contains("limit") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_others_can_write_is_refused() {
    let directory = Directory::new();
    assert!(keep(&mut directory.open().unwrap(), 1));
    let components = directory.0.join(components::COMPONENTS);
    let lock = directory.0.join(lock::LOCK_FILE);
    for path in [directory.0.clone(), directory.state_file(), lock, components] {
        let mode = std::fs::metadata(&path).unwrap().mode();
        for bit in [0o020, 0o002] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode | bit)).unwrap();
            let refused = directory.open().unwrap_err();
            assert_eq!(
                told(&refused),
                format!(
                    "failed to open the state directory `{}`; `rollout.state_dir` names another \
                     one: `{}` cannot be trusted: others may write to it; remove it, or name \
                     another directory",
                    directory.0.display(),
                    path.display()
                )
            );
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    directory.open().unwrap();
}

#[test]
fn links_are_not_followed() {
    let directory = Directory::new();
    assert!(keep(&mut directory.open().unwrap(), 1));
    let link = Directory::new();
    std::os::unix::fs::symlink(&directory.0, &link.0).unwrap();
    let refused = told(&link.open().unwrap_err());
    assert!(refused.contains("cannot be trusted: it is not a directory"), "{refused}");
    std::fs::remove_file(&link.0).unwrap();
    let elsewhere = directory.0.join("elsewhere");
    for file in [directory.state_file(), directory.0.join(lock::LOCK_FILE)] {
        std::fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        let refused = told(&directory.open().unwrap_err());
        assert!(refused.contains("failed to open"), "{refused}");
        std::fs::rename(&elsewhere, &file).unwrap();
    }
    directory.open().unwrap();
}

#[test]
fn two_processes_never_share_a_directory() {
    let directory = Directory::new();
    let store = directory.open().unwrap();
    let in_use = |holder: &str| {
        format!(
            "the state directory `{}` is in use by {holder}; stop that one, or give this one a \
             directory of its own with `rollout.state_dir`",
            directory.0.display()
        )
    };
    let this = format!("process {}", std::process::id());
    assert_eq!(directory.open().unwrap_err().to_string(), in_use(&this));
    // A holder that has not said who it is, and one that says nonsense.
    for said in ["", "somebody", &"1".repeat(100)] {
        std::fs::write(directory.0.join(lock::LOCK_FILE), said).unwrap();
        assert_eq!(directory.open().unwrap_err().to_string(), in_use("another process"));
    }
    drop(store);
    directory.open().unwrap();
}

#[test]
fn each_configuration_has_a_directory_of_its_own() {
    let place = |variables: &[(&str, &str)], path: &str| {
        default_directory_with(Path::new(path), |name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some((*value).into())
        })
    };
    let home = [("HOME", "/home/me")];
    let with_base = [("HOME", "/home/me"), ("XDG_STATE_HOME", "/state")];
    let at_home = place(&home, "/etc/a.toml").unwrap();
    assert_eq!(at_home.parent(), Some(Path::new("/home/me/.local/state/pillion")));
    assert_eq!(at_home.file_name().unwrap().len(), 16);
    let below_base = place(&with_base, "/etc/a.toml").unwrap();
    assert_eq!(below_base, Path::new("/state/pillion").join(at_home.file_name().unwrap()));
    assert_ne!(place(&home, "/etc/b.toml").unwrap(), at_home);
    let here = std::env::current_dir().unwrap().join("a.toml");
    assert_eq!(place(&home, "a.toml"), place(&home, here.to_str().unwrap()));
    assert_eq!(place(&[], "/etc/a.toml"), None);
    assert_eq!(place(&[("HOME", "relative")], "/etc/a.toml"), None);
}
