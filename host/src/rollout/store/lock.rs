//! One process for each state directory: a lock that ends with the process, however it ends.

use super::StoreError;
use crate::private::{self, failed, owned};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the lock file; it holds the process id of its holder.
pub(super) const LOCK_FILE: &str = "lock";
/// Digits of a process id.
const PID_BYTES_MAX: u64 = 20;

/// The lock, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes it, or says who has it.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(LOCK_FILE);
        let cannot = |source| StoreError::Directory { directory: directory.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed("open the lock", &path))
            .map_err(cannot)?;
        owned(&file)
            .map_err(|why| cannot(private::Error::Untrusted { path: path.clone(), why }))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse {
                    directory: directory.to_owned(),
                    process: holder(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(cannot(failed("take the lock", &path)(error)));
            }
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed("write the lock", &path))
            .map_err(cannot)?;
        Ok(Lock(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to the closing of the file: a child that is just being started has it open, too.
        let _the_next_holder_writes_its_own = self.0.set_len(0);
        let _closing_gives_it_back_as_well = self.0.unlock();
    }
}

/// Who has the lock; none where it has not said so yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut digits = String::new();
    file.rewind().ok()?;
    file.take(PID_BYTES_MAX).read_to_string(&mut digits).ok()?;
    digits.parse().ok()
}
