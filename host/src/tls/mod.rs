//! TLS of one generation: made from the files that the configuration names, or refused with what is
//! wrong with them. `server` is what listeners show and ask for, `client` what upstreams do, `verify`
//! whom both believe, `expiry` when our certificates end.
//!
//! Knows no sockets: `io::tls` drives the sessions that are begun here.

mod certificate;
mod client;
mod der;
mod expiry;
mod files;
mod server;
#[cfg(test)]
mod tests;
mod verify;

pub use client::Originator;
pub use expiry::{Expiry, Urgency};
pub use files::{CERTIFICATE_FILE_BYTES_MAX, CHAIN_CERTIFICATES_MAX, CRL_FILE_BYTES_MAX};
pub use server::Terminator;

use crate::config::{Diagnostic, Loaded};
use crate::telemetry::{CertificateStats, HandshakeResult, HandshakeVersion, Metrics};
use certificate::Certificate;
use files::Reading;
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, Connection, Error, ProtocolVersion, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// What a generation needs to speak TLS. Empty where it does not.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// In the order of `config.listeners`.
    listeners: Vec<Option<Arc<Terminator>>>,
    /// In the order of `config.upstreams`.
    upstreams: Vec<Option<Arc<Originator>>>,
    /// What was in the files when they were read.
    read: BTreeMap<PathBuf, blake3::Hash>,
}

impl Tls {
    /// Reads every file that is named. What is the same as in the generation `running` is taken over
    /// from it, and with it what makes clients and endpoints resume their sessions.
    ///
    /// # Errors
    /// Everything that keeps a file from being used.
    pub fn build(
        loaded: &Loaded,
        running: Option<&Tls>,
        metrics: &Metrics,
    ) -> Result<Tls, Vec<Diagnostic>> {
        let none = Tls::default();
        let running = running.unwrap_or(&none);
        let mut reading = Reading::new(loaded, metrics);
        let listeners = loaded.config.listeners.iter().enumerate().map(|(index, listener)| {
            let mut known = running.listeners.iter().flatten();
            let known = known.find(|known| *known.name() == *listener.name);
            server::build(&mut reading, index, listener, known)
        });
        let listeners = listeners.collect();
        let upstreams = loaded.config.upstreams.iter().map(|upstream| {
            let mut known = running.upstreams.iter().flatten();
            let known = known.find(|known| *known.name() == *upstream.name);
            client::build(&mut reading, upstream, known)
        });
        let upstreams = upstreams.collect();
        reading.finish(|read| Tls { listeners, upstreams, read })
    }

    /// Of the listener with this index.
    pub fn listener(&self, index: usize) -> Option<&Arc<Terminator>> {
        self.listeners.get(index)?.as_ref()
    }

    /// Of the upstream with this index.
    pub fn upstream(&self, index: usize) -> Option<&Arc<Originator>> {
        self.upstreams.get(index)?.as_ref()
    }

    /// Every file it was made of, and the hash of what was in it.
    pub fn files_read(&self) -> &BTreeMap<PathBuf, blake3::Hash> {
        &self.read
    }

    /// To be called when the generation is published: metrics show the certificates that are in force.
    pub fn published(&self) {
        for ours in self.certificates() {
            ours.stats.set_not_after(ours.not_after);
        }
    }

    /// Every certificate that is shown to peers.
    fn certificates(&self) -> impl Iterator<Item = &Ours> {
        let shown = self.listeners.iter().flatten().flat_map(|it| it.certificates());
        shown.chain(self.upstreams.iter().flatten().filter_map(|it| it.certificate()))
    }
}

/// A certificate of ours.
#[derive(Clone, Debug)]
struct Ours {
    not_before: i64,
    not_after: i64,
    /// Its first name that is a URI.
    uri: Option<String>,
    stats: Arc<CertificateStats>,
}

/// The cryptography of all sessions.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}

fn versions(versions: crate::config::tls::TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let known =
        [(versions.tls13, &rustls::version::TLS13), (versions.tls12, &rustls::version::TLS12)];
    known.into_iter().filter(|(is_spoken, _)| *is_spoken).map(|(_, version)| version).collect()
}

/// What a session agreed on.
pub fn version_of(session: &Connection) -> HandshakeVersion {
    match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => HandshakeVersion::Tls12,
        Some(ProtocolVersion::TLSv1_3) => HandshakeVersion::Tls13,
        _ => HandshakeVersion::None,
    }
}

/// How a handshake ended that came to its end.
pub fn success_of(session: &Connection) -> HandshakeResult {
    match session.handshake_kind() {
        Some(rustls::HandshakeKind::Resumed) => HandshakeResult::Resumed,
        _ => HandshakeResult::Ok,
    }
}

/// What stands in the certificate that the peer of a session has shown; none: it has shown none.
///
/// # Errors
/// It does not hold now: a session that is resumed was begun when it did.
fn current_certificate(session: &Connection) -> Result<Option<Certificate>, HandshakeResult> {
    let Some(shown) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let read = Certificate::read(shown).ok_or(HandshakeResult::BadCertificate)?;
    let now = expiry::seconds(SystemTime::now());
    if (read.not_before..=read.not_after).contains(&now) {
        Ok(Some(read))
    } else {
        Err(HandshakeResult::Expired)
    }
}

/// The class of what a session failed with.
pub fn failure_of(error: &Error) -> HandshakeResult {
    match error {
        Error::NoCertificatesPresented => HandshakeResult::NoCertificate,
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::NotValidYet => HandshakeResult::Expired,
            CertificateError::Revoked => HandshakeResult::Revoked,
            CertificateError::UnknownIssuer => HandshakeResult::UnknownAuthority,
            CertificateError::NotValidForName
            | CertificateError::ApplicationVerificationFailure => HandshakeResult::WrongName,
            _ => HandshakeResult::BadCertificate,
        },
        Error::AlertReceived(_) => HandshakeResult::Alert,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeResult::Incompatible,
        _ => HandshakeResult::Protocol,
    }
}
