//! Lines on their way out of the process: a bounded buffer and one thread that writes it.
//!
//! Used by the access log and the structured log. Whoever has lines never waits for a disk, a pipe
//! or a terminal: when the writer falls behind, lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait for the writer; lines beyond are dropped. As many again may be being written.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Buffers that grew larger are given back to the allocator.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Where lines go.
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error. Failures to write are only counted: they cannot be logged there.
    Stderr,
    /// A file that is appended to, made if it is missing, and opened anew by [`Sink::reopen`].
    File(PathBuf),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

/// A handle to one writer thread. The thread ends, after writing what waits, with the last handle.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to do for the writer.
    work: Condvar,
    /// The writer has done everything there was.
    idle: Condvar,
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    writing: bool,
    reopen: bool,
    closed: bool,
}

impl Sink {
    /// Opens the destination and starts the thread `name`.
    pub fn start(name: &str, destination: Destination) -> io::Result<Sink> {
        let output = Output::open(destination)?;
        let shared = Arc::new(Shared::default());
        let writers = shared.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writers.write_all(output))?;
        Ok(Sink(Arc::new(Handle(shared))))
    }

    /// Hands over whole lines, `lines` many, or drops them all. Never waits for the writer.
    pub fn push(&self, bytes: &[u8], lines: u64) {
        let shared = &*self.0.0;
        let mut queue = shared.locked();
        if queue.bytes.len() + bytes.len() > QUEUE_BYTES_MAX {
            drop(queue);
            shared.dropped.fetch_add(lines, Ordering::Relaxed);
            return;
        }
        queue.bytes.extend_from_slice(bytes);
        queue.lines += lines;
        let asleep = !queue.writing;
        drop(queue);
        if asleep {
            shared.work.notify_one();
        }
    }

    /// Opens the file anew before the next line, as after a log rotation. A file that cannot be
    /// opened is reported, and the old one stays. Does nothing where there is no file.
    pub fn reopen(&self) {
        self.0.0.locked().reopen = true;
        self.0.0.work.notify_one();
    }

    /// Waits until everything handed over before is written. `false`: it took longer than `within`.
    pub fn flush(&self, within: Duration) -> bool {
        let is_busy = |queue: &mut Queue| queue.writing || queue.reopen || queue.lines > 0;
        let shared = &*self.0.0;
        let waited = shared.idle.wait_timeout_while(shared.locked(), within, is_busy);
        let (_queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// Lines written so far.
    pub fn lines_written(&self) -> u64 {
        self.0.0.written.load(Ordering::Relaxed)
    }

    /// Lines dropped so far, because the writer fell behind or could not write.
    pub fn lines_dropped(&self) -> u64 {
        self.0.0.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.locked().closed = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer thread.
    fn write_all(&self, mut output: Output) {
        let mut batch = Vec::new();
        loop {
            let mut queue = self.locked();
            queue.writing = false;
            while queue.lines == 0 && !queue.reopen {
                self.idle.notify_all();
                if queue.closed {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.writing = true;
            let reopen = std::mem::take(&mut queue.reopen);
            let lines = std::mem::take(&mut queue.lines);
            batch.clear();
            if batch.capacity() > KEPT_BYTES_MAX {
                batch = Vec::new();
            }
            std::mem::swap(&mut batch, &mut queue.bytes);
            drop(queue);
            if reopen {
                output.reopen();
            }
            if lines > 0 {
                let counter = if output.write(&batch) { &self.written } else { &self.dropped };
                counter.fetch_add(lines, Ordering::Relaxed);
            }
        }
    }
}

/// The open destination, on the writer thread.
struct Output {
    writer: Box<dyn Write + Send>,
    /// Of a file.
    path: Option<PathBuf>,
    /// Failures are worth a line in the structured log.
    reports: bool,
    /// The last write failed; maybe in the middle of a line.
    failing: bool,
}

impl Output {
    fn open(destination: Destination) -> io::Result<Output> {
        let reports = !matches!(destination, Destination::Stderr);
        let (writer, path): (Box<dyn Write + Send>, _) = match destination {
            // Past the buffers of the standard library: batches are large enough.
            Destination::Stdout => {
                (Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), None)
            }
            Destination::Stderr => {
                (Box::new(File::from(io::stderr().as_fd().try_clone_to_owned()?)), None)
            }
            Destination::File(path) => (Box::new(open_file(&path)?), Some(path)),
            Destination::Writer(writer) => (writer, None),
        };
        Ok(Output { writer, path, reports, failing: false })
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => self.writer = Box::new(file),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot reopen the file; keeping the old one");
            }
        }
    }

    /// Writes whole lines. `false`: not all of them.
    fn write(&mut self, lines: &[u8]) -> bool {
        // What was cut in the middle must not run into the next line.
        let mend = if self.failing { self.writer.write_all(b"\n") } else { Ok(()) };
        match mend.and_then(|()| self.writer.write_all(lines)) {
            Ok(()) => {
                self.failing = false;
                true
            }
            Err(error) => {
                if self.reports && !self.failing {
                    tracing::warn!(%error, "cannot write log lines; they are dropped and counted");
                }
                self.failing = true;
                false
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: opening a named pipe that nobody reads fails instead of hanging. It means nothing
    // to a file.
    OpenOptions::new().append(true).create(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    /// Shows each write, and ends it when told how.
    struct Gate {
        entered: mpsc::Sender<Vec<u8>>,
        release: mpsc::Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.entered.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.release.recv().map_err(io::Error::other)??;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Sink, mpsc::Receiver<Vec<u8>>, mpsc::Sender<io::Result<()>>) {
        let (entered, seen) = mpsc::channel();
        let (allow, release) = mpsc::channel();
        let gate = Gate { entered, release };
        (Sink::start("test", Destination::Writer(Box::new(gate))).unwrap(), seen, allow)
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pillion-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn lines_are_written_in_order() {
        let directory = directory("sink-order");
        let path = directory.join("log");
        let sink = Sink::start("test", Destination::File(path.clone())).unwrap();
        for line in 0..1_000 {
            sink.push(format!("{line}\n").as_bytes(), 1);
        }
        assert!(sink.flush(LONG));
        let expected: String = (0..1_000).map(|line| format!("{line}\n")).collect();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!((sink.lines_written(), sink.lines_dropped()), (1_000, 0));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_slow_writer_costs_lines_and_no_waiting() {
        let (sink, seen, allow) = gated();
        sink.push(b"first\n", 1);
        assert_eq!(seen.recv().unwrap(), b"first\n");
        let most = vec![b'x'; QUEUE_BYTES_MAX - 1];
        sink.push(&most, 10);
        sink.push(b"\n", 1);
        sink.push(b"\n", 1);
        assert_eq!(sink.lines_dropped(), 1, "one byte over the limit");
        assert!(!sink.flush(Duration::ZERO));
        allow.send(Ok(())).unwrap();
        assert_eq!(seen.recv().unwrap().len(), QUEUE_BYTES_MAX);
        allow.send(Ok(())).unwrap();
        assert!(sink.flush(LONG));
        assert_eq!((sink.lines_written(), sink.lines_dropped()), (12, 1));
    }

    #[test]
    fn a_failed_write_is_counted_and_does_not_spoil_the_next_line() {
        let (sink, seen, allow) = gated();
        sink.push(b"lost\n", 1);
        seen.recv().unwrap();
        allow.send(Err(io::Error::other("disk full"))).unwrap();
        assert!(sink.flush(LONG));
        assert_eq!(sink.lines_dropped(), 1);
        allow.send(Ok(())).unwrap();
        allow.send(Ok(())).unwrap();
        sink.push(b"kept\n", 1);
        assert!(sink.flush(LONG));
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [&b"\n"[..], b"kept\n"]);
        assert_eq!(sink.lines_written(), 1);
    }

    #[test]
    fn reopening_follows_a_rotation() {
        let directory = directory("sink-reopen");
        let (path, rotated) = (directory.join("log"), directory.join("log.1"));
        let sink = Sink::start("test", Destination::File(path.clone())).unwrap();
        sink.push(b"old\n", 1);
        assert!(sink.flush(LONG));
        std::fs::rename(&path, &rotated).unwrap();
        sink.reopen();
        assert!(sink.flush(LONG));
        sink.push(b"new\n", 1);
        assert!(sink.flush(LONG));
        assert_eq!(std::fs::read(&rotated).unwrap(), b"old\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_reopened_leaves_the_old_one() {
        let directory = directory("sink-keep");
        let (path, moved) = (directory.join("a").join("log"), directory.join("b"));
        std::fs::create_dir(directory.join("a")).unwrap();
        let sink = Sink::start("test", Destination::File(path)).unwrap();
        std::fs::rename(directory.join("a"), &moved).unwrap();
        sink.reopen();
        sink.push(b"line\n", 1);
        assert!(sink.flush(LONG));
        assert_eq!(std::fs::read(moved.join("log")).unwrap(), b"line\n");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_of_the_start() {
        let missing = std::env::temp_dir().join("pillion-no-such-directory").join("log");
        assert!(Sink::start("test", Destination::File(missing)).is_err());
    }

    #[test]
    fn the_thread_ends_with_the_last_handle_after_writing_what_waits() {
        let (sink, seen, allow) = gated();
        sink.push(b"last\n", 1);
        drop(sink);
        allow.send(Ok(())).unwrap();
        assert_eq!(seen.iter().collect::<Vec<_>>(), [b"last\n"]);
    }
}
