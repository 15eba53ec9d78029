//! The filter's configuration: as it is written, and checked.
//!
//! A mistake names the path of its key, and says nothing of what a secret or a key is.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pillion_sdk::ConfigError;
use serde::Deserialize;

use crate::claims::{Checks, Forwarded};
use crate::keys::{KEYS_MAX, Key, KeySet};

/// Seconds by which clocks may differ.
const CLOCK_SKEW: u64 = 60;
const CLOCK_SKEW_MOST: u64 = 3_600;
/// Claims that go on as fields; each costs two edits of the 256 of an exchange.
const CLAIMS_MAX: usize = 32;

/// The `config` table.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    jwks: Option<String>,
    secret: Option<String>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    require_expiry: bool,
    clock_skew: u64,
    claims: BTreeMap<String, String>,
    missing: Missing,
    forward_token: bool,
    realm: Option<String>,
}

/// What becomes of a request without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Missing {
    Refuse,
    /// It goes on, without claims.
    Pass,
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) keys: Vec<Key>,
    pub(crate) checks: Checks,
    pub(crate) claims: Vec<Forwarded>,
    pub(crate) missing: Missing,
    pub(crate) forward_token: bool,
    pub(crate) realm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            jwks: None,
            secret: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            require_expiry: true,
            clock_skew: CLOCK_SKEW,
            claims: BTreeMap::new(),
            missing: Missing::Refuse,
            forward_token: true,
            realm: None,
        }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { jwks, secret, issuers, audiences, require_expiry, clock_skew, .. } = self;
        let Self { claims, missing, forward_token, realm, .. } = self;
        if clock_skew > CLOCK_SKEW_MOST {
            let message =
                format!("`{clock_skew}` is not a number of seconds from 0 to {CLOCK_SKEW_MOST}");
            return Err(ConfigError::at("clock_skew", message));
        }
        let quotable = |byte: u8| (0x20..0x7f).contains(&byte) && !b"\"\\".contains(&byte);
        if realm.as_ref().is_some_and(|realm| !realm.bytes().all(quotable)) {
            let message = "is not plain text: use ASCII letters without quotes and backslashes";
            return Err(ConfigError::at("realm", message));
        }
        let clock_skew = clock_skew as f64;
        Ok(Settings {
            keys: keys(jwks.as_deref(), secret)?,
            checks: Checks { issuers, audiences, require_expiry, clock_skew },
            claims: forwarded(claims)?,
            missing,
            forward_token,
            realm,
        })
    }
}

fn keys(jwks: Option<&str>, secret: Option<String>) -> Result<Vec<Key>, ConfigError> {
    let mut keys = Vec::new();
    if let Some(secret) = secret {
        let key = Key::secret(None, Some(secret.into_bytes()))
            .map_err(|message| ConfigError::at("secret", message))?;
        keys.push(key);
    }
    if let Some(jwks) = jwks {
        let refuse = |message: String| ConfigError::at("jwks", message);
        // What the reader says of the mistake may hold a part of a secret.
        let set: KeySet = serde_json::from_str(jwks).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refuse(format!(
                "is not a JSON Web Key Set: there is a mistake at its line {line}, column {column}"
            ))
        })?;
        if set.keys.len() > KEYS_MAX {
            return Err(refuse(format!("has more than {KEYS_MAX} keys")));
        }
        for (index, key) in set.keys.into_iter().enumerate() {
            let read = key.read();
            let read = read.map_err(|message| refuse(format!("`keys[{index}]` {message}")))?;
            keys.extend(read);
        }
        if keys.is_empty() {
            let message = "has no key for RS256, ES256, EdDSA or HS256";
            return Err(refuse(message.to_owned()));
        }
    }
    match keys.is_empty() {
        true => Err(ConfigError::whole("there is no key: add `jwks` or `secret`")),
        false => Ok(keys),
    }
}

fn forwarded(claims: BTreeMap<String, String>) -> Result<Vec<Forwarded>, ConfigError> {
    if claims.len() > CLAIMS_MAX {
        return Err(ConfigError::at("claims", format!("has more than {CLAIMS_MAX} fields")));
    }
    let mut forwarded: Vec<Forwarded> = Vec::new();
    for (name, claim) in claims {
        let refuse = |message: &str| Err(ConfigError::at(format!("claims.{name}"), message));
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let field = name.to_ascii_lowercase();
        if !field.starts_with("x-") || !field.bytes().all(belongs) {
            return refuse(
                "is not a field for claims: begin it with `x-`, use letters, digits and `-`",
            );
        }
        if forwarded.iter().any(|other| other.field == field) {
            return refuse("is there twice, in other letters");
        }
        if claim.is_empty() {
            return refuse("names no claim");
        }
        forwarded.push(Forwarded { field, claim });
    }
    Ok(forwarded)
}
