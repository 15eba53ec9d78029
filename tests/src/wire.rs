//! HTTP/1 byte by byte, for either side: what a test writes goes out exactly as written, and what
//! comes back is read leniently but told exactly, framing and ending included.
//!
//! Not a client: it refuses nothing, and adds nothing.

use crate::wait::within;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The first line and the fields of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Request line or status line.
    pub first: String,
    /// In order, as written.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Is `element` among the comma-separated elements of a field?
    pub fn lists(&self, name: &str, element: &str) -> bool {
        let values = self.all(name);
        values.iter().flat_map(|v| v.split(',')).any(|e| e.trim().eq_ignore_ascii_case(element))
    }
}

/// A whole message, or what there was of it.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its head.
    pub head: Head,
    /// Its body without framing.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// The framing says that nothing is missing.
    pub complete: bool,
}

impl Message {
    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

impl Wire {
    /// A connection to `address`.
    pub async fn connect(address: SocketAddr) -> Wire {
        let stream = within("a connection", TcpStream::connect(address)).await;
        Wire::new(stream.expect("the address accepts connections"))
    }

    /// One that is already there.
    pub fn new(stream: TcpStream) -> Wire {
        // Small writes are meant to arrive as such.
        let _ = stream.set_nodelay(true);
        Wire { stream, buffer: Vec::new() }
    }

    /// Writes all of `bytes`. A peer that has closed is no failure: what it answered tells.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let write = self.stream.write_all(bytes.as_ref());
        let _ = within("room to write", write).await;
    }

    /// Writes as long as the peer takes `bytes`, again and again, at most `times`; tells how many
    /// bytes went out before the peer took no more for `patience`, or closed.
    pub async fn push(&mut self, bytes: &[u8], times: usize, patience: std::time::Duration) -> u64 {
        let mut sent = 0;
        for _ in 0..times {
            match tokio::time::timeout(patience, self.stream.write(bytes)).await {
                Ok(Ok(length)) => sent += length as u64,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sent
    }

    /// Ends the writing half.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Reads until `done` finds what it looks for in what was read; `None` when the peer ended.
    async fn read_until<T>(&mut self, done: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = done(&self.buffer) {
                return Some(found);
            }
            match within("bytes from the peer", self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return done(&self.buffer),
                Ok(_) => {}
            }
        }
    }

    /// The next head; `None` when the peer ended before one was complete.
    pub async fn head(&mut self) -> Option<Head> {
        let length = self.read_until(|bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4)).await?;
        let bytes: Vec<u8> = self.buffer.drain(..length).collect();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        Some(Head { first, fields: lines.filter_map(field).collect() })
    }

    /// Exactly `length` bytes, or as many as there were.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        self.read_until(|bytes| (bytes.len() >= length).then_some(())).await;
        let length = length.min(self.buffer.len());
        self.buffer.drain(..length).collect()
    }

    /// The next line without its end.
    pub async fn line(&mut self) -> Option<String> {
        let end = self.read_until(|bytes| find(bytes, b"\r\n")).await?;
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// The next chunk of a chunked body: empty for the last one, `None` when it is cut short.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(Vec::new());
        }
        let bytes = self.exactly(size).await;
        (bytes.len() == size && self.line().await.is_some_and(|rest| rest.is_empty()))
            .then_some(bytes)
    }

    /// The next request with its body. Nothing: the peer closed.
    pub async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let bodiless =
            head.field("content-length").is_none() && head.field("transfer-encoding").is_none();
        Some(self.body(head, bodiless).await)
    }

    /// The next response to anything but HEAD, interim ones included.
    ///
    /// # Panics
    /// When the peer closes before a head is complete.
    pub async fn response(&mut self) -> Message {
        let head = self.head().await.expect("the peer answers");
        let bodiless = matches!(head.status(), 100..=199 | 204 | 304);
        self.body(head, bodiless).await
    }

    /// The next response to HEAD.
    ///
    /// # Panics
    /// When the peer closes before a head is complete.
    pub async fn response_to_head(&mut self) -> Message {
        let head = self.head().await.expect("the peer answers");
        self.body(head, true).await
    }

    /// The body behind a head, if it has one.
    pub async fn body(&mut self, head: Head, bodiless: bool) -> Message {
        let mut message = Message { head, ..Message::default() };
        if bodiless {
            message.complete = true;
        } else if message.head.lists("transfer-encoding", "chunked") {
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    message.complete = self.trailers(&mut message.trailers).await;
                    break;
                }
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.head.field("content-length") {
            let length = length.parse().expect("a content-length is a number");
            message.body = self.exactly(length).await;
            message.complete = message.body.len() == length;
        } else {
            let (body, ending) = self.rest().await;
            message.body = body;
            message.complete = ending == Ending::Closed;
        }
        message
    }

    async fn trailers(&mut self, into: &mut Vec<(String, String)>) -> bool {
        while let Some(line) = self.line().await {
            if line.is_empty() {
                return true;
            }
            into.extend(field(&line));
        }
        false
    }

    /// Everything until the peer ends, and how it did.
    pub async fn rest(&mut self) -> (Vec<u8>, Ending) {
        let ending = loop {
            match within("the end of the connection", self.stream.read_buf(&mut self.buffer)).await
            {
                Ok(0) => break Ending::Closed,
                Ok(_) => {}
                Err(_) => break Ending::Reset,
            }
        };
        (std::mem::take(&mut self.buffer), ending)
    }

    /// The peer ends without another byte.
    ///
    /// # Panics
    /// When there is another byte.
    pub async fn ended(&mut self) -> Ending {
        let (rest, ending) = self.rest().await;
        assert!(rest.is_empty(), "more came: {}", String::from_utf8_lossy(&rest));
        ending
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
