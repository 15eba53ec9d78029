//! The `rate-limit` filter: refuses requests for whose key the bucket is empty.
//!
//! The buckets are the host's (capability `rate-limit`); the filter makes the key (`key`), answers
//! and tells the limit (`fields`), and counts outcomes (capability `metrics`). README.md describes
//! the configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};

mod config;
mod fields;
mod key;
#[cfg(test)]
mod tests;

use pillion_sdk::metrics::Counter;
use pillion_sdk::prelude::*;
use pillion_sdk::rate_limit::{Policy, Taken};

pub use crate::config::Config;
use crate::config::{Fields, Missing, Mode, Settings};
use crate::key::KeyOf;

/// The filter: its settings, and what is the same for every request.
#[derive(Debug)]
pub struct RateLimit {
    settings: Settings,
    policy: Policy,
    /// Value of `RateLimit-Policy`.
    policy_field: String,
    /// Carries the value of `RateLimit` from the request to the response.
    note: String,
    outcomes: Counter,
}

/// What became of a request; the text is the metric's label.
#[derive(Clone, Copy)]
enum Outcome {
    Allowed,
    Refused,
    /// Would have been refused, but for shadow mode.
    WouldRefuse,
    /// Not limited, as its key lacks a part.
    Skipped,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for RateLimit {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let settings = config.check()?;
        let policy = rate_limit::policy();
        Ok(Self {
            policy_field: fields::policy(&settings.name, &policy),
            note: format!("rate-limit.{}", settings.name),
            outcomes: Counter::define(
                "rate_limit_requests_total",
                "Requests seen by the rate limit, by what became of them.",
                &["outcome"],
            )?,
            settings,
            policy,
        })
    }

    fn wants(&self) -> Hooks {
        if self.tells_allowed() { Hooks::ALL } else { Hooks::ALL.without(Hooks::ON_RESPONSE) }
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let (key, lacking) = match self.settings.key.of(&*request) {
            KeyOf::Whole(key) => (key, None),
            KeyOf::Lacking { header, key } => (key, Some(header)),
        };
        match (lacking, self.settings.missing) {
            (None, _) | (Some(_), Missing::Share) => self.take(request, &key),
            (Some(_), Missing::Skip) => {
                self.count(Outcome::Skipped)?;
                Ok(Decision::Proceed)
            }
            (Some(header), Missing::Refuse) => {
                let reply =
                    || LocalResponse::text(400, format!("the field `{header}` is missing\n"));
                self.refuse(reply)
            }
        }
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        if let Some(limit) = request.note(&self.note) {
            // Appended: the upstream may tell limits of its own, and both fields are lists.
            response.append_header("ratelimit-policy", &self.policy_field)?;
            response.append_header("ratelimit", &limit)?;
        }
        Ok(Decision::Proceed)
    }
}

impl RateLimit {
    /// Take a token from the bucket of this key, and answer accordingly.
    fn take(&self, request: &mut Request, key: &str) -> Result<Decision> {
        let taken = rate_limit::take(key, 1);
        if !taken.allowed {
            return self.refuse(|| self.too_many_requests(&taken));
        }
        if self.tells_allowed() {
            let window = fields::window_seconds(&self.policy, &taken);
            let limit = fields::limit(&self.settings.name, taken.remaining, window);
            request.set_note(&self.note, &limit)?;
        }
        self.count(Outcome::Allowed)?;
        Ok(Decision::Proceed)
    }

    /// Answer so, or only count in shadow mode.
    fn refuse(&self, reply: impl FnOnce() -> LocalResponse) -> Result<Decision> {
        match self.settings.mode {
            Mode::Enforce => {
                self.count(Outcome::Refused)?;
                Ok(Decision::Respond(reply()))
            }
            Mode::Shadow => {
                self.count(Outcome::WouldRefuse)?;
                Ok(Decision::Proceed)
            }
        }
    }

    fn too_many_requests(&self, taken: &Taken) -> LocalResponse {
        let name = &self.settings.name;
        let seconds = fields::retry_after_seconds(taken);
        // The problem type is that of section 5.1 of the draft. A policy's name needs no escapes.
        let body = format!(
            "{{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
             \"title\":\"Too many requests\",\"status\":429,\"violated-policies\":[\"{name}\"]}}\n"
        );
        let reply = LocalResponse::new(429)
            .header("content-type", "application/problem+json")
            .header("retry-after", seconds.to_string())
            .body(body);
        if self.settings.fields == Fields::Never {
            return reply;
        }
        reply
            .header("ratelimit-policy", self.policy_field.as_str())
            .header("ratelimit", fields::limit(name, taken.remaining, seconds))
    }

    /// Do responses to allowed requests tell the limit? Shadow mode shows nothing to clients.
    fn tells_allowed(&self) -> bool {
        self.settings.fields == Fields::Always && self.settings.mode == Mode::Enforce
    }

    fn count(&self, outcome: Outcome) -> Result<()> {
        let label = match outcome {
            Outcome::Allowed => "allowed",
            Outcome::Refused => "refused",
            Outcome::WouldRefuse => "would_refuse",
            Outcome::Skipped => "skipped",
        };
        Ok(self.outcomes.increment(&[label])?)
    }
}

impl key::Request for Request {
    fn client_address(&self) -> String {
        self.client_address()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.header(name)
    }

    fn path(&self) -> String {
        self.path()
    }

    fn method(&self) -> String {
        self.method()
    }

    fn authority(&self) -> String {
        self.authority()
    }
}
