//! Compiled filters on disk: found by content, trusted only if this user wrote them.
//!
//! An entry that `trust` does not vouch for is refused, counted and compiled anew. The serving process
//! only ever maps entries. Knows nothing of hooks and grants.

use super::compile::{
    COMPONENT_BYTES_MAX, ChildCommand, CompileError, CompileLimits, Forms, compile_here,
};
use super::component::{FilterCode, LoadError};
use super::engine::{Runtime, SETTINGS};
use super::trust::{Key, Refusal, key, open_verified, rename, seal};
use crate::private::{TEMPORARY_SUFFIX, Temporary, base_directory, make_directory, this_user};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use wasmtime::component::Component;

pub use super::trust::CacheError;

/// Entries kept; the least recently written go first.
pub const CACHE_ENTRIES_MAX: usize = 64;
/// Bytes of all entries kept.
pub const CACHE_BYTES_MAX: u64 = 512 * 1024 * 1024;
const ENTRY_SUFFIX: &str = ".filter";
/// Age of a temporary file whose writer is gone; no child lives this long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// How often the cache helped.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// An entry was mapped.
    pub hits: AtomicU64,
    /// There was no entry.
    pub misses: AtomicU64,
    /// An entry was not ours, torn, or of another machine.
    pub rejected: AtomicU64,
    /// An entry could not be written, or an old one not removed.
    pub failed_writes: AtomicU64,
}

/// Turns components into mapped code, through the cache. One per process.
pub struct Compiler {
    runtime: Runtime,
    how: How,
    counters: CacheCounters,
}

enum How {
    /// The product: a child compiles into the directory.
    Cached { directory: PathBuf, key: Key, child: ChildCommand },
    /// Tests: this process compiles, nothing is written.
    Here(Forms),
}

impl Compiler {
    /// A compiler with its cache in `directory`; without one, `pillion` in `$XDG_CACHE_HOME`,
    /// `~/.cache`, or `pillion-<user id>` in the directory for temporary files.
    pub fn new(directory: Option<PathBuf>, limits: CompileLimits) -> Result<Self, CacheError> {
        Compiler::with_child(directory, ChildCommand::this_program(limits)?)
    }

    /// The same, with another command for the child.
    pub fn with_child(directory: Option<PathBuf>, child: ChildCommand) -> Result<Self, CacheError> {
        let (directory, key) = match directory {
            Some(directory) => open_directory(directory)?,
            // A home that cannot be written, as in many containers, is no reason to give up.
            None => open_directory(default_directory())
                .or_else(|_unusable| open_directory(temporary_directory()))?,
        };
        let how = How::Cached { directory, key, child };
        Ok(Compiler { runtime: Runtime::new()?, how, counters: CacheCounters::default() })
    }

    /// For tests: compiles in this process, every time.
    pub fn in_process() -> Result<Self, CacheError> {
        let counters = CacheCounters::default();
        Ok(Compiler { runtime: Runtime::new()?, how: How::Here(Forms::Both), counters })
    }

    /// For tests: the same, for code that is run as a component in any case.
    #[cfg(test)]
    pub(super) fn in_process_as_components() -> Result<Self, CacheError> {
        let how = How::Here(Forms::Component);
        Ok(Compiler { runtime: Runtime::new()?, how, counters: CacheCounters::default() })
    }

    /// The engine that runs what this compiler loads.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Where entries are kept; none in tests that compile in the process.
    pub fn directory(&self) -> Option<&Path> {
        match &self.how {
            How::Cached { directory, .. } => Some(directory),
            How::Here(_) => None,
        }
    }

    /// For metrics.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// The component `bytes`, compiled now or before, as code that can be instantiated. `name` is
    /// the filter's, for messages. Blocks for as long as compiling takes: never call it on a worker.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<FilterCode>, LoadError> {
        check_kind(name, bytes)?;
        let content = blake3::hash(bytes);
        let (component, size) = match &self.how {
            How::Here(forms) => self.compile_unsaved(name, bytes, *forms)?,
            How::Cached { directory, key, child } => {
                let entry = directory.join(format!("{}{ENTRY_SUFFIX}", entry_name(&content)));
                match self.map(&entry, key) {
                    Some(mapped) => mapped,
                    None => self.compile(name, bytes, &entry, key, child)?,
                }
            }
        };
        FilterCode::new(name, self.runtime.clone(), component, content, size).map(Arc::new)
    }

    fn compile_unsaved(
        &self,
        name: &str,
        bytes: &[u8],
        forms: Forms,
    ) -> Result<(Component, u64), LoadError> {
        let code = compile_here(bytes, forms)
            .map_err(|why| compile_failed(name, CompileError::Invalid(why)))?;
        // SAFETY: the bytes were made by wasmtime in this process, a line above.
        let component = unsafe { Component::deserialize(self.runtime.engine(), &code) };
        let component = component.map_err(|error| LoadError::Unusable {
            name: name.to_owned(),
            why: format!("{error:#}"),
        })?;
        Ok((component, code.len() as u64))
    }

    /// The entry, mapped, if there is one that can be trusted and used.
    fn map(&self, entry: &Path, key: &Key) -> Option<(Component, u64)> {
        let counter = match open_verified(entry, key) {
            Ok((file, size)) => match self.map_file(&file) {
                Ok(component) => {
                    self.counters.hits.fetch_add(1, Ordering::Relaxed);
                    return Some((component, size));
                }
                Err(error) => {
                    tracing::warn!(
                        entry = %entry.display(), error = format!("{error:#}"),
                        "a compiled filter is of another machine or version; compiling anew"
                    );
                    &self.counters.rejected
                }
            },
            Err(Refusal::Absent) => &self.counters.misses,
            Err(Refusal::Untrusted(why)) => {
                tracing::warn!(
                    entry = %entry.display(), why,
                    "a compiled filter cannot be trusted; compiling anew"
                );
                &self.counters.rejected
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Maps the very file that was verified, whatever its name leads to by now.
    fn map_file(&self, file: &File) -> wasmtime::Result<Component> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: `open_verified` found a keyed hash over all of this open file, made with a key
        // that only this user can read, by `save` below from what wasmtime compiled. The file is
        // owned by this user and writable for nobody else, and entries are replaced by renaming,
        // never rewritten, so that its content stays what was verified.
        unsafe { Component::deserialize_file(self.runtime.engine(), path) }
    }

    fn compile(
        &self,
        name: &str,
        bytes: &[u8],
        entry: &Path,
        key: &Key,
        child: &ChildCommand,
    ) -> Result<(Component, u64), LoadError> {
        let started = std::time::Instant::now();
        let unwritten = |error| LoadError::Cache(CacheError::Files(error));
        let temporary = Temporary::beside(entry).map_err(unwritten)?;
        child.run(bytes, &temporary.path).map_err(|error| compile_failed(name, error))?;
        seal(&temporary.path, entry, key)
            .and_then(|()| rename(&temporary.path, entry))
            .map_err(unwritten)?;
        tracing::info!(
            filter = name,
            milliseconds = started.elapsed().as_millis() as u64,
            "compiled a filter"
        );
        if let How::Cached { directory, .. } = &self.how {
            self.prune(directory);
        }
        let unusable = |why: String| LoadError::Unusable { name: name.to_owned(), why };
        let (file, size) = open_verified(entry, key).map_err(|refusal| match refusal {
            Refusal::Absent => unusable("its compiled form vanished from the cache".to_owned()),
            Refusal::Untrusted(why) => unusable(why.to_owned()),
        })?;
        let component = self.map_file(&file).map_err(|error| unusable(format!("{error:#}")))?;
        Ok((component, size))
    }

    /// Removes the oldest entries beyond the limits, and what a killed child left behind.
    fn prune(&self, directory: &Path) {
        let Ok(listing) = std::fs::read_dir(directory) else { return };
        let files: Vec<KnownFile> = listing.flatten().filter_map(KnownFile::of).collect();
        for path in surplus(files, SystemTime::now()) {
            if std::fs::remove_file(path).is_err() {
                self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A file of the cache directory.
#[derive(Clone, Debug)]
struct KnownFile {
    written: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl KnownFile {
    fn of(item: std::fs::DirEntry) -> Option<Self> {
        let known = item.metadata().ok()?;
        Some(KnownFile { written: known.modified().ok()?, bytes: known.len(), path: item.path() })
    }

    fn is(&self, suffix: &str) -> bool {
        self.path.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes())
    }
}

/// What is to go: the oldest entries beyond the limits, and temporary files that nobody finishes.
fn surplus(files: Vec<KnownFile>, now: SystemTime) -> Vec<PathBuf> {
    let abandoned = |file: &KnownFile| {
        let age = now.duration_since(file.written).unwrap_or_default();
        file.is(TEMPORARY_SUFFIX) && age > ABANDONED_AFTER
    };
    let (mut entries, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.is(ENTRY_SUFFIX));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.written));
    let mut bytes = 0_u64;
    let old = entries.into_iter().enumerate().filter(|(nth, entry)| {
        bytes = bytes.saturating_add(entry.bytes);
        // The newest one stays in any case: it is the one being loaded.
        *nth > 0 && (*nth >= CACHE_ENTRIES_MAX || bytes > CACHE_BYTES_MAX)
    });
    let mut surplus: Vec<PathBuf> = old.map(|(_, entry)| entry.path).collect();
    surplus.extend(others.into_iter().filter(abandoned).map(|file| file.path));
    surplus
}

fn compile_failed(name: &str, source: CompileError) -> LoadError {
    LoadError::Compile { name: name.to_owned(), source }
}

/// Tells a component from what is often taken for one (the header is magic, version, layer).
fn check_kind(name: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let name = || name.to_owned();
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(LoadError::TooLarge { name: name(), bytes: bytes.len() });
    }
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule { name: name() }),
        _ => Err(LoadError::NotWasm { name: name() }),
    }
}

/// The name of an entry: everything the machine code depends on.
fn entry_name(content: &blake3::Hash) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in
        [content.as_bytes().as_slice(), SETTINGS.as_bytes(), std::env::consts::ARCH.as_bytes()]
    {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn default_directory() -> PathBuf {
    base_directory(|name| std::env::var_os(name), "XDG_CACHE_HOME", ".cache")
        .map_or_else(temporary_directory, |base| base.join("pillion"))
}

fn temporary_directory() -> PathBuf {
    std::env::temp_dir().join(format!("pillion-{}", this_user()))
}

fn open_directory(directory: PathBuf) -> Result<(PathBuf, Key), CacheError> {
    make_directory(&directory)?;
    let key = key(&directory)?;
    Ok((directory, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private;
    use crate::wasm::testing::{PROCEED, on_request};
    use crate::wasm::trust::{KEY_FILE, MAC_BYTES};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::atomic::AtomicU32;

    /// The child of these tests: this very program, told to run the test below alone.
    const CHILD_OUTPUT: &str = "PILLION_TEST_COMPILE_OUTPUT";

    /// Not a test of its own: what the children of the other tests run.
    #[test]
    fn compile_child() {
        if !is_child() {
            return;
        }
        let mut arguments: Vec<_> = std::env::args_os().collect();
        let last = arguments.split_off(arguments.len() - 3);
        let code = crate::wasm::compile::child_main(&last);
        std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 3 });
    }

    fn is_child() -> bool {
        std::env::var_os(CHILD_OUTPUT).is_some()
    }

    fn child() -> ChildCommand {
        let mut child = ChildCommand::this_program(CompileLimits::default()).unwrap();
        let program = std::mem::replace(&mut child.program, PathBuf::from("/usr/bin/env"));
        child.arguments = vec![
            format!("{CHILD_OUTPUT}=1").into(),
            program.into(),
            "--exact".into(),
            "wasm::cache::tests::compile_child".into(),
            "--nocapture".into(),
        ];
        child
    }

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("pillion-cache-{}-{number}", std::process::id());
            Directory(std::env::temp_dir().join(name))
        }

        fn compiler(&self) -> Compiler {
            Compiler::with_child(Some(self.0.clone()), child()).unwrap()
        }

        fn entry(&self) -> PathBuf {
            let listing = std::fs::read_dir(&self.0).unwrap();
            let files: Vec<KnownFile> = listing.flatten().filter_map(KnownFile::of).collect();
            assert!(files.iter().all(|file| !file.is(TEMPORARY_SUFFIX)), "{files:?}");
            files.into_iter().find(|file| file.is(ENTRY_SUFFIX)).unwrap().path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Hits, misses, rejected.
    fn counts(compiler: &Compiler) -> [u64; 3] {
        let CacheCounters { hits, misses, rejected, .. } = compiler.counters();
        [hits, misses, rejected].map(|counter| counter.load(Ordering::Relaxed))
    }

    #[test]
    fn a_component_is_compiled_once_and_then_mapped() {
        let directory = Directory::new();
        let guest = on_request(&[], "", PROCEED);
        let compiler = directory.compiler();
        let code = compiler.load("a", &guest).unwrap();
        assert_eq!(code.version().len(), 12);
        assert!(code.content_hash().starts_with(&*code.version()));
        compiler.load("b", &guest).unwrap();
        assert_eq!(counts(&compiler), [1, 1, 0]);
        // Another process, with the same key.
        let other = directory.compiler();
        other.load("a", &guest).unwrap();
        assert_eq!(counts(&other), [1, 0, 0]);
        for path in [directory.entry(), directory.0.join(KEY_FILE)] {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::metadata(&directory.0).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_entry_that_is_not_ours_whole_is_refused_and_compiled_anew() {
        let directory = Directory::new();
        let guest = on_request(&[], "", PROCEED);
        directory.compiler().load("a", &guest).unwrap();
        let entry = directory.entry();
        let whole = std::fs::read(&entry).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let last = whole.len() - 1;
        for bytes in [
            Vec::new(),
            whole[..MAC_BYTES - 1].to_vec(),
            whole[..last].to_vec(),
            [whole.as_slice(), b"x"].concat(),
            flipped(0),
            flipped(last / 2),
            flipped(last),
        ] {
            std::fs::write(&entry, &bytes).unwrap();
            let compiler = directory.compiler();
            compiler.load("a", &guest).unwrap();
            assert_eq!(counts(&compiler), [0, 0, 1], "{} bytes", bytes.len());
            compiler.load("a", &guest).unwrap();
            assert_eq!(counts(&compiler), [1, 0, 1]);
        }
    }

    #[test]
    fn an_entry_that_others_could_have_written_is_refused() {
        let directory = Directory::new();
        let guest = on_request(&[], "", PROCEED);
        let compiler = directory.compiler();
        compiler.load("a", &guest).unwrap();
        let entry = directory.entry();
        std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o622)).unwrap();
        compiler.load("a", &guest).unwrap();
        assert_eq!(counts(&compiler), [0, 1, 1]);
        // A link is not followed, even to an entry that would do.
        let elsewhere = directory.0.join("elsewhere");
        std::fs::rename(&entry, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &entry).unwrap();
        compiler.load("a", &guest).unwrap();
        assert_eq!(counts(&compiler), [0, 1, 2]);
    }

    #[test]
    fn an_entry_sealed_with_another_key_is_refused() {
        let directory = Directory::new();
        directory.compiler().load("a", &on_request(&[], "", PROCEED)).unwrap();
        std::fs::write(directory.0.join(KEY_FILE), [7; MAC_BYTES]).unwrap();
        let other = directory.compiler();
        other.load("a", &on_request(&[], "", PROCEED)).unwrap();
        assert_eq!(counts(&other), [0, 0, 1]);
    }

    #[test]
    fn an_entry_under_the_name_of_another_is_refused() {
        let directory = Directory::new();
        let compiler = directory.compiler();
        compiler.load("a", &on_request(&[], "", PROCEED)).unwrap();
        let first = directory.entry();
        let moved = directory.0.join("moved");
        std::fs::rename(&first, &moved).unwrap();
        let other = on_request(&[], "other", PROCEED);
        compiler.load("b", &other).unwrap();
        std::fs::rename(&moved, directory.entry()).unwrap();
        compiler.load("b", &other).unwrap();
        assert_eq!(counts(&compiler), [0, 2, 1]);
    }

    #[test]
    fn a_directory_or_key_that_others_could_use_is_refused() {
        let directory = Directory::new();
        drop(directory.compiler());
        let refused = || {
            let error = Compiler::with_child(Some(directory.0.clone()), child()).err().unwrap();
            let CacheError::Files(error @ private::Error::Untrusted { .. }) = error else {
                panic!("{error}")
            };
            error.to_string()
        };
        let key = directory.0.join(KEY_FILE);
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(refused().contains("others may read it"));
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&key, [0; MAC_BYTES - 1]).unwrap();
        assert!(refused().contains("wrong length"));
        std::fs::set_permissions(&directory.0, PermissionsExt::from_mode(0o720)).unwrap();
        assert!(refused().contains("others may write to it"));
        std::fs::set_permissions(&directory.0, PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn what_the_compiler_says_comes_back_from_the_child() {
        let directory = Directory::new();
        let mut guest = on_request(&[], "", PROCEED);
        guest.truncate(guest.len() - 20);
        let error = directory.compiler().load("a", &guest).err().unwrap();
        assert_eq!(error.to_string(), "failed to compile component `a`");
        let LoadError::Compile { source: CompileError::Invalid(why), .. } = &error else {
            panic!("{error:?}")
        };
        assert!(why.contains("unexpected end") || why.contains("offset"), "{why}");
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let directory = Directory::new();
        let mut sleeper = child();
        sleeper.program = PathBuf::from("/bin/sh");
        // Waits for the end of a pipe that never ends.
        sleeper.arguments = vec!["-c".into(), "exec sleep 1000".into()];
        sleeper.limits.time = Duration::from_millis(20);
        let compiler = Compiler::with_child(Some(directory.0.clone()), sleeper).unwrap();
        let error = compiler.load("a", &on_request(&[], "", PROCEED)).err().unwrap();
        assert!(
            matches!(error, LoadError::Compile { source: CompileError::TimedOut(_), .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_child_has_only_the_memory_it_is_given() {
        let directory = Directory::new();
        let mut starved = child();
        // Enough to start, and not to compile.
        starved.limits.memory_bytes = 48 << 20;
        let compiler = Compiler::with_child(Some(directory.0.clone()), starved).unwrap();
        // A function of a million additions.
        let body =
            format!("{} {PROCEED}", "(drop (i32.add (i32.const 1) (i32.const 2)))".repeat(300_000));
        let LoadError::Compile { source, .. } =
            compiler.load("a", &on_request(&[], "", &body)).err().unwrap()
        else {
            panic!("it did not compile")
        };
        assert!(matches!(source, CompileError::OutOfMemory(_)), "{source}");
    }

    #[test]
    fn a_child_that_dies_or_cannot_start_is_reported() {
        let directory = Directory::new();
        let mut broken = child();
        broken.program = PathBuf::from("/bin/sh");
        broken.arguments = vec!["-c".into(), "echo gone >&2; kill -SEGV $$".into()];
        let compiler = Compiler::with_child(Some(directory.0.clone()), broken.clone()).unwrap();
        let guest = on_request(&[], "", PROCEED);
        let LoadError::Compile { source, .. } = compiler.load("a", &guest).err().unwrap() else {
            panic!("it did not compile")
        };
        assert!(source.to_string().ends_with(": gone"), "{source}");
        broken.program = PathBuf::from("/nonexistent");
        let compiler = Compiler::with_child(Some(directory.0.clone()), broken).unwrap();
        let LoadError::Compile { source, .. } = compiler.load("a", &guest).err().unwrap() else {
            panic!("it did not compile")
        };
        assert_eq!(source.to_string(), "failed to run the compiling process `/nonexistent`");
    }

    #[test]
    fn the_oldest_entries_beyond_the_limits_go() {
        let now = SystemTime::now();
        let file = |number: u64, bytes, suffix: &str| KnownFile {
            written: now - Duration::from_secs(number),
            bytes,
            path: PathBuf::from(format!("/{number}{suffix}")),
        };
        let many = |count: usize| {
            (0..count as u64).map(|number| file(number, 1, ENTRY_SUFFIX)).collect::<Vec<_>>()
        };
        assert!(surplus(many(CACHE_ENTRIES_MAX - 1), now).is_empty());
        assert!(surplus(many(CACHE_ENTRIES_MAX), now).is_empty());
        let oldest = PathBuf::from(format!("/{CACHE_ENTRIES_MAX}{ENTRY_SUFFIX}"));
        assert_eq!(surplus(many(CACHE_ENTRIES_MAX + 1), now), [oldest]);

        let of = |bytes| vec![file(1, bytes, ENTRY_SUFFIX), file(2, 1, ENTRY_SUFFIX)];
        assert!(surplus(of(CACHE_BYTES_MAX - 2), now).is_empty());
        assert!(surplus(of(CACHE_BYTES_MAX - 1), now).is_empty());
        assert_eq!(surplus(of(CACHE_BYTES_MAX), now), [PathBuf::from("/2.filter")]);

        let kept = vec![file(3600, 1, TEMPORARY_SUFFIX), file(9999, 1, "key")];
        assert!(surplus(kept, now).is_empty());
        let abandoned = surplus(vec![file(3601, 1, TEMPORARY_SUFFIX)], now);
        assert_eq!(abandoned, [PathBuf::from("/3601.new")]);
    }
}
