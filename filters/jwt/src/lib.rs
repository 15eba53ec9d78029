//! The `jwt` filter: lets requests through whose bearer token is valid (RFC 6750, 7519, 8725).
//!
//! The hook reads the token, answers with a challenge, and writes claims into fields. The rules are pure
//! and elsewhere: `token` and `keys` (the signature), `claims` (what it says). README.md describes the
//! configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod base64url;
mod cache;
mod claims;
mod config;
mod keys;
#[cfg(test)]
mod tests;
mod token;

use pillion_sdk::metrics::Counter;
use pillion_sdk::prelude::*;

use crate::cache::Cache;
use crate::claims::Accepted;
pub use crate::config::Config;
use crate::config::{Missing, Settings};
use crate::token::Refusal;

const AUTHORIZATION: &str = "authorization";

/// The filter: its settings, and tokens that were verified already.
#[derive(Debug)]
pub struct Jwt {
    settings: Settings,
    cache: Cache,
    outcomes: Counter,
}

/// What a request says of itself.
enum Credentials {
    None,
    Bearer(String),
    /// More than one `authorization`.
    Ambiguous,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for Jwt {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let outcomes = Counter::define(
            "jwt_requests_total",
            "Requests seen by the check of tokens, by what became of them.",
            &["outcome"],
        )?;
        Ok(Self { settings: config.check()?, cache: Cache::new(), outcomes })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        self.remove_claims(request)?;
        let token = match credentials(request) {
            Credentials::Bearer(token) => token,
            Credentials::None if self.settings.missing == Missing::Pass => {
                self.outcomes.increment(&["passed"])?;
                return Ok(Decision::Proceed);
            }
            Credentials::None => {
                return self.refuse("missing", 401, None, "a bearer token is needed");
            }
            Credentials::Ambiguous => {
                let description = "there is more than one authorization field";
                return self.refuse("invalid", 400, Some("invalid_request"), description);
            }
        };
        match self.accept(&token) {
            Ok(accepted) => {
                for (claim, value) in self.settings.claims.iter().zip(&accepted.values) {
                    if let Some(value) = value {
                        request.set_header(&claim.field, value)?;
                    }
                }
                if !self.settings.forward_token {
                    request.remove_header(AUTHORIZATION)?;
                }
                self.outcomes.increment(&["accepted"])?;
                Ok(Decision::Proceed)
            }
            Err(refusal) => {
                self.refuse("invalid", 401, Some("invalid_token"), refusal.description())
            }
        }
    }
}

impl Jwt {
    /// Takes out what a client sends under the names of claims, also with `_` for `-`, which some
    /// servers take for the same name.
    fn remove_claims(&self, request: &mut Request) -> Result<()> {
        let claims = &self.settings.claims;
        if claims.is_empty() {
            return Ok(());
        }
        let sent: Vec<Field> = request.headers();
        let taken = sent.iter().filter(|sent| {
            let name = sent.name.replace('_', "-");
            claims.iter().any(|claim| claim.field == name)
        });
        for field in taken {
            request.remove_header(&field.name)?;
        }
        Ok(())
    }

    /// What a token says, from the cache if it was verified before.
    fn accept(&mut self, token: &str) -> Result<Accepted, Refusal> {
        let Settings { keys, checks, claims, .. } = &self.settings;
        let hash = Cache::hash(token);
        let known = self.cache.find(&hash).cloned();
        let accepted = match known {
            Some(accepted) => accepted,
            None => {
                let payload = token::payload(token, keys)?;
                let accepted = checks.accept(&payload, claims)?;
                self.cache.keep(hash, accepted.clone());
                accepted
            }
        };
        checks.in_time(&accepted, clock::now().as_secs_f64())?;
        Ok(accepted)
    }

    /// A challenge (RFC 6750 section 3).
    fn refuse(
        &self,
        outcome: &str,
        status: u16,
        error: Option<&str>,
        description: &str,
    ) -> Result<Decision> {
        self.outcomes.increment(&[outcome])?;
        let mut parameters = Vec::new();
        if let Some(realm) = &self.settings.realm {
            parameters.push(format!("realm=\"{realm}\""));
        }
        // Without a token there was no mistake to tell of.
        if let Some(error) = error {
            parameters.push(format!("error=\"{error}\", error_description=\"{description}\""));
        }
        let challenge = match parameters.is_empty() {
            true => String::from("Bearer"),
            false => format!("Bearer {}", parameters.join(", ")),
        };
        let reply = LocalResponse::text(status, format!("{description}\n"));
        Ok(reply.header("www-authenticate", challenge).header("cache-control", "no-store").into())
    }
}

fn credentials(request: &Request) -> Credentials {
    let fields = request.header_all(AUTHORIZATION);
    let field = match &*fields {
        [] => return Credentials::None,
        [field] => field,
        _ => return Credentials::Ambiguous,
    };
    match field.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Credentials::Bearer(String::from(token.trim_start_matches(' ')))
        }
        _ if field.eq_ignore_ascii_case("bearer") => Credentials::Bearer(String::new()),
        _ => Credentials::None,
    }
}
