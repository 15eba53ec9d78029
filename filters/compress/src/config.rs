//! The filter's configuration: as it is written, and checked.
//!
//! Every key has a default, so an empty table is a complete configuration. A mistake names the path of
//! its key.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pillion_sdk::ConfigError;
use serde::Deserialize;

use crate::content::{Type, default_types};

const LEVEL: u64 = 1;
/// Higher levels gain one or two per cent, and can take ten times as long for some bodies.
const LEVEL_MOST: u8 = 4;
const MIN_BYTES: u64 = 512;
/// What is held until there is enough; more would only wait.
const MIN_BYTES_MOST: u64 = 16_384;
/// What level 1 takes of it fits into the default limits of time, whatever the body, on a machine half
/// as fast as ours too.
const MAX_BYTES_FAST: u64 = 1_048_576;
/// The same for the levels above, which take up to five times as long.
const MAX_BYTES_SMALL: u64 = 131_072;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    types: Vec<String>,
    level: u64,
    min_bytes: u64,
    max_bytes: Option<u64>,
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) types: Vec<Type>,
    pub(crate) level: u8,
    pub(crate) min_bytes: u64,
    pub(crate) max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { types: default_types(), level: LEVEL, min_bytes: MIN_BYTES, max_bytes: None }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { types, level, min_bytes, max_bytes } = self;
        let level = match u8::try_from(level) {
            Ok(level @ 1..=LEVEL_MOST) => level,
            _ => {
                let message = format!("`{level}` is not a level from 1 to {LEVEL_MOST}");
                return Err(ConfigError::at("level", message));
            }
        };
        if min_bytes > MIN_BYTES_MOST {
            let message = format!("`{min_bytes}` is not a number from 0 to {MIN_BYTES_MOST}");
            return Err(ConfigError::at("min_bytes", message));
        }
        let fitting = if level == 1 { MAX_BYTES_FAST } else { MAX_BYTES_SMALL };
        let max_bytes = max_bytes.unwrap_or(fitting);
        if max_bytes == 0 {
            return Err(ConfigError::at(
                "max_bytes",
                "`0` would compress nothing: leave out the filter",
            ));
        }
        let mut patterns = Vec::new();
        for (index, text) in types.iter().enumerate() {
            let at = |message| ConfigError::at(format!("types[{index}]"), message);
            patterns.push(Type::parse(text).map_err(at)?);
        }
        Ok(Settings { types: patterns, level, min_bytes, max_bytes })
    }
}
