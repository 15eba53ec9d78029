//! What bounds a guest from within wasmtime: memory, tables, parts, and the time beyond its deadline.
//!
//! The numbers a user can set stand in `prepared::Limits`; those here hold for every filter.

use std::time::Duration;
use wasmtime::{ResourceLimiter, UpdateDeadline};

/// Elements of all tables of an instance. Large interpreters have some twenty thousand.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, tables and memories that a component may consist of.
pub(super) const PARTS_MAX: usize = 64;
/// Processor time that a guest gets when its time is up by the wall: that its thread was kept from
/// running is no fault of the guest. A spinning one dies this much later.
const GRACE: Duration = Duration::from_micros(500);
/// Ticks for which a starved guest is waited for in all.
const GRACE_TICKS_MAX: u32 = 100;

/// Ticks for which a guest under a script is waited for in all: as good as for ever, since a machine
/// that has no processor time for its tests has no verdict on them either.
const SCRIPTED_TICKS_MAX: u32 = 60_000;

/// What a call got beyond its time by the wall.
#[derive(Debug)]
pub(super) struct Grace {
    /// Processor time of the thread from which on `allowed` counts; none: that at the first tick then.
    since: Option<Duration>,
    allowed: Duration,
    ticks: u32,
    ticks_max: u32,
}

impl Default for Grace {
    fn default() -> Self {
        Grace { since: None, allowed: GRACE, ticks: 0, ticks_max: GRACE_TICKS_MAX }
    }
}

impl Grace {
    /// For a call under a script that begins now: its time is processor time from the beginning.
    pub(super) fn scripted(now: Option<Duration>, time: Duration) -> Self {
        Grace { since: now, allowed: time, ticks: 0, ticks_max: SCRIPTED_TICKS_MAX }
    }

    /// One tick more, or the end? `now` is the processor time of this thread.
    pub(super) fn tick(&mut self, now: Option<Duration>) -> UpdateDeadline {
        let Some(now) = now else { return UpdateDeadline::Interrupt };
        let since = *self.since.get_or_insert(now);
        self.ticks += 1;
        if now.saturating_sub(since) >= self.allowed || self.ticks > self.ticks_max {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::Continue(1)
    }
}

/// Processor time that this thread has used.
pub(super) fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` for the length of the call, which keeps no pointer to it.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
    (got == 0).then(|| Duration::new(seconds, nanoseconds))
}

/// Bounds what an instance may grow to.
pub(super) struct MemoryLimit {
    bytes: usize,
    bytes_max: usize,
    elements: usize,
    /// A growth was refused in the call in progress.
    pub(super) refused: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        Ok(self.admit(bytes <= self.bytes_max, |limit| limit.bytes = bytes))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        Ok(self.admit(elements <= TABLE_ELEMENTS_MAX, |limit| limit.elements = elements))
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

impl MemoryLimit {
    pub(super) fn new(bytes_max: usize) -> Self {
        MemoryLimit { bytes: 0, bytes_max, elements: 0, refused: false }
    }

    /// Bytes of all memories.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn admit(&mut self, fits: bool, grow: impl FnOnce(&mut Self)) -> bool {
        if fits {
            grow(self);
        } else {
            self.refused = true;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_on(grace: &mut Grace, now: Duration) -> bool {
        matches!(grace.tick(Some(now)), UpdateDeadline::Continue(1))
    }

    #[test]
    fn grace_is_counted_in_processor_time() {
        let start = Duration::from_secs(7);
        let mut grace = Grace::default();
        assert!(goes_on(&mut grace, start));
        assert!(goes_on(&mut grace, start + GRACE - Duration::from_nanos(1)));
        assert!(!goes_on(&mut grace, start + GRACE));
    }

    #[test]
    fn a_starved_guest_is_not_waited_for_without_end() {
        let mut grace = Grace::default();
        for _ in 0..GRACE_TICKS_MAX {
            assert!(goes_on(&mut grace, Duration::ZERO));
        }
        assert!(!goes_on(&mut grace, Duration::ZERO));
        assert!(matches!(Grace::default().tick(None), UpdateDeadline::Interrupt));
    }

    #[test]
    fn a_scripted_guest_has_its_time_as_processor_time_from_the_beginning() {
        let (start, time) = (Duration::from_secs(7), Duration::from_millis(5));
        let mut grace = Grace::scripted(Some(start), time);
        for _ in 0..=GRACE_TICKS_MAX {
            assert!(goes_on(&mut grace, start + time - Duration::from_nanos(1)));
        }
        assert!(!goes_on(&mut grace, start + time));
        let mut starved = Grace::scripted(Some(start), time);
        for _ in 0..SCRIPTED_TICKS_MAX {
            assert!(goes_on(&mut starved, start));
        }
        assert!(!goes_on(&mut starved, start), "but not for ever");
    }

    #[test]
    fn the_processor_time_of_a_thread_goes_forward() {
        let start = thread_time().unwrap();
        while thread_time().unwrap() == start {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn tables_have_a_limit() {
        let mut limit = MemoryLimit::new(0);
        assert!(limit.table_growing(0, TABLE_ELEMENTS_MAX - 1, None).unwrap());
        assert!(limit.table_growing(0, 1, None).unwrap());
        assert!(!limit.refused);
        assert!(!limit.table_growing(1, 2, None).unwrap());
        assert!(limit.refused);
    }
}
