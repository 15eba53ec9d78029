//! The limits of an HTTP/2 connection, with their names, units and defaults. One value serves both
//! sides; a field that concerns one side says so. Where they are enforced is told beside each.

use std::time::Duration;

/// Limits of one HTTP/2 connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Streams open at a time; further ones are refused with `REFUSED_STREAM`, and we open no more
    /// than these upstream. Default 100.
    pub streams: u32,
    /// Bytes a peer may send on a stream before we have handed them on. Default 64 KiB.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together. Default 1 MiB.
    pub connection_window_bytes: u32,
    /// Bytes of a body waiting below [`BodyWriter`](super::BodyWriter), a stream. Default 64 KiB.
    pub send_buffer_bytes: usize,
    /// Size of a header list as RFC 9113 section 6.5.2 counts it: 32 bytes a field beside its name
    /// and value. A longer request list is answered with 431, a longer response list is an error;
    /// a list many times as long ends the connection. The peer is told twice this number, so that
    /// a list somewhat too long is still read and reported as what it is. Default 32 KiB.
    pub header_list_bytes: u32,
    /// Field lines in a head; more are answered with 431. Default 100.
    pub fields: usize,
    /// Bytes of a request's path and query; more are answered with 414. Default 8 KiB.
    pub target_bytes: usize,
    /// Bytes of a trailer section: names, values and four bytes a line. Default 8 KiB.
    pub trailer_bytes: usize,
    /// Lines of a trailer section. Default 32.
    pub trailer_fields: usize,

    /// Downstream: until the client's connection preface is complete, its settings included.
    /// Default 5 s.
    pub preface_timeout: Duration,
    /// From the first byte of a header block to its last. Default 5 s.
    pub header_block_timeout: Duration,

    /// Downstream: streams reset within `reset_window`, by the client or because of its errors;
    /// more end the connection. Default 200.
    pub resets: u32,
    /// Downstream: of more streams than these opened within `reset_window`, at most half may be
    /// reset. Default 100.
    pub reset_ratio_streams: u32,
    /// Period in which resets and control frames are counted. Default 30 s.
    pub reset_window: Duration,
    /// Downstream: streams reset before they were accepted and not yet taken. Default 20.
    pub pending_resets: usize,
    /// Streams we reset because of errors of the peer, over the life of a connection. Default 1,024.
    pub error_resets: usize,
    /// Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones) within `reset_window`
    /// beyond four for each frame of a message in either direction. Default 1,000.
    pub control_frames: u32,
    /// What body frames under 256 bytes may cost while they wait for their reader: 256 bytes each,
    /// less their length. Default 1 MiB.
    pub small_frames_bytes: usize,

    /// A PING is sent when nothing was read for so long. Default 30 s.
    pub ping_interval: Duration,
    /// The connection ends when nothing was read for so long after a PING. Default 20 s.
    pub ping_timeout: Duration,
    /// Downstream: a connection without streams gets a GOAWAY after so long. Default 60 s.
    pub downstream_idle: Duration,
    /// Upstream: the same. Default 4 s, below the idle timeouts of common servers.
    pub upstream_idle: Duration,
    /// Downstream: requests on a connection until it gets a GOAWAY. Default 10,000.
    pub requests: u64,
    /// Downstream: age of a connection at which it gets a GOAWAY. Default 1 h.
    pub lifetime: Duration,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Http2Limits {
            streams: 100,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 1024 * 1024,
            send_buffer_bytes: 64 * 1024,
            header_list_bytes: 32 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
            trailer_bytes: 8 * 1024,
            trailer_fields: 32,
            preface_timeout: Duration::from_secs(5),
            header_block_timeout: Duration::from_secs(5),
            resets: 200,
            reset_ratio_streams: 100,
            reset_window: Duration::from_secs(30),
            pending_resets: 20,
            error_resets: 1024,
            control_frames: 1000,
            small_frames_bytes: 1024 * 1024,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            downstream_idle: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(4),
            requests: 10_000,
            lifetime: Duration::from_secs(3600),
        }
    }
}

impl Http2Limits {
    /// What goes into SETTINGS for `header_list_bytes`. Lists of this size and more do not reach
    /// `head`.
    pub(super) fn header_list_setting(&self) -> u32 {
        self.header_list_bytes.saturating_mul(2)
    }
}
