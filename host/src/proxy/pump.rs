//! Moves a body from one connection to another: back-pressure, flushing, and an end to every wait.
//!
//! What is read is queued for writing and sent as soon as nothing more is there to be read, so that
//! a small message leaves in one write. No more than `buffer` bytes wait to be written.

use super::ends::{Sink, SinkError, Source};
use super::timer::Timer;
use crate::clock;
use crate::http::{BodyError, Frame};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Bounds on one direction of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct PumpLimits {
    /// How long an end may stand still.
    pub source_idle: Duration,
    /// The same for the other end.
    pub sink_idle: Duration,
    /// Bytes a second below which an end is too slow; 0: no such bound.
    pub source_rate_min: usize,
    /// The same for the other end.
    pub sink_rate_min: usize,
    /// Time spent waiting for an end before its rate counts.
    pub rate_grace: Duration,
    /// Bytes that may wait to be written.
    pub buffer: usize,
}

/// Which end of a pump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the body comes from.
    Source,
    /// Where it goes.
    Sink,
}

/// Why a pump stopped.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Reading failed.
    #[error("failed to read a body")]
    Source(#[from] BodyError),
    /// Writing failed.
    #[error("failed to write a body")]
    Sink(#[from] SinkError),
    /// An end stood still, or was too slow.
    #[error("a body stood still")]
    Stalled(End),
    /// The peer at the sink is gone.
    #[error("the peer is gone")]
    Gone,
}

/// One direction of an exchange.
pub struct Pump<'t> {
    timer: &'t mut Timer,
    limits: PumpLimits,
    source: Meter,
    sink: Meter,
}

/// How long an end was waited for, and what it moved.
#[derive(Default)]
struct Meter {
    waited: Duration,
    bytes: u64,
}

impl Meter {
    fn is_too_slow(&self, rate_min: usize, grace: Duration) -> bool {
        self.waited > grace
            && u128::from(self.bytes) * 1000 < rate_min as u128 * self.waited.as_millis()
    }
}

impl<'t> Pump<'t> {
    /// A pump that waits at `timer`.
    pub fn new(timer: &'t mut Timer, limits: PumpLimits) -> Self {
        Pump { timer, limits, source: Meter::default(), sink: Meter::default() }
    }

    /// Bytes that may wait to be written.
    pub fn buffer(&self) -> usize {
        self.limits.buffer
    }

    /// The next piece of `source`. What waits in `sink` is sent while there is nothing to read.
    pub async fn next(
        &mut self,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Frame, PumpError> {
        let mut began = None;
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = source.poll_frame(cx) {
                return Poll::Ready(frame.map_err(PumpError::from));
            }
            let since = *began.get_or_insert_with(|| clock::recent().into());
            self.poll_wait(cx, sink, since).map(Err)
        })
        .await?;
        if let Some(began) = began {
            self.source.waited += began.elapsed();
        }
        self.taken(frame)
    }

    /// The next piece of `source`, if it is there without a wait.
    pub fn at_hand(&mut self, source: &mut Source<'_>) -> Option<Result<Frame, PumpError>> {
        let frame = source.frame_at_hand()?;
        Some(frame.map_err(PumpError::from).and_then(|frame| self.taken(frame)))
    }

    /// Counts a piece.
    fn taken(&mut self, frame: Frame) -> Result<Frame, PumpError> {
        if let Frame::Data(bytes) = &frame {
            self.source.bytes += bytes.len() as u64;
            if self.source.is_too_slow(self.limits.source_rate_min, self.limits.rate_grace) {
                return Err(PumpError::Stalled(End::Source));
            }
        }
        Ok(frame)
    }

    /// Nothing to read: sends, and looks at the clock.
    fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut Sink<'_>,
        since: Instant,
    ) -> Poll<PumpError> {
        let blocked = sink.queued() > 0
            && match sink.poll_flush(cx) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => return Poll::Ready(error.into()),
                Poll::Pending => true,
            };
        if sink.poll_gone(cx).is_ready() {
            return Poll::Ready(PumpError::Gone);
        }
        let (idle, end) = if blocked {
            (self.limits.sink_idle, End::Sink)
        } else {
            (self.limits.source_idle, End::Source)
        };
        self.timer.poll_expired(cx, since + idle).map(|()| PumpError::Stalled(end))
    }

    /// Sends until no more than `left` bytes wait.
    pub async fn drain(&mut self, sink: &mut Sink<'_>, left: usize) -> Result<(), PumpError> {
        let mut queued = sink.queued();
        let mut began: Option<Instant> = None;
        poll_fn(|cx| {
            let flushed = sink.poll_flush(cx)?;
            let now_queued = sink.queued();
            if now_queued < queued
                && let Some(since) = began.take()
            {
                self.sink.waited += since.elapsed();
                self.sink.bytes += (queued - now_queued) as u64;
                if self.sink.is_too_slow(self.limits.sink_rate_min, self.limits.rate_grace) {
                    return Poll::Ready(Err(PumpError::Stalled(End::Sink)));
                }
            }
            queued = now_queued;
            if flushed.is_ready() || queued <= left {
                return Poll::Ready(Ok(()));
            }
            if sink.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(PumpError::Gone));
            }
            let since = *began.get_or_insert_with(|| clock::recent().into());
            let deadline = since + self.limits.sink_idle;
            self.timer.poll_expired(cx, deadline).map(|()| Err(PumpError::Stalled(End::Sink)))
        })
        .await
    }

    /// Waits until `done`, which is looked at whenever the task is woken, for `limit` at most.
    pub async fn wait(&mut self, limit: Duration, done: impl Fn() -> bool) {
        let deadline = Instant::from(clock::recent()) + limit;
        poll_fn(|cx| if done() { Poll::Ready(()) } else { self.timer.poll_expired(cx, deadline) })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_too_slow_below_its_rate_once_its_grace_is_over() {
        let (grace, instant) = (Duration::from_secs(10), Duration::from_millis(1));
        let too_slow = |waited, bytes, rate| Meter { waited, bytes }.is_too_slow(rate, grace);
        assert!(!too_slow(grace - instant, 0, 240));
        assert!(!too_slow(grace, 0, 240));
        assert!(too_slow(grace + instant, 0, 240));
        let minute = Duration::from_secs(60);
        assert!(too_slow(minute, 60 * 240 - 1, 240));
        assert!(!too_slow(minute, 60 * 240, 240));
        assert!(!too_slow(minute, 60 * 240 + 1, 240));
        assert!(!too_slow(minute, 0, 0), "no rate is asked for");
    }
}
