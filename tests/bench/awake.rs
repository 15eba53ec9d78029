//! Load and origin in one thread that never sleeps while there is load, so that no proxy pays for
//! waking them: what is left is the proxy's own work.
//!
//! A client or an origin that waits has to be woken by whoever sends to it, on the sender's time. How
//! often that happens depends on who is faster, and so a proxy beside which the load has time to sleep
//! looks more expensive than it is. Requests and answers are small and known, and looked at whole.

use crate::load::Load;
use crate::measure::placed;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Connections at once, each with one request after the other.
const CONNECTIONS: usize = 32;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
const WORDS: &[u8] = b"hello, hello, hello, hello, hello";
/// As an origin of HTTP/1.1 answers; the date is as long as any other.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\
                        date: Mon, 30 Nov 2026 12:00:00 GMT\r\n\r\n\
                        hello, hello, hello, hello, hello";
/// The mark of the listener among those of connections.
const LISTENER: u64 = u64::MAX;
/// How long the thread sleeps while there is no load, and an origin has to answer a start all the same.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The thread; it ends with this value.
pub(crate) struct Awake {
    /// Where the origin listens.
    pub(crate) origin: SocketAddr,
    orders: Sender<Order>,
}

/// To load this address for so long.
struct Order {
    address: SocketAddr,
    length: Duration,
    done: tokio::sync::oneshot::Sender<Load>,
}

impl Awake {
    /// On the processors that are not the proxies'.
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let origin = listener.local_addr()?;
        let (orders, received) = channel();
        let mut round = Round::new(listener)?;
        placed(false, || {
            std::thread::Builder::new().name("awake".to_owned()).spawn(move || {
                if let Err(error) = round.serve(&received) {
                    eprintln!("the load that never sleeps ended: {error}");
                }
            })
        })?;
        Ok(Awake { origin, orders })
    }

    /// Loads `address` for `length`; nothing comes of it where the thread has ended.
    pub(crate) async fn load(&self, address: SocketAddr, length: Duration) -> Load {
        let nothing = Load { requests: 0, failed: 0, length };
        let (done, answer) = tokio::sync::oneshot::channel();
        if self.orders.send(Order { address, length, done }).is_err() {
            return nothing;
        }
        answer.await.unwrap_or(nothing)
    }
}

/// Every socket, and what it is waited for with.
struct Round {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    requests: u64,
    failed: u64,
}

struct Connection {
    stream: TcpStream,
    side: Side,
    received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Origin,
}

impl Round {
    fn new(listener: TcpListener) -> std::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Round { epoll, listener, connections: Vec::new(), requests: 0, failed: 0 })
    }

    /// Until there is nobody who could order something.
    fn serve(&mut self, orders: &Receiver<Order>) -> std::io::Result<()> {
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    let load = self.load(order.address, order.length)?;
                    // Nobody waits for it where the bench was given up.
                    let _ = order.done.send(load);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => self.turn(IDLE)?,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn load(&mut self, address: SocketAddr, length: Duration) -> std::io::Result<Load> {
        (self.requests, self.failed) = (0, 0);
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(REQUEST)?;
            self.add(stream, Side::Client)?;
        }
        let started = Instant::now();
        while started.elapsed() < length {
            self.turn(AT_ONCE)?;
        }
        let length = started.elapsed();
        for connection in &mut self.connections {
            connection.take_if(|connection| connection.side == Side::Client);
        }
        Ok(Load { requests: self.requests, failed: self.failed, length })
    }

    fn add(&mut self, stream: TcpStream, side: Side) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let free = self.connections.iter().position(Option::is_none);
        let at = free.unwrap_or(self.connections.len());
        if free.is_none() {
            self.connections.push(None);
        }
        epoll::add(&self.epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
        self.connections[at] = Some(Connection { stream, side, received: Vec::new() });
        Ok(())
    }

    /// What is ready.
    fn turn(&mut self, timeout: Timespec) -> std::io::Result<()> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; 2 * CONNECTIONS];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            match event.data.u64() {
                LISTENER => self.accept()?,
                at => self.read(at as usize),
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream, Side::Origin)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what a connection has, and sends what follows a whole message.
    fn read(&mut self, at: usize) {
        let Some(slot) = self.connections.get_mut(at) else { return };
        let Some(connection) = slot else { return };
        let mut piece = [0; 4096];
        let goes_on = match connection.stream.read(&mut piece) {
            Ok(length @ 1..) => {
                connection.received.extend_from_slice(&piece[..length]);
                connection.answer(&mut self.requests, &mut self.failed)
            }
            Ok(0) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        if !goes_on {
            self.failed += u64::from(connection.side == Side::Client);
            *slot = None;
        }
    }
}

impl Connection {
    /// Sends what follows what was received, if that is whole. May the connection go on?
    fn answer(&mut self, requests: &mut u64, failed: &mut u64) -> bool {
        let (whole, next) = match self.side {
            Side::Client => (self.received.ends_with(WORDS), REQUEST),
            Side::Origin => (self.received.ends_with(b"\r\n\r\n"), ANSWER),
        };
        if !whole {
            return self.received.len() <= 64 * 1024;
        }
        if self.side == Side::Client {
            *requests += 1;
            *failed += u64::from(!self.received.starts_with(b"HTTP/1.1 200 "));
        }
        self.received.clear();
        // So few bytes always fit.
        self.stream.write_all(next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_own_origin_answers_its_clients() {
        let awake = Awake::start().unwrap();
        for _ in 0..2 {
            let load = awake.load(awake.origin, Duration::from_millis(50)).await;
            assert!(load.requests > 0);
            assert_eq!(load.failed, 0);
        }
    }

    #[test]
    fn what_the_origin_answers_is_what_a_client_takes_for_whole() {
        assert!(ANSWER.ends_with(WORDS) && ANSWER.starts_with(b"HTTP/1.1 200 "));
        let head = String::from_utf8_lossy(&ANSWER[..ANSWER.len() - WORDS.len()]).into_owned();
        assert!(head.contains(&format!("content-length: {}\r\n", WORDS.len())), "{head}");
    }
}
