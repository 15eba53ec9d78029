//! What is told to browsers: the answer to a preflight, and the fields of other responses (Fetch
//! standard section 3.3).
//!
//! The lists are field values made once. Knows nothing of the host: fields come out as pairs.

use alloc::string::String;

use pillion_sdk::LocalResponse;

use crate::origin::Origins;

pub(crate) const ALLOW_ORIGIN: &str = "access-control-allow-origin";
pub(crate) const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
pub(crate) const EXPOSE_HEADERS: &str = "access-control-expose-headers";

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) origins: Origins,
    pub(crate) methods: Option<String>,
    pub(crate) headers: Option<String>,
    pub(crate) expose: Option<String>,
    pub(crate) credentials: bool,
    /// Seconds.
    pub(crate) max_age: Option<String>,
    pub(crate) private_network: bool,
}

impl Policy {
    /// The value of `access-control-allow-origin` for a request with this `origin`, if it is allowed.
    /// With any origin the value is the same for all requests, without one too, so that a cache may
    /// keep one response for all.
    pub(crate) fn allowed<'o>(&self, origin: Option<&'o str>) -> Option<&'o str> {
        match &self.origins {
            Origins::Any => Some("*"),
            listed @ Origins::Listed(_) => origin.filter(|origin| listed.allow(origin)),
        }
    }

    /// Does a response depend on the request's origin?
    pub(crate) fn varies(&self) -> bool {
        self.origins != Origins::Any
    }

    /// The answer to a preflight from an origin with this answer of [`allowed`](Self::allowed). The
    /// browser compares the lists with what it asked for.
    pub(crate) fn preflight(&self, allowed: Option<&str>, asks_private: bool) -> LocalResponse {
        let Some(allowed) = allowed else {
            let reply = LocalResponse::text(403, "the origin is not allowed\n");
            return reply.header("vary", "origin");
        };
        let mut reply = LocalResponse::new(204).header(ALLOW_ORIGIN, allowed);
        for (name, value) in [
            ("access-control-allow-methods", self.methods.as_deref()),
            ("access-control-allow-headers", self.headers.as_deref()),
            ("access-control-max-age", self.max_age.as_deref()),
            (ALLOW_CREDENTIALS, self.credentials.then_some("true")),
            (
                "access-control-allow-private-network",
                (self.private_network && asks_private).then_some("true"),
            ),
            ("vary", self.varies().then_some("origin")),
        ] {
            if let Some(value) = value {
                reply = reply.header(name, value);
            }
        }
        reply
    }
}

/// Does `vary`, line by line, name this field already?
pub(crate) fn names(vary: &[String], field: &str) -> bool {
    vary.iter().flat_map(|line| line.split(',')).any(|name| {
        let name = name.trim_matches([' ', '\t']);
        name == "*" || name.eq_ignore_ascii_case(field)
    })
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    #[test]
    fn a_field_is_named_alone_among_others_or_by_a_star() {
        for (line, named) in [
            ("Origin", true),
            ("accept-encoding ,\torigin", true),
            ("*", true),
            ("accept", false),
            ("x-origin", false),
            ("", false),
        ] {
            assert_eq!(names(&[line.to_owned()], "origin"), named, "{line}");
        }
        assert!(names(&["accept".to_owned(), "origin".to_owned()], "origin"));
        assert!(!names(&[], "origin"));
    }
}
