//! A token in its compact form (RFC 7515 section 7.1), and whether its signature holds.
//!
//! Nothing of the payload is looked at before the signature is known to be valid. What the claims mean
//! is in `claims`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::base64url::decode;
use crate::keys::{Algorithm, Key, Verdict, verify};

/// Bytes of a token.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    Algorithm,
    Key,
    Signature,
    NoExpiry,
    Expired,
    NotYet,
    Issuer,
    Audience,
}

impl Refusal {
    /// What the client is told: an `error_description` (RFC 6750 section 3), so without quotes.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the algorithm of the token is not accepted",
            Self::Key => "the token is signed with an unknown key",
            Self::Signature => "the signature of the token is invalid",
            Self::NoExpiry => "the token has no expiry",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the issuer of the token is not accepted",
            Self::Audience => "the token is not for this audience",
        }
    }
}

/// The protected header, as far as it matters.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood; none is.
    crit: Option<serde::de::IgnoredAny>,
}

/// The payload of a token whose signature is valid.
pub(crate) fn payload(token: &str, keys: &[Key]) -> Result<Vec<u8>, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
    let header = decode(header).ok_or(Refusal::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_invalid| Refusal::Malformed)?;
    // A second point in the payload is no letter of its alphabet.
    let payload = decode(payload).ok_or(Refusal::Malformed)?;
    let signature = decode(signature).ok_or(Refusal::Malformed)?;
    if header.crit.is_some() {
        return Err(Refusal::Malformed);
    }
    let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?;
    match verify(keys, algorithm, header.kid.as_deref(), signed.as_bytes(), &signature) {
        Verdict::Valid => Ok(payload),
        Verdict::Invalid => Err(Refusal::Signature),
        Verdict::NoKey => Err(Refusal::Key),
    }
}
