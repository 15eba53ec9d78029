//! From a TOML file to a [`Config`], or to messages that point at its lines.
//!
//! `spec` describes the keys, `keys` and `limits` list them; `reader` reads tables by these
//! descriptions, `check` builds the `model` from what was read. One run reports every problem.
//! `candidate` and `change` make the configuration that a rollout tries beside another one.
//! Opens no sockets and no components; whether a filter accepts its `config` is found out later,
//! and [`Loaded::locate_filter_config`] says where in the file its complaint belongs.

pub mod case;

mod admin;
mod candidate;
mod change;
mod check;
mod deadline;
mod diagnostic;
mod dns;
mod dump;
mod endpoint;
mod expand;
mod filters;
mod keys;
mod limits;
mod matches;
mod mirror;
mod model;
mod overload;
mod pass;
mod positions;
mod problems;
mod reader;
mod rollout;
mod schema;
mod spec;
mod split;
mod syntax;
pub mod tls;
mod upstream;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

pub use self::candidate::{Candidate, Difference};
pub use self::change::apply;
pub use self::deadline::Deadline;
pub use self::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Place, Severity};
pub use self::dns::Dns;
pub use self::dump::REDACTED;
pub use self::endpoint::{Endpoint, Lookup};
pub use self::filters::BUILTIN_FILTERS;
pub use self::keys::ADMIN_ADDRESS_DEFAULT;
pub use self::limits::{
    BODY_CHUNK_BYTES_MAX, Backoff, CERTIFICATES_MAX, CHAIN_FILTERS_MAX, CONFIG_FILE_BYTES_MAX,
    CONFIG_KEY_PATH_BYTES_MAX, CompileLimits, DnsLimits, ENDPOINTS_MAX, FILTER_CONFIG_BYTES_MAX,
    FILTERS_MAX, FilterLimits, IGNORED_HEADERS_MAX, JudgeLimits, KvGrant, LISTENERS_MAX,
    LOG_LINE_BYTES_MAX, ListenerLimits, MATCH_VALUES_MAX, NAME_BYTES_MAX, NAME_SERVERS_MAX,
    NOTE_BYTES_MAX, NOTES_MAX, Outlier, PEER_PATTERNS_MAX, REFERENCED_FILE_BYTES_MAX,
    RETRY_CONDITIONS_MAX, ROUTES_MAX, RetryBudget, SOCKET_PATH_BYTES_MAX, SPLIT_LEGS_MAX,
    TOKEN_CHARS_MAX, TOKEN_CHARS_MIN, TRUSTED_PROXIES_MAX, UPSTREAMS_MAX, UpstreamLimits,
    VERSION_BYTES_MAX,
};
pub use self::mirror::Mirror;
pub use self::model::{
    AccessLog, AccessLogDestination, Admin, Config, Destination, FailPolicy, Filter, FilterSource,
    Grants, HeaderMatch, HeaderValueMatch, HostMatch, Isolation, Leg, Listener, PathMatch,
    Protocol, RateLimitGrant, Rollout, Route, Runtime, Split, Token, Upload, Upstream,
};
pub use self::overload::Overload;
pub use self::pass::Pass;
pub use self::schema::schema;
pub use self::upstream::{Balance, Check, Condition, HashKey, Health, Policy, Retry};

use self::diagnostic::SourceText;
use self::dump::{SecretValues, Secrets};
use self::positions::Positions;
pub(crate) use self::problems::{BoundedReadError, read_bounded};
use self::problems::{Context, Findings};
use self::reader::TableReader;
use self::syntax::SyntaxErrors;
use self::words::join;

/// A file that can be used, with what is needed to point into it later.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is hardly meant as it is written.
    pub warnings: Diagnostics,
    positions: Positions,
    referenced_files: BTreeSet<PathBuf>,
}

impl Loaded {
    /// A configuration that comes from no file. Messages are about `origin` as a whole.
    pub fn without_file(config: Config, origin: &str) -> Self {
        let values = config.secrets.values.clone();
        let positions = Positions::new(SourceText::new(origin, ""), BTreeMap::new(), values);
        let (warnings, referenced_files) = (Diagnostics::default(), BTreeSet::new());
        Loaded { config, warnings, positions, referenced_files }
    }

    /// The text of the file, as it was read: references are not expanded in it.
    pub fn text(&self) -> Arc<str> {
        self.positions.text()
    }

    /// An error at the key with this path, as in `listener[0].address` or `filter.limit.grants`;
    /// where the file does not have it, at the nearest table around it.
    pub fn locate(&self, key_path: &str, message: impl Into<String>) -> Diagnostic {
        self.positions.locate(key_path, message.into())
    }

    /// An error that a filter's `configure` returned, at the key of its `config` table that it
    /// names, as in `rules[2].set.name`; where there is no such key, at the nearest table around.
    pub fn locate_filter_config(&self, filter: &str, key_path: &str, message: &str) -> Diagnostic {
        let config = format!("{}.config", join("filter", filter));
        let (path, place) = filter_config_path(&config, key_path);
        self.locate(&path, format!("filter `{filter}` refuses its configuration: {place}{message}"))
    }

    /// Those of keys and certificates, which change by themselves: such a change is one of the
    /// generation, and none of what the file says.
    pub fn key_files(&self) -> BTreeSet<PathBuf> {
        let Config { listeners, upstreams, .. } = &self.config;
        let listeners = listeners.iter().filter_map(|it| it.tls.as_ref()).flat_map(|it| it.files());
        let upstreams = upstreams.iter().filter_map(|it| it.tls.as_ref()).flat_map(|it| it.files());
        listeners.chain(upstreams).collect()
    }

    /// Every file that this configuration was made from, components of filters and of their next
    /// versions included: those whose change calls for a new generation.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let filters = self.config.filters.iter();
        let versions = filters.flat_map(|filter| iter::once(filter).chain(filter.next.as_deref()));
        let components = versions.filter_map(|filter| match &filter.source {
            FilterSource::File(path) => Some(path.clone()),
            FilterSource::Builtin(_) | FilterSource::Uploaded(_) => None,
        });
        let mut files: BTreeSet<PathBuf> = components.collect();
        files.extend(self.key_files());
        files.extend(self.referenced_files.iter().cloned());
        files.insert(self.config.source.clone());
        files
    }
}

/// The path in the file of a key that `configure` named, and how a message begins that is about it.
fn filter_config_path(config: &str, key: &str) -> (String, String) {
    match key {
        "" => (config.to_owned(), String::new()),
        key if key.starts_with('[') => (format!("{config}{key}"), format!("`{key}`: ")),
        key => (format!("{config}.{key}"), format!("`{key}`: ")),
    }
}

/// Reads and checks the file at `path`, with the environment of this process. `help` says what to do
/// where it cannot be read, which is another thing for each way of naming it.
///
/// # Errors
/// Everything that keeps the file from being used, warnings included.
pub fn load(path: &Path, help: &str) -> Result<Loaded, Diagnostics> {
    let (name, source, text) = read_text(path, &WHAT, help)?;
    parse_source(&text, &name, source, &|variable| std::env::var(variable).ok())
}

/// What messages say of a kind of file.
struct FileKind {
    noun: &'static str,
    /// What to do about one that is too large.
    too_large: &'static str,
}

const WHAT: FileKind = FileKind {
    noun: "configuration",
    too_large: "move what is generated into the filters that use it",
};

/// Name, absolute path and text of a file; `help` is what to do about one that cannot be read.
fn read_text(
    path: &Path,
    kind: &FileKind,
    help: &str,
) -> Result<(String, PathBuf, String), Diagnostic> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot read the {}: {error}", kind.noun);
        Diagnostic::about_file(&name, message, help)
    };
    let source = std::path::absolute(path).map_err(unreadable)?;
    let bytes = read_bounded(&source, CONFIG_FILE_BYTES_MAX).map_err(|error| match error {
        BoundedReadError::Io(error) => unreadable(error),
        BoundedReadError::TooLarge => too_large(&name, kind),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|it| *it == b'\n');
        let message = format!("line {} is not UTF-8 text", line.count());
        Diagnostic::about_file(&name, message, "save the file as UTF-8")
    })?;
    Ok((name, source, text))
}

fn too_large(name: &str, kind: &FileKind) -> Diagnostic {
    let message = format!("the {} is larger than {CONFIG_FILE_BYTES_MAX} bytes", kind.noun);
    Diagnostic::about_file(name, message, kind.too_large)
}

/// Checks the text of a file called `file` in the directory `base`.
///
/// # Errors
/// Everything that keeps the text from being used, warnings included.
pub fn parse(
    text: &str,
    file: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Diagnostics> {
    let source = std::path::absolute(base.join(file)).unwrap_or_else(|_| base.join(file));
    parse_source(text, file, source, env)
}

fn parse_source(
    text: &str,
    name: &str,
    path: PathBuf,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Diagnostics> {
    if text.len() > CONFIG_FILE_BYTES_MAX {
        return Err(too_large(name, &WHAT).into());
    }
    let source = SourceText::new(name, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntax = SyntaxErrors::new(text, &errors);
    let base = path.parent().unwrap_or(Path::new("/")).to_owned();
    let context = Context::new(&base, env);
    let root = TableReader::new(&context, &keys::ROOT, String::new(), root.get_ref(), 0..0);
    let config = check::config(&context, &root, path);
    let (problems, findings) = context.finish(&source, syntax);
    let Some(mut config) = config.filter(|_| !problems.has_errors()) else {
        return Err(problems);
    };
    let Findings { positions, secret_paths, secret_values, files: referenced_files } = findings;
    let values = SecretValues(Arc::new(secret_values));
    let positions = Positions::new(source, positions, values.clone());
    let paths = candidate::with_inherited(secret_paths, &positions, &config);
    config.secrets = Secrets { paths, values };
    Ok(Loaded { config, warnings: problems, positions, referenced_files })
}
