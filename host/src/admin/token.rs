//! The token of the admin interface, and whether a request has it.

use crate::http::{Name, RequestHead};
use std::fmt;

/// What a request has to show. Only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl Token {
    /// This text.
    pub fn new(text: &str) -> Self {
        Token(blake3::hash(text.as_bytes()))
    }

    /// Is it in the request: one `authorization` that says `Bearer` and the token?
    pub(super) fn is_in(&self, request: &RequestHead) -> bool {
        let mut fields = request.fields.get_all(Name::known("authorization"));
        let (Some(value), None) = (fields.next(), fields.next()) else { return false };
        let Some((scheme, shown)) = value.split_at_checked(b"Bearer ".len()) else { return false };
        // Hashes are compared in constant time, and say nothing of the length.
        scheme.eq_ignore_ascii_case(b"Bearer ") && blake3::hash(shown.trim_ascii()) == self.0
    }
}

/// Shows nothing of it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&str]) -> RequestHead {
        let mut request = RequestHead::default();
        for value in values {
            request.fields.append(Name::known("authorization"), value.as_bytes());
        }
        request
    }

    #[test]
    fn only_the_token_itself_is_taken() {
        let token = Token::new("correct horse battery");
        for right in ["Bearer correct horse battery", "bearer  correct horse battery"] {
            assert!(token.is_in(&with(&[right])), "{right}");
        }
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer correct horse batter"],
            &["Bearer correct horse batterx"],
            &["Bearer correct horse batteryy"],
            &["Bearer Correct horse battery"],
            &["Basic correct horse battery"],
            &["correct horse battery"],
            &["Bearer correct horse battery", "Bearer correct horse battery"],
        ] {
            assert!(!token.is_in(&with(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::new("correct horse battery")), "Token(<redacted>)");
    }
}
