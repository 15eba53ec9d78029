//! From a case file of `pillion test` to a [`CaseFile`], or to messages that point at its lines.
//!
//! `keys` describes the file, `read` reads cases and steps, `message` what goes in, `expect` what has
//! to come out, `model` is what they make. Runs nothing: that is the matter of the module `cases`.

mod base64;
mod expect;
mod keys;
mod message;
mod model;
mod read;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Diagnostics, Severity, SourceText};
use super::filters;
use super::limits::CONFIG_FILE_BYTES_MAX;
use super::model::FilterSource;
use super::positions::Positions;
use super::problems::{Context, Findings, Span};
use super::reader::TableReader;
use super::syntax::SyntaxErrors;
use super::{FileKind, SecretValues};

pub use self::base64::{decode, encode};
pub use self::expect::{FAILURES, HOOKS};
pub use self::keys::{
    CASE_BODY_BYTES_MAX, CASE_FIELDS_MAX, CASES_MAX, CHUNKS_MAX, LISTED_MAX, NOW_DEFAULT, STEPS_MAX,
};
pub use self::model::{
    Answer, BodyWanted, Budget, Case, Expect, FailureWanted, FieldWanted, FieldsWanted,
    ForwardedWanted, LoadErrorWanted, LogLevel, LogWanted, MetricWanted, NoteWanted, Payload,
    Request, RequestWanted, Setup, Step, TextWanted, Wanted,
};

/// A case file that can be played, with what is needed to point into it and to rewrite it.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// As the user named it.
    pub name: Arc<str>,
    /// Where it is.
    pub path: PathBuf,
    /// The component under test.
    pub filter: FilterSource,
    /// In file order; at least one.
    pub cases: Vec<Case>,
    /// Other files that its cases are made of.
    pub files: Vec<PathBuf>,
    text: Arc<str>,
    positions: Positions,
}

impl CaseFile {
    /// An error at the key with this path, as in `case[0].request`; where the file does not have
    /// it, at the nearest table around it.
    pub fn locate(&self, key_path: &str, message: impl Into<String>) -> Diagnostic {
        self.positions.locate(key_path, message.into())
    }

    /// An error at these bytes of the file.
    pub fn at(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.positions.at(Severity::Error, span, message.into())
    }

    /// An error that `configure` returned, at the key of the `config` table of `setup` that it names.
    pub fn locate_filter_config(&self, setup: &Setup, key: &str, message: &str) -> Diagnostic {
        let (path, place) = super::filter_config_path(&setup.config_path, key);
        self.locate(&path, format!("the filter refuses its configuration: {place}{message}"))
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Reads and checks the case file at `path`, with the environment of this process.
///
/// # Errors
/// Everything that keeps the file from being played.
pub fn load(path: &Path) -> Result<CaseFile, Diagnostics> {
    // Opening a named pipe would wait for its writer.
    if std::fs::metadata(path).is_ok_and(|it| !it.is_file()) {
        let name = path.display().to_string();
        return Err(Diagnostic::about_file(&name, "it is not a regular file", HELP).into());
    }
    let (name, source, text) = super::read_text(path, &WHAT, HELP)?;
    parse_source(&text, &name, source, &|variable| std::env::var(variable).ok())
}

/// What to do about a file that cannot be read.
const HELP: &str = "name case files, or directories with case files in them";

const WHAT: FileKind = FileKind {
    noun: "case file",
    too_large: "divide it, and put long bodies into files of their own",
};

/// Checks the text of a case file called `file` in the directory `base`.
///
/// # Errors
/// Everything that keeps the text from being played.
pub fn parse(
    text: &str,
    file: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<CaseFile, Diagnostics> {
    let path = std::path::absolute(base.join(file)).unwrap_or_else(|_| base.join(file));
    parse_source(text, file, path, env)
}

fn parse_source(
    text: &str,
    name: &str,
    path: PathBuf,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<CaseFile, Diagnostics> {
    if text.len() > CONFIG_FILE_BYTES_MAX {
        return Err(super::too_large(name, &WHAT).into());
    }
    let source = SourceText::new(name, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntax = SyntaxErrors::new(text, &errors);
    let base = path.parent().unwrap_or(Path::new("/")).to_owned();
    let context = Context::new(&base, env);
    let root = TableReader::new(&context, &keys::ROOT, String::new(), root.get_ref(), 0..0);
    let filter = root.text("filter").and_then(|text| filters::read_source(&root, &text));
    let read = read::cases(&root, matches!(filter, Some(FilterSource::Builtin(_))));
    let (problems, findings) = context.finish(&source, syntax);
    let Some(filter) = filter.filter(|_| !problems.has_errors()) else { return Err(problems) };
    let Findings { positions, secret_paths: _, secret_values, files } = findings;
    let secrets = SecretValues(Arc::new(secret_values));
    let mut files: Vec<PathBuf> = files.into_iter().collect();
    files.extend(read.files);
    Ok(CaseFile {
        name: name.into(),
        filter: read::found_above(filter, &path),
        cases: read.cases,
        files,
        text: text.into(),
        positions: Positions::new(source, positions, secrets),
        path,
    })
}

/// JSON Schema (draft 2020-12) of a case file.
pub fn schema() -> Value {
    super::schema::of(&keys::ROOT, "Pillion case file")
}
