//! Which certificates of peers are believed: issued by a given authority, in force, for this use, not
//! revoked, and with one of the names that are accepted.
//!
//! The same for clients and endpoints, but for the use and the names. The path to an authority is
//! `webpki`'s matter.

use super::certificate::Certificate;
use super::provider;
use crate::http::{PeerIdentity, PeerPattern};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Whom to believe.
pub(super) struct Trust {
    authorities: RootCertStore,
    revoked: Vec<CertRevocationList<'static>>,
    /// Empty: any name, or that which was asked for.
    accepted: Vec<PeerPattern>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    pub(super) fn new(
        authorities: RootCertStore,
        revoked: Vec<CertRevocationList<'static>>,
        accepted: Vec<PeerPattern>,
    ) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Trust { authorities, revoked, accepted, algorithms }
    }

    /// Does a path lead from the certificate to an authority? A list says what it revokes; where there
    /// is none of an issuer, none of its certificates is revoked.
    fn check_path(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_status_policy(UnknownStatusPolicy::Allow).build());
        let roots = &self.authorities.roots;
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            roots,
            intermediates,
            now,
            usage,
            revocation,
            None,
        );
        path.map(drop).map_err(error_of)
    }

    fn check_names(
        &self,
        certificate: &CertificateDer<'_>,
        refusal: CertificateError,
    ) -> Result<(), Error> {
        let read = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let peer = PeerIdentity::new(read.names, None);
        if self.accepted.iter().any(|pattern| pattern.matches(&peer)) {
            return Ok(());
        }
        Err(refusal.into())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

/// Certificates of endpoints.
#[derive(Debug)]
pub(super) struct Endpoints(pub(super) Trust);

impl ServerCertVerifier for Endpoints {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(error_of)?;
        self.0.check_path(&certificate, intermediates, now, KeyUsage::server_auth())?;
        if self.0.accepted.is_empty() {
            certificate.verify_is_valid_for_subject_name(server_name).map_err(error_of)?;
        } else {
            self.0.check_names(end_entity, CertificateError::NotValidForName)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// Certificates of clients.
#[derive(Debug)]
pub(super) struct Clients {
    trust: Trust,
    required: bool,
    hints: Vec<DistinguishedName>,
}

impl Clients {
    pub(super) fn new(trust: Trust, required: bool) -> Self {
        let hints = trust.authorities.subjects();
        Clients { trust, required, hints }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(error_of)?;
        self.trust.check_path(&certificate, intermediates, now, KeyUsage::client_auth())?;
        if !self.trust.accepted.is_empty() {
            // The client is who it says, and may not come in.
            self.trust.check_names(end_entity, CertificateError::ApplicationVerificationFailure)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// What is wrong with a certificate, in the words from which alerts and results are made.
fn error_of(error: webpki::Error) -> Error {
    let problem = match error {
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity => {
            CertificateError::Expired
        }
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertNotValidForName(_) => CertificateError::NotValidForName,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    problem.into()
}
