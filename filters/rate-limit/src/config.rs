//! The filter's configuration: as it is written, and checked.
//!
//! Sizes of the buckets are no part of it: they are in the grant of the `rate-limit` capability. A
//! mistake names the path of its key.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use pillion_sdk::ConfigError;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};

use crate::key::{Key, Part};

/// Characters of a policy's name.
const NAME_MAX: usize = 64;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    key: Parts,
    ipv6_prefix: u64,
    missing: Missing,
    mode: Mode,
    fields: Fields,
    name: String,
}

/// What becomes of a request that lacks a header of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Missing {
    /// It shares a bucket with all others that lack it.
    Share,
    /// It is not limited.
    Skip,
    /// It is answered with 400.
    Refuse,
}

/// Whether requests are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Enforce,
    /// Tokens are taken and requests counted, and none is refused or told.
    Shadow,
}

/// Which responses tell the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fields {
    Always,
    Refused,
    Never,
}

/// One part of a key, or a list of them, still as text.
#[derive(Debug)]
struct Parts(Vec<String>);

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) key: Key,
    pub(crate) missing: Missing,
    pub(crate) mode: Mode,
    pub(crate) fields: Fields,
    pub(crate) name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            key: Parts(vec!["client".to_owned()]),
            ipv6_prefix: 64,
            missing: Missing::Share,
            mode: Mode::Enforce,
            fields: Fields::Refused,
            name: "default".to_owned(),
        }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { key, ipv6_prefix, missing, mode, fields, name } = self;
        let parts = key
            .0
            .iter()
            .map(|part| Part::parse(part))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|message| ConfigError::at("key", message))?;
        if parts.is_empty() {
            return Err(ConfigError::at("key", "has no part: name at least one"));
        }
        let ipv6_prefix = match u8::try_from(ipv6_prefix) {
            Ok(bits @ 1..=128) => bits,
            _ => {
                let message = format!("`{ipv6_prefix}` is not a number of bits from 1 to 128");
                return Err(ConfigError::at("ipv6_prefix", message));
            }
        };
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(belongs) {
            let message = format!(
                "`{}` is not a policy name: use 1 to {NAME_MAX} letters, digits, `-`, `_` and `.`",
                name.escape_debug()
            );
            return Err(ConfigError::at("name", message));
        }
        Ok(Settings { key: Key::new(parts, ipv6_prefix), missing, mode, fields, name })
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A hint: a list comes as one. Without it the reading of floating-point numbers is linked.
        deserializer.deserialize_str(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Parts, E> {
        Ok(Parts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            parts.push(part);
        }
        Ok(Parts(parts))
    }
}
