//! HTTP/2 frame by frame, for either side: what a test writes goes out exactly as written, and no
//! window, setting or order is kept unless the test keeps it.
//!
//! Not an implementation: header blocks are written from the static table and never decoded.

use crate::wire::{Ending, Wire};
use std::net::SocketAddr;

/// What a client sends before its first frame (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const PRIORITY: u8 = 2;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PUSH_PROMISE: u8 = 5;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// A flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// A flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// A flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;

/// A setting: how much a stream may send before it is told to go on.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// An error code.
pub const NO_ERROR: u32 = 0;
/// See [`NO_ERROR`].
pub const PROTOCOL_ERROR: u32 = 1;
/// See [`NO_ERROR`].
pub const INTERNAL_ERROR: u32 = 2;
/// See [`NO_ERROR`].
pub const FLOW_CONTROL_ERROR: u32 = 3;
/// See [`NO_ERROR`].
pub const REFUSED_STREAM: u32 = 7;
/// See [`NO_ERROR`].
pub const CANCEL: u32 = 8;
/// See [`NO_ERROR`].
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://a/` as a header block.
pub const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x01, b'a'];
/// `POST http://a/` as a header block.
pub const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 0x01, b'a'];
/// `:status: 200` as a header block.
pub const OK: &[u8] = &[0x88];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// [`DATA`] and so on.
    pub kind: u8,
    /// [`END_STREAM`] and so on.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
    /// All behind the first nine bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame to send.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
        Frame { kind, flags, stream, payload: payload.to_vec() }
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("payloads are small");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The error code of a RST_STREAM or GOAWAY, the increment of a WINDOW_UPDATE.
    pub fn number(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        number(&self.payload[at..at + 4])
    }
}

/// One connection.
pub struct Frames {
    wire: Wire,
}

impl Frames {
    /// A client's connection whose preface has these settings.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Frames {
        let mut wire = Wire::connect(address).await;
        wire.send([PREFACE, &settings_frame(settings)].concat()).await;
        Frames { wire }
    }

    /// A server's connection with these settings, once the client's preface has come.
    pub async fn accept(mut wire: Wire, settings: &[(u16, u32)]) -> Frames {
        wire.send(settings_frame(settings)).await;
        assert_eq!(wire.exactly(PREFACE.len()).await, PREFACE);
        Frames { wire }
    }

    /// Sends a frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(Frame::new(kind, flags, stream, payload).bytes()).await;
    }

    /// Sends several at once.
    pub async fn send_all(&mut self, frames: &[Frame]) {
        self.wire.send(frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).await;
    }

    /// Sends bytes that need not be frames.
    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).await;
    }

    /// The connection itself.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// The next frame. None: the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let head = self.wire.exactly(9).await;
        let [high, middle, low, kind, flags, stream @ ..] = &head[..] else { return None };
        let length = number(&[0, *high, *middle, *low]) as usize;
        let payload = self.wire.exactly(length).await;
        let frame = Frame { kind: *kind, flags: *flags, stream: number(stream), payload };
        (frame.payload.len() == length).then_some(frame)
    }

    /// The next frame that `wanted` accepts; what comes before it is dropped.
    ///
    /// # Panics
    /// When the connection ends before it.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut passed = Vec::new();
        while let Some(frame) = self.next().await {
            if wanted(&frame) {
                return frame;
            }
            passed.push((frame.kind, frame.stream, frame.payload.len()));
        }
        panic!("the connection ended after frames of these types, streams, lengths: {passed:?}");
    }

    /// The peer's settings, which are agreed to: they hold from here on.
    ///
    /// # Panics
    /// When the connection ends before they come.
    pub async fn agree(&mut self) -> Frame {
        let settings = self.until(|it| it.kind == SETTINGS && it.flags & ACK == 0).await;
        self.send(SETTINGS, ACK, 0, &[]).await;
        settings
    }

    /// Everything that came until the peer has answered a PING, and so has seen what was sent.
    ///
    /// # Panics
    /// When the connection ends before that.
    pub async fn settled(&mut self) -> Vec<Frame> {
        self.send(PING, 0, 0, b"settled?").await;
        let mut passed = Vec::new();
        while let Some(frame) = self.next().await {
            if (frame.kind, frame.flags) == (PING, ACK) && frame.payload == b"settled?" {
                return passed;
            }
            passed.push(frame);
        }
        panic!("the connection ended in place of an answer to a ping: {passed:?}");
    }

    /// The error code of the peer's last GOAWAY, at the end of the connection.
    pub async fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.number());
            }
        }
        code
    }

    /// Reads to the end of the connection, and tells how it ended.
    pub async fn ended(mut self) -> Ending {
        self.wire.rest().await.1
    }
}

fn settings_frame(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    Frame::new(SETTINGS, 0, 0, &payload).bytes()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes were taken"))
}
