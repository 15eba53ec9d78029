//! The `cors` filter: answers preflights and tells browsers which origins may read a response (Fetch
//! standard, CORS protocol).
//!
//! The hooks read `origin` and write fields. Which origins are allowed is in `origin`, what is told in
//! `policy`. README.md describes the configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod config;
mod origin;
mod policy;
#[cfg(test)]
mod tests;

use pillion_sdk::prelude::*;

pub use crate::config::Config;
use crate::policy::{ALLOW_CREDENTIALS, ALLOW_ORIGIN, EXPOSE_HEADERS, Policy};

/// Carries an allowed origin to the response: a later filter may change the request's field.
const NOTE: &str = "cors.origin";

/// The filter: its settings.
#[derive(Debug)]
pub struct Cors {
    policy: Policy,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for Cors {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { policy: config.check()? })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let origins = request.header_all("origin");
        // Browsers send one; of several none is believed.
        let origin = match &*origins {
            [origin] => Some(origin.as_str()),
            _ => None,
        };
        let allowed = self.policy.allowed(origin);
        if origin.is_some() && is_preflight(request) {
            let asks_private = request.header("access-control-request-private-network");
            let asks_private = asks_private.as_deref() == Some("true");
            return Ok(self.policy.preflight(allowed, asks_private).into());
        }
        if let Some(allowed) = allowed {
            request.set_note(NOTE, allowed)?;
        }
        Ok(Decision::Proceed)
    }

    /// Says what holds here, in place of what the upstream says of it.
    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let allowed = request.note(NOTE);
        let told = allowed.is_some();
        let credentials = (told && self.policy.credentials).then_some("true");
        let expose = self.policy.expose.as_deref().filter(|_| told);
        for (name, value) in [
            (ALLOW_ORIGIN, allowed.as_deref()),
            (ALLOW_CREDENTIALS, credentials),
            (EXPOSE_HEADERS, expose),
        ] {
            match value {
                Some(value) => response.set_header(name, value)?,
                None => {
                    response.remove_header(name)?;
                }
            }
        }
        if self.policy.varies() && !policy::names(&response.header_all("vary"), "origin") {
            response.append_header("vary", "origin")?;
        }
        Ok(Decision::Proceed)
    }
}

/// An `OPTIONS` request that asks for a method; any other is the application's (Fetch standard
/// section 3.3.1).
fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS" && request.header("access-control-request-method").is_some()
}
