//! The beginning of a connection to an endpoint: the TLS handshake where there is one, and what is
//! spoken from then on.
//!
//! Whom to believe is decided by `crate::tls`.

use super::{LendError, Upstream};
use crate::config::Protocol;
use crate::http::PeerIdentity;
use crate::io::Stream;
use crate::io::tls::{HandshakeError, Tls};
use crate::telemetry::{HandshakeResult, HandshakeVersion};
use crate::tls::{failure_of, success_of, version_of};
use rustls::Connection;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// A stream of a connected socket.
pub(super) struct Begun {
    pub(super) stream: Stream,
    pub(super) spoken: Spoken,
    /// Who the endpoint has proved to be; none without TLS.
    pub(super) identity: Option<Arc<PeerIdentity>>,
}

/// Makes a stream of a connected socket.
pub(super) async fn begin(
    upstream: &Upstream,
    address: SocketAddr,
    socket: TcpStream,
) -> Result<Begun, LendError> {
    let Some(originator) = &upstream.tls else {
        let spoken = match upstream.protocol {
            Protocol::Http2 => Spoken::Http2,
            Protocol::Http1 | Protocol::Auto => Spoken::Http1,
        };
        return Ok(Begun { stream: Stream::tcp(socket), spoken, identity: None });
    };
    let failed = |result: HandshakeResult, version, error: &dyn std::fmt::Display| {
        upstream.stats.handshake(upstream.worker, result, version);
        tracing::debug!(
            upstream = %upstream.name, endpoint = %address, result = result.name(), error = %error,
            "A TLS handshake with an endpoint failed."
        );
        fault_of(result)
    };
    let session = originator.session();
    let session =
        session.map_err(|error| failed(failure_of(&error), HandshakeVersion::None, &error))?;
    let mut tls = Box::new(Tls::new(socket, session));
    let handshake = poll_fn(|cx| tls.poll_handshake(cx));
    let done = tokio::time::timeout(upstream.limits.handshake_timeout, handshake).await;
    let version = version_of(tls.session());
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error @ HandshakeError::Closed)) => {
            return Err(failed(HandshakeResult::Closed, version, &error));
        }
        Ok(Err(HandshakeError::Refused(error))) => {
            return Err(failed(failure_of(&error), version, &error));
        }
        Err(elapsed) => return Err(failed(HandshakeResult::Timeout, version, &elapsed)),
    }
    let identity = originator
        .peer(tls.session())
        .map_err(|result| failed(result, version, &"the certificate of a resumed session"))?;
    let Some(spoken) = spoken(upstream.protocol, tls.session()) else {
        let error = "the endpoint has not agreed to HTTP/2";
        return Err(failed(HandshakeResult::Incompatible, version, &error));
    };
    upstream.stats.handshake(upstream.worker, success_of(tls.session()), version);
    Ok(Begun { stream: Stream::tls(tls), spoken, identity })
}

/// What the endpoint has chosen of what it was offered; without a choice it speaks HTTP/1.1.
fn spoken(protocol: Protocol, session: &Connection) -> Option<Spoken> {
    match (session.alpn_protocol(), protocol) {
        (Some(b"h2"), _) => Some(Spoken::Http2),
        (None, Protocol::Http2) => None,
        _ => Some(Spoken::Http1),
    }
}

fn fault_of(result: HandshakeResult) -> LendError {
    match result {
        HandshakeResult::Timeout => LendError::TimedOut,
        HandshakeResult::Closed => LendError::Handshake,
        HandshakeResult::Alert => LendError::Alert,
        HandshakeResult::Expired
        | HandshakeResult::Revoked
        | HandshakeResult::UnknownAuthority
        | HandshakeResult::WrongName
        | HandshakeResult::BadCertificate
        | HandshakeResult::NoCertificate => LendError::Certificate,
        HandshakeResult::Ok
        | HandshakeResult::Resumed
        | HandshakeResult::CrowdedOut
        | HandshakeResult::PlainHttp
        | HandshakeResult::Incompatible
        | HandshakeResult::Protocol => LendError::Tls,
    }
}
