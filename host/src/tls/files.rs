//! The files of keys and certificates: read once a generation, whole or not at all, and what is wrong
//! with one said at the key that names it.

use super::certificate::Certificate;
use super::{Ours, provider};
use crate::config::tls::KeyPair;
use crate::config::{BoundedReadError, Diagnostic, Loaded, read_bounded};
use crate::telemetry::Metrics;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use webpki::{CertRevocationList, OwnedCertRevocationList};

/// Bytes of a file of certificates or of a key.
pub const CERTIFICATE_FILE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file of lists of revoked certificates.
pub const CRL_FILE_BYTES_MAX: usize = 16 << 20;
/// Certificates that are shown to peers together.
pub const CHAIN_CERTIFICATES_MAX: usize = 16;

/// One pass over the files of a generation.
pub(super) struct Reading<'l> {
    loaded: &'l Loaded,
    metrics: &'l Metrics,
    contents: BTreeMap<PathBuf, Rc<[u8]>>,
    problems: Vec<Diagnostic>,
}

/// A certificate that can be shown.
pub(super) struct Pair {
    pub(super) key: CertifiedKey,
    pub(super) dns: Vec<String>,
    pub(super) ours: Ours,
}

impl<'l> Reading<'l> {
    pub(super) fn new(loaded: &'l Loaded, metrics: &'l Metrics) -> Self {
        Reading { loaded, metrics, contents: BTreeMap::new(), problems: Vec::new() }
    }

    /// What `whole` makes of the hashes of all files that were read, or everything that was wrong.
    pub(super) fn finish<T>(
        self,
        whole: impl FnOnce(BTreeMap<PathBuf, blake3::Hash>) -> T,
    ) -> Result<T, Vec<Diagnostic>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let hashed = self.contents.into_iter().map(|(path, read)| (path, blake3::hash(&read)));
        Ok(whole(hashed.collect()))
    }

    /// Something is wrong with what the key `at` names.
    pub(super) fn problem(&mut self, at: &str, message: String, help: &str) {
        let mut problem = self.loaded.locate(at, message);
        problem.help = Some(help.to_owned());
        self.problems.push(problem);
    }

    /// Settings and what is in the files they name, as one hash. A file that cannot be read counts as
    /// empty here.
    pub(super) fn fingerprint<'f>(
        &mut self,
        settings: &str,
        files: impl IntoIterator<Item = &'f Path>,
    ) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(blake3::hash(settings.as_bytes()).as_bytes());
        for path in files {
            let content = self.content(path, CRL_FILE_BYTES_MAX);
            let content = content.unwrap_or_else(|_| Rc::from(&b""[..]));
            hasher.update(blake3::hash(&content).as_bytes());
        }
        hasher.finalize()
    }

    fn content(&mut self, path: &Path, bytes_max: usize) -> Result<Rc<[u8]>, BoundedReadError> {
        if let Some(content) = self.contents.get(path) {
            return if content.len() > bytes_max {
                Err(BoundedReadError::TooLarge)
            } else {
                Ok(content.clone())
            };
        }
        let content: Rc<[u8]> = read_bounded(path, bytes_max)?.into();
        self.contents.insert(path.to_owned(), content.clone());
        Ok(content)
    }

    fn bytes(&mut self, at: &str, path: &Path, bytes_max: usize) -> Option<Rc<[u8]>> {
        match self.content(path, bytes_max) {
            Ok(content) => Some(content),
            Err(error) => {
                let shown = path.display();
                let (message, help) = match error {
                    BoundedReadError::Io(error) => (
                        format!("cannot read `{shown}`: {error}"),
                        "put the file there, or name another",
                    ),
                    BoundedReadError::TooLarge => (
                        format!("`{shown}` is larger than {bytes_max} bytes"),
                        "leave only what is needed in it",
                    ),
                };
                self.problem(at, message, help);
                None
            }
        }
    }

    /// Every object of one kind in a PEM file; that there is none is a problem.
    fn objects<T: PemObject>(
        &mut self,
        at: &str,
        path: &Path,
        bytes_max: usize,
        noun: &str,
        help: &str,
    ) -> Option<Vec<T>> {
        let bytes = self.bytes(at, path, bytes_max)?;
        let objects: Result<Vec<T>, PemError> = T::pem_slice_iter(&bytes).collect();
        let message = match objects {
            Ok(objects) if !objects.is_empty() => return Some(objects),
            Ok(_) => format!("there is no {noun} in `{}`", path.display()),
            Err(error) => format!("`{}` is no PEM file: {error}", path.display()),
        };
        self.problem(at, message, help);
        None
    }

    /// A certificate and its key, named by the keys `certificate` and `key` of the table `at`, for the
    /// listener or upstream called `owner`.
    pub(super) fn pair(
        &mut self,
        at: &str,
        pair: &KeyPair,
        side: &'static str,
        owner: &str,
    ) -> Option<Pair> {
        let (at_certificate, at_key) = (format!("{at}.certificate"), format!("{at}.key"));
        let chain = self.chain(&at_certificate, &pair.certificate);
        let help = "write it as `BEGIN PRIVATE KEY`, without a password";
        let bytes_max = CERTIFICATE_FILE_BYTES_MAX;
        let keys: Option<Vec<PrivateKeyDer<'static>>> =
            self.objects(&at_key, &pair.key, bytes_max, "private key", help);
        let ((chain, certificate), key) = chain.zip(keys?.into_iter().next())?;
        let key = match CertifiedKey::from_der(chain, key, provider()) {
            Ok(key) => key,
            Err(error) => {
                self.refuse_key(&at_key, pair, &error);
                return None;
            }
        };
        let file = pair.certificate.display().to_string();
        let ours = Ours {
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            uri: certificate.names.uris.first().cloned(),
            stats: self.metrics.certificate(side, owner, &file),
        };
        Some(Pair { key, dns: certificate.names.dns, ours })
    }

    fn refuse_key(&mut self, at: &str, pair: &KeyPair, error: &Error) {
        let (key, certificate) = (pair.key.display(), pair.certificate.display());
        let (message, help) = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
                format!("the key in `{key}` does not belong to the certificate in `{certificate}`"),
                "write both files anew, from one pair",
            ),
            error => (
                format!("the key in `{key}` cannot be used: {error}"),
                "use an ECDSA (P-256, P-384), Ed25519 or RSA key (from 2048 bits)",
            ),
        };
        self.problem(at, message, help);
    }

    /// A certificate and those that lead from it to an authority.
    fn chain(
        &mut self,
        at: &str,
        path: &Path,
    ) -> Option<(Vec<CertificateDer<'static>>, Certificate)> {
        let help = "write it as `BEGIN CERTIFICATE`, the server's own first";
        let bytes_max = CERTIFICATE_FILE_BYTES_MAX;
        let chain: Vec<CertificateDer<'static>> =
            self.objects(at, path, bytes_max, "certificate", help)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            let message = format!(
                "`{}` has {} certificates, and {CHAIN_CERTIFICATES_MAX} is the most",
                path.display(),
                chain.len()
            );
            self.problem(at, message, "leave only those that lead to an authority");
            return None;
        }
        let first = chain.first().and_then(Certificate::read);
        let Some(certificate) = first else {
            let message = format!("the first certificate in `{}` is malformed", path.display());
            self.problem(at, message, help);
            return None;
        };
        Some((chain, certificate))
    }

    /// Authorities out of a file.
    pub(super) fn authorities(&mut self, at: &str, path: &Path) -> Option<RootCertStore> {
        let help = "write the certificates of the authorities as `BEGIN CERTIFICATE`";
        let bytes_max = CERTIFICATE_FILE_BYTES_MAX;
        let found: Vec<CertificateDer<'static>> =
            self.objects(at, path, bytes_max, "certificate", help)?;
        let mut store = RootCertStore::empty();
        for (index, certificate) in found.into_iter().enumerate() {
            if let Err(error) = store.add(certificate) {
                let number = index + 1;
                let message = format!(
                    "certificate {number} in `{}` is no authority: {error}",
                    path.display()
                );
                self.problem(at, message, help);
                return None;
            }
        }
        Some(store)
    }

    /// The authorities of the system.
    pub(super) fn system_authorities(&mut self, at: &str) -> Option<RootCertStore> {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _unusable) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            let reason = found.errors.first().map(|error| format!(": {error}"));
            let message =
                format!("the system has no authorities{}", reason.as_deref().unwrap_or_default());
            self.problem(at, message, "install them (`ca-certificates`), or name a file with `ca`");
            return None;
        }
        Some(store)
    }

    /// Lists of revoked certificates.
    pub(super) fn revoked(
        &mut self,
        at: &str,
        path: &Path,
    ) -> Option<Vec<CertRevocationList<'static>>> {
        let help = "write the lists as `BEGIN X509 CRL`";
        let lists: Vec<CertificateRevocationListDer<'static>> =
            self.objects(at, path, CRL_FILE_BYTES_MAX, "list of revoked certificates", help)?;
        let parsed = lists.iter().map(|list| OwnedCertRevocationList::from_der(list));
        match parsed.collect::<Result<Vec<_>, _>>() {
            Ok(parsed) => Some(parsed.into_iter().map(CertRevocationList::from).collect()),
            Err(error) => {
                let message = format!(
                    "a list of revoked certificates in `{}` is malformed: {error}",
                    path.display()
                );
                self.problem(at, message, help);
                None
            }
        }
    }
}
