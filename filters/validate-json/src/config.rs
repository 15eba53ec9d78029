//! The filter's configuration: as it is written, and checked.
//!
//! Every key has a default, so an empty table is a complete configuration: well-formed JSON is asked
//! for. A mistake names the path of its key, and in a schema the place.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use pillion_sdk::ConfigError;
use serde::Deserialize;

use crate::document;
use crate::schema::{Mistake, Schema};

/// What of any shape can be read within the default limits of time, on a slow machine too.
const MAX_BYTES: u64 = 32_768;
/// What the host holds by default.
const MAX_BYTES_MOST: u64 = 1_048_576;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    schema: Option<String>,
    types: Vec<String>,
    max_bytes: u64,
    others: Others,
}

/// What becomes of bodies of other types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Others {
    Pass,
    Refuse,
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) schema: Option<Schema>,
    /// In lower case; `+json` for a suffix.
    pub(crate) types: Vec<String>,
    pub(crate) max_bytes: u64,
    pub(crate) others: Others,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            schema: None,
            types: vec!["application/json".to_owned(), "+json".to_owned()],
            max_bytes: MAX_BYTES,
            others: Others::Pass,
        }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { schema, types, max_bytes, others } = self;
        if !(1..=MAX_BYTES_MOST).contains(&max_bytes) {
            let message = format!("`{max_bytes}` is not a number from 1 to {MAX_BYTES_MOST}");
            return Err(ConfigError::at("max_bytes", message));
        }
        let is_type = |text: &str| {
            let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-/".contains(&byte);
            let slashes = text.matches('/').count();
            let shaped = if text.starts_with('+') { slashes == 0 } else { slashes == 1 };
            shaped && text.len() > 1 && text.bytes().all(belongs)
        };
        if let Some(index) = types.iter().position(|text| !is_type(text)) {
            let message = "is not a type: write `application/json` or `+json`";
            return Err(ConfigError::at(format!("types[{index}]"), message));
        }
        Ok(Settings {
            schema: schema.map(|text| read(&text)).transpose()?,
            types: types.iter().map(|text| text.to_ascii_lowercase()).collect(),
            max_bytes,
            others,
        })
    }
}

fn read(text: &str) -> Result<Schema, ConfigError> {
    let document = document::parse(text.as_bytes())
        .map_err(|error| ConfigError::at("schema", format!("is not JSON: {error}")))?;
    Schema::read(&document).map_err(|Mistake { pointer, message }| {
        ConfigError::at("schema", format!("`#{pointer}` {message}"))
    })
}
