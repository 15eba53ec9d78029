//! What a listener shows to its clients, and what it asks of them.

use super::files::{Pair, Reading};
use super::verify::{Clients, Trust};
use super::{Ours, current_certificate, provider, versions};
use crate::config::Listener;
use crate::config::tls::{ClientAuth, ListenerTls};
use crate::http::PeerIdentity;
use crate::telemetry::HandshakeResult;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
    ServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{Connection, Error};
use std::path::Path;
use std::sync::Arc;

/// The TLS of a listener.
#[derive(Debug)]
pub struct Terminator {
    name: Arc<str>,
    /// Of everything it was made of.
    inputs: blake3::Hash,
    /// Of what decides which clients are let in: as long as it is the same, a client may resume a
    /// session, since that skips looking at its certificate.
    trust: blake3::Hash,
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

/// Which certificate is shown to whom.
#[derive(Debug)]
struct Certificates(Vec<Shown>);

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// In lower case.
    dns: Vec<String>,
    ours: Ours,
}

impl Terminator {
    /// The listener's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = &Ours> {
        self.certificates.0.iter().map(|shown| &shown.ours)
    }

    /// A session at its beginning.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn session(&self) -> Result<Connection, Error> {
        ServerConnection::new(self.config.clone()).map(Connection::Server)
    }

    /// Who the client of a session is, after the handshake; none: it has shown no certificate.
    ///
    /// # Errors
    /// A certificate that was good when the session began that is being resumed, and no longer is.
    pub fn peer(&self, session: &Connection) -> Result<Option<Arc<PeerIdentity>>, HandshakeResult> {
        let Some(read) = current_certificate(session)? else { return Ok(None) };
        let asked_for = match session {
            Connection::Server(session) => session.server_name(),
            Connection::Client(_) => None,
        };
        let ours = self.certificates.choose(asked_for).and_then(|shown| shown.ours.uri.as_deref());
        Ok(Some(Arc::new(PeerIdentity::new(read.names, ours))))
    }
}

impl Certificates {
    /// The first one that has the name, else the first one that has it by a wildcard, else the first.
    fn choose(&self, name: Option<&str>) -> Option<&Shown> {
        let name = name.map(str::to_ascii_lowercase);
        let named = name.as_deref().and_then(|name| {
            let exact = self.0.iter().find(|shown| shown.dns.iter().any(|dns| dns == name));
            exact.or_else(|| {
                let (_, domain) = name.split_once('.')?;
                let covers = |dns: &String| dns.strip_prefix("*.") == Some(domain);
                self.0.iter().find(|shown| shown.dns.iter().any(covers))
            })
        });
        named.or(self.0.first())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(client_hello.server_name()).map(|shown| shown.key.clone())
    }
}

/// The TLS of the listener with this index: `known`, where nothing has changed. None: it has none, or
/// something is wrong with it, which `reading` knows.
pub(super) fn build(
    reading: &mut Reading<'_>,
    index: usize,
    listener: &Listener,
    known: Option<&Arc<Terminator>>,
) -> Option<Arc<Terminator>> {
    let tls = listener.tls.as_ref()?;
    let files = tls.files();
    let inputs = reading.fingerprint(&format!("{tls:?}"), files.iter().map(|path| path.as_path()));
    if let Some(known) = known.filter(|known| known.inputs == inputs) {
        return Some(known.clone());
    }
    let at = format!("listener[{index}].tls");
    let certificates = certificates(reading, &at, &listener.name, tls);
    let clients = match tls.client_auth {
        ClientAuth::None => Some(None),
        ClientAuth::Optional | ClientAuth::Required => clients(reading, &at, tls).map(Some),
    };
    let settings = format!("{:?} {:?}", tls.client_auth, tls.client_allow);
    let files: [Option<&Path>; 2] = [tls.client_ca.as_deref(), tls.crl.as_deref()];
    let trust = reading.fingerprint(&settings, files.into_iter().flatten());
    let tickets = known.filter(|known| known.trust == trust).map(|it| it.config.ticketer.clone());
    let certificates = Arc::new(certificates?);
    match config(tls, certificates.clone(), clients?, tickets) {
        Ok(config) => {
            let (name, config) = (listener.name.clone(), Arc::new(config));
            Some(Arc::new(Terminator { name, inputs, trust, certificates, config }))
        }
        Err(error) => {
            let message = format!("TLS cannot be set up: {error}");
            reading.problem(&at, message, "see to what the message says");
            None
        }
    }
}

fn certificates(
    reading: &mut Reading<'_>,
    at: &str,
    listener: &str,
    tls: &ListenerTls,
) -> Option<Certificates> {
    let shown = tls.certificates.iter().enumerate().map(|(index, pair)| {
        let at = format!("{at}.certificates[{index}]");
        let Pair { key, mut dns, ours } = reading.pair(&at, pair, "listener", listener)?;
        dns.iter_mut().for_each(|name| name.make_ascii_lowercase());
        Some(Shown { key: Arc::new(key), dns, ours })
    });
    // Every one of them is looked at before it is said that one is missing.
    let shown: Vec<Option<Shown>> = shown.collect();
    shown.into_iter().collect::<Option<_>>().map(Certificates)
}

fn clients(reading: &mut Reading<'_>, at: &str, tls: &ListenerTls) -> Option<Clients> {
    let path = tls.client_ca.as_deref()?;
    let authorities = reading.authorities(&format!("{at}.client_ca"), path);
    let revoked = match tls.crl.as_deref() {
        None => Some(Vec::new()),
        Some(path) => reading.revoked(&format!("{at}.crl"), path),
    };
    let trust = Trust::new(authorities?, revoked?, tls.client_allow.clone());
    Some(Clients::new(trust, tls.client_auth == ClientAuth::Required))
}

fn config(
    tls: &ListenerTls,
    certificates: Arc<Certificates>,
    clients: Option<Clients>,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&versions(tls.versions))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    let offers: [(bool, &[u8]); 2] = [(tls.alpn.http2, b"h2"), (tls.alpn.http1, b"http/1.1")];
    let offered = offers.into_iter().filter(|(is_offered, _)| *is_offered);
    config.alpn_protocols = offered.map(|(_, name)| name.to_vec()).collect();
    // Sessions are kept by clients, sealed; nothing of them is kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match tickets {
        Some(tickets) => tickets,
        None => rustls::crypto::ring::Ticketer::new()?,
    };
    Ok(config)
}
