//! The `headers` filter: sets, appends, removes and renames fields of requests and responses.
//!
//! The hooks only walk the rules. `config` reads and checks them, `condition` says when one
//! applies, `template` makes its value, `rule` carries it out. README.md describes the
//! configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod condition;
mod config;
mod names;
mod rule;
mod template;
#[cfg(test)]
mod tests;

use pillion_sdk::prelude::*;

pub use crate::config::Config;
use crate::config::Rules;
use crate::rule::Exchange;

/// The filter: its rules.
#[derive(Debug)]
pub struct Headers {
    rules: Rules,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for Headers {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { rules: config.check()? })
    }

    fn wants(&self) -> Hooks {
        let mut hooks = Hooks::NONE;
        if !self.rules.request.is_empty() {
            hooks = hooks.with(Hooks::ON_REQUEST);
        }
        if !self.rules.response.is_empty() {
            hooks = hooks.with(Hooks::ON_RESPONSE);
        }
        hooks
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        for rule in &self.rules.request {
            if let Some(edit) = rule.ready(&Exchange { request, response: None }) {
                edit.carry_out(request)?;
            }
        }
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        for rule in &self.rules.response {
            if let Some(edit) = rule.ready(&Exchange { request, response: Some(response) }) {
                edit.carry_out(response)?;
            }
        }
        Ok(Decision::Proceed)
    }
}
