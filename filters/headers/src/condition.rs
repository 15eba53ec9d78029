//! When a rule applies: tests of the method, the path and the fields.
//!
//! All tests of a condition must hold. Cheap ones come first, and what no test asks for is not
//! fetched from the host.

use alloc::string::String;
use alloc::vec::Vec;

/// When a rule applies. Without tests: always.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Condition {
    /// One of these, in their exact case; empty: any.
    pub(crate) methods: Vec<String>,
    pub(crate) path: Option<PathTest>,
    /// Of the request.
    pub(crate) header: Option<FieldTest>,
    /// Of the response.
    pub(crate) response_header: Option<FieldTest>,
}

/// A test of the path, without the query.
#[derive(Debug, PartialEq)]
pub(crate) enum PathTest {
    Exact(String),
    /// Whole segments: `/api` holds for `/api` and `/api/x`, not for `/apix`.
    Prefix(String),
}

/// A test of a field, by its name in lower case.
#[derive(Debug, PartialEq)]
pub(crate) enum FieldTest {
    Present {
        name: String,
    },
    Absent {
        name: String,
    },
    /// One of the field's lines has this value, in its exact case.
    Equals {
        name: String,
        value: String,
    },
}

/// What conditions look at.
pub(crate) trait Seen {
    fn method(&self) -> String;
    fn path(&self) -> String;
    /// The lines of a request field.
    fn header(&self, name: &str) -> Vec<String>;
    /// The lines of a response field; none while there is no response.
    fn response_header(&self, name: &str) -> Vec<String>;
}

impl Condition {
    pub(crate) fn holds(&self, seen: &impl Seen) -> bool {
        (self.methods.is_empty() || self.methods.contains(&seen.method()))
            && self.path.as_ref().is_none_or(|test| test.holds(&seen.path()))
            && self.header.as_ref().is_none_or(|test| test.holds(&seen.header(test.name())))
            && self
                .response_header
                .as_ref()
                .is_none_or(|test| test.holds(&seen.response_header(test.name())))
    }
}

impl PathTest {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
            }),
        }
    }
}

impl FieldTest {
    fn name(&self) -> &str {
        match self {
            Self::Present { name } | Self::Absent { name } | Self::Equals { name, .. } => name,
        }
    }

    fn holds(&self, lines: &[String]) -> bool {
        match self {
            Self::Present { .. } => !lines.is_empty(),
            Self::Absent { .. } => lines.is_empty(),
            Self::Equals { value, .. } => lines.contains(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Get;

    impl Seen for Get {
        fn method(&self) -> String {
            "GET".to_owned()
        }

        fn path(&self) -> String {
            "/api/users".to_owned()
        }

        fn header(&self, name: &str) -> Vec<String> {
            match name {
                "x-tenant" => vec!["blue".to_owned(), "Green".to_owned()],
                "x-empty" => vec![String::new()],
                _ => Vec::new(),
            }
        }

        fn response_header(&self, name: &str) -> Vec<String> {
            match name {
                "content-type" => vec!["text/plain".to_owned()],
                _ => Vec::new(),
            }
        }
    }

    fn path(test: PathTest) -> bool {
        Condition { path: Some(test), ..Condition::default() }.holds(&Get)
    }

    fn equals(name: &str, value: &str) -> FieldTest {
        FieldTest::Equals { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn no_test_always_holds() {
        assert!(Condition::default().holds(&Get));
    }

    #[test]
    fn methods_are_alternatives_in_their_exact_case() {
        for (methods, holds) in
            [(&["GET"][..], true), (&["POST", "GET"], true), (&["POST"], false), (&["get"], false)]
        {
            let methods = methods.iter().map(|&method| method.to_owned()).collect();
            let condition = Condition { methods, ..Condition::default() };
            assert_eq!(condition.holds(&Get), holds, "{condition:?}");
        }
    }

    #[test]
    fn paths_are_compared_whole_or_by_segments() {
        for (exact, holds) in [("/api/users", true), ("/api", false), ("/api/users/", false)] {
            assert_eq!(path(PathTest::Exact(exact.to_owned())), holds, "{exact}");
        }
        for (prefix, holds) in [
            ("/", true),
            ("/api", true),
            ("/api/", true),
            ("/api/users", true),
            ("/api/user", false),
            ("/ap", false),
            ("/api/users/", false),
            ("/API", false),
        ] {
            assert_eq!(path(PathTest::Prefix(prefix.to_owned())), holds, "{prefix}");
        }
    }

    #[test]
    fn fields_are_there_absent_or_equal() {
        let name = |name: &str| name.to_owned();
        for (test, holds) in [
            (FieldTest::Present { name: name("x-tenant") }, true),
            (FieldTest::Present { name: name("x-empty") }, true),
            (FieldTest::Present { name: name("x-other") }, false),
            (FieldTest::Absent { name: name("x-tenant") }, false),
            (FieldTest::Absent { name: name("x-other") }, true),
            (equals("x-tenant", "blue"), true),
            (equals("x-tenant", "Green"), true),
            (equals("x-tenant", "green"), false),
            (equals("x-empty", ""), true),
            (equals("x-other", ""), false),
        ] {
            let condition = Condition { header: Some(test), ..Condition::default() };
            assert_eq!(condition.holds(&Get), holds, "{condition:?}");
        }
        let response_header = Some(equals("content-type", "text/plain"));
        assert!(Condition { response_header, ..Condition::default() }.holds(&Get));
    }

    #[test]
    fn every_test_must_hold() {
        let both = |method: &str, value: &str| Condition {
            methods: vec![method.to_owned()],
            header: Some(equals("x-tenant", value)),
            ..Condition::default()
        };
        assert!(both("GET", "blue").holds(&Get));
        assert!(!both("GET", "red").holds(&Get));
        assert!(!both("PUT", "blue").holds(&Get));
    }
}
