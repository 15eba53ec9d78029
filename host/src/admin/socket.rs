//! The Unix socket of the admin interface: a file that only its owner may use.
//!
//! It is taken over only from a process of ours that is gone, it is the owner's before anybody can
//! connect, and each peer is asked of the kernel again, since permissions of a file can be changed.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// A listening socket and its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct OwnerSocket {
    listener: UnixListener,
    file: File,
}

/// The file of a socket, as long as it is the one that was made.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A file that somebody may need.
    #[error("`{}` is there and is no socket; remove it, or name another path", .0.display())]
    NoSocket(PathBuf),
    /// Not ours to replace.
    #[error("`{}` is the socket of another user; name another path", .0.display())]
    Foreign(PathBuf),
    /// Another process serves it.
    #[error("`{}` is in use by another process; stop it, or name another path", .0.display())]
    InUse(PathBuf),
    /// Others could put their own socket in its place.
    #[error(
        "anybody may replace files in `{}`, the directory of the socket; take the right to write \
         from others (`chmod o-w`), or name another one", .0.display()
    )]
    Exposed(PathBuf),
    /// Anything else.
    #[error("failed to make the socket `{}`; its directory has to exist, and its path to be short", path.display())]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl OwnerSocket {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// There is something that is not ours to replace, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        check_directory(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) => {
                check_stale(path, &found)?;
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let make = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Nobody can connect before it listens.
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let made = fs::symlink_metadata(path)?;
            let file = File { path: path.to_owned(), device: made.dev(), inode: made.ino() };
            Ok(OwnerSocket { listener: UnixListener::from(socket), file })
        };
        make().map_err(failed)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The socket; its file goes with the second part.
    pub(super) fn into_parts(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let ours = |found: &Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours) {
            // If it stays after all, the next process takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// May a peer with this user id ask for anything? It is this user, or root.
pub(super) fn may_ask(user: u32) -> bool {
    user == own_user() || user == 0
}

fn own_user() -> u32 {
    // SAFETY: it has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

fn check_directory(path: &Path) -> Result<(), SocketError> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    let mode = fs::metadata(directory).map_err(failed)?.mode();
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(SocketError::Exposed(directory.to_owned()));
    }
    Ok(())
}

/// Is what there is a socket of ours that nobody serves any more?
fn check_stale(path: &Path, found: &Metadata) -> Result<(), SocketError> {
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    if found.uid() != own_user() {
        return Err(SocketError::Foreign(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let name = format!("pillion-socket-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn the_file_is_the_owners_and_goes_with_the_socket() {
        let directory = directory("made");
        let path = directory.join("admin.sock");
        let socket = OwnerSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(socket.path()).unwrap();
        drop(socket);
        assert!(!path.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_one_in_use_is_not() {
        let directory = directory("stale");
        let path = directory.join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file outlives its process");
        let socket = OwnerSocket::bind(&path).unwrap();
        let error = OwnerSocket::bind(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        assert!(error.to_string().contains("in use by another process"));
        // A file that took its place is another one's.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = directory("file");
        let path = directory.join("precious");
        fs::write(&path, "precious").unwrap();
        let link = directory.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for taken in [&path, &link] {
            let error = OwnerSocket::bind(taken).unwrap_err().to_string();
            assert!(
                error.ends_with("and is no socket; remove it, or name another path"),
                "{error}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_directory_that_is_open_missing_or_too_deep_is_told() {
        let directory = directory("open");
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let error = OwnerSocket::bind(&directory.join("admin.sock")).unwrap_err().to_string();
        assert!(error.starts_with("anybody may replace files in"), "{error}");
        fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
        drop(OwnerSocket::bind(&directory.join("admin.sock")).unwrap());
        for path in ["gone/admin.sock".to_owned(), "x".repeat(200)] {
            let error = OwnerSocket::bind(&directory.join(path)).unwrap_err().to_string();
            assert!(error.starts_with("failed to make the socket"), "{error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_this_user_and_root_may_ask() {
        let own = own_user();
        assert!(may_ask(own) && may_ask(0));
        assert!(!may_ask(own.wrapping_add(1)) || own.wrapping_add(1) == 0);
    }
}
