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

/// Two thirds of what level 4 costs, for bodies that are 5 % longer.
const LEVEL: u64 = 2;
const MIN_BYTES: u64 = 512;
/// What is held until there is enough; more would only wait.
const MIN_BYTES_MOST: u64 = 65_536;
/// What level 2 takes of it fits into the default limits of time, on a machine half as fast as ours too.
const MAX_BYTES: u64 = 1_048_576;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    types: Vec<String>,
    level: u64,
    min_bytes: u64,
    max_bytes: u64,
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
        Self { types: default_types(), level: LEVEL, min_bytes: MIN_BYTES, max_bytes: MAX_BYTES }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { types, level, min_bytes, max_bytes } = self;
        let level = match u8::try_from(level) {
            Ok(level @ 1..=9) => level,
            _ => {
                let message = format!("`{level}` is not a level from 1 to 9");
                return Err(ConfigError::at("level", message));
            }
        };
        if min_bytes > MIN_BYTES_MOST {
            let message = format!("`{min_bytes}` is not a number from 0 to {MIN_BYTES_MOST}");
            return Err(ConfigError::at("min_bytes", message));
        }
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
