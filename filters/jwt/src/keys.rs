//! Keys, and the one algorithm that each of them is for (RFC 7517, 7518, 8037).
//!
//! That a key verifies one algorithm and no other is what makes algorithm confusion impossible: a
//! public key is never a secret, and `none` has no key. Knows nothing of claims.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rsa::BoxedUint;
use rsa::signature::Verifier;
use serde::Deserialize;
use sha2::Sha256;

use crate::base64url::decode;

/// Bits of the modulus of an RSA key; fewer are not safe, more take too long.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2_048..=4_096;
/// Bytes of a secret: as many as the hash has (RFC 7518 section 3.2).
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// Keys of a set.
pub(crate) const KEYS_MAX: usize = 100;
/// Keys tried for a token that names none, so that it costs no more time than a hook has.
pub(crate) const TRIES_MAX: usize = 2;

/// What a token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
    Hs256,
}

impl Algorithm {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            // The second is its name of RFC 9864.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }
}

pub(crate) struct Key {
    id: Option<String>,
    material: Material,
}

enum Material {
    Rsa { key: rsa::pkcs1v15::VerifyingKey<Sha256>, bytes: usize },
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    Secret(Vec<u8>),
}

/// A set of keys, as an issuer publishes it.
#[derive(Deserialize)]
pub(crate) struct KeySet {
    pub(crate) keys: Vec<RawKey>,
}

/// A key of a set. What it says beyond this does not matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: String,
    e: String,
    x: String,
    y: String,
    k: String,
}

impl RawKey {
    /// The key; none where it is for something else, as sets have keys for other uses too.
    pub(crate) fn read(self) -> Result<Option<Key>, &'static str> {
        let algorithm = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("oct", _) => Algorithm::Hs256,
            ("", _) => return Err("has no `kty`"),
            _ => return Ok(None),
        };
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if self.purpose.as_ref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|ops| !verifies(ops))
            || self.alg.as_ref().is_some_and(|name| Algorithm::named(name) != Some(algorithm))
        {
            return Ok(None);
        }
        let material = match algorithm {
            Algorithm::Rs256 => self.rsa()?,
            Algorithm::Es256 => self.p256().ok_or("has no valid `x` and `y`")?,
            Algorithm::EdDsa => self.ed25519().ok_or("has no valid `x`")?,
            Algorithm::Hs256 => return Key::secret(self.kid, decode(&self.k)).map(Some),
        };
        Ok(Some(Key { id: self.kid, material }))
    }

    fn rsa(&self) -> Result<Material, &'static str> {
        let number = |text: &str| {
            let bytes = decode(text)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.get(zeros..).filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec)
        };
        let (Some(modulus), Some(exponent)) = (number(&self.n), number(&self.e)) else {
            return Err("has no valid `n` and `e`");
        };
        let numbers = [&modulus, &exponent].map(|bytes| BoxedUint::from_be_slice_vartime(bytes));
        let [n, e] = numbers;
        let key = rsa::PublicKey::new_with_size_limits(n, e, RSA_BITS)
            .map_err(|_invalid| "is no RSA key of 2,048 to 4,096 bits")?;
        Ok(Material::Rsa { key: rsa::pkcs1v15::VerifyingKey::new(key), bytes: modulus.len() })
    }

    fn p256(&self) -> Option<Material> {
        let mut point = Vec::from([4]);
        for coordinate in [&self.x, &self.y] {
            point.extend(decode(coordinate).filter(|bytes| bytes.len() == 32)?);
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok().map(Material::P256)
    }

    fn ed25519(&self) -> Option<Material> {
        let bytes: [u8; 32] = decode(&self.x)?.try_into().ok()?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok()?;
        (!key.is_weak()).then_some(Material::Ed25519(key))
    }
}

impl Key {
    /// A key for HS256.
    pub(crate) fn secret(id: Option<String>, bytes: Option<Vec<u8>>) -> Result<Self, &'static str> {
        match bytes {
            Some(bytes) if bytes.len() >= SECRET_BYTES_MIN => {
                Ok(Self { id, material: Material::Secret(bytes) })
            }
            _ => Err("is no secret of at least 32 bytes"),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
            Material::Secret(_) => Algorithm::Hs256,
        }
    }

    /// Is this the signature of these bytes?
    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { key, bytes } => {
                signature.len() == *bytes
                    && rsa::pkcs1v15::Signature::try_from(signature)
                        .is_ok_and(|signature| key.verify(signed, &signature).is_ok())
            }
            Material::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            Material::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok()),
            Material::Secret(bytes) => {
                let mac = Hmac::<Sha256>::new_from_slice(bytes).expect("any length is a key");
                mac.chain_update(signed).verify_slice(signature).is_ok()
            }
        }
    }
}

/// What came of looking for the key of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    Invalid,
    /// No key is for this algorithm and has this name.
    NoKey,
}

/// Verifies with the keys of this algorithm that have this name, or no name of their own; without a
/// name with the first ones of the algorithm.
pub(crate) fn verify(
    keys: &[Key],
    algorithm: Algorithm,
    id: Option<&str>,
    signed: &[u8],
    signature: &[u8],
) -> Verdict {
    let named = |key: &&Key| match (id, key.id.as_deref()) {
        (Some(wanted), Some(own)) => wanted == own,
        _ => true,
    };
    let fitting = keys.iter().filter(|key| key.algorithm() == algorithm).filter(named);
    let mut verdict = Verdict::NoKey;
    for key in fitting.take(TRIES_MAX) {
        if key.verifies(signed, signature) {
            return Verdict::Valid;
        }
        verdict = Verdict::Invalid;
    }
    verdict
}

impl fmt::Debug for Key {
    /// Its name, and nothing that could be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}
