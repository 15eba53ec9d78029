//! The filter's configuration: as it is written, and checked into a policy.
//!
//! A mistake names the path of its key, as in `origins[1]`. What the policy does with a message is
//! in `policy`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use pillion_sdk::ConfigError;
use serde::Deserialize;

use crate::origin::{Origins, Pattern};
use crate::policy::Policy;

/// Seconds of a day; no browser keeps the answer to a preflight longer.
const MAX_AGE_MOST: u64 = 86_400;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    origins: Vec<String>,
    #[serde(default = "methods")]
    methods: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    expose: Vec<String>,
    #[serde(default)]
    credentials: bool,
    #[serde(default)]
    max_age: Option<u64>,
    #[serde(default)]
    private_network: bool,
}

fn methods() -> Vec<String> {
    vec!["GET".to_owned(), "HEAD".to_owned(), "POST".to_owned()]
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Policy, ConfigError> {
        let Self { origins, methods, headers, expose, credentials, max_age, private_network } =
            self;
        if credentials {
            for (key, list) in [
                ("origins", &origins),
                ("methods", &methods),
                ("headers", &headers),
                ("expose", &expose),
            ] {
                if let Some(index) = list.iter().position(|item| item == "*") {
                    let message = "`*` does not go with `credentials`: name what is allowed";
                    return Err(ConfigError::at(format!("{key}[{index}]"), message));
                }
            }
        }
        if let Some(seconds) = max_age.filter(|seconds| *seconds > MAX_AGE_MOST) {
            let message =
                format!("`{seconds}` is not a number of seconds from 0 to {MAX_AGE_MOST}");
            return Err(ConfigError::at("max_age", message));
        }
        let origins = check_origins(&origins, credentials)?;
        Ok(Policy {
            origins,
            methods: join(&methods, "methods", is_method)?,
            headers: join(&headers, "headers", is_token)?,
            expose: join(&expose, "expose", is_token)?,
            credentials,
            max_age: max_age.map(|seconds| seconds.to_string()),
            private_network,
        })
    }
}

fn check_origins(origins: &[String], credentials: bool) -> Result<Origins, ConfigError> {
    if origins.is_empty() {
        return Err(ConfigError::at("origins", "has no origin: name at least one"));
    }
    if origins == ["*"] {
        return Ok(Origins::Any);
    }
    let mut patterns = Vec::new();
    for (index, text) in origins.iter().enumerate() {
        let refuse = |message: String| ConfigError::at(format!("origins[{index}]"), message);
        if text == "*" {
            return Err(refuse("`*` is every origin: leave out the others, or it".to_owned()));
        }
        patterns.push(Pattern::parse(text).map_err(refuse)?);
    }
    let origins = Origins::Listed(patterns);
    if credentials && origins.allow_opaque() {
        let message =
            "`null` does not go with `credentials`: any sandboxed document has this origin";
        return Err(ConfigError::at("origins", message));
    }
    Ok(origins)
}

/// The list as a field value; none where it is empty.
fn join(
    list: &[String],
    key: &str,
    check: fn(&str) -> Result<(), String>,
) -> Result<Option<String>, ConfigError> {
    for (index, item) in list.iter().enumerate() {
        check(item).map_err(|message| ConfigError::at(format!("{key}[{index}]"), message))?;
    }
    Ok((!list.is_empty()).then(|| list.join(", ")))
}

/// Methods compare byte for byte, and what browsers send is in capitals.
fn is_method(text: &str) -> Result<(), String> {
    is_token(text)?;
    match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => Err(format!("`{text}` is no method that is sent: write it in capitals")),
        false => Ok(()),
    }
}

/// `token` of RFC 9110 section 5.6.2, of which `*` is one.
fn is_token(text: &str) -> Result<(), String> {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(belongs) {
        true => Ok(()),
        false => {
            Err(format!("`{}` is not a name: use letters, digits and `-`", text.escape_debug()))
        }
    }
}
