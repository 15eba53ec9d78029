//! Compiling, outside the serving process: a child of the same program, bounded in memory and time,
//! reads a component on its standard input and writes machine code to a file.
//!
//! Cranelift takes tens of milliseconds for a small Rust filter, 44 s and 355 MiB for an interpreter
//! of 18 MiB, and the memory does not come back: so it is a child's memory. Knows no cache.

use super::direct;
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
/// What the child may say about a failure, in bytes; the rest is cut.
const REPORT_BYTES_MAX: u64 = 8 * 1024;
/// Exit code of a child that said on its standard error why it failed.
const REPORTED: u8 = 3;

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Time, by the wall: 60 s. Then the child is killed.
    pub time: Duration,
    /// Address space of the child: 2 GiB.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { time: Duration::from_secs(60), memory_bytes: 2 << 30 }
    }
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused it.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// [`CompileLimits::memory_bytes`].
    #[error(
        "compiling needs more memory than its limit of {} MiB; raise `runtime.compile.memory`",
        .0 >> 20
    )]
    OutOfMemory(u64),
    /// [`CompileLimits::time`] is over.
    #[error(
        "compiling takes longer than its limit of {} ms; raise `runtime.compile.time`",
        .0.as_millis()
    )]
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

/// How to start a child.
#[derive(Clone, Debug)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, before those of [`child_main`].
    pub arguments: Vec<OsString>,
    /// What it may take.
    pub limits: CompileLimits,
}

impl ChildCommand {
    /// This very program.
    pub fn this_program(limits: CompileLimits) -> Result<Self, CompileError> {
        let program = std::env::current_exe().map_err(|source| CompileError::Start {
            program: PathBuf::from("/proc/self/exe"),
            source,
        })?;
        Ok(ChildCommand { program, arguments: vec![SUBCOMMAND.into()], limits })
    }

    /// Runs the child on `component`; its output is at `output` when this is `Ok`.
    pub fn run(&self, component: &[u8], output: &Path) -> Result<(), CompileError> {
        let start = |source| CompileError::Start { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(self.limits.memory_bytes.to_string())
            .arg(self.cpu_seconds().to_string())
            .arg(output)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let (status, said) = self.attend(&mut child, component).map_err(start)?;
        let Some(status) = status else {
            return Err(CompileError::TimedOut(self.limits.time));
        };
        verdict(status, said, &self.limits)
    }

    /// A backstop, should nobody be left to kill the child.
    fn cpu_seconds(&self) -> u64 {
        self.limits.time.as_secs() + 1
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
        let timed_out = end.recv_timeout(self.limits.time).is_err();
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

fn verdict(status: ExitStatus, said: String, limits: &CompileLimits) -> Result<(), CompileError> {
    use std::os::unix::process::ExitStatusExt;
    if status.success() {
        return Ok(());
    }
    if status.code() == Some(i32::from(REPORTED)) {
        return Err(CompileError::Invalid(said));
    }
    if status.signal() == Some(libc::SIGXCPU) {
        return Err(CompileError::TimedOut(limits.time));
    }
    // Rust's allocator says so and aborts; wasmtime reports the failed mapping.
    if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
        return Err(CompileError::OutOfMemory(limits.memory_bytes));
    }
    Err(CompileError::Died { status, said })
}

/// The child: compiles what comes on standard input. Its arguments are the bytes of memory and the
/// seconds of processor time it may use, and the file for its output.
pub fn child_main(arguments: &[OsString]) -> ExitCode {
    let number = |argument: &OsString| argument.to_str()?.parse::<u64>().ok();
    let [memory, seconds, output] = arguments else { return ExitCode::FAILURE };
    let (Some(memory), Some(seconds)) = (number(memory), number(seconds)) else {
        return ExitCode::FAILURE;
    };
    limit(libc::RLIMIT_AS, memory);
    limit(libc::RLIMIT_CPU, seconds);
    limit(libc::RLIMIT_CORE, 0);
    match compile_stdin(Path::new(output)) {
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
    let code = compile_here(&component, Forms::Both)?;
    std::fs::write(output, code).map_err(|error| format!("failed to write the code: {error}"))
}

/// The forms in which compiled code can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forms {
    /// As a component, and directly where it has the shape for it.
    Both,
    /// As a component; tests compare it with the other.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    Component,
}

/// Compiles in this process; only the child and tests do.
pub(super) fn compile_here(component: &[u8], forms: Forms) -> Result<Vec<u8>, String> {
    let engine = compiling_engine().map_err(|error| error.to_string())?;
    // Should the added export make it invalid, the component itself is what counts.
    if forms == Forms::Both
        && let Some(exposed) = direct::expose(component)
        && let Ok(code) = engine.precompile_component(&exposed)
    {
        return Ok(code);
    }
    engine.precompile_component(component).map_err(|error| refused(&format!("{error:#}")))
}

/// What the compiler said, with what to do about it where a toolchain's default leads to it.
fn refused(said: &str) -> String {
    let advice = if said.contains("component model async") {
        "; filters get no asynchronous functions: build it without them (componentize-qjs: `--sync`)"
    } else {
        ""
    };
    format!("{said}{advice}")
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
        let limits = CompileLimits::default();
        let of = |status, said: &str| verdict(status, said.to_owned(), &limits);
        assert!(of(exited(0), "warning").is_ok());
        assert!(matches!(of(exited(3), "bad"), Err(CompileError::Invalid(why)) if why == "bad"));
        let killed = ExitStatus::from_raw(libc::SIGXCPU);
        assert!(matches!(of(killed, ""), Err(CompileError::TimedOut(time)) if time == limits.time));
        let aborted = ExitStatus::from_raw(libc::SIGABRT);
        let starved = of(aborted, "memory allocation of 8 bytes failed").unwrap_err();
        assert_eq!(
            starved.to_string(),
            "compiling needs more memory than its limit of 2048 MiB; raise `runtime.compile.memory`"
        );
        let late = CompileError::TimedOut(Duration::from_secs(60)).to_string();
        assert_eq!(
            late,
            "compiling takes longer than its limit of 60000 ms; raise `runtime.compile.time`"
        );
        assert!(matches!(of(aborted, "assertion"), Err(CompileError::Died { .. })));
    }

    #[test]
    fn a_component_with_asynchronous_functions_is_refused_with_what_to_do() {
        let component = wat::parse_str("(component (core func (canon task.cancel)))").unwrap();
        let refused = compile_here(&component, Forms::Both).unwrap_err();
        assert!(refused.contains("`task.cancel`"), "{refused}");
        let advice = "build it without them (componentize-qjs: `--sync`)";
        assert!(refused.ends_with(advice), "{refused}");
        let garbage = compile_here(b"\0asm\x0d\0\x01\0\xff", Forms::Both).unwrap_err();
        assert!(!garbage.contains("asynchronous"), "{garbage}");
    }

    #[test]
    fn a_report_is_cut_and_its_writer_never_waits() {
        for length in [REPORT_BYTES_MAX - 1, REPORT_BYTES_MAX, REPORT_BYTES_MAX + 1] {
            let said = listen(std::io::repeat(b'x').take(length));
            assert_eq!(said.len() as u64, length.min(REPORT_BYTES_MAX));
        }
    }
}
