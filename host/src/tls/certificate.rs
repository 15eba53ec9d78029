//! What stands in a certificate: when it holds, and the names of its owner.
//!
//! Whether it is to be believed is the matter of `verify`.

use super::der::{CONTEXT_0, Der, OID, SEQUENCE, SET};
use crate::http::PeerNames;
use rustls::pki_types::CertificateDer;
use std::fmt::Write;

/// What stands in a certificate.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970; it holds to the end of this one.
    pub(super) not_after: i64,
    /// Of the owner.
    pub(super) names: PeerNames,
}

impl Certificate {
    /// Reads a certificate. None: it is none.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let parsed = webpki::EndEntityCert::try_from(der).ok()?;
        // RFC 5280 section 4.1: version, serial number, algorithm, issuer, validity, subject.
        let mut outer = Der::new(Der::new(der).expect(SEQUENCE)?);
        let mut inner = Der::new(outer.expect(SEQUENCE)?);
        inner.skip(CONTEXT_0);
        inner.next()?;
        inner.expect(SEQUENCE)?;
        inner.expect(SEQUENCE)?;
        let mut validity = Der::new(inner.expect(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = distinguished_name(inner.expect(SEQUENCE)?);
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let names = PeerNames {
            uris: parsed.valid_uri_names().map(str::to_owned).collect(),
            dns: parsed.valid_dns_names().map(str::to_owned).collect(),
            subject,
            hash: hexadecimal(digest.as_ref()),
        };
        Some(Certificate { not_before, not_after, names })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Attributes that have a short name in RFC 4514 section 3, by the last number of `2.5.4`.
const ATTRIBUTES: [(u8, &str); 6] =
    [(3, "CN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];

/// A distinguished name as text, the last part first; parts with other attributes are left out.
fn distinguished_name(name: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut sets = Der::new(name);
    while let Some(set) = sets.expect(SET) {
        let mut pairs = Der::new(set);
        while let Some(pair) = pairs.expect(SEQUENCE) {
            let mut pair = Der::new(pair);
            let (Some(oid), Some((_, value))) = (pair.expect(OID), pair.next()) else { continue };
            let known = ATTRIBUTES.iter().find(|(number, _)| oid == [0x55, 4, *number]);
            if let Some((_, key)) = known {
                parts.push(format!("{key}={}", escaped(value)));
            }
        }
    }
    parts.reverse();
    parts.join(",")
}

/// An attribute's value as RFC 4514 section 2.4 writes it.
fn escaped(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let special = matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || letter == '#' && index == 0
            || letter == ' ' && (index == 0 || index == last);
        if special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}
