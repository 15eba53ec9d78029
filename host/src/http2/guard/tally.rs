//! What a peer did lately, and when it was too much: resets, control frames. Pure counting over
//! frames that `guard` has found; the time comes with each call.

use super::{CONTINUATION, DATA, FrameSeen, HEADERS, PUSH_PROMISE, RST_STREAM, Side};
use crate::http2::{Http2Limits, Violation};
use std::time::Duration;
use tokio::time::Instant;

/// Control frames that each frame of a message, in either direction, accounts for: window updates
/// for the stream and the connection, and the pings of peers that measure round trips.
pub(super) const CONTROL_FRAMES_PER_MESSAGE_FRAME: u32 = 4;

/// What one peer did within the present window of time.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    side: Side,
    window: Duration,
    resets_max: u32,
    ratio_streams: u32,
    control_max: u32,

    window_start: Instant,
    opened: u32,
    resets: u32,
    /// Control frames not yet accounted for by frames of messages.
    control: u32,
    /// Control frames that frames of messages still account for.
    credit: u32,
    /// Highest stream the peer opened, over all windows.
    last_stream: u32,
}

impl Tally {
    pub(super) fn new(side: Side, limits: &Http2Limits, now: Instant) -> Self {
        Tally {
            side,
            window: limits.reset_window,
            resets_max: limits.resets,
            ratio_streams: limits.reset_ratio_streams,
            control_max: limits.control_frames,
            window_start: now,
            opened: 0,
            resets: 0,
            control: 0,
            credit: 0,
            last_stream: 0,
        }
    }

    pub(super) fn inbound(&mut self, frame: FrameSeen, now: Instant) -> Result<(), Violation> {
        if now.duration_since(self.window_start) >= self.window {
            self.window_start = now;
            self.opened = 0;
            self.resets = 0;
            self.control = 0;
            self.credit = 0;
        }
        match (frame.kind, self.side) {
            (DATA, _) => self.message_frame(),
            (HEADERS, Side::Server) => {
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.opened += 1;
                }
                self.message_frame();
            }
            // A server may answer with any number of interim heads; our own heads pay for them.
            (HEADERS, Side::Client) => return self.control_frame(),
            (RST_STREAM, Side::Server) => return self.reset(),
            // Resets by a server cost us nothing that we did not ask for. The crate above bounds
            // header blocks.
            (RST_STREAM, Side::Client) | (PUSH_PROMISE | CONTINUATION, _) => {}
            _ => return self.control_frame(),
        }
        Ok(())
    }

    pub(super) fn outbound(&mut self, frame: FrameSeen, rejects: bool) -> Result<(), Violation> {
        match frame.kind {
            DATA | HEADERS => self.message_frame(),
            // A peer that makes us reset its streams costs what one does that resets them itself.
            RST_STREAM if rejects && self.side == Side::Server => return self.reset(),
            _ => {}
        }
        Ok(())
    }

    fn message_frame(&mut self) {
        self.credit = self.credit.saturating_add(CONTROL_FRAMES_PER_MESSAGE_FRAME);
    }

    fn control_frame(&mut self) -> Result<(), Violation> {
        if self.credit > 0 {
            self.credit -= 1;
            return Ok(());
        }
        self.control = self.control.saturating_add(1);
        if self.control > self.control_max { Err(Violation::ControlFrames) } else { Ok(()) }
    }

    fn reset(&mut self) -> Result<(), Violation> {
        self.resets = self.resets.saturating_add(1);
        if self.resets > self.resets_max {
            Err(Violation::Resets)
        } else if self.opened > self.ratio_streams && self.resets > self.opened / 2 {
            Err(Violation::ResetRatio)
        } else {
            Ok(())
        }
    }
}
