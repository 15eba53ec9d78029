//! Which files may be mapped as machine code: `private` ones with a keyed hash over all of it.
//!
//! Mapping machine code from a file is running it, so nothing is taken on trust but this user's own
//! directory. What the files hold, and when they are made, is the matter of `cache`.

use super::compile::CompileError;
use super::engine::EngineError;
use crate::private::{self, Temporary, failed, open, owned};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of the hash at the end of an entry, and of the key it is made with.
pub(super) const MAC_BYTES: usize = 32;
/// Name of the key's file in the cache directory.
pub(super) const KEY_FILE: &str = "key";

/// The key of a cache.
pub(super) type Key = [u8; MAC_BYTES];

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Its directory or a file of it.
    #[error("the cache of compiled filters cannot be used; `runtime.cache_dir` names another one")]
    Files(#[from] private::Error),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No child.
    #[error(transparent)]
    Child(#[from] CompileError),
}

/// The key of the cache, made on first use.
pub(super) fn key(directory: &Path) -> Result<Key, private::Error> {
    let path = directory.join(KEY_FILE);
    if !path.exists() {
        make_key(&path)?;
    }
    let mut file = open(&path).map_err(failed("open the key", &path))?;
    let untrusted = |why| private::Error::Untrusted { path: path.clone(), why };
    if owned(&file).map_err(untrusted)? != MAC_BYTES as u64 {
        return Err(untrusted("it has the wrong length"));
    }
    let mode = file.metadata().map_err(failed("examine the key", &path))?.mode();
    if mode & 0o077 != 0 {
        return Err(untrusted("others may read it"));
    }
    let mut key = [0; MAC_BYTES];
    file.read_exact(&mut key).map_err(failed("read the key", &path))?;
    Ok(key)
}

fn make_key(path: &Path) -> Result<(), private::Error> {
    let mut new = Temporary::beside(path)?;
    let fresh: Key = rand::random();
    new.file.write_all(&fresh).map_err(failed("write the key", &new.path))?;
    // A link fails where there is a key already: one of a process that starts now.
    match std::fs::hard_link(&new.path, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create the key", path)(error)),
    }
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
pub(super) fn seal(path: &Path, entry: &Path, key: &Key) -> Result<(), private::Error> {
    let attempt = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut hasher = mac_hasher(key, entry);
        std::io::copy(&mut file, &mut hasher)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(hasher.finalize().as_bytes())?;
        // Before the rename, so that a crash leaves either no entry or a whole one.
        file.sync_all()
    };
    attempt().map_err(failed("seal the compiled filter", path))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), private::Error> {
    std::fs::rename(from, to).map_err(failed("move the compiled filter to", to))
}
