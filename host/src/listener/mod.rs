//! From a socket to connections: accepts, bounds their number, and starts a task for each, which begins
//! with a TLS handshake where the listener speaks it (`tls`).
//!
//! Knows no routes and no filters.

mod handshakes;
mod tls;

use self::handshakes::Handshakes;

use crate::clock::Timed;
use crate::io::Stream;
use crate::proxy::downstream::Downstream;
use crate::worker::{Gate, Worker};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Pause after an accept that failed because the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on `socket` until `gate` closes. Connections that are there then go on to their end.
pub async fn run(
    worker: Rc<Worker>,
    name: Arc<str>,
    gate: Rc<Gate>,
    socket: std::net::TcpListener,
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = %name, error = %error, "A listener could not be used.");
            return;
        }
    };
    let handshakes = Rc::<Handshakes>::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.closed() => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                connection(&worker, &name, &gate, &handshakes, socket, peer.ip());
            }
            // The client was gone before its turn came.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(listener = %name, error = %error, "A connection could not be accepted.");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn connection(
    worker: &Rc<Worker>,
    name: &Arc<str>,
    gate: &Rc<Gate>,
    handshakes: &Rc<Handshakes>,
    socket: TcpStream,
    peer: std::net::IpAddr,
) {
    let listener = worker.listener(name);
    let stats = listener.as_ref().map(|listener| listener.stats.clone());
    let shared = worker.shared();
    if shared.connections.fetch_add(1, Relaxed) >= shared.connections_max {
        shared.connections.fetch_sub(1, Relaxed);
        if let Some(stats) = stats {
            stats.connection_refused(worker.index());
        }
        // Dropping the socket closes it.
        return;
    }
    let open = Open { worker: worker.clone(), stats };
    if let Some(stats) = &open.stats {
        stats.connection_accepted(worker.index());
    }
    let counted = worker.connection();
    let (worker, name, gate) = (worker.clone(), name.clone(), gate.clone());
    let mut downstream = Downstream { worker, listener: name, gate, peer, secured: None };
    let Some(listener) = listener.filter(|listener| listener.tls.is_some()) else {
        spawn_local(Timed::new(async move {
            downstream.run(Stream::tcp(socket)).await;
            drop(open);
            drop(counted);
        }));
        return;
    };
    let handshakes = handshakes.clone();
    spawn_local(Timed::new(async move {
        let secured = tls::secure(&listener, &downstream, &handshakes, socket).await;
        // The handshake was of the generation that was in force; requests are of theirs.
        drop(listener);
        if let Some((stream, secured)) = secured {
            downstream.secured = Some(secured);
            downstream.run(stream).await;
        }
        drop(open);
        drop(counted);
    }));
}

/// A connection that counts against `connections_max`.
struct Open {
    worker: Rc<Worker>,
    stats: Option<Arc<crate::telemetry::ListenerStats>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.shared().connections.fetch_sub(1, Relaxed);
        if let Some(stats) = &self.stats {
            stats.connection_closed(self.worker.index());
        }
    }
}
