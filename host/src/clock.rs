//! The time, looked at once for what happens at once.
//!
//! A look at the clock costs some 25 ns, and a request has a dozen reasons for one: limits on what is
//! waited for next, times that are counted, connections that may be too old. What a task does within one
//! poll it does within microseconds, so that [`recent`] answers most of them with the last look of that
//! poll. Where a duration is measured that may lie within a poll, [`look`] anew.

use pin_project_lite::pin_project;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

thread_local! {
    static POLL: Cell<Looked> = const { Cell::new(Looked::Outside) };
}

/// What is known of the time on this thread.
#[derive(Clone, Copy)]
enum Looked {
    /// No task is polled that is [`Timed`]: every look is a new one.
    Outside,
    /// Not yet in the poll in progress.
    NotYet,
    At(Instant),
}

pin_project! {
    /// A task within whose polls [`recent`] need not look at the clock more than once.
    pub struct Timed<F> {
        #[pin]
        task: F,
    }
}

impl<F> Timed<F> {
    /// `task`, to be spawned as it is.
    pub fn new(task: F) -> Self {
        Timed { task }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _over = Over(POLL.replace(Looked::NotYet));
        self.project().task.poll(cx)
    }
}

/// Ends a poll, also one that panics.
struct Over(Looked);

impl Drop for Over {
    fn drop(&mut self) {
        POLL.set(self.0);
    }
}

/// The time at the last look of the poll in progress. Looks, if there was none, and outside of tasks
/// that are [`Timed`].
pub fn recent() -> Instant {
    match POLL.get() {
        Looked::At(instant) => instant,
        Looked::NotYet | Looked::Outside => look(),
    }
}

/// The time.
pub fn look() -> Instant {
    // Tests of timeouts stop this clock.
    let now = tokio::time::Instant::now().into_std();
    if !matches!(POLL.get(), Looked::Outside) {
        POLL.set(Looked::At(now));
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Duration;

    fn wait_for_the_clock() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(10) {
            std::hint::spin_loop();
        }
    }

    fn twice(look: fn() -> Instant) -> (Instant, Instant) {
        let first = look();
        wait_for_the_clock();
        (first, look())
    }

    #[test]
    fn one_look_is_enough_for_a_poll() {
        let mut polls = Vec::new();
        let mut task = pin!(Timed::new(poll_fn(|_| {
            polls.push(twice(recent));
            if polls.len() == 2 { Poll::Ready(()) } else { Poll::Pending }
        })));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        wait_for_the_clock();
        assert!(task.as_mut().poll(&mut cx).is_ready());
        assert_eq!(polls[0].0, polls[0].1);
        assert_eq!(polls[1].0, polls[1].1);
        assert!(polls[0].1 < polls[1].0, "the next poll has a time of its own");
    }

    #[test]
    fn a_new_look_is_what_is_recent_from_there_on() {
        let mut task = pin!(Timed::new(poll_fn(|_| {
            let (before, looked) = (recent(), twice(look));
            assert!(before <= looked.0 && looked.0 < looked.1);
            assert_eq!(recent(), looked.1);
            Poll::Ready(())
        })));
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn outside_of_such_a_task_every_look_is_new() {
        let (one, other) = twice(recent);
        assert!(one < other);
        let mut task = pin!(Timed::new(async { recent() }));
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        let (one, other) = twice(recent);
        assert!(one < other, "nor is one left over");
    }
}
