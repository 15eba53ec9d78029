//! Authorities and what they issue: certificates, keys and lists of revoked ones, made as a test runs.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// One day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Somebody who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as PEM.
    pub pem: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// As PEM.
    pub certificate: String,
    /// As PEM.
    pub key: String,
    der: Vec<u8>,
    serial: SerialNumber,
}

impl Issued {
    /// The certificate as it is shown to peers.
    pub fn der(&self) -> Vec<u8> {
        self.der.clone()
    }
}

/// What is to stand in a certificate.
pub struct Order {
    sans: Vec<SanType>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Order {
    /// For a year, from yesterday on. `names` are addresses where they are some, URIs where they have a
    /// `:`, DNS names otherwise.
    ///
    /// # Panics
    /// When one of them is not ASCII.
    pub fn names(names: &[&str]) -> Order {
        let san = |name: &&str| {
            if let Ok(address) = name.parse() {
                return SanType::IpAddress(address);
            }
            let text = (*name).try_into().expect("names are ASCII");
            if name.contains(':') { SanType::URI(text) } else { SanType::DnsName(text) }
        };
        let now = SystemTime::now();
        let sans = names.iter().map(san).collect();
        Order { sans, not_before: now - DAY, not_after: now + 365 * DAY }
    }

    /// In force until so long from now.
    #[must_use]
    pub fn ends_in(mut self, time: Duration) -> Order {
        self.not_after = SystemTime::now() + time;
        self
    }

    /// Over for an hour.
    #[must_use]
    pub fn expired(mut self) -> Order {
        self.not_after = SystemTime::now() - DAY / 24;
        self
    }

    /// In force in an hour.
    #[must_use]
    pub fn not_yet(mut self) -> Order {
        self.not_before = SystemTime::now() + DAY / 24;
        self
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// Never: nothing about it can be wrong.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("keys can be made");
        let pem = params.self_signed(&key).expect("authorities sign themselves").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, as [`Order::names`] reads them.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.fill(Order::names(names))
    }

    /// A certificate as it was ordered.
    ///
    /// # Panics
    /// Never: what can be ordered can be issued.
    pub fn fill(&self, order: Order) -> Issued {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let serial = SerialNumber::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.distinguished_name.push(DnType::OrganizationName, "Tests, and more");
        params.subject_alt_names = order.sans;
        params.not_before = order.not_before.into();
        params.not_after = order.not_after.into();
        params.serial_number = Some(serial.clone());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("certificates can be signed");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
            serial,
        }
    }

    /// A list that revokes these, as PEM.
    ///
    /// # Panics
    /// Never: what was issued can be revoked.
    pub fn revoke(&self, revoked: &[&Issued]) -> String {
        let now = SystemTime::now();
        let entry = |issued: &&Issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: now.into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("lists can be signed");
        list.pem().expect("lists can be written")
    }
}
