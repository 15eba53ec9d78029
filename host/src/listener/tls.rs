//! The TLS handshake of a downstream connection: bounded in time and number, and counted by its result.
//!
//! Whom to let in is decided by `crate::tls`; what is spoken afterwards is not looked at here.

use super::handshakes::Handshakes;
use crate::http1::Opening;
use crate::io::Stream;
use crate::io::tls::{HandshakeError, Tls};
use crate::proxy::downstream::{Downstream, Secured};
use crate::proxy::route::Listener;
use crate::telemetry::{HandshakeResult, HandshakeVersion};
use crate::tls::{Terminator, failure_of, success_of, version_of};
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes that are still read from a client that was refused, so that it can read why.
const LAST_BYTES_MAX: usize = 64 * 1024;

/// What a client gets that speaks HTTP without TLS. Nothing it has sent is looked at further.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n\r\n\
    This port speaks TLS: use https.\r\n";

/// Why there is no connection.
struct Refused {
    result: HandshakeResult,
    version: HandshakeVersion,
    reason: Option<rustls::Error>,
}

impl From<HandshakeResult> for Refused {
    fn from(result: HandshakeResult) -> Self {
        Refused { result, version: HandshakeVersion::None, reason: None }
    }
}

/// Carries out the handshake. None: the connection is to be closed, which is counted.
pub(super) async fn secure(
    listener: &Listener,
    downstream: &Downstream,
    handshakes: &Handshakes,
    socket: TcpStream,
) -> Option<(Stream, Secured)> {
    let terminator = listener.tls.as_ref()?;
    let handshake = handshakes.begin(listener.limits.handshakes_max);
    let worker = downstream.worker.index();
    // Whichever branch is cancelled, the connection goes with it.
    let secured = tokio::select! {
        secured = within_session(terminator, socket) => secured,
        () = tokio::time::sleep(listener.limits.handshake_timeout) => {
            Err(HandshakeResult::Timeout.into())
        }
        () = handshake.crowded_out() => Err(HandshakeResult::CrowdedOut.into()),
        () = downstream.gate.closed() => Err(HandshakeResult::Closed.into()),
    };
    match secured {
        Ok((tls, secured)) => {
            let (result, version) = (success_of(tls.session()), version_of(tls.session()));
            listener.stats.handshake(worker, result, version);
            Some((Stream::tls(tls), secured))
        }
        Err(Refused { result, version, reason }) => {
            listener.stats.handshake(worker, result, version);
            tracing::debug!(
                listener = %listener.name, client = %downstream.peer, result = result.name(),
                reason = reason.map(|reason| reason.to_string()),
                "A TLS handshake failed."
            );
            None
        }
    }
}

async fn within_session(
    terminator: &Terminator,
    mut socket: TcpStream,
) -> Result<(Box<Tls>, Secured), Refused> {
    // Nothing is set up for a client that says nothing.
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(HandshakeResult::Closed.into()),
        // The first letter of a method; a handshake begins with 22.
        Ok(_) if first[0].is_ascii_uppercase() => {
            if socket.write_all(PLAIN_HTTP).await.is_ok() {
                last_bytes(&mut socket).await;
            }
            return Err(HandshakeResult::PlainHttp.into());
        }
        Ok(_) => {}
    }
    let session = terminator.session().map_err(refused)?;
    let mut tls = Box::new(Tls::new(socket, session));
    let done = poll_fn(|cx| tls.poll_handshake(cx)).await;
    let version = version_of(tls.session());
    match done {
        Ok(()) => {}
        Err(HandshakeError::Closed) => {
            return Err(Refused { version, ..HandshakeResult::Closed.into() });
        }
        Err(HandshakeError::Refused(error)) => {
            // The alert is on its way.
            last_bytes(tls.socket_mut()).await;
            return Err(Refused { version, ..refused(error) });
        }
    }
    let protocol = tls.session().alpn_protocol().map(|protocol| match protocol {
        b"h2" => Opening::Http2,
        _ => Opening::Http1,
    });
    match terminator.peer(tls.session()) {
        Ok(peer) => Ok((tls, Secured { peer, protocol })),
        Err(result) => Err(Refused { version, ..result.into() }),
    }
}

fn refused(error: rustls::Error) -> Refused {
    Refused { reason: Some(error.clone()), ..failure_of(&error).into() }
}

/// Closes in an order that lets the client read what was written last. Ends with the handshake's time
/// at the latest.
async fn last_bytes(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    let mut left = LAST_BYTES_MAX;
    // A connection that cannot be shut down is closed already.
    let _ = socket.shutdown().await;
    while let Ok(read @ 1..) = socket.read(&mut rest).await {
        let Some(fewer) = left.checked_sub(read) else { return };
        left = fewer;
    }
}
