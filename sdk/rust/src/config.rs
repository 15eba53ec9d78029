//! Mistakes in a configuration, with the path of their key, so that the host can point at the line of the
//! file.
//!
//! How the text of a configuration is read is not known here: `json` does it.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;

/// A mistake in the filter's configuration. The host reports it at the line of `key`.
///
/// ```
/// use pillion_sdk::ConfigError;
///
/// let error = ConfigError::at("name", "expected a token").under("rules[2].set");
/// assert_eq!(error.to_string(), "`rules[2].set.name`: expected a token");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the offending key, as in `rules[2].set.name`. Empty: the table as a whole.
    pub key: String,
    /// What is wrong and what would be right, as a lower-case fragment.
    pub message: String,
}

impl ConfigError {
    /// A mistake at the key of this path.
    pub fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }

    /// A mistake that no single key is to blame for.
    pub fn whole(message: impl Into<String>) -> Self {
        Self::at("", message)
    }

    /// The same mistake seen from further out: `prefix` goes before the path.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        let separator = match self.key.as_bytes().first() {
            None | Some(b'[') => "",
            Some(_) => ".",
        };
        self.key = format!("{prefix}{separator}{}", self.key);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.key, self.message)
        }
    }
}

impl core::error::Error for ConfigError {}

impl From<crate::Error> for ConfigError {
    fn from(error: crate::Error) -> Self {
        Self::whole(error.to_string())
    }
}

impl From<crate::MetricError> for ConfigError {
    fn from(error: crate::MetricError) -> Self {
        Self::whole(error.to_string())
    }
}

impl From<crate::KvError> for ConfigError {
    fn from(error: crate::KvError) -> Self {
        Self::whole(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors of reading them are looked at")]
    struct Table {
        rules: Vec<Rule>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors of reading them are looked at")]
    struct Rule {
        set: Set,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors of reading them are looked at")]
    struct Set {
        name: String,
    }

    fn mistake(json: &str) -> (String, String) {
        let error = parse::<Table>(json).expect_err("the table has a mistake");
        (error.key, error.message)
    }

    #[test]
    fn a_wrong_type_is_reported_with_the_path_of_its_key() {
        let (key, message) =
            mistake(r#"{"rules": [{"set": {"name": "a"}}, {"set": {"name": 7}}]}"#);
        assert_eq!(key, "rules[1].set.name");
        assert_eq!(message, "invalid type: integer `7`, expected a string");
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_own_path() {
        let (key, message) = mistake(r#"{"rules": [{"set": {"nane": "a"}}]}"#);
        assert_eq!(key, "rules[0].set.nane");
        assert_eq!(message, "unknown field `nane`, expected `name`");
    }

    #[test]
    fn a_missing_key_is_reported_at_its_table() {
        assert_eq!(
            mistake(r#"{"rules": [{"set": {}}]}"#),
            ("rules[0].set".to_owned(), "missing field `name`".to_owned())
        );
        assert_eq!(mistake("{}"), (String::new(), "missing field `rules`".to_owned()));
    }

    #[test]
    fn a_filter_without_configuration_refuses_keys() {
        assert!(parse::<crate::NoConfig>("{}").is_ok());
        let error = parse::<crate::NoConfig>(r#"{"a": 1}"#).expect_err("there is no key `a`");
        assert_eq!(error.to_string(), "`a`: unknown field `a`, there are no fields");
    }

    #[test]
    fn prefixes_join_with_a_dot_only_before_a_name() {
        assert_eq!(ConfigError::at("[1].name", "x").under("rules").key, "rules[1].name");
        assert_eq!(ConfigError::whole("x").under("rules[1]").key, "rules[1]");
        assert_eq!(ConfigError::at("a", "x").under("b").key, "b.a");
    }
}
