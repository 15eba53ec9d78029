//! From the `filter` of a case file to a filter that can be played, or to a message at the line that
//! is to blame.
//!
//! A component is compiled once and mapped for each file; what runs of it is each case's own.

use super::check::{Mismatch, like};
use super::play::Player;
use super::shown;
use crate::config::case::{Case, CaseFile, LoadErrorWanted};
use crate::config::{self, Diagnostic, FilterSource};
use crate::reload::{chain, read_component, spec};
use crate::wasm::{Compiler, FilterCode, LoadError};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// Where components come from.
pub struct Components {
    compiler: Compiler,
    instead: Option<FilterSource>,
}

impl Components {
    /// Those that the files name, or `instead` of them all this one.
    pub fn new(compiler: Compiler, instead: Option<FilterSource>) -> Self {
        Components { compiler, instead }
    }

    /// The code of a file's filter.
    pub(super) fn code_of(&self, file: &CaseFile) -> Loading {
        let source = self.instead.as_ref().unwrap_or(&file.filter);
        let name = name_of(source);
        let code = read(source).and_then(|bytes| {
            self.compiler.load(&name, &bytes).map_err(|error| Problem::Refused(chain(&error)))
        });
        Loading { name, code }
    }
}

/// The component that a file names, if it is a file.
pub(super) fn component_path(file: &CaseFile) -> Option<PathBuf> {
    match &file.filter {
        FilterSource::File(path) => Some(path.clone()),
        FilterSource::Builtin(_) | FilterSource::Uploaded(_) => None,
    }
}

/// Why there is no code.
#[derive(Clone)]
enum Problem {
    /// The component cannot be read; what to do about it.
    Unreadable { message: String, help: &'static str },
    /// It is none that can be loaded.
    Refused(String),
}

/// A filter that can be loaded again and again, or the reason why not.
#[derive(Clone)]
pub(super) struct Loading {
    name: Arc<str>,
    code: Result<Arc<FilterCode>, Problem>,
}

impl Loading {
    /// Is there no component at all? Then no case says anything about it.
    pub(super) fn unreadable(&self, file: &CaseFile) -> Option<Diagnostic> {
        match &self.code {
            Err(Problem::Unreadable { message, help }) => {
                let help = Some((*help).to_owned());
                Some(Diagnostic { help, ..file.locate("filter", message.clone()) })
            }
            Err(Problem::Refused(_)) | Ok(_) => None,
        }
    }
}

/// A filter that was not loaded.
struct Refusal {
    diagnostic: Diagnostic,
    /// Without its place.
    message: String,
    /// The key that `configure` named.
    key: Option<String>,
}

impl Loading {
    /// A filter of its own for a case.
    pub(super) fn player(&self, file: &CaseFile, case: &Case) -> Result<Player, Box<Diagnostic>> {
        self.load(file, case).map_err(|refusal| Box::new(refusal.diagnostic))
    }

    /// How a filter that must not load does other than expected.
    pub(super) fn check_refusal(
        &self,
        file: &CaseFile,
        case: &Case,
        wanted: &LoadErrorWanted,
    ) -> Vec<Mismatch> {
        let mut found = Vec::new();
        let mut differs = |span: &std::ops::Range<usize>, what: &str, expected, got, rewrite| {
            let (span, what) = (span.clone(), format!("load_error{what}"));
            found.push(Mismatch { span, what, expected, got, rewrite });
        };
        let Err(Refusal { diagnostic, message, key }) = self.load(file, case) else {
            let (expected, got) = ("a filter that does not load", "it loads");
            differs(&wanted.span, "", expected.to_owned(), got.to_owned(), None);
            return found;
        };
        if let Some(wanted) = &wanted.key
            && Some(&wanted.value) != key.as_ref()
        {
            let expected = shown::shown_text(&wanted.value);
            let no_key = || format!("no key, but: {message}");
            let got = key.as_ref().map_or_else(no_key, |key| shown::shown_text(key));
            let rewrite = key.as_ref().map(|key| shown::toml_text(key));
            differs(&wanted.span, ".key", expected, got, rewrite);
        }
        if let Some(wanted) = &wanted.message
            && !like(&wanted.value, message.as_bytes())
        {
            let (expected, got) = (shown::conditions(&wanted.value), shown::shown_text(&message));
            let exact = shown::is_exact(&wanted.value);
            let rewrite = exact.then(|| shown::toml_text(&message));
            differs(&wanted.span, ".message", expected, got, rewrite);
        }
        let line = diagnostic.place.map_or(0, |place| place.line as u64);
        if let Some(wanted) = &wanted.line
            && wanted.value != line
        {
            let (expected, got) = (wanted.value.to_string(), line.to_string());
            differs(&wanted.span, ".line", expected, got.clone(), Some(got));
        }
        found
    }

    fn load(&self, file: &CaseFile, case: &Case) -> Result<Player, Refusal> {
        let code = self.code.clone().map_err(|problem| {
            let (Problem::Refused(message) | Problem::Unreadable { message, .. }) = problem;
            let diagnostic = file.locate("filter", message.clone());
            Refusal { diagnostic, message, key: None }
        })?;
        let setup = &case.setup;
        let filter = config::Filter {
            name: self.name.clone(),
            version: None,
            source: file.filter.clone(),
            config: setup.config.clone(),
            grants: setup.grants.clone(),
            limits: setup.limits.clone(),
            fail_policy: setup.fail_policy,
            isolation: setup.isolation,
            next: None,
        };
        Player::load(case, spec(&filter), code).map_err(|error| refusal(file, case, error))
    }
}

fn refusal(file: &CaseFile, case: &Case, error: LoadError) -> Refusal {
    let text = chain(&error);
    match error {
        LoadError::Refused { key, message, .. } => {
            let diagnostic = file.locate_filter_config(&case.setup, &key, &message);
            Refusal { diagnostic, message, key: Some(key) }
        }
        error => {
            let path = match &error {
                LoadError::NotGranted { .. } => &case.setup.grants_path,
                LoadError::ConfigureFailed { .. } => &case.setup.config_path,
                _ => "filter",
            };
            Refusal { diagnostic: file.locate(path, text.clone()), message: text, key: None }
        }
    }
}

/// What messages call a filter.
fn name_of(source: &FilterSource) -> Arc<str> {
    match source {
        FilterSource::Builtin(name) => Arc::from(name.as_str()),
        FilterSource::File(path) => {
            path.file_stem().map_or(Arc::from("filter"), |stem| stem.to_string_lossy().into())
        }
        FilterSource::Uploaded(_) => Arc::from("filter"),
    }
}

fn read(source: &FilterSource) -> Result<Cow<'_, [u8]>, Problem> {
    match source {
        FilterSource::Builtin(name) => match pillion_filters::shipped(name) {
            Some(shipped) => Ok(shipped.component.into()),
            None => Err(Problem::Unreadable {
                message: format!("there is no shipped filter `{name}`"),
                help: "name one of the shipped filters, or a component",
            }),
        },
        FilterSource::File(path) => {
            read_component(path).map(Cow::Owned).map_err(|error| Problem::Unreadable {
                message: format!("failed to read component `{}`: {error}", path.display()),
                help: "build the filter, or correct the path; it is relative to this file, or to a \
                       directory above it",
            })
        }
        FilterSource::Uploaded(upload) => Ok(Cow::Borrowed(upload.bytes())),
    }
}
