//! Pings that find out whether a silent peer is still there (RFC 9113 section 6.7), and the one
//! timer of a connection. Knows nothing of streams; the connection's driver asks it when polled.

use super::limits::Http2Limits;
use h2::{Ping, PingPong};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The pings of one connection.
pub(super) struct KeepAlive {
    pings: Option<PingPong>,
    sent: Option<Instant>,
    interval: Duration,
    timeout: Duration,
}

/// What to do about a silent peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing until this time.
    Until(Instant),
    /// A PING was queued: poll the connection again.
    Pinged,
    /// The peer did not answer.
    Dead,
}

impl KeepAlive {
    pub(super) fn new(pings: Option<PingPong>, limits: &Http2Limits) -> Self {
        KeepAlive {
            pings,
            sent: None,
            interval: limits.ping_interval,
            timeout: limits.ping_timeout,
        }
    }

    /// Takes note of an answer. Cheap while no PING is under way.
    pub(super) fn poll_pong(&mut self, cx: &mut Context<'_>) {
        if self.sent.is_some()
            && let Some(pings) = &mut self.pings
            && let Poll::Ready(result) = pings.poll_pong(cx)
        {
            self.sent = None;
            if result.is_err() {
                // The connection is closed; its driver learns that from the connection itself.
                self.pings = None;
            }
        }
    }

    /// Call when a deadline may have passed. Whatever is read proves the peer alive, not only the
    /// answer: it may queue behind much data.
    pub(super) fn check(&mut self, now: Instant, last_read: Instant) -> Silence {
        let Some(pings) = &mut self.pings else {
            return Silence::Until(now + self.interval);
        };
        if let Some(sent) = self.sent {
            let deadline = sent.max(last_read) + self.timeout;
            return if deadline <= now { Silence::Dead } else { Silence::Until(deadline) };
        }
        let due = last_read + self.interval;
        if due > now {
            return Silence::Until(due);
        }
        if pings.send_ping(Ping::opaque()).is_ok() {
            self.sent = Some(now);
            Silence::Pinged
        } else {
            self.pings = None;
            Silence::Until(now + self.interval)
        }
    }
}

/// A timer that is moved forward often and fires seldom: it is set anew only to fire earlier, or
/// once it has fired, so that a busy connection does not touch the timer wheel.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(super) fn new(deadline: Instant) -> Self {
        Timer { sleep: Box::pin(tokio::time::sleep_until(deadline)) }
    }

    /// Sees to it that the timer fires at `deadline` or before.
    pub(super) fn at_latest(&mut self, deadline: Instant) {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// Sets a timer that has fired.
    pub(super) fn set(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
    }

    /// Ready: it fired.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}
