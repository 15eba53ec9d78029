//! Requests at a fixed rate, whatever becomes of them: latency counts from the time at which a
//! request was due, so that a proxy that stalls is not spared the requests it kept from being sent.
//!
//! One thread that waits in `ppoll`, to the microsecond: the timers of a runtime are too coarse.

use crate::measure::placed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Requests a second, where latency is measured.
pub(crate) const RATE: u32 = 1_000;
/// Connections that share them.
const CONNECTIONS: usize = 32;
/// How long the answers to the last requests are waited for.
const LINGER: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n";
/// Longest answer that is expected.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What came of it.
pub(crate) struct Paced {
    /// Of each request that was answered with 200.
    pub(crate) latencies_us: Vec<f64>,
    /// Requests that were not.
    pub(crate) failed: usize,
}

/// Sends `rate` requests a second for `length`, from the processors that are not the proxies'.
pub(crate) async fn run(address: SocketAddr, length: Duration, rate: u32) -> Result<Paced, String> {
    let work = move || placed(false, || paced(address, length, rate));
    let done = tokio::task::spawn_blocking(work).await.expect("nothing cancels it");
    done.map_err(|error| format!("requests at a fixed rate to {address}: {error}"))
}

/// One connection, with the request it carries.
struct Connection {
    stream: TcpStream,
    /// When it was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

fn paced(address: SocketAddr, length: Duration, rate: u32) -> std::io::Result<Paced> {
    // Without it the kernel may wake us 50 µs late; it is our own latency that suffers where it fails.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        connections.push(Connection { stream, due: None, answer: Vec::new() });
    }
    let mut free: VecDeque<usize> = (0..CONNECTIONS).collect();
    let total = (length.as_secs_f64() * f64::from(rate)) as u32;
    let begin = Instant::now();
    let due = |number: u32| begin + Duration::from_secs(1) * number / rate;
    let (mut sent, mut paced) = (0, Paced { latencies_us: Vec::new(), failed: 0 });
    let end = begin + length + LINGER;
    while paced.latencies_us.len() + paced.failed < total as usize && Instant::now() < end {
        while sent < total && due(sent) <= Instant::now() {
            let Some(index) = free.pop_front() else { break };
            let connection = &mut connections[index];
            connection.due = Some(due(sent));
            sent += 1;
            // So few bytes always fit; a connection that is gone shows when its answer is read.
            let _ = connection.stream.write_all(REQUEST);
        }
        let next = if sent < total && !free.is_empty() { due(sent) } else { end };
        wait(&connections, next)?;
        for (index, connection) in connections.iter_mut().enumerate() {
            let Some(due) = connection.due else { continue };
            match connection.read() {
                None => continue,
                Some(true) => {
                    paced.latencies_us.push(due.elapsed().as_secs_f64() * 1e6);
                    free.push_back(index);
                }
                // It carries nothing more.
                Some(false) => paced.failed += 1,
            }
            connection.due = None;
        }
    }
    paced.failed = total as usize - paced.latencies_us.len();
    Ok(paced)
}

/// Waits for an answer, but not beyond `next`.
fn wait(connections: &[Connection], next: Instant) -> std::io::Result<()> {
    let busy = connections.iter().filter(|connection| connection.due.is_some());
    let mut waiting: Vec<PollFd<'_>> =
        busy.map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
    let left = next.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(std::io::Error::other)?;
    match poll(&mut waiting, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Connection {
    /// Reads what is there. `Some(true)`: a whole answer, 200. `Some(false)`: anything else.
    fn read(&mut self) -> Option<bool> {
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Some(false),
                Ok(length) => self.answer.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => return Some(false),
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return Some(false);
            }
            if is_whole(&self.answer) {
                let is_ok = self.answer.starts_with(b"HTTP/1.1 200 ");
                self.answer.clear();
                return Some(is_ok);
            }
        }
    }
}

/// Is this a head and as many bytes of body as it says? In chunks: up to the last one.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => answer.len() >= end + 4 + length,
        None => answer.ends_with(b"0\r\n\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte() {
        let whole = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ];
        for answer in whole {
            assert!(is_whole(answer));
            for end in 0..answer.len() {
                assert!(!is_whole(&answer[..end]), "{:?}", String::from_utf8_lossy(&answer[..end]));
            }
        }
    }
}
