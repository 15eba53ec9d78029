//! Processes as the kernel shows them, and the one way the tests end them: by the id of a process
//! that they started.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Child;

/// A child process that does not outlive this value.
pub struct Running(Child);

impl Running {
    /// Takes charge of `child`.
    pub fn new(child: Child) -> Running {
        Running(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Does what Ctrl-C does on its terminal (SIGINT).
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Asks it to read its files again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Ends it where it stands (SIGKILL), and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.0.wait().expect("a child can be waited for");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("a child not waited for can be signalled");
    }

    /// Its exit code, when it has ended; -1 when a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.0.try_wait().expect("a child can be waited for");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Descriptors the process has open.
pub fn descriptors(pid: u32) -> usize {
    entries(pid, "fd")
}

/// Lets this process, and those it starts from now on, have as many descriptors open as it may; so many.
///
/// # Panics
/// Never: the soft limit may be as high as the hard one.
pub fn raise_descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the hard limit is not raised");
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Threads of the process.
pub fn threads(pid: u32) -> usize {
    entries(pid, "task")
}

/// Has the process a thread of this name?
pub fn has_thread(pid: u32, name: &str) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let name_of = |path: PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    threads.flatten().any(|thread| name_of(thread.path()).trim_end() == name)
}

fn entries(pid: u32, of: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{of}")).map_or(0, Iterator::count)
}

/// Sockets the process has open.
pub fn sockets(pid: u32) -> usize {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let is_socket = |path: PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    entries.flatten().filter(|entry| is_socket(entry.path())).count()
}

/// Where `program` is on the search path, and in the places of system programs.
pub fn find(program: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&search).collect();
    places.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    places.into_iter().map(|place| place.join(program)).find(|path| path.is_file())
}

/// The directory in which cargo puts the binaries of this build: `target/debug` or `target/release`.
pub fn binaries() -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let beside = this.parent().expect("a program is in a directory");
    if beside.ends_with("deps") {
        beside.parent().expect("`deps` is in a directory").to_owned()
    } else {
        beside.to_owned()
    }
}

/// The directory of everything that is built: `target`.
pub fn target() -> PathBuf {
    binaries().parent().expect("a profile's directory is in `target`").to_owned()
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("`tests` is in the repository")
}
