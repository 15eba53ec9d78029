//! The SDK for Rust in a project: its sources, which this binary carries, or a place named by the
//! author.
//!
//! The sources are written as they are in the repository, in a small workspace of their own: a project
//! with them builds wherever it is, and keeps its version of the contract until it is told otherwise.

use super::super::say;
use super::files::{self, File};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toml::{Table, Value};

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Where the sources are put in a project.
pub(super) const VENDORED: &str = "vendor/pillion";
/// The package that filters depend on, and its folder in the repository.
const PACKAGE: &str = "pillion-sdk";
const FOLDER: &str = "sdk/rust";

/// Where a project has the SDK from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From this binary, into [`VENDORED`].
    Vendored,
    /// A folder: that of the SDK, or a checkout of Pillion.
    Folder(PathBuf),
    /// A Git repository.
    Git(String),
    /// A registry.
    Version(String),
}

impl Source {
    /// What `--sdk` says. Everything that looks like neither an address nor a version is a path.
    pub(super) fn parse(text: &str) -> Self {
        let is_git = text.contains("://") || text.starts_with("git@") || text.ends_with(".git");
        let is_version = text.starts_with(|first: char| first.is_ascii_digit())
            && text.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '+'));
        match text {
            _ if is_git => Source::Git(text.to_owned()),
            _ if is_version => Source::Version(text.to_owned()),
            _ => Source::Folder(PathBuf::from(text)),
        }
    }

    /// The right-hand side of the dependency in a manifest.
    pub(super) fn dependency(&self) -> anyhow::Result<String> {
        let text = |text: &str| Value::String(text.to_owned()).to_string();
        Ok(match self {
            Source::Vendored => format!("{{ path = {} }}", text(&format!("{VENDORED}/{FOLDER}"))),
            Source::Git(url) => format!("{{ git = {} }}", text(url)),
            Source::Version(version) => text(version),
            Source::Folder(path) => {
                let found = find(path)?;
                let path = found.to_str().context("the path of the SDK is not UTF-8")?;
                format!("{{ path = {} }}", text(path))
            }
        })
    }
}

/// The folder of the SDK in `path`, or in the checkout that `path` is.
fn find(path: &Path) -> anyhow::Result<PathBuf> {
    for folder in [path.to_owned(), path.join(FOLDER)] {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
        let manifest = manifest.ok().and_then(|text| text.parse::<Table>().ok());
        let name = manifest.as_ref().and_then(|it| it.get("package")?.get("name")?.as_str());
        if name == Some(PACKAGE) {
            return std::fs::canonicalize(&folder)
                .with_context(|| format!("failed to find `{}`", folder.display()));
        }
    }
    bail!(
        "there is no `{PACKAGE}` in `{}`\nhelp: `--sdk` names the folder of the SDK, a checkout of \
         Pillion, the URL of a Git repository, or a version; without it the project gets the SDK \
         of this binary",
        path.display()
    )
}

/// The sources with the manifest of their workspace, at their places in a project.
pub(super) fn vendored() -> anyhow::Result<Vec<File>> {
    let sources = FILES
        .iter()
        .map(|(path, text)| File { path: format!("{VENDORED}/{path}"), text: (*text).to_owned() });
    let manifest = File { path: format!("{VENDORED}/Cargo.toml"), text: workspace()? };
    Ok(sources.chain([manifest]).collect())
}

/// The manifest of the repository, with nothing in it but the SDK.
fn workspace() -> anyhow::Result<String> {
    let mut root: Table = include_str!("../../../../Cargo.toml").parse()?;
    root.retain(|key, _| key == "workspace");
    let workspace = root.get_mut("workspace").and_then(Value::as_table_mut);
    let workspace = workspace.context("the repository's manifest has no workspace")?;
    workspace.remove("default-members");
    let members = [FOLDER.to_owned(), format!("{FOLDER}/macros")].map(Value::String);
    workspace.insert("members".to_owned(), Value::Array(members.into()));
    let note = "# Written by `pillion filter new` and replaced by `pillion filter vendor`.\n";
    Ok(format!("{note}{root}"))
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    project: PathBuf,
}

/// `pillion filter vendor`: the SDK of this binary in place of the one that a project has.
pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let place = arguments.project.join(VENDORED);
    if !place.join(FOLDER).is_dir() {
        bail!(
            "there is no SDK in `{}` to replace\nhelp: run this in a project that `pillion filter \
             new` made without `--sdk`, or name its folder",
            place.display()
        );
    }
    files::replace(&arguments.project, VENDORED, &vendored()?)?;
    say(&format!("`{}` has the SDK {} now", place.display(), env!("CARGO_PKG_VERSION")))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_repository_a_version_or_a_folder() {
        let git = |url: &str| Source::Git(url.to_owned());
        for (text, source) in [
            ("https://example.com/pillion", git("https://example.com/pillion")),
            ("git@example.com:pillion", git("git@example.com:pillion")),
            ("../pillion.git", git("../pillion.git")),
            ("0.1", Source::Version("0.1".to_owned())),
            ("1.0.0-rc.1", Source::Version("1.0.0-rc.1".to_owned())),
            ("../pillion", Source::Folder("../pillion".into())),
            ("pillion", Source::Folder("pillion".into())),
        ] {
            assert_eq!(Source::parse(text), source, "{text}");
        }
    }

    #[test]
    fn a_checkout_leads_to_the_sdk_in_it() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sdk = std::fs::canonicalize(checkout.join(FOLDER)).unwrap();
        for place in [checkout.clone(), checkout.join(FOLDER)] {
            let dependency = Source::Folder(place).dependency().unwrap();
            assert_eq!(dependency, format!("{{ path = {:?} }}", sdk.display().to_string()));
        }
        let error = Source::Folder(checkout.join("wit")).dependency().unwrap_err().to_string();
        assert!(error.starts_with("there is no `pillion-sdk` in `"), "{error}");
    }

    #[test]
    fn every_source_of_the_sdk_is_carried() {
        let carried = |path: &str| FILES.iter().any(|(carried, _)| *carried == path);
        for path in ["sdk/rust/Cargo.toml", "sdk/rust/src/lib.rs", "sdk/rust/src/testing/mod.rs"] {
            assert!(carried(path), "{path}");
        }
        assert!(carried("sdk/rust/macros/src/lib.rs") && carried("wit/v0.1.0/hooks.wit"));
    }

    #[test]
    fn the_workspace_of_the_sdk_has_what_its_manifests_inherit() {
        let workspace: Table = workspace().unwrap().parse().unwrap();
        let workspace = &workspace["workspace"];
        assert_eq!(workspace["members"].as_array().unwrap().len(), 2);
        for inherited in ["package", "dependencies", "lints"] {
            assert!(workspace.get(inherited).is_some(), "{inherited}");
        }
    }
}
