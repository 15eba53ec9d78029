//! Where the keys of a file are, for messages that come up after it was read.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Severity, SourceText};
use super::dump::SecretValues;
use super::problems::Span;

/// The keys of one file, by their paths.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    source: SourceText,
    spans: BTreeMap<String, Span>,
    secret_values: SecretValues,
}

impl Positions {
    pub(super) fn new(
        source: SourceText,
        spans: BTreeMap<String, Span>,
        secret_values: SecretValues,
    ) -> Self {
        Positions { source, spans, secret_values }
    }

    /// The same keys under other paths; none: it is left out.
    pub(super) fn renamed(&self, rename: impl Fn(&str) -> Option<String>) -> Self {
        let spans = self.spans.iter();
        let spans = spans.filter_map(|(path, span)| Some((rename(path)?, span.clone()))).collect();
        Positions { spans, source: self.source.clone(), secret_values: self.secret_values.clone() }
    }

    /// The text of the file.
    pub(super) fn text(&self) -> std::sync::Arc<str> {
        self.source.text()
    }

    /// Does the file have the key with this path?
    pub(super) fn has(&self, key_path: &str) -> bool {
        self.spans.contains_key(key_path)
    }

    /// An error at the key with this path; where the file does not have it, at the nearest table
    /// around it; without one, about the file as a whole.
    pub(super) fn locate(&self, key_path: &str, message: String) -> Diagnostic {
        match self.nearest(key_path) {
            Some(span) => self.at(Severity::Error, span, message),
            None => self.source.about(Severity::Error, self.secret_values.removed_from(message)),
        }
    }

    /// A message at these bytes.
    pub(super) fn at(&self, severity: Severity, span: Span, message: String) -> Diagnostic {
        let message = self.secret_values.removed_from(message);
        self.source.diagnostic(severity, span, message, None)
    }

    fn nearest(&self, key_path: &str) -> Option<Span> {
        let mut path = key_path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}
