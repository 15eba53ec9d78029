//! Deadlines that cost next to nothing while they are met.
//!
//! An exchange has a deadline for each thing it waits for, all of them seconds away and almost all of
//! them met within a millisecond. A [`Timer`] registers with the runtime only when something has to be
//! waited for, and is not registered anew when the deadline moves later: it fires at the old time,
//! looks at the new one, and sleeps on.

use crate::clock;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// One waiting place of a connection, reused for every wait there.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub struct Elapsed;

impl Timer {
    /// `work`, or `Elapsed` after `limit`.
    ///
    /// # Cancel safety
    /// As safe as `work`: the timer keeps no state of it.
    pub async fn within<F: Future>(
        &mut self,
        limit: Duration,
        work: F,
    ) -> Result<F::Output, Elapsed> {
        let mut work = pin!(work);
        let mut deadline = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::from(clock::recent()) + limit);
            self.poll_expired(cx, deadline).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Ready once `deadline` has passed; until then the task is woken at that time at the latest.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    fn paused() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        paused().block_on(async {
            let mut timer = Timer::default();
            let start = Instant::now();
            let waited = timer.within(Duration::from_secs(5), pending::<()>()).await;
            assert_eq!(waited, Err(Elapsed));
            assert_eq!(start.elapsed().as_secs(), 5);
            assert_eq!(timer.within(Duration::from_secs(5), async { 7 }).await, Ok(7));
        });
    }

    #[test]
    fn a_deadline_may_move_later_and_earlier() {
        paused().block_on(async {
            let mut timer = Timer::default();
            let start = Instant::now();
            let mut deadline = start + Duration::from_secs(2);
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls == 2 {
                    deadline = start + Duration::from_secs(9);
                }
                timer.poll_expired(cx, deadline)
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), 9);
            deadline = start + Duration::from_secs(60);
            poll_fn(|cx| {
                let _ = timer.poll_expired(cx, deadline);
                timer.poll_expired(cx, start + Duration::from_secs(13))
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), 13);
        });
    }
}
