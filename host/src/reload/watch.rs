//! Notices that a file of the configuration was saved, replaced or swapped under a symbolic link.
//!
//! Directories are watched, not files: editors and ConfigMaps replace files by renaming. Only says
//! that something may have changed; [`Contents`] tells whether it did.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::wasm::compile::COMPONENT_BYTES_MAX;

/// Symbolic links followed for one file; the kernel follows 40.
const LINKS_MAX: usize = 40;

/// A watch over the directories of some files.
pub(crate) struct Watch {
    watcher: INotifyWatcher,
    directories: BTreeMap<PathBuf, Inode>,
    entries: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// What a path leads to: a directory that was replaced has another one.
type Inode = (u64, u64);

impl Watch {
    /// Watches nothing yet. `touched` is called from a thread of its own and must not block.
    pub(crate) fn new(touched: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let entries: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let known = entries.clone();
        let handler = move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if event.map_or(true, |event| concerns(&event, &known)) {
                touched();
            }
        };
        let watcher = INotifyWatcher::new(handler, notify::Config::default())?;
        Ok(Watch { watcher, directories: BTreeMap::new(), entries })
    }

    /// Watches these files from now on, and no others. Call it again after a change: a directory may
    /// have been replaced.
    pub(crate) fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        let Places { entries, directories } = Places::of(files);
        let wanted: BTreeMap<PathBuf, Inode> = directories
            .into_iter()
            .filter_map(|path| {
                let inode = std::fs::metadata(&path).map(|it| inode(&it)).ok()?;
                Some((path, inode))
            })
            .collect();
        for (path, inode) in &self.directories {
            if wanted.get(path) != Some(inode) {
                // It fails when the directory is gone, and the watch with it.
                let _ = self.watcher.unwatch(path);
            }
        }
        let mut watched = BTreeMap::new();
        for (path, inode) in wanted {
            if self.directories.get(&path) != Some(&inode)
                && let Err(error) = self.watcher.watch(&path, RecursiveMode::NonRecursive)
            {
                tracing::warn!(
                    directory = %path.display(), %error,
                    "failed to watch a directory; send SIGHUP after a change in it"
                );
                continue;
            }
            watched.insert(path, inode);
        }
        self.directories = watched;
        // A directory that is itself moved away says so under its own name.
        let own = self.directories.keys().cloned();
        let mut known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        *known = own.chain(entries).collect();
    }
}

/// Does an event say that one of these entries may lead to other bytes now?
fn concerns(event: &Event, entries: &BTreeSet<PathBuf>) -> bool {
    let reads = match event.kind {
        // Our own reading is an event too.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    event.need_rescan() || !reads && event.paths.iter().any(|path| entries.contains(path))
}

fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// Where a change of some files would show.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    /// Names of the files, and of symbolic links on the way to them.
    entries: BTreeSet<PathBuf>,
    /// The directories of these.
    directories: BTreeSet<PathBuf>,
}

impl Places {
    fn of(files: &BTreeSet<PathBuf>) -> Self {
        let mut places = Places::default();
        for file in files {
            places.walk(file);
        }
        places
    }

    /// From the root to the file, through every symbolic link.
    fn walk(&mut self, file: &Path) {
        let mut left: Vec<OsString> = names(file).rev().collect();
        let mut path = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                path.pop();
                continue;
            }
            let entry = path.join(name);
            match std::fs::read_link(&entry) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    self.add(&path, entry);
                    if target.is_absolute() {
                        path = PathBuf::from("/");
                    }
                    left.extend(names(&target).rev());
                }
                _ => {
                    if left.is_empty() {
                        self.add(&path, entry);
                        return;
                    }
                    path = entry;
                }
            }
        }
    }

    fn add(&mut self, directory: &Path, entry: PathBuf) {
        self.directories.insert(directory.to_owned());
        self.entries.insert(entry);
    }
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// What is in some files, by hash. None: there is no such file, or it cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<PathBuf, Option<blake3::Hash>>);

impl Contents {
    /// Reads them all.
    pub(crate) fn of(files: &BTreeSet<PathBuf>) -> Self {
        Contents(files.iter().map(|path| (path.clone(), hash(path).ok())).collect())
    }

    /// All of it in one, but for the files in `apart`.
    pub(super) fn hash(&self, apart: &BTreeSet<PathBuf>) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, hash) in self.0.iter().filter(|(path, _)| !apart.contains(*path)) {
            let path = path.as_os_str().as_bytes();
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path);
            hasher.update(hash.as_ref().map_or(&[0; 32], |hash| hash.as_bytes()));
        }
        hasher.finalize()
    }

    /// Adds files that were read otherwise, and those of `files` that are not known yet.
    pub(super) fn complete(
        &mut self,
        read: &BTreeMap<PathBuf, blake3::Hash>,
        files: &BTreeSet<PathBuf>,
    ) {
        self.0.extend(read.iter().map(|(path, hash)| (path.clone(), Some(*hash))));
        self.0.retain(|path, _| files.contains(path));
        for path in files {
            self.0.entry(path.clone()).or_insert_with(|| hash(path).ok());
        }
    }
}

/// Of as many bytes as any file of a configuration may have.
fn hash(path: &Path) -> io::Result<blake3::Hash> {
    // Opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?.take(COMPONENT_BYTES_MAX as u64 + 1))?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
    use std::time::Duration;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("pillion-watch-{}-{number}", std::process::id());
            let path = std::fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn watching(file: &Path) -> (Watch, Receiver<()>) {
        let (sender, receiver) = sync_channel(1024);
        let mut watch = Watch::new(move || {
            let _ = sender.try_send(());
        })
        .unwrap();
        watch.follow(&BTreeSet::from([file.to_owned()]));
        (watch, receiver)
    }

    fn touched(receiver: &Receiver<()>) {
        receiver.recv_timeout(Duration::from_secs(30)).expect("an event comes");
    }

    #[test]
    fn saving_in_place_and_saving_by_renaming_are_noticed() {
        let directory = Directory::new();
        let file = directory.write("a.toml", "1");
        let (_watch, events) = watching(&file);
        directory.write("a.toml", "2");
        touched(&events);
        let (_watch, events) = watching(&file);
        let fresh = directory.write("b", "3");
        std::fs::rename(fresh, &file).unwrap();
        touched(&events);
    }

    #[test]
    fn other_files_of_the_directory_are_no_matter() {
        let directory = Directory::new();
        let file = directory.write("a.toml", "1");
        let (watch, events) = watching(&file);
        directory.write("access.log", "line");
        std::fs::read(&file).unwrap();
        // Dropping the watcher ends its thread, which has handled everything before.
        drop(watch);
        let all: Vec<RecvTimeoutError> =
            std::iter::from_fn(|| events.recv_timeout(Duration::from_secs(30)).err())
                .take(1)
                .collect();
        assert_eq!(all, [RecvTimeoutError::Disconnected]);
    }

    #[test]
    fn the_swap_of_a_link_on_the_way_is_noticed() {
        let directory = Directory::new();
        directory.write("v1/pillion.toml", "1");
        directory.write("v2/pillion.toml", "2");
        symlink("v1", directory.path("..data")).unwrap();
        let file = directory.path("pillion.toml");
        symlink("..data/pillion.toml", &file).unwrap();
        let files = BTreeSet::from([file.clone()]);
        let before = Contents::of(&files);
        let (mut watch, events) = watching(&file);

        symlink("v2", directory.path("..new")).unwrap();
        std::fs::rename(directory.path("..new"), directory.path("..data")).unwrap();
        touched(&events);
        assert_ne!(before, Contents::of(&files));

        watch.follow(&files);
        while events.try_recv().is_ok() {}
        directory.write("v2/pillion.toml", "3");
        touched(&events);
    }

    #[test]
    fn every_link_on_the_way_is_a_place() {
        let directory = Directory::new();
        directory.write("real/f", "1");
        symlink(directory.path("real"), directory.path("link")).unwrap();
        let places = Places::of(&BTreeSet::from([directory.path("link/../link/f")]));
        let of = |names: &[&str]| -> BTreeSet<PathBuf> {
            names.iter().map(|name| directory.path(name)).collect()
        };
        assert_eq!(places.entries, of(&["link", "real/f"]));
        assert_eq!(
            places.directories,
            BTreeSet::from([directory.0.clone(), directory.path("real")])
        );
    }

    #[test]
    fn links_in_a_circle_end() {
        let directory = Directory::new();
        symlink("b", directory.path("a")).unwrap();
        symlink("a", directory.path("b")).unwrap();
        let places = Places::of(&BTreeSet::from([directory.path("a")]));
        assert_eq!(places.directories, BTreeSet::from([directory.0.clone()]));
    }

    #[test]
    fn a_touch_changes_no_content() {
        let directory = Directory::new();
        let file = directory.write("a", "1");
        let files = BTreeSet::from([file.clone(), directory.path("missing")]);
        let before = Contents::of(&files);
        directory.write("a", "1");
        assert_eq!(before, Contents::of(&files));
        directory.write("missing", "");
        assert_ne!(before, Contents::of(&files));
    }

    #[test]
    fn what_was_read_otherwise_is_not_read_again() {
        let directory = Directory::new();
        let file = directory.write("a", "after");
        let read = BTreeMap::from([(file.clone(), blake3::hash(b"before"))]);
        let files = BTreeSet::from([file]);
        let mut contents = Contents::of(&BTreeSet::from([directory.write("gone", "")]));
        contents.complete(&read, &files);
        assert_ne!(contents, Contents::of(&files));
    }
}
