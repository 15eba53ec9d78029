//! Which files may be mapped as machine code: owner, permissions, and a keyed hash over all of it.
//!
//! Mapping machine code from a file is running it, so nothing is taken on trust but this user's own
//! directory. What the files hold, and when they are made, is the matter of `cache`.

use super::compile::CompileError;
use super::engine::EngineError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of the hash at the end of an entry, and of the key it is made with.
pub(super) const MAC_BYTES: usize = 32;
/// Name of the key's file in the cache directory.
pub(super) const KEY_FILE: &str = "key";
/// End of the names of files that are still being written.
pub(super) const TEMPORARY_SUFFIX: &str = ".new";

/// The key of a cache.
pub(super) type Key = [u8; MAC_BYTES];

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Something could not be read, written or made.
    #[error("failed to {attempt} `{}`", path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The directory or its key could have been written by another user.
    #[error(
        "the cache `{}` cannot be trusted: {why}; remove it, or name another directory",
        path.display()
    )]
    Untrusted {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No child.
    #[error(transparent)]
    Child(#[from] CompileError),
}

pub(super) fn this_user() -> u32 {
    // SAFETY: takes nothing, touches no memory, cannot fail.
    unsafe { libc::geteuid() }
}

fn io(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { attempt, path, source }
}

/// Makes the directory, for this user alone, or checks that it is so.
pub(super) fn make_private(directory: &Path) -> Result<(), CacheError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(io("create the directory", directory))?;
    let known =
        std::fs::symlink_metadata(directory).map_err(io("examine the directory", directory))?;
    let why = if !known.is_dir() {
        "it is not a directory"
    } else if known.uid() != this_user() {
        "it belongs to another user"
    } else if known.mode() & 0o022 != 0 {
        "others may write to it"
    } else {
        return Ok(());
    };
    Err(CacheError::Untrusted { path: directory.to_owned(), why })
}

/// Ours, a plain file, and for nobody else to write?
fn owned(file: &File) -> Result<u64, &'static str> {
    let known = file.metadata().map_err(|_| "it cannot be examined")?;
    if !known.is_file() {
        return Err("it is not a file");
    }
    if known.uid() != this_user() {
        return Err("it belongs to another user");
    }
    if known.mode() & 0o022 != 0 {
        return Err("others may write to it");
    }
    Ok(known.len())
}

/// The key of the cache, made on first use.
pub(super) fn key(directory: &Path) -> Result<Key, CacheError> {
    let path = directory.join(KEY_FILE);
    if !path.exists() {
        make_key(&path)?;
    }
    let mut file = open(&path).map_err(io("open the key", &path))?;
    let untrusted = |why| CacheError::Untrusted { path: path.clone(), why };
    if owned(&file).map_err(untrusted)? != MAC_BYTES as u64 {
        return Err(untrusted("it has the wrong length"));
    }
    let mode = file.metadata().map_err(io("examine the key", &path))?.mode();
    if mode & 0o077 != 0 {
        return Err(untrusted("others may read it"));
    }
    let mut key = [0; MAC_BYTES];
    file.read_exact(&mut key).map_err(io("read the key", &path))?;
    Ok(key)
}

fn make_key(path: &Path) -> Result<(), CacheError> {
    let new = Temporary::beside(path)?;
    let fresh: Key = rand::random();
    OpenOptions::new()
        .write(true)
        .open(&new.path)
        .and_then(|mut file| file.write_all(&fresh))
        .map_err(io("write the key", &new.path))?;
    // A link fails where there is a key already: one of a process that starts now.
    match std::fs::hard_link(&new.path, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io("create the key", path)(error)),
    }
}

/// Opens without following a link and without waiting on a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Why an entry is not used.
pub(super) enum Refusal {
    /// There is none.
    Absent,
    /// It is not ours, or not whole.
    Untrusted(&'static str),
}

/// Opens an entry and checks owner, permissions and the hash at its end over everything before.
pub(super) fn open_verified(entry: &Path, key: &Key) -> Result<(File, u64), Refusal> {
    let mut file = open(entry).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Refusal::Absent,
        _ => Refusal::Untrusted("it cannot be opened"),
    })?;
    let size = owned(&file).map_err(Refusal::Untrusted)?;
    let Some(code) = size.checked_sub(MAC_BYTES as u64) else {
        return Err(Refusal::Untrusted("it is too short"));
    };
    let unreadable = |_| Refusal::Untrusted("it cannot be read");
    let mut hasher = mac_hasher(key, entry);
    std::io::copy(&mut (&file).take(code), &mut hasher).map_err(unreadable)?;
    let mut mac = [0; MAC_BYTES];
    file.read_exact(&mut mac).map_err(unreadable)?;
    // `Hash` compares in constant time.
    if hasher.finalize() != blake3::Hash::from_bytes(mac) {
        return Err(Refusal::Untrusted("its keyed hash does not hold"));
    }
    Ok((file, code))
}

/// A keyed hash that holds the name of the entry already: code is valid for one component only.
fn mac_hasher(key: &Key, entry: &Path) -> blake3::Hasher {
    let name = entry.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
    hasher
}

/// Appends the keyed hash to what the child wrote; what stands behind an ELF image is not looked at.
pub(super) fn seal(path: &Path, entry: &Path, key: &Key) -> Result<(), CacheError> {
    let attempt = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut hasher = mac_hasher(key, entry);
        std::io::copy(&mut file, &mut hasher)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(hasher.finalize().as_bytes())?;
        // Before the rename, so that a crash leaves either no entry or a whole one.
        file.sync_all()
    };
    attempt().map_err(io("seal the compiled filter", path))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CacheError> {
    std::fs::rename(from, to).map_err(io("move the compiled filter to", to))
}

/// A file of this user alone, removed when dropped if it is still there.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
}

impl Temporary {
    pub(super) fn beside(path: &Path) -> Result<Self, CacheError> {
        let random: u64 = rand::random();
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{random:016x}{TEMPORARY_SUFFIX}"));
        let path = PathBuf::from(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io("create the file", &path))?;
        Ok(Temporary { path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _moved_already = std::fs::remove_file(&self.path);
    }
}
