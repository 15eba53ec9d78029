//! Where the keys of a file are, for messages that come up after it was read.

use std::collections::BTreeMap;

use super::SecretValues;
use super::diagnostic::{Diagnostic, Severity, SourceText};
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

    /// An error at the key with this path; where the file does not have it, at the nearest table
    /// around it.
    pub(super) fn locate(&self, key_path: &str, message: String) -> Diagnostic {
        let span = self.nearest(key_path).unwrap_or(0..0);
        self.at(Severity::Error, span, message)
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
