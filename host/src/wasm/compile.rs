//! Compiling, outside the serving process: a child of the same program, bounded in memory and time,
//! reads a component on its standard input and writes machine code to a file.
//!
//! Cranelift takes tens of milliseconds for a small Rust filter, 44 s and 355 MiB for an interpreter
//! of 18 MiB, and the memory does not come back: so it is a child's memory. Knows no cache.

use super::engine::compiling_engine;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The hidden subcommand: the program, called with this word and the path of the output, is the
/// child and calls [`child_main`].
pub const SUBCOMMAND: &str = "compile-child";
/// Bytes of a component.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Address space of the child, in bytes.
pub const CHILD_MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Processor time of the child.
pub const CHILD_CPU_TIME_MAX: Duration = Duration::from_secs(180);
/// Time by the wall after which the child is killed.
pub const CHILD_WALL_TIME_MAX: Duration = Duration::from_secs(300);
/// What the child may say about a failure, in bytes; the rest is cut.
const REPORT_BYTES_MAX: u64 = 8 * 1024;
/// Exit code of a child that said on its standard error why it failed.
const REPORTED: u8 = 3;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused it.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// The child asked for more than [`CHILD_MEMORY_BYTES_MAX`].
    #[error("compiling needs more than {} MiB of memory", CHILD_MEMORY_BYTES_MAX >> 20)]
    OutOfMemory,
    /// [`CHILD_CPU_TIME_MAX`] or [`CHILD_WALL_TIME_MAX`] is over.
    #[error("compiling takes longer than {}", seconds(.0))]
    TimedOut(Duration),
    /// The child ended in another way.
    #[error("the compiling process ended with {status}: {said}")]
    Died {
        /// Exit code or signal.
        status: ExitStatus,
        /// What it wrote before, cut.
        said: String,
    },
    /// The child was not started, or could not be talked to.
    #[error("failed to run the compiling process `{}`", program.display())]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

fn seconds(time: &Duration) -> String {
    format!("{} s", time.as_secs())
}

/// How to start a child.
#[derive(Clone, Debug)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, before the path of the output.
    pub arguments: Vec<OsString>,
    /// Time by the wall after which it is killed.
    pub wall_time_max: Duration,
}

impl ChildCommand {
    /// This very program.
    pub fn this_program() -> Result<Self, CompileError> {
        let program = std::env::current_exe().map_err(|source| CompileError::Start {
            program: PathBuf::from("/proc/self/exe"),
            source,
        })?;
        Ok(ChildCommand {
            program,
            arguments: vec![SUBCOMMAND.into()],
            wall_time_max: CHILD_WALL_TIME_MAX,
        })
    }

    /// Runs the child on `component`; its output is at `output` when this is `Ok`.
    pub fn run(&self, component: &[u8], output: &Path) -> Result<(), CompileError> {
        let start = |source| CompileError::Start { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(output)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let (status, said) = self.attend(&mut child, component).map_err(start)?;
        let Some(status) = status else {
            return Err(CompileError::TimedOut(self.wall_time_max));
        };
        verdict(status, said)
    }

    /// Feeds the child and waits for its end; no status: it was killed for its time.
    fn attend(
        &self,
        child: &mut Child,
        component: &[u8],
    ) -> std::io::Result<(Option<ExitStatus>, String)> {
        let (ended, end) = mpsc::sync_channel(1);
        let stderr = child.stderr.take();
        let listener = std::thread::Builder::new()
            .name("compile-report".to_owned())
            .spawn(move || {
                let said = stderr.map(listen).unwrap_or_default();
                let _gone = ended.send(());
                said
            })
            .inspect_err(|_| drop(child.kill()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A child that failed early reads no further: its report says more than a broken pipe.
            let _unread = stdin.write_all(component);
        }
        let timed_out = end.recv_timeout(self.wall_time_max).is_err();
        if timed_out {
            child.kill()?;
        }
        let status = child.wait()?;
        let said = listener.join().unwrap_or_default();
        Ok(((!timed_out).then_some(status), said))
    }
}

/// Reads to the end, so that the writer never waits, and keeps the beginning.
fn listen(mut from: impl Read) -> String {
    let mut said = Vec::new();
    let _cut = from.by_ref().take(REPORT_BYTES_MAX).read_to_end(&mut said);
    let _rest = std::io::copy(&mut from, &mut std::io::sink());
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn verdict(status: ExitStatus, said: String) -> Result<(), CompileError> {
    use std::os::unix::process::ExitStatusExt;
    if status.success() {
        return Ok(());
    }
    if status.code() == Some(i32::from(REPORTED)) {
        return Err(CompileError::Invalid(said));
    }
    if status.signal() == Some(libc::SIGXCPU) {
        return Err(CompileError::TimedOut(CHILD_CPU_TIME_MAX));
    }
    // Rust's allocator says so and aborts; wasmtime reports the failed mapping.
    if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
        return Err(CompileError::OutOfMemory);
    }
    Err(CompileError::Died { status, said })
}

/// The child: compiles what comes on standard input into the file at `output`.
pub fn child_main(output: &Path) -> ExitCode {
    limit(libc::RLIMIT_AS, CHILD_MEMORY_BYTES_MAX);
    limit(libc::RLIMIT_CPU, CHILD_CPU_TIME_MAX.as_secs());
    limit(libc::RLIMIT_CORE, 0);
    match compile_stdin(output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _nobody_listens = writeln!(std::io::stderr(), "{why}");
            ExitCode::from(REPORTED)
        }
    }
}

fn compile_stdin(output: &Path) -> Result<(), String> {
    let mut component = Vec::new();
    std::io::stdin()
        .take(COMPONENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut component)
        .map_err(|error| format!("failed to read the component: {error}"))?;
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(format!("the component is larger than {} MiB", COMPONENT_BYTES_MAX >> 20));
    }
    let code = compile_here(&component)?;
    std::fs::write(output, code).map_err(|error| format!("failed to write the code: {error}"))
}

/// Compiles in this process; only the child and tests do.
pub(super) fn compile_here(component: &[u8]) -> Result<Vec<u8>, String> {
    let engine = compiling_engine().map_err(|error| error.to_string())?;
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}

/// Lowers a limit of this process. Where the limit in force is lower already, it stays.
fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a valid, initialised `rlimit` for the length of the call, which keeps no
    // pointer to it.
    let _lower_already = unsafe { libc::setrlimit(resource, &limit) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_end_of_a_child_is_told_apart() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let of = |status, said: &str| verdict(status, said.to_owned());
        assert!(of(exited(0), "warning").is_ok());
        assert!(matches!(of(exited(3), "bad"), Err(CompileError::Invalid(why)) if why == "bad"));
        let killed = ExitStatus::from_raw(libc::SIGXCPU);
        assert!(matches!(of(killed, ""), Err(CompileError::TimedOut(CHILD_CPU_TIME_MAX))));
        let aborted = ExitStatus::from_raw(libc::SIGABRT);
        let starved = of(aborted, "memory allocation of 8 bytes failed").unwrap_err();
        assert_eq!(starved.to_string(), "compiling needs more than 2048 MiB of memory");
        assert!(matches!(of(aborted, "assertion"), Err(CompileError::Died { .. })));
    }

    #[test]
    fn a_report_is_cut_and_its_writer_never_waits() {
        for length in [REPORT_BYTES_MAX - 1, REPORT_BYTES_MAX, REPORT_BYTES_MAX + 1] {
            let said = listen(std::io::repeat(b'x').take(length));
            assert_eq!(said.len() as u64, length.min(REPORT_BYTES_MAX));
        }
    }
}
