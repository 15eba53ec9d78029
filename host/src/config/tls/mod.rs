//! `[listener.tls]` and `[upstream.NAME.tls]`: the model, and what makes it of the file (`read`,
//! `keys`) and a file of it (`dump`).
//!
//! Knows paths, not what is in the files.

mod dump;
pub(super) mod keys;
pub(super) mod read;

use crate::http::PeerPattern;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) use dump::{dump_listener, dump_patterns, dump_upstream};

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is shown to clients that ask for a name none of them has.
    pub certificates: Vec<KeyPair>,
    /// Are clients asked for a certificate?
    pub client_auth: ClientAuth,
    /// Who issues the certificates of clients. There, unless they are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// A client has to have one of these names; none given: any.
    pub client_allow: Vec<PeerPattern>,
    /// Certificates of clients that are revoked.
    pub crl: Option<PathBuf>,
    /// What is spoken.
    pub versions: TlsVersions,
    /// What is offered above it.
    pub alpn: AlpnOffer,
}

/// `[upstream.NAME.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that is asked for, and that the certificate has to have unless there are
    /// `verify_sans`: a host name, or an address.
    pub server_name: String,
    /// Who issues the certificates of the endpoints.
    pub ca: Authorities,
    /// The certificate that we show when asked for one.
    pub identity: Option<KeyPair>,
    /// The certificate has to have one of these names; none given: `server_name`.
    pub verify_sans: Vec<PeerPattern>,
    /// Certificates of endpoints that are revoked.
    pub crl: Option<PathBuf>,
    /// What is spoken.
    pub versions: TlsVersions,
}

/// A certificate chain and its private key, as absolute paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, then those that lead from it to an authority.
    pub certificate: PathBuf,
    /// PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Are clients asked for a certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No.
    None,
    /// Yes; one that has none is let in without an identity.
    Optional,
    /// Yes; one that has none is refused.
    Required,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Those of the system.
    System,
    /// Those in this PEM file.
    File(PathBuf),
}

/// Versions of TLS; at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

/// What a listener offers by ALPN; at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlpnOffer {
    /// `h2`, preferred.
    pub http2: bool,
    /// `http/1.1`.
    pub http1: bool,
}

impl ListenerTls {
    /// Every file it names.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let pairs = self.certificates.iter().flat_map(KeyPair::files);
        pairs.chain(self.client_ca.as_deref()).chain(self.crl.as_deref()).map(owned).collect()
    }
}

impl UpstreamTls {
    /// Every file it names.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let ca = match &self.ca {
            Authorities::System => None,
            Authorities::File(path) => Some(path.as_path()),
        };
        let pair = self.identity.iter().flat_map(KeyPair::files);
        pair.chain(ca).chain(self.crl.as_deref()).map(owned).collect()
    }
}

impl KeyPair {
    fn files(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }
}

fn owned(path: &Path) -> PathBuf {
    path.to_owned()
}
