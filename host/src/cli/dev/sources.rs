//! What a project is made of: notices that a file of it has other content, and says which.
//!
//! Directories are watched one by one, and not those that builds write into. Knows nothing of what the
//! files are for.

use anyhow::{Context, bail};
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Files of a project; with more of them there is something else in its folder.
const FILES_MAX: usize = 4096;
/// Bytes of a file that are looked at.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files that changed are looked at again once nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(20);
/// Quiet or not, they are looked at after so long.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Looks at files that keep changing.
const LOOKS_MAX: usize = 20;
/// Folders in a row.
const DEPTH_MAX: usize = 32;
/// In the project's folder: what cargo builds, and what it writes while it builds.
const NOT_SOURCES: [&str; 2] = ["target", "Cargo.lock"];

/// What is in the files, by their paths relative to the project.
type Contents = BTreeMap<PathBuf, blake3::Hash>;

/// A watch over a project.
pub(super) struct Sources {
    root: PathBuf,
    watcher: INotifyWatcher,
    events: Receiver<()>,
    known: Contents,
}

impl Sources {
    /// Looks at the project and watches it from now on.
    pub(super) fn watch(root: &Path) -> anyhow::Result<Self> {
        // One event that waits stands for all that come until it is taken.
        let (sender, events) = sync_channel(1);
        let handler = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
                let _one_waits = sender.try_send(());
            }
        };
        let watcher = INotifyWatcher::new(handler, notify::Config::default())
            .context("failed to watch files")?;
        let root = root.to_owned();
        let mut sources = Sources { root, watcher, events, known: Contents::new() };
        sources.known = sources.look()?;
        Ok(sources)
    }

    /// Waits until files have other content than when this was last called, and returns their paths
    /// relative to the project. Nothing is missed that happens between two calls.
    pub(super) fn changed(&mut self) -> anyhow::Result<Vec<PathBuf>> {
        loop {
            let mut found = self.look()?;
            for _ in 0..LOOKS_MAX {
                if found == self.known {
                    break;
                }
                // What is being written may be half there.
                self.settle();
                let again = std::mem::replace(&mut found, self.look()?);
                if again == found {
                    break;
                }
            }
            let changed = difference(&self.known, &found);
            self.known = found;
            if !changed.is_empty() {
                return Ok(changed);
            }
            self.events.recv().context("the watch over files has ended")?;
        }
    }

    /// Takes a file of the project as it is now, so that it does not count as changed.
    pub(super) fn take_as_it_is(&mut self, name: &str) {
        if let Ok(hash) = hash(&self.root.join(name)) {
            self.known.insert(name.into(), hash);
        }
    }

    /// One save is a burst of events.
    fn settle(&self) {
        let end = Instant::now() + QUIET_MAX;
        while Instant::now() < end && self.events.recv_timeout(QUIET).is_ok() {}
    }

    fn look(&mut self) -> anyhow::Result<Contents> {
        let mut found = Contents::new();
        let mut folders = vec![(self.root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            // Before it is read: what changes from here on is an event. A folder that has gone in
            // the meantime has nothing in it.
            let watched = self.watcher.watch(&folder, RecursiveMode::NonRecursive);
            if let (Err(error), true) = (watched, folder.is_dir()) {
                return Err(error)
                    .with_context(|| format!("failed to watch `{}`", folder.display()));
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if is_hidden(&name) || (depth == 0 && NOT_SOURCES.iter().any(|it| name == *it)) {
                    continue;
                }
                if entry.file_type().is_ok_and(|it| it.is_dir()) {
                    if depth < DEPTH_MAX {
                        folders.push((path, depth + 1));
                    }
                } else if let (Ok(hash), Ok(name)) = (hash(&path), path.strip_prefix(&self.root)) {
                    found.insert(name.to_owned(), hash);
                }
                if found.len() > FILES_MAX {
                    bail!(
                        "there are more than {FILES_MAX} files in `{}`: is it the folder of a \
                         filter?",
                        self.root.display()
                    );
                }
            }
        }
        Ok(found)
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn hash(path: &Path) -> std::io::Result<blake3::Hash> {
    // Opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?.take(FILE_BYTES_MAX))?;
    Ok(hasher.finalize())
}

/// The files that are new, gone, or have other content.
fn difference(before: &Contents, now: &Contents) -> Vec<PathBuf> {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let other = now.iter().filter(|(path, hash)| before.get(*path) != Some(*hash));
    let mut all: Vec<PathBuf> = gone.chain(other.map(|(path, _)| path)).cloned().collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Project(PathBuf);

    impl Project {
        fn new(name: &str) -> Self {
            let name = format!("pillion-sources-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Project(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn changed(&self, sources: &mut Sources) -> Vec<String> {
            let changed = sources.changed().unwrap();
            changed.iter().map(|path| path.display().to_string()).collect()
        }
    }

    impl Drop for Project {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_new_other_or_gone_is_told() {
        let project = Project::new("told");
        project.write("src/lib.rs", "1");
        project.write("README.md", "1");
        let mut sources = Sources::watch(&project.0).unwrap();
        project.write("src/lib.rs", "2");
        project.write("src/deep/er/new.rs", "1");
        std::fs::remove_file(project.0.join("README.md")).unwrap();
        let changed = project.changed(&mut sources);
        assert_eq!(changed, ["README.md", "src/deep/er/new.rs", "src/lib.rs"]);
    }

    #[test]
    fn a_file_in_a_folder_that_came_later_is_noticed() {
        let project = Project::new("later");
        let mut sources = Sources::watch(&project.0).unwrap();
        project.write("src/a.rs", "1");
        assert_eq!(project.changed(&mut sources), ["src/a.rs"]);
        let waiting = std::thread::spawn(move || sources.changed());
        project.write("src/b.rs", "1");
        assert_eq!(waiting.join().unwrap().unwrap(), [PathBuf::from("src/b.rs")]);
    }

    #[test]
    fn what_builds_write_and_touches_are_no_change() {
        let project = Project::new("nothing");
        project.write("src/lib.rs", "1");
        let mut sources = Sources::watch(&project.0).unwrap();
        for nothing in ["target/x/a.wasm", "Cargo.lock", ".git/HEAD", "src/.lib.rs.swp"] {
            project.write(nothing, "2");
        }
        project.write("src/lib.rs", "1");
        project.write("written.toml", "1");
        sources.take_as_it_is("written.toml");
        // Below another folder these are names like any other.
        project.write("src/target", "3");
        assert_eq!(project.changed(&mut sources), ["src/target"]);
    }

    #[test]
    fn a_folder_with_too_much_in_it_is_no_project() {
        let project = Project::new("much");
        for number in 0..FILES_MAX - 1 {
            project.write(&number.to_string(), "");
        }
        let mut sources = Sources::watch(&project.0).unwrap();
        project.write("last", "");
        assert_eq!(project.changed(&mut sources), ["last"]);
        project.write("one more", "");
        let error = sources.changed().unwrap_err().to_string();
        assert!(error.starts_with("there are more than 4096 files in `"), "{error}");
    }

    #[test]
    fn the_beginning_of_a_large_file_counts() {
        let project = Project::new("large");
        let length = usize::try_from(FILE_BYTES_MAX).unwrap();
        let file = |length: usize, last: u8| {
            let mut bytes = vec![0; length];
            bytes[length - 1] = last;
            project.write("large", bytes);
            hash(&project.0.join("large")).unwrap()
        };
        for (length, seen) in [(length - 1, true), (length, true), (length + 1, false)] {
            assert_eq!(file(length, 1) != file(length, 2), seen, "{length}");
        }
    }
}
