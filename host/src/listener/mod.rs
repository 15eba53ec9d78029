//! From a socket to connections: accepts, bounds their number, and starts a task for each.
//!
//! Knows no routes and no filters.

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
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.closed() => return,
        };
        match accepted {
            Ok((socket, peer)) => connection(&worker, &name, &gate, socket, peer.ip()),
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
    socket: TcpStream,
    peer: std::net::IpAddr,
) {
    let stats = worker.listener(name).map(|listener| listener.stats.clone());
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
    let downstream =
        Downstream { worker: worker.clone(), listener: name.clone(), gate: gate.clone(), peer };
    spawn_local(async move {
        downstream.run(Stream::tcp(socket)).await;
        drop(open);
        drop(counted);
    });
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
