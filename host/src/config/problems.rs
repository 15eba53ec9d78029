//! What one run over a file collects: problems, positions of keys, values that must stay secret,
//! files that were read. Shared by the readers of all tables.
//!
//! Knows nothing of what keys mean.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostics, Draft, Severity, SourceText};
use super::expand::{ExpandError, Reference, Syntax, expand};
use super::limits::REFERENCED_FILE_BYTES_MAX;
use super::reader::Text;
use super::syntax::SyntaxErrors;
use super::words::shortened;

/// Bytes of a file.
pub(super) type Span = Range<usize>;

/// Problems of one severity that are collected; further ones are counted.
const PROBLEMS_MAX: usize = 1_000;

/// Could a problem be the consequence of another one?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// It stands by itself.
    Certain,
    /// Something is missing; it may be in a part of the file that could not be parsed.
    Absence,
    /// It follows from all the rest, so it says nothing where some of that is wrong.
    Conclusion,
}

struct Problem {
    certainty: Certainty,
    span: Span,
    message: String,
    help: String,
}

/// Problems of one severity.
#[derive(Default)]
struct Problems {
    list: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    fn add(&mut self, problem: Problem) {
        if self.list.len() < PROBLEMS_MAX { self.list.push(problem) } else { self.omitted += 1 }
    }
}

/// What one run collects.
pub(super) struct Context<'a> {
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    collected: RefCell<Collected>,
}

#[derive(Default)]
struct Collected {
    errors: Problems,
    warnings: Problems,
    positions: BTreeMap<String, Span>,
    secret_paths: BTreeSet<String>,
    secret_values: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

/// What a run has collected besides problems.
pub(super) struct Findings {
    /// Where each key is, by its path.
    pub(super) positions: BTreeMap<String, Span>,
    /// Paths of keys whose values came from the environment or from files.
    pub(super) secret_paths: BTreeSet<String>,
    /// Those values.
    pub(super) secret_values: BTreeSet<String>,
    /// Files that were read for `${file:PATH}`.
    pub(super) files: BTreeSet<PathBuf>,
}

impl<'a> Context<'a> {
    pub(super) fn new(base: &'a Path, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { base, env, collected: RefCell::default() }
    }

    /// The file cannot be used.
    pub(super) fn error(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        let problem = Problem { certainty: Certainty::Certain, span, message, help };
        self.collected.borrow_mut().errors.add(problem);
    }

    /// The file cannot be used because something is not there.
    pub(super) fn absence(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        let problem = Problem { certainty: Certainty::Absence, span, message, help };
        self.collected.borrow_mut().errors.add(problem);
    }

    /// The file can be used, and is hardly what was meant.
    pub(super) fn warning(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), help.into());
        let problem = Problem { certainty: Certainty::Certain, span, message, help };
        self.collected.borrow_mut().warnings.add(problem);
    }

    /// The same, and only worth saying where there are no errors.
    pub(super) fn conclusion(&self, span: Span, message: impl Into<String>, help: &str) {
        let (message, help) = (message.into(), help.to_owned());
        let problem = Problem { certainty: Certainty::Conclusion, span, message, help };
        self.collected.borrow_mut().warnings.add(problem);
    }

    /// Counts an error where there are more than are told; a message that is costly to make is not
    /// needed then.
    pub(super) fn count_if_full(&self) -> bool {
        let errors = &mut self.collected.borrow_mut().errors;
        let full = errors.list.len() >= PROBLEMS_MAX;
        errors.omitted += usize::from(full);
        full
    }

    /// Remembers where the key with this path is.
    pub(super) fn locate(&self, path: String, span: Span) {
        self.collected.borrow_mut().positions.insert(path, span);
    }

    /// Replaces the references of a string. A problem with them is reported here.
    pub(super) fn text(&self, raw: &str, span: Span, path: &str, syntax: Syntax) -> Option<Text> {
        let expanded = expand(raw, syntax, |reference| {
            let value = match reference {
                Reference::Variable(name) => (self.env)(name).ok_or_else(|| {
                    let message = format!("environment variable `{name}` is not set");
                    (message, "set it where Pillion is started".to_owned())
                }),
                Reference::File(file) => self.referenced_file(file),
            }?;
            self.collected.borrow_mut().secret_values.insert(value.clone());
            Ok(value)
        });
        let (message, help) = match expanded {
            Ok(expanded) => {
                if expanded.referenced {
                    self.collected.borrow_mut().secret_paths.insert(path.to_owned());
                }
                let secret = expanded.referenced;
                return Some(Text { value: expanded.text, span, secret });
            }
            Err(ExpandError::Lookup(problem)) => problem,
            Err(ExpandError::Unclosed) => {
                ("`${` without `}`".to_owned(), "write `$$` for a dollar sign".to_owned())
            }
            Err(ExpandError::NoReference(inner)) => (
                format!("`${{{}}}` is no reference", inner.escape_debug()),
                "write `${NAME}` for an environment variable, `${file:PATH}` for the text of a \
                 file, `$$` for a dollar sign"
                    .to_owned(),
            ),
        };
        self.error(span, message, help);
        None
    }

    /// The text of a file named by a reference, or a message and what to do.
    fn referenced_file(&self, name: &str) -> Result<String, (String, String)> {
        let path = self.base.join(name);
        let shown = shortened(name);
        let text = read_bounded(&path, REFERENCED_FILE_BYTES_MAX).map_err(|error| match error {
            BoundedReadError::Io(error) => (
                format!("cannot read `{shown}`: {error}"),
                "paths are relative to the configuration file".to_owned(),
            ),
            BoundedReadError::TooLarge => (
                format!("`{shown}` is larger than {REFERENCED_FILE_BYTES_MAX} bytes"),
                "a reference is for a short text, such as a key".to_owned(),
            ),
        })?;
        let mut text = String::from_utf8(text).map_err(|_| {
            (format!("`{shown}` is not UTF-8 text"), "a reference is for a text".to_owned())
        })?;
        let trimmed = text.strip_suffix('\n').map(|it| it.strip_suffix('\r').unwrap_or(it));
        text.truncate(trimmed.unwrap_or(&text).len());
        self.collected.borrow_mut().files.insert(path);
        Ok(text)
    }

    /// The messages, with those of the parser. In the parts that did not parse only the parser's
    /// count; and what is missing may be there.
    pub(super) fn finish(
        self,
        source: &SourceText,
        syntax: SyntaxErrors,
    ) -> (Diagnostics, Findings) {
        let Collected { errors, warnings, positions, secret_paths, secret_values, files } =
            self.collected.into_inner();
        let parsed = syntax.is_empty();
        let mut omitted = syntax.omitted + errors.omitted;
        let draft = |severity, Problem { certainty: _, span, message, help }| {
            let help = (!help.is_empty()).then_some(help);
            Draft { severity, span, message, help }
        };
        let mut all: Vec<Draft> = Vec::new();
        for problem in errors.list {
            let doubtful = !parsed && problem.certainty == Certainty::Absence;
            if !doubtful && !syntax.is_broken(problem.span.start) {
                all.push(draft(Severity::Error, problem));
            }
        }
        for (span, message, help) in syntax.list {
            let (certainty, help) = (Certainty::Certain, help.to_owned());
            all.push(draft(Severity::Error, Problem { certainty, span, message, help }));
        }
        let sound = all.is_empty();
        omitted += if sound { warnings.omitted } else { 0 };
        for problem in warnings.list {
            if sound || parsed && problem.certainty == Certainty::Certain {
                all.push(draft(Severity::Warning, problem));
            }
        }
        let findings = Findings { positions, secret_paths, secret_values, files };
        (Diagnostics::new(source, all, omitted), findings)
    }
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum BoundedReadError {
    /// The system says no.
    Io(std::io::Error),
    /// It has more bytes than were asked for.
    TooLarge,
}

/// The bytes of a file, `max` at most. Does not trust the length the file system tells.
pub(crate) fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, BoundedReadError> {
    let file = std::fs::File::open(path).map_err(BoundedReadError::Io)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(BoundedReadError::Io)?;
    if bytes.len() > max { Err(BoundedReadError::TooLarge) } else { Ok(bytes) }
}
