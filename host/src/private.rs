//! Files and directories that are for this user alone, and files that are whole or not there.
//!
//! What such a file holds is believed because nobody else could have written it: owner and
//! permissions are checked whenever one is opened. Knows nothing of the contents: `wasm` keeps
//! machine code here, `rollout::store` what outlives the process.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// End of the names of files that are still being written.
pub(crate) const TEMPORARY_SUFFIX: &str = ".new";

/// Why something on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// Another user could have written it, or it is not what it should be.
    #[error("`{}` cannot be trusted: {why}; remove it, or name another directory", path.display())]
    Untrusted {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file is larger than what is ever written there.
    #[error("`{}` is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        bytes_max: usize,
    },
}

/// Makes an [`Error::Io`] of an error.
pub(crate) fn failed(
    attempt: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { attempt, path, source }
}

/// The effective user of this process.
pub(crate) fn this_user() -> u32 {
    // SAFETY: takes nothing, touches no memory, cannot fail.
    unsafe { libc::geteuid() }
}

/// Where a user's files of one kind go, following the XDG base directories: what `variable` says,
/// else `below_home` in the home directory; none without either. `lookup` reads the environment.
pub(crate) fn base_directory(
    lookup: impl Fn(&str) -> Option<OsString>,
    variable: &str,
    below_home: &str,
) -> Option<PathBuf> {
    let set = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))
}

/// Makes the directory, for this user alone, or checks that it is so.
pub(crate) fn make_directory(directory: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("create the directory", directory))?;
    let known =
        std::fs::symlink_metadata(directory).map_err(failed("examine the directory", directory))?;
    let why = if !known.is_dir() {
        "it is not a directory"
    } else if known.uid() != this_user() {
        "it belongs to another user"
    } else if known.mode() & 0o022 != 0 {
        "others may write to it"
    } else {
        return Ok(());
    };
    Err(Error::Untrusted { path: directory.to_owned(), why })
}

/// Opens without following a link and without waiting on a pipe.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Ours, a plain file, and for nobody else to write? Then its size.
pub(crate) fn owned(file: &File) -> Result<u64, &'static str> {
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

/// What a file holds, if it is this user's and not larger than `bytes_max`. None: there is none.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let size = owned(&file).map_err(|why| Error::Untrusted { path: path.to_owned(), why })?;
    let too_large = || Error::TooLarge { path: path.to_owned(), bytes_max };
    let size = usize::try_from(size).map_err(|_| too_large())?;
    if size > bytes_max {
        return Err(too_large());
    }
    let mut contents = Vec::with_capacity(size);
    // It may have grown since.
    file.take(bytes_max as u64 + 1).read_to_end(&mut contents).map_err(failed("read", path))?;
    if contents.len() > bytes_max { Err(too_large()) } else { Ok(Some(contents)) }
}

/// Puts a file with these contents in the place of what is there, if anything: whoever opens it
/// finds all of the old or all of the new, also after a loss of power. An error leaves the old one,
/// or the new one of which that loss is not certain to leave all.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let new = Temporary::beside(path)?;
    (&new.file)
        .write_all(contents)
        .and_then(|()| new.file.sync_all())
        .map_err(failed("write", path))?;
    std::fs::rename(&new.path, path).map_err(failed("put a new file in the place of", path))?;
    match sync_directory_of(path) {
        // Some file systems cannot do this for directories, and do not need it.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        outcome => outcome.map_err(failed("make lasting the name", path)),
    }
}

fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// A file of this user alone, removed when dropped if it is still there.
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl Temporary {
    /// A new and empty one in the same directory.
    pub(crate) fn beside(path: &Path) -> Result<Self, Error> {
        let random: u64 = rand::random();
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{random:016x}{TEMPORARY_SUFFIX}"));
        let temporary = PathBuf::from(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed("create a file beside", path))?;
        Ok(Temporary { path: temporary, file })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _moved_already = std::fs::remove_file(&self.path);
    }
}
