//! Everything that keeps a generation from being published, collected in one run.
//!
//! Messages point into the file wherever something in the file is the reason.

use crate::config::{Diagnostic, Diagnostics};
use std::error::Error;
use std::fmt::{self, Write};

/// The messages of one attempt. Displays with a blank line between two.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Diagnostic>);

impl Problems {
    /// One more.
    pub(super) fn push(&mut self, problem: Diagnostic) {
        self.0.push(problem);
    }

    /// Both values, or the problems of both.
    ///
    /// # Errors
    /// One of them has problems.
    pub fn both<A, B>(
        one: Result<A, Problems>,
        other: Result<B, Problems>,
    ) -> Result<(A, B), Problems> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(mut problems), Err(more)) => {
                problems.0.extend(more.0);
                Err(problems.in_order())
            }
            (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
        }
    }

    /// `value` if there are none; else these, in order of their places.
    pub(super) fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.0.is_empty() { Ok(value) } else { Err(self.in_order()) }
    }

    fn in_order(mut self) -> Self {
        self.0.sort_by_key(|one| one.place.as_ref().map(|place| (place.line, place.column)));
        self
    }

    /// Each of them, as it is shown.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Problems {
    fn from(problem: Diagnostic) -> Self {
        Problems(vec![problem])
    }
}

impl From<Diagnostics> for Problems {
    fn from(problems: Diagnostics) -> Self {
        Problems(problems.iter().cloned().collect())
    }
}

impl From<Vec<Diagnostic>> for Problems {
    fn from(problems: Vec<Diagnostic>) -> Self {
        Problems(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }

    #[test]
    fn problems_are_shown_in_order_of_their_places() {
        let text = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nroute = [{ upstream = \
                    \"u\" }]\n[upstream.u]\nendpoints = [\"127.0.0.1:2\"]\n";
        let loaded =
            crate::config::parse(text, "p.toml", std::path::Path::new("/"), &|_| None).unwrap();
        let mut problems = Problems::default();
        problems.push(loaded.locate("upstream.u.endpoints", "second"));
        problems.push(loaded.locate("listener[0].address", "first"));
        let shown = problems.or(()).unwrap_err().to_string();
        assert!(shown.starts_with("p.toml:3:11: error: first\n"), "{shown}");
        assert!(shown.contains("^\n\np.toml:6:13: error: second\n"), "{shown}");
    }
}
