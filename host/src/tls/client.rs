//! What an upstream's endpoints have to show, and what they are shown.

use super::files::{Pair, Reading};
use super::verify::{Endpoints, Trust};
use super::{Ours, current_certificate, provider, versions};
use crate::config::tls::{Authorities, UpstreamTls};
use crate::config::{Protocol, Upstream};
use crate::http::PeerIdentity;
use crate::telemetry::HandshakeResult;
use rustls::client::{ClientConfig, ClientConnection, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Connection, Error};
use std::path::Path;
use std::sync::Arc;

/// Sessions that are remembered to be resumed, of one upstream.
const SESSIONS_MAX: usize = 256;

/// The TLS of an upstream.
#[derive(Debug)]
pub struct Originator {
    name: Arc<str>,
    /// Of everything it was made of.
    inputs: blake3::Hash,
    /// Of what decides which endpoints are believed: connections may be shared by whoever has the same.
    trust: blake3::Hash,
    server_name: ServerName<'static>,
    certificate: Option<Ours>,
    config: Arc<ClientConfig>,
}

impl Originator {
    /// The upstream's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn certificate(&self) -> Option<&Ours> {
        self.certificate.as_ref()
    }

    /// Connections that were made under the same trust are as good as a new one. A certificate of ours
    /// that has changed makes no difference: it counts for new connections.
    pub fn trust(&self) -> blake3::Hash {
        self.trust
    }

    /// A session at its beginning.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn session(&self) -> Result<Connection, Error> {
        let session = ClientConnection::new(self.config.clone(), self.server_name.clone());
        session.map(Connection::Client)
    }

    /// Who the endpoint has proved to be. To be called after a handshake.
    ///
    /// # Errors
    /// The endpoint's certificate was good when the session began that is being resumed, and no
    /// longer is.
    pub fn peer(&self, session: &Connection) -> Result<Option<Arc<PeerIdentity>>, HandshakeResult> {
        let read = current_certificate(session)?;
        Ok(read.map(|read| Arc::new(PeerIdentity::new(read.names, None))))
    }
}

/// The TLS of an upstream: `known`, where nothing has changed. None: it has none, or something is wrong
/// with it, which `reading` knows.
pub(super) fn build(
    reading: &mut Reading<'_>,
    upstream: &Upstream,
    known: Option<&Arc<Originator>>,
) -> Option<Arc<Originator>> {
    let tls = upstream.tls.as_ref()?;
    let files = tls.files();
    let settings = format!("{tls:?} {:?}", upstream.protocol);
    let inputs = reading.fingerprint(&settings, files.iter().map(|path| path.as_path()));
    if let Some(known) = known.filter(|known| known.inputs == inputs) {
        return Some(known.clone());
    }
    let at = format!("upstream.{}.tls", upstream.name);
    let identity = match &tls.identity {
        None => Some(None),
        Some(pair) => reading.pair(&at, pair, "upstream", &upstream.name).map(Some),
    };
    let trust_hash = trust_hash(reading, tls, upstream.protocol);
    let trust = trust(reading, &at, tls);
    let (identity, trust) = (identity?, trust?);
    let (key, ours) = identity.map(|Pair { key, ours, .. }| (key, ours)).unzip();
    let server_name = ServerName::try_from(tls.server_name.clone());
    let built = server_name.map_err(|_| Error::UnsupportedNameType).and_then(|server_name| {
        let config = config(tls.versions, upstream.protocol, trust, key)?;
        Ok((server_name, config))
    });
    match built {
        Ok((server_name, config)) => Some(Arc::new(Originator {
            name: upstream.name.clone(),
            inputs,
            trust: trust_hash,
            server_name,
            certificate: ours,
            config: Arc::new(config),
        })),
        Err(error) => {
            let message = format!("TLS cannot be set up: {error}");
            reading.problem(&at, message, "see to what the message says");
            None
        }
    }
}

fn trust_hash(reading: &mut Reading<'_>, tls: &UpstreamTls, protocol: Protocol) -> blake3::Hash {
    let UpstreamTls { server_name, ca, identity: _, verify_sans, crl, versions } = tls;
    let settings = format!("{server_name:?} {ca:?} {verify_sans:?} {versions:?} {protocol:?}");
    let ca: Option<&Path> = match ca {
        Authorities::System => None,
        Authorities::File(path) => Some(path),
    };
    reading.fingerprint(&settings, [ca, crl.as_deref()].into_iter().flatten())
}

fn trust(reading: &mut Reading<'_>, at: &str, tls: &UpstreamTls) -> Option<Trust> {
    let at_ca = format!("{at}.ca");
    let authorities = match &tls.ca {
        Authorities::System => reading.system_authorities(&at_ca),
        Authorities::File(path) => reading.authorities(&at_ca, path),
    };
    let revoked = match tls.crl.as_deref() {
        None => Some(Vec::new()),
        Some(path) => reading.revoked(&format!("{at}.crl"), path),
    };
    Some(Trust::new(authorities?, revoked?, tls.verify_sans.clone()))
}

fn config(
    spoken: crate::config::tls::TlsVersions,
    protocol: Protocol,
    trust: Trust,
    key: Option<CertifiedKey>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&versions(spoken))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Endpoints(trust)));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    let offered: &[&[u8]] = match protocol {
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[b"h2"],
        Protocol::Auto => &[b"h2", b"http/1.1"],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}
