//! A fence that is taken often on one side and seldom on the other, and costs accordingly.
//!
//! Each side stores, fences, and loads what the other stores; at least one of them then sees the
//! other's store. The seldom side asks the kernel to run a fence on every thread of the process
//! (`membarrier(2)`), so that the often side needs none of its own: a store and a load in a row, in
//! place of some twenty cycles. Where the kernel cannot, both sides fence.

use std::sync::atomic::{Ordering, compiler_fence, fence};

/// See the module.
#[derive(Debug)]
pub(super) struct Barrier {
    /// The kernel fences for the often side.
    by_kernel: bool,
}

impl Barrier {
    pub(super) fn new() -> Self {
        Barrier { by_kernel: register() }
    }

    /// Between the store and the load of the side that is in a hurry.
    #[inline]
    pub(super) fn often(&self) {
        if self.by_kernel {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// Between the store and the load of the other side.
    pub(super) fn seldom(&self) {
        fence(Ordering::SeqCst);
        if self.by_kernel {
            // Cannot fail: the process is registered.
            let fenced = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
            debug_assert!(fenced, "the process is registered");
        }
    }
}

/// Registers the process with the kernel, which a barrier does by itself. Before there is a second
/// thread it takes no time; later the kernel waits until every processor has passed by, some 10 ms.
///
/// Does the kernel fence for us?
pub fn register() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// Did the kernel carry out the command?
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes no pointer; with an unknown command it fails and does nothing.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Both sides store and look, again and again: never do both miss the other.
    #[test]
    fn one_side_sees_the_other() {
        for barrier in [Barrier::new(), Barrier { by_kernel: false }] {
            for _ in 0..500 {
                let [often, seldom] = [AtomicBool::new(false), AtomicBool::new(false)];
                let (seen_by_often, seen_by_seldom) = std::thread::scope(|scope| {
                    let hurried = scope.spawn(|| {
                        often.store(true, Ordering::Relaxed);
                        barrier.often();
                        seldom.load(Ordering::Relaxed)
                    });
                    seldom.store(true, Ordering::Relaxed);
                    barrier.seldom();
                    let seen = often.load(Ordering::Relaxed);
                    (hurried.join().unwrap(), seen)
                });
                assert!(seen_by_often || seen_by_seldom);
            }
        }
    }
}
