//! Large bodies, down and up, over a few kept-alive connections.

use crate::measure::placed;
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 10_000_000;
const CONNECTIONS: usize = 4;
const PIECE_BYTES: usize = 64 * 1024;
/// How long a read or a write may stand still.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which way the bodies go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

/// Moves bodies for `length` and as long as the last of them takes; the bytes moved.
pub(crate) async fn run(
    address: SocketAddr,
    way: Way,
    length: Duration,
) -> std::result::Result<u64, String> {
    let work = move || {
        placed(false, || {
            let end = Instant::now() + length;
            let threads: Vec<_> = (0..CONNECTIONS)
                .map(|_| std::thread::spawn(move || one_connection(address, way, end)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|done| done.expect("bodies are moved without a panic")).sum::<Result<u64>>()
        })
    };
    let done = tokio::task::spawn_blocking(work).await.expect("nothing cancels it");
    done.map_err(|error| format!("large bodies to {address}: {error}"))
}

fn one_connection(address: SocketAddr, way: Way, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut piece = vec![b'x'; PIECE_BYTES];
    let mut bytes = 0;
    while Instant::now() < end {
        match way {
            Way::Down => {
                let request = format!("GET /bytes/{BODY_BYTES} HTTP/1.1\r\nhost: app.test\r\n\r\n");
                stream.write_all(request.as_bytes())?;
            }
            Way::Up => {
                let head = format!(
                    "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                let mut left = BODY_BYTES;
                while left > 0 {
                    let length = left.min(piece.len());
                    stream.write_all(&piece[..length])?;
                    left -= length;
                }
            }
        }
        answer(&mut stream, &mut piece)?;
        bytes += BODY_BYTES as u64;
    }
    Ok(bytes)
}

/// Reads a whole answer, which has to be 200 and to say how long it is.
fn answer(stream: &mut TcpStream, piece: &mut [u8]) -> Result<()> {
    let mut head = Vec::new();
    let (end, mut got) = loop {
        let read = stream.read(piece)?;
        head.extend_from_slice(&piece[..read]);
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break (end, head.len() - end - 4);
        }
        if read == 0 || head.len() > 2 * PIECE_BYTES {
            return Err(Error::other("there is no whole head"));
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200 ") {
        let line = text.lines().next().unwrap_or_default().to_owned();
        return Err(Error::other(format!("the answer is `{line}`")));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| Error::other("the answer has no length"))?;
    while got < length {
        match stream.read(piece)? {
            0 => return Err(Error::other("the body is cut off")),
            read => got += read,
        }
    }
    Ok(())
}
