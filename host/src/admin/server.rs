//! The admin thread: where it listens, and how many connections it has. What is spoken on them is
//! in `connection`.
//!
//! Nothing a client does or leaves undone keeps others from being served.

use super::AdminTarget;
use super::connection::{Connection, Shared};
use super::guard::Peer;
use super::socket::{self, OwnerSocket};
use super::token::Token;
use crate::io::Stream;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections at one time; more are closed at once.
pub const CONNECTIONS_MAX: usize = 64;

/// How long answers that were begun may take once the server is to stop.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to leave accepting alone when it fails, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the admin interface is reached, and what it asks for.
#[derive(Debug, Default)]
pub struct Doors {
    /// A bound socket.
    pub tcp: Option<std::net::TcpListener>,
    /// A Unix socket.
    pub unix: Option<OwnerSocket>,
    /// What most paths ask for, through either door.
    pub token: Option<Token>,
}

/// The admin thread. Dropping it ends the thread, after at most a second.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// The address it listens on; none if there is only a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Serves `target`, on a thread of its own.
pub fn spawn(doors: Doors, target: Arc<dyn AdminTarget>) -> io::Result<Admin> {
    let address = match &doors.tcp {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            Some(listener.local_addr()?)
        }
        None => None,
    };
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let served = serve_thread(runtime, doors, target, stopped);
        if let Err(error) = served {
            tracing::error!(%error, "the admin interface cannot be served");
        }
    })?;
    Ok(Admin { address, stop: Some(stop), thread: Some(thread) })
}

fn serve_thread(
    mut runtime: tokio::runtime::Builder,
    doors: Doors,
    target: Arc<dyn AdminTarget>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = runtime.enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        // An error means the same as what is sent: the handle is gone.
        let shutdown = async { drop(stopped.await) };
        run(doors, target, shutdown).await
    })
}

/// Serves `target` until `shutdown`, then finishes the answers that were begun. Must run on a local
/// runtime.
///
/// # Errors
/// The sockets cannot be used.
///
/// # Cancel safety
///
/// Dropping it closes every connection.
pub async fn run(
    doors: Doors,
    target: Arc<dyn AdminTarget>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Doors { tcp, unix, token } = doors;
    let tcp = tcp.map(TcpListener::from_std).transpose()?;
    // The file is removed at the end.
    let (unix, _file) = unix.map(OwnerSocket::into_parts).unzip();
    let unix = unix.map(UnixListener::from_std).transpose()?;
    let shared = Rc::new(Shared::new(target, token));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        // Cancelled branches lose nothing: accept and join are cancel safe, shutdown is pinned.
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept_tcp(tcp.as_ref()) => accepted,
            accepted = accept_unix(unix.as_ref()) => accepted,
        };
        match accepted {
            Ok((stream, peer)) if open(&mut connections) < CONNECTIONS_MAX => {
                let connection = Connection::new(stream, peer, shared.clone());
                connections.spawn_local(connection.serve(stopping.clone()));
            }
            Ok(_) => tracing::warn!(
                connections_max = CONNECTIONS_MAX,
                "an admin connection was refused: there are too many"
            ),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(%error, "an admin connection was refused");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    stop.send_replace(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is not finished by then is cut off with the set.
    let _ = timeout(STOP_TIMEOUT, finished).await;
    Ok(())
}

/// The next connection through TCP; never one where there is no such door.
async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<(Stream, Peer)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (socket, address) = listener.accept().await?;
    Ok((Stream::tcp(socket), Peer::Address(Some(address))))
}

/// The next connection through the Unix socket, of this user or of root.
async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<(Stream, Peer)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (socket, _) = listener.accept().await?;
    let user = socket.peer_cred()?.uid();
    if !socket::may_ask(user) {
        let message = format!("user {user} is neither this one nor root");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok((Stream::over(socket), Peer::Owner))
}

/// Connections there are; what has ended but was not looked at yet is none.
fn open(connections: &mut JoinSet<()>) -> usize {
    while connections.try_join_next().is_some() {}
    connections.len()
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::Target;
    use super::super::paths::BODY_BYTES_MAX;
    use super::super::rollouts::tests::Rollouts;
    use super::*;
    use crate::rollout::control::UPLOAD_BYTES_MAX;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::Ordering;

    fn serving(target: Target) -> (Admin, Arc<Target>) {
        let target = Arc::new(target);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let doors = Doors { tcp: Some(listener), ..Doors::default() };
        (spawn(doors, target.clone()).unwrap(), target)
    }

    fn address(admin: &Admin) -> SocketAddr {
        admin.address().unwrap()
    }

    fn connected(admin: &Admin) -> TcpStream {
        let stream = TcpStream::connect(address(admin)).unwrap();
        // A hang would otherwise be one of the test runner.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes and reads to the end of the connection.
    fn exchanged(admin: &Admin, sent: &str) -> String {
        let mut stream = connected(admin);
        stream.write_all(sent.as_bytes()).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        received
    }

    /// One request on a connection of its own.
    fn asked(admin: &Admin, line: &str, more: &str) -> String {
        let sent =
            format!("{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}", address(admin));
        exchanged(admin, &sent)
    }

    /// Reads one response with a known body from a connection that stays.
    fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.ends_with(end) {
            stream.read_exact(&mut byte).unwrap();
            text.push(byte[0].into());
        }
        text
    }

    #[test]
    fn a_view_is_served_with_its_head() {
        let (admin, _) = serving(Target::default());
        let response = asked(&admin, "GET /livez", "\r\n");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "live\n");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 200 OK");
        for field in [
            "content-type: text/plain; charset=utf-8",
            "cache-control: no-store",
            "content-length: 5",
            "connection: close",
        ] {
            assert!(lines.contains(&field), "{field}: {head}");
        }
    }

    #[test]
    fn head_has_no_body_and_says_its_length() {
        let (admin, _) = serving(Target::default());
        let response = asked(&admin, "HEAD /livez", "\r\n");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
        assert!(response.contains("content-length: 5\r\n"), "{response}");
    }

    #[test]
    fn a_connection_serves_one_request_after_the_other() {
        let (admin, _) = serving(Target::default());
        let mut stream = connected(&admin);
        for _ in 0..3 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            let response = read_until(&mut stream, "live\n");
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let (admin, _) = serving(Target::default());
        let sent = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n\
                    GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let response = exchanged(&admin, sent);
        let (first, second) = response.split_once("live\n").unwrap();
        assert!(first.starts_with("HTTP/1.1 200") && second.ends_with("ready\n"), "{response}");
    }

    #[test]
    fn reload_and_drain_reach_the_target() {
        let (admin, target) = serving(Target::default());
        let response = asked(&admin, "POST /reload", "content-length: 0\r\n\r\n");
        assert!(response.ends_with("\r\n\r\ngeneration 8\n"), "{response}");
        let response = asked(&admin, "POST /drain", "\r\n");
        assert!(response.starts_with("HTTP/1.1 202 "), "{response}");
        assert_eq!(target.drains.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_refused_reload_shows_its_diagnostics() {
        let diagnostics = vec!["pillion.toml:3:1: unknown key `chian`".to_owned()];
        let (admin, _) = serving(Target { diagnostics, ..Target::default() });
        let response = asked(&admin, "POST /reload", "accept: application/json\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 422 "), "{response}");
        assert!(response.contains("unknown key `chian`"), "{response}");
    }

    #[test]
    fn a_body_is_read_up_to_its_limit() {
        let (admin, _) = serving(Target::default());
        for (length, status) in
            [(BODY_BYTES_MAX - 1, "202"), (BODY_BYTES_MAX, "202"), (BODY_BYTES_MAX + 1, "413")]
        {
            let more = format!("content-length: {length}\r\n\r\n{}", "x".repeat(length));
            let response = asked(&admin, "POST /drain", &more);
            assert_eq!(response.split(' ').nth(1), Some(status), "{length} bytes: {response}");
        }
        let more = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert!(asked(&admin, "POST /drain", more).starts_with("HTTP/1.1 202 "));
        let more = "expect: 100-continue\r\ncontent-length: 1\r\n\r\nx";
        let response = asked(&admin, "POST /drain", more);
        assert!(response.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 "), "{response}");
    }

    #[test]
    fn malformed_requests_are_refused_and_closed() {
        let (admin, target) = serving(Target::default());
        let long = "x".repeat(33 * 1024);
        for (sent, status) in [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
            ("POST /drain HTTP/3.0\r\nhost: localhost\r\n\r\n".to_owned(), "505"),
            (format!("POST /drain HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), "431"),
            (
                "POST /drain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\
                 transfer-encoding: chunked\r\n\r\n"
                    .to_owned(),
                "400",
            ),
        ] {
            let response = exchanged(&admin, &sent);
            assert_eq!(response.split(' ').nth(1), Some(status), "{sent:.80}: {response}");
            assert!(response.contains("connection: close\r\n"), "{response}");
        }
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_name_that_resolves_to_loopback_is_refused() {
        let (admin, target) = serving(Target::default());
        let sent = "POST /drain HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        assert!(exchanged(&admin, sent).starts_with("HTTP/1.1 403 "));
        let response = asked(&admin, "POST /drain", "origin: https://evil.example\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 403 "));
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn connections_over_the_limit_are_closed_at_once() {
        let (admin, _) = serving(Target::default());
        let ask = |stream: &mut TcpStream| {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            read_until(stream, "live\n");
        };
        let mut kept: Vec<TcpStream> = (0..CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = connected(&admin);
                ask(&mut stream);
                stream
            })
            .collect();
        let mut refused = connected(&admin);
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)), "one over the limit");
        ask(&mut kept[0]);
        // The server sees the end of this one before it accepts the next: it closes in answer.
        let freed = kept.pop().unwrap();
        freed.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&freed).read(&mut [0]).unwrap(), 0);
        ask(&mut connected(&admin));
    }

    #[test]
    fn dropping_the_handle_ends_the_thread_in_spite_of_idle_connections() {
        let (admin, target) = serving(Target::default());
        let mut idle = connected(&admin);
        idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        read_until(&mut idle, "live\n");
        drop(admin);
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        assert_eq!(Arc::strong_count(&target), 1);
    }

    /// One upload on a connection of its own, of so many bytes of zeros.
    fn uploaded(admin: &Admin, bytes: usize, framing: Framing) -> String {
        let mut stream = connected(admin);
        let (length, begin, end) = match framing {
            Framing::Length => (format!("content-length: {bytes}"), String::new(), ""),
            Framing::Chunked => {
                ("transfer-encoding: chunked".to_owned(), format!("{bytes:x}\r\n"), "\r\n0\r\n\r\n")
            }
        };
        let head = format!(
            "POST /filters/limit/next HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/wasm\r\n{length}\r\n\r\n{begin}"
        );
        let sending = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            // The server may have answered and closed.
            let body = vec![0; bytes];
            let parts = [head.as_bytes(), &body, end.as_bytes()];
            let _ = parts.iter().try_for_each(|part| (&sending).write_all(part));
        });
        let mut received = Vec::new();
        // A reset after the answer says no more than an end does.
        let _ = stream.read_to_end(&mut received);
        sender.join().unwrap();
        String::from_utf8(received).unwrap()
    }

    #[derive(Clone, Copy)]
    enum Framing {
        Length,
        Chunked,
    }

    #[test]
    fn a_component_is_read_up_to_its_limit() {
        let rollouts = Some(Rollouts::default());
        let (admin, target) = serving(Target { rollouts, ..Target::default() });
        for framing in [Framing::Length, Framing::Chunked] {
            for (bytes, status) in [
                (UPLOAD_BYTES_MAX - 1, "200"),
                (UPLOAD_BYTES_MAX, "200"),
                (UPLOAD_BYTES_MAX + 1, "413"),
            ] {
                let response = uploaded(&admin, bytes, framing);
                assert_eq!(response.split(' ').nth(1), Some(status), "{bytes}: {response}");
                let taken = target.rollouts.as_ref().unwrap().components.lock().unwrap().pop();
                assert_eq!(taken.map(|it| it.len()), (status == "200").then_some(bytes));
            }
        }
    }

    #[test]
    fn a_token_is_asked_for_before_a_body() {
        let rollouts = Some(Rollouts::default());
        let target = Arc::new(Target { rollouts, ..Target::default() });
        let tcp = Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let token = Some(Token::new("correct horse battery"));
        let admin = spawn(Doors { tcp, unix: None, token }, target.clone()).unwrap();
        // Nobody waits for the body that is announced.
        let announced = "content-type: application/wasm\r\nexpect: 100-continue\r\n\
                         content-length: 1000\r\n";
        let line = "POST /filters/limit/next";
        for (token, status) in [
            ("", "401"),
            ("authorization: Bearer correct horse batterx\r\n", "401"),
            ("authorization: Bearer correct horse battery\r\norigin: http://a\r\n", "403"),
        ] {
            let response = asked(&admin, line, &format!("{announced}{token}\r\n"));
            assert_eq!(response.split(' ').nth(1), Some(status), "{token}: {response}");
        }
        assert!(asked(&admin, line, "\r\n").contains("www-authenticate: Bearer\r\n"));
        let more = "authorization: Bearer correct horse battery\r\n\
                    content-type: application/wasm\r\ncontent-length: 4\r\n\r\nwasm";
        let response = asked(&admin, line, more);
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(asked(&admin, "GET /livez", "\r\n").starts_with("HTTP/1.1 200 "));
        let rollouts = target.rollouts.as_ref().unwrap();
        assert_eq!(*rollouts.components.lock().unwrap(), ["wasm"]);
    }

    #[test]
    fn a_unix_socket_is_another_door() {
        let directory = std::env::temp_dir().join(format!("pillion-door-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("admin.sock");
        let target = Arc::new(Target::default());
        let unix = Some(OwnerSocket::bind(&path).unwrap());
        let admin = spawn(Doors { unix, ..Doors::default() }, target).unwrap();
        assert_eq!(admin.address(), None);
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let sent = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(sent).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        assert!(received.ends_with("\r\n\r\nlive\n"), "{received}");
        drop(admin);
        assert!(!path.exists(), "its file goes with it");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
