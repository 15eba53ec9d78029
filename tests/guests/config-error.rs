//! Refuses every configuration, with the key `rules[1].name`.

use pillion_sdk::prelude::*;

struct Guest;

#[filter]
impl Filter for Guest {
    type Config = serde::de::IgnoredAny;

    fn new(_: serde::de::IgnoredAny) -> Result<Self, ConfigError> {
        Err(ConfigError::at("name", "no name is good enough").under("rules[1]"))
    }

    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        Ok(Decision::Proceed)
    }
}
