//! The two wasmtime engines and the clock that ends guests which overstay.
//!
//! Serving maps code that is already compiled and has no compiler at all; compiling happens in a
//! child process (`compile`) with the same settings. Knows nothing of filters. Deadlines are counted
//! in ticks of the epoch: a guest compares one word at loop heads and function entries, which costs
//! nothing measurable, and traps once its last tick has passed.

use super::barrier::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use wasmtime::{Config, Engine, OptLevel};

/// Length of one tick of the epoch: the precision of every deadline.
pub const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest after which the clock stops, until a guest starts it again.
const IDLE_TICKS: u32 = 50;
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
        lock(&self.clock.shared.marks).push(Arc::downgrade(&mark));
        Presence { mark, shared: self.clock.shared.clone() }
    }
}

/// An engine that compiles. Only the child process and tests have one.
pub(super) fn compiling_engine() -> Result<Engine, EngineError> {
    Engine::new(&config()).map_err(unsupported)
}

/// Ticks after which a guest has had at least `time`. One more than the quotient: the first tick may
/// come at once.
pub(super) fn ticks(time: Duration) -> u64 {
    const TICKS_A_SECOND: u64 = 1_000_000_000 / TICK_NANOSECONDS;
    let whole = time.as_secs().min(u64::MAX / 4 / TICKS_A_SECOND) * TICKS_A_SECOND;
    let rest = u64::from(time.subsec_nanos()).div_ceil(TICK_NANOSECONDS);
    (whole + rest).max(1) + 1
}

const TICK_NANOSECONDS: u64 = TICK.as_nanos() as u64;

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
    /// Before a guest is entered. The clock ticks from here on.
    #[inline]
    pub(super) fn enter(&self) {
        // In order with the clock's last look before it stops: either it sees the mark, or this
        // thread sees that it has stopped.
        self.mark.state.store(INSIDE, Ordering::Relaxed);
        self.shared.barrier.often();
        if self.shared.stopped.load(Ordering::Relaxed) {
            self.shared.wake();
        }
    }

    /// After the guest came back.
    pub(super) fn leave(&self) {
        self.mark.state.store(RECENT, Ordering::Relaxed);
    }
}

/// No guest since the clock last looked.
const AWAY: u8 = 0;
/// A guest ran since the clock last looked.
const RECENT: u8 = 1;
/// A guest is running.
const INSIDE: u8 = 2;

/// Alone on its cache line: a worker writes it with every hook.
#[derive(Default)]
#[repr(align(64))]
struct Mark {
    state: AtomicU8,
}

/// The thread that ticks.
struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    marks: Mutex<Vec<Weak<Mark>>>,
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
        let mut idle = 0;
        while !self.over.load(Ordering::SeqCst) {
            // A late tick is not made up for: what held up this thread held up guests too.
            wait(TICK);
            engine.increment_epoch();
            idle = if self.someone() { 0 } else { idle + 1 };
            if idle >= IDLE_TICKS {
                self.stop_until_woken();
                idle = 0;
            }
        }
    }

    /// Did or does a guest run since the last look?
    fn someone(&self) -> bool {
        let mut someone = false;
        lock(&self.marks).retain(|mark| {
            let Some(mark) = mark.upgrade() else { return false };
            let recent = RECENT;
            let went =
                mark.state.compare_exchange(recent, AWAY, Ordering::SeqCst, Ordering::SeqCst);
            someone |= went != Err(AWAY);
            true
        });
        someone
    }

    fn stop_until_woken(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.barrier.seldom();
        if self.someone() {
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
    fn a_deadline_is_never_shorter_than_asked() {
        assert_eq!(ticks(Duration::ZERO), 2);
        assert_eq!(ticks(Duration::from_nanos(1)), 2);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_nanos(1)), 3);
        assert_eq!(ticks(Duration::from_millis(5)), 6);
        assert_eq!(ticks(Duration::new(2, 1)), 2002);
        assert!(ticks(Duration::MAX) > u64::MAX / 8);
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
