//! The `validate-json` filter: lets JSON bodies of requests through that are well-formed and fit a
//! schema.
//!
//! The hooks hold the request back until its body is complete. The rules are pure and elsewhere:
//! `document` (the text), `schema` and `check` (what fits). README.md describes the configuration.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};

mod check;
mod config;
mod document;
mod schema;
#[cfg(test)]
mod tests;

use pillion_sdk::metrics::Counter;
use pillion_sdk::prelude::*;
use serde_json::json;

pub use crate::config::Config;
use crate::config::{Others, Settings};

/// Bytes of a text that a client is told, which may hold what it sent.
const TOLD_BYTES_MAX: usize = 1_024;

/// The filter: its settings.
#[derive(Debug)]
pub struct ValidateJson {
    settings: Settings,
    outcomes: Counter,
}

/// What became of a body; the text is the metric's label.
#[derive(Clone, Copy)]
enum Outcome {
    Valid,
    Malformed,
    TooLarge,
    WrongType,
    Misfit,
}

pillion_sdk::no_std!();

#[filter]
impl Filter for ValidateJson {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigError> {
        let outcomes = Counter::define(
            "validate_json_bodies_total",
            "Bodies seen by the check of JSON, by what became of them.",
            &["outcome"],
        )?;
        Ok(Self { settings: config.check()?, outcomes })
    }

    /// Whether there is a body is not known yet; without one the body hook is not called.
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        match self.settings.others {
            Others::Pass if !self.is_ours(request) => Ok(Decision::SkipBody),
            _ => Ok(Decision::WaitForBody),
        }
    }

    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        let there = chunk.held_len().saturating_add(chunk.bytes().len() as u64);
        if chunk.held_len() == 0 {
            let encoding = request.header("content-encoding");
            let is_plain = encoding.is_none_or(|it| it.eq_ignore_ascii_case("identity"));
            if !self.is_ours(request) {
                return self.refuse(Outcome::WrongType, "", "the type of the body is not JSON");
            }
            if !is_plain {
                return self.refuse(Outcome::WrongType, "", "the body must not be encoded");
            }
        }
        if there > self.settings.max_bytes {
            let most = self.settings.max_bytes;
            return self.refuse(Outcome::TooLarge, "", &format!("the body is over {most} bytes"));
        }
        if !chunk.is_last() {
            return Ok(BodyDecision::Hold);
        }
        let body = chunk.held_and_this();
        let value = match document::parse(&body) {
            Ok(value) => value,
            Err(error) => return self.refuse(Outcome::Malformed, "", &error.to_string()),
        };
        if let Some(schema) = &self.settings.schema
            && let Err(misfit) = check::check(schema, &value, body.len())
        {
            return self.refuse(Outcome::Misfit, &misfit.pointer, &misfit.message);
        }
        self.outcomes.increment(&[Outcome::Valid.label()])?;
        Ok(BodyDecision::Pass)
    }
}

impl ValidateJson {
    /// Is this a type that is looked at?
    fn is_ours(&self, request: &Request) -> bool {
        let lines = request.header_all("content-type");
        let [line] = &*lines else { return false };
        let media_type = line.split(';').next().unwrap_or_default();
        let media_type = media_type.trim_matches([' ', '\t']).to_ascii_lowercase();
        self.settings.types.iter().any(|own| match own.starts_with('+') {
            true => media_type.ends_with(own.as_str()),
            false => media_type == *own,
        })
    }

    /// A problem document (RFC 9457); the place is a JSON pointer.
    fn refuse(&self, outcome: Outcome, pointer: &str, detail: &str) -> Result<BodyDecision> {
        self.outcomes.increment(&[outcome.label()])?;
        let (status, title) = outcome.answer();
        let mut problem = json!({"title": title, "status": status, "detail": cut(detail)});
        if status == 422 {
            problem["pointer"] = cut(pointer).into();
        }
        let body = format!("{problem}\n");
        let reply = LocalResponse::new(status).header("content-type", "application/problem+json");
        Ok(reply.body(body).into())
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::WrongType => "wrong_type",
            Self::Misfit => "misfit",
        }
    }

    fn answer(self) -> (u16, &'static str) {
        match self {
            Self::Valid => (200, "Valid"),
            Self::Malformed => (400, "Malformed JSON"),
            Self::TooLarge => (413, "Body too large"),
            Self::WrongType => (415, "Unsupported body"),
            Self::Misfit => (422, "Body does not fit the schema"),
        }
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TOLD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}
