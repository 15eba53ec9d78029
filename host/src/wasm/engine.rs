//! The two wasmtime engines and the clock that ends guests which overstay.
//!
//! Serving maps code that is already compiled and has no compiler at all; compiling happens in a
//! child process (`compile`) with the same settings. Knows nothing of filters.
//!
//! Deadlines go by ticks of the epoch: a guest compares one word at loop heads and function entries,
//! which costs nothing measurable, and at a tick it asks whether its time is up (`instance`). Almost
//! every call is over within microseconds, so the clock looks seldom, and ticks only while it sees a
//! guest stay.

use super::barrier::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use wasmtime::{Config, Engine, OptLevel};

/// Length of one tick of the epoch, while a guest stays.
pub const TICK: Duration = Duration::from_millis(1);
/// How often is looked for guests that stay: a guest has its first tick at the latest so long, and a
/// tick, after it was entered. No longer than the time of a hook unless the file says otherwise.
pub const LOOK: Duration = Duration::from_millis(5);
/// Looks without a guest after which the clock stops, until a guest starts it again.
const IDLE_LOOKS: u32 = 10;
/// Stack of a guest, in bytes. Workers have stacks of at least four times this.
pub(crate) const GUEST_STACK_BYTES: usize = 512 * 1024;

/// Changes with every setting below that is not part of wasmtime's own compatibility check, and
/// makes entries of the cache that were compiled otherwise unreachable.
pub(super) const SETTINGS: &str = "pillion-3 wasmtime-48 speed epoch no-address-map";

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The processor or the kernel lacks something that wasmtime needs.
    #[error("failed to create the WebAssembly engine: {0}")]
    Unsupported(String),
    /// The thread of the deadline clock did not start.
    #[error("failed to start the deadline clock")]
    Clock(#[source] std::io::Error),
}

/// The engine of this process and its deadline clock. Clones are the same engine; dropping the last
/// one stops the clock.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    clock: Arc<Clock>,
}

impl Runtime {
    /// An engine that maps compiled filters and cannot compile.
    pub fn new() -> Result<Self, EngineError> {
        let mut config = config();
        config.enable_compiler(false);
        let engine = Engine::new(&config).map_err(unsupported)?;
        let clock = Arc::new(Clock::start(engine.clone()).map_err(EngineError::Clock)?);
        Ok(Runtime { engine, clock })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A mark for one thread at a time to show that it is in a guest.
    pub(super) fn presence(&self) -> Presence {
        let mark = Arc::new(Mark::default());
        let watched = Watched { mark: Arc::downgrade(&mark), seen: 0 };
        lock(&self.clock.shared.marks).push(watched);
        Presence { mark, shared: self.clock.shared.clone() }
    }
}

/// An engine that compiles. Only the child process and tests have one.
pub(super) fn compiling_engine() -> Result<Engine, EngineError> {
    Engine::new(&config()).map_err(unsupported)
}

/// Settings of both engines: what they disagree on makes a compiled filter unusable.
fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Measured: with it an empty call costs three times as much.
        .concurrency_support(false)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(GUEST_STACK_BYTES)
        // The guest's own words say more than the numbers of its functions.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .wasm_memory64(false);
    config
}

fn unsupported(error: wasmtime::Error) -> EngineError {
    EngineError::Unsupported(format!("{error:#}"))
}

/// Shows the deadline clock that this thread is in a guest.
pub(super) struct Presence {
    mark: Arc<Mark>,
    shared: Arc<Shared>,
}

impl Presence {
    /// Before a guest is entered. The clock looks from here on.
    #[inline]
    pub(super) fn enter(&self) {
        // In order with the clock's last look before it stops: either it sees the mark, or this
        // thread sees that it has stopped.
        self.mark.step_in();
        self.shared.barrier.often();
        if self.shared.stopped.load(Ordering::Relaxed) {
            self.shared.wake();
        }
    }

    /// After the guest came back.
    #[inline]
    pub(super) fn leave(&self) {
        self.mark.step_out();
    }
}

/// Alone on its cache line: a worker writes it with every hook.
#[derive(Default)]
#[repr(align(64))]
struct Mark {
    /// Steps into a guest and out of it: odd within one.
    steps: AtomicU64,
}

/// Steps are those of the one thread that has the mark.
impl Mark {
    /// To the next odd number: a panic may have kept the call before from stepping out.
    fn step_in(&self) {
        let steps = self.steps.load(Ordering::Relaxed).wrapping_add(1) | 1;
        self.steps.store(steps, Ordering::Relaxed);
    }

    /// To the next even number.
    fn step_out(&self) {
        let steps = self.steps.load(Ordering::Relaxed).wrapping_add(1) & !1;
        self.steps.store(steps, Ordering::Relaxed);
    }
}

/// A mark as the clock sees it.
struct Watched {
    mark: Weak<Mark>,
    /// Its steps at the last look.
    seen: u64,
}

/// What a look has found; the last of these that is true of any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// No guest since the last look.
    Nobody,
    /// There was a guest since, and is none now.
    Passing,
    /// One is there now.
    Inside,
    /// One is there that was there at the last look.
    Staying,
}

/// The thread that ticks.
struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    marks: Mutex<Vec<Watched>>,
    barrier: Barrier,
    stopped: AtomicBool,
    over: AtomicBool,
    sleeper: Mutex<Option<Thread>>,
}

impl Clock {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            marks: Mutex::default(),
            barrier: Barrier::new(),
            stopped: AtomicBool::new(false),
            over: AtomicBool::new(false),
            sleeper: Mutex::default(),
        });
        let ticking = shared.clone();
        let thread = std::thread::Builder::new()
            .name("deadlines".to_owned())
            .spawn(move || ticking.run(&engine))?;
        *lock(&shared.sleeper) = Some(thread.thread().clone());
        Ok(Clock { shared, thread: Some(thread) })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let (mut pause, mut idle) = (LOOK, 0);
        while !self.over.load(Ordering::SeqCst) {
            // A late tick is not made up for: what held up this thread held up guests too.
            wait(pause);
            let found = self.look();
            if found == Found::Staying {
                engine.increment_epoch();
            }
            pause = if found >= Found::Inside { TICK } else { LOOK };
            idle = if found == Found::Nobody { idle + 1 } else { 0 };
            if idle >= IDLE_LOOKS {
                self.stop_until_woken();
                idle = 0;
            }
        }
    }

    fn look(&self) -> Found {
        let mut found = Found::Nobody;
        lock(&self.marks).retain_mut(|watched| {
            let Some(mark) = watched.mark.upgrade() else { return false };
            let steps = mark.steps.load(Ordering::SeqCst);
            let before = std::mem::replace(&mut watched.seen, steps);
            found = found.max(match (steps % 2 == 1, steps == before) {
                (true, true) => Found::Staying,
                (true, false) => Found::Inside,
                (false, false) => Found::Passing,
                (false, true) => Found::Nobody,
            });
            true
        });
        found
    }

    fn stop_until_woken(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.barrier.seldom();
        if self.look() != Found::Nobody {
            self.stopped.store(false, Ordering::SeqCst);
        }
        while self.stopped.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }

    fn wake(&self) {
        self.stopped.store(false, Ordering::SeqCst);
        if let Some(sleeper) = &*lock(&self.sleeper) {
            sleeper.unpark();
        }
    }
}

/// The whole of `time`, however often this thread is woken.
fn wait(time: Duration) {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// The lock, also after a panic of another thread: what these locks guard is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_stays_is_told_from_one_that_comes_again() {
        let shared = Shared {
            marks: Mutex::default(),
            barrier: Barrier::new(),
            stopped: AtomicBool::new(false),
            over: AtomicBool::new(false),
            sleeper: Mutex::default(),
        };
        let [one, other] = [Arc::<Mark>::default(), Arc::default()];
        for mark in [&one, &other] {
            lock(&shared.marks).push(Watched { mark: Arc::downgrade(mark), seen: 0 });
        }
        assert_eq!(shared.look(), Found::Nobody);
        one.step_in();
        assert_eq!(shared.look(), Found::Inside);
        assert_eq!(shared.look(), Found::Staying);
        other.step_in();
        other.step_out();
        assert_eq!(shared.look(), Found::Staying, "whatever others do");
        one.step_out();
        one.step_in();
        assert_eq!(shared.look(), Found::Inside, "another call of it");
        // As after a panic.
        one.step_in();
        assert_eq!(shared.look(), Found::Inside, "one more");
        assert_eq!(shared.look(), Found::Staying);
        one.step_out();
        assert_eq!(shared.look(), Found::Passing);
        assert_eq!(shared.look(), Found::Nobody);
        drop((one, other));
        assert_eq!(shared.look(), Found::Nobody);
        assert!(lock(&shared.marks).is_empty());
    }

    #[test]
    fn the_clock_stops_without_guests_and_starts_with_the_first() {
        let runtime = Runtime::new().unwrap();
        let presence = runtime.presence();
        let shared = runtime.clock.shared.clone();
        for _ in 0..2 {
            while !shared.stopped.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            presence.enter();
            assert!(!shared.stopped.load(Ordering::SeqCst));
            presence.leave();
        }
    }

    #[test]
    fn the_clock_ends_with_the_engine() {
        let runtime = Runtime::new().unwrap();
        let shared = Arc::downgrade(&runtime.clock.shared);
        drop(runtime);
        assert!(shared.upgrade().is_none());
    }
}
