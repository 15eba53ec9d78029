//! What a valid signature says: who issued the token, for whom and for how long (RFC 7519 section
//! 4.1), and the claims that go on as fields.
//!
//! Pure: the time is handed in.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};

use crate::token::Refusal;

/// What is asked of every token.
#[derive(Debug)]
pub(crate) struct Checks {
    /// Empty: any.
    pub(crate) issuers: Vec<String>,
    /// Empty: any.
    pub(crate) audiences: Vec<String>,
    pub(crate) require_expiry: bool,
    /// Seconds by which the clocks may differ.
    pub(crate) clock_skew: f64,
}

/// A field and the claim that it gets.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) field: String,
    pub(crate) claim: String,
}

/// What is left of a token that is accepted, as long as it is in time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    expires: Option<f64>,
    begins: Option<f64>,
    /// A value for each forwarded claim that the token has.
    pub(crate) values: Vec<Option<String>>,
}

impl Checks {
    /// All that does not change with time.
    pub(crate) fn accept(
        &self,
        payload: &[u8],
        forwarded: &[Forwarded],
    ) -> Result<Accepted, Refusal> {
        let claims: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|_invalid| Refusal::Malformed)?;
        let expires = date(&claims, "exp")?;
        if self.require_expiry && expires.is_none() {
            return Err(Refusal::NoExpiry);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !self.issuers.is_empty() && !self.issuers.iter().any(|it| issuer == Some(it)) {
            return Err(Refusal::Issuer);
        }
        if !self.audiences.is_empty() && !self.is_for_us(claims.get("aud")) {
            return Err(Refusal::Audience);
        }
        let values = forwarded.iter().map(|it| find(&claims, &it.claim).and_then(text)).collect();
        Ok(Accepted { expires, begins: date(&claims, "nbf")?, values })
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|name| self.audiences.iter().any(|own| own == name))
        };
        match audience {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }

    /// Is it in time, `now` being seconds since 1970?
    pub(crate) fn in_time(&self, accepted: &Accepted, now: f64) -> Result<(), Refusal> {
        if accepted.expires.is_some_and(|end| now >= end + self.clock_skew) {
            return Err(Refusal::Expired);
        }
        if accepted.begins.is_some_and(|begin| now + self.clock_skew < begin) {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }
}

/// A claim that is seconds since 1970, if it is there.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Refusal::Malformed),
    }
}

/// The claim of this name, or the one that a path with dots leads to.
fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// A claim as the value of a field: texts, numbers and booleans, and lists of them with commas. None
/// for what a field cannot hold.
fn text(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.trim_matches([' ', '\t']).to_string(),
        Value::Number(_) | Value::Bool(_) => claim.to_string(),
        Value::Array(list) => {
            let mut joined = String::new();
            for item in list {
                // A comma in an item would make two of it.
                let item = match item {
                    Value::Array(_) => return None,
                    item => text(item).filter(|item| !item.contains(','))?,
                };
                joined = if joined.is_empty() { item } else { format!("{joined},{item}") };
            }
            joined
        }
        Value::Null | Value::Object(_) => return None,
    };
    let fits = !text.is_empty() && text.bytes().all(|byte| byte >= 0x20 && byte != 0x7f);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(claims: Value, path: &str) -> Option<String> {
        find(claims.as_object().unwrap(), path).and_then(text)
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "sub": "ada", "a.b": "whole", "a": {"b": "path", "c": {"d": 7}},
            "https://x.example/role": "admin"
        });
        for (path, expected) in [
            ("sub", Some("ada")),
            ("a.b", Some("whole")),
            ("a.c.d", Some("7")),
            ("https://x.example/role", Some("admin")),
            ("a", None),
            ("a.c", None),
            ("sub.x", None),
            ("none", None),
        ] {
            assert_eq!(value(claims.clone(), path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn only_what_a_field_can_hold_goes_on() {
        for (claim, expected) in [
            (json!(" a b "), Some("a b")),
            (json!("ä"), Some("ä")),
            (json!(1.5), Some("1.5")),
            (json!(true), Some("true")),
            (json!(["a", 1, false]), Some("a,1,false")),
            (json!(["a"]), Some("a")),
            (json!(""), None),
            (json!([]), None),
            (json!(null), None),
            (json!({}), None),
            (json!("a\r\nx-admin: 1"), None),
            (json!("a\u{7f}"), None),
            (json!(["a,b"]), None),
            (json!([["a"]]), None),
        ] {
            assert_eq!(text(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn a_token_is_in_time_up_to_the_skew() {
        let checks = Checks {
            issuers: Vec::new(),
            audiences: Vec::new(),
            require_expiry: true,
            clock_skew: 60.0,
        };
        let accepted = Accepted { expires: Some(1_000.0), begins: Some(500.0), values: Vec::new() };
        for (now, verdict) in [
            (439.0, Err(Refusal::NotYet)),
            (440.0, Ok(())),
            (1_059.0, Ok(())),
            (1_060.0, Err(Refusal::Expired)),
        ] {
            assert_eq!(checks.in_time(&accepted, now), verdict, "{now}");
        }
        let endless = Accepted { expires: None, begins: None, values: Vec::new() };
        assert_eq!(checks.in_time(&endless, 1e18), Ok(()));
    }
}
