//! `pillion filter build`: the component of a project, by the author's own cargo.
//!
//! Cargo's messages go to the terminal as they are. The component ends up at one place below the
//! project, wherever cargo keeps its output, so that cases and configurations can name it.

use super::super::say;
use super::inspect::{Inspected, hooks};
use super::size;
use anyhow::{Context, bail};
use pillion_filter_builder::{TARGET, ensure_target};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The profile where none is named.
const PROFILE_DEFAULT: &str = "release";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The project, or a folder in it
    #[arg(value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// The profile of cargo to build with
    #[arg(long, value_name = "NAME", default_value = PROFILE_DEFAULT)]
    profile: String,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let project = find(&arguments.project)?;
    let Some(components) = build(&project, &["--profile", &arguments.profile])? else {
        // Cargo has said why.
        return Ok(ExitCode::FAILURE);
    };
    for component in components {
        let Inspected { code, bytes } = Inspected::of(&component)?;
        say(&format!("{}  {}, hooks: {}", shown(&component), size(bytes.len()), hooks(&code)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the manifest that `place` is in or below.
pub(in super::super) fn find(place: &Path) -> anyhow::Result<PathBuf> {
    let from = std::fs::canonicalize(place)
        .with_context(|| format!("failed to find `{}`", place.display()))?;
    let found = from.ancestors().find(|folder| folder.join("Cargo.toml").is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "there is no `Cargo.toml` in `{}` or above it\nhelp: run this in the project of a \
             filter; `pillion filter new NAME` makes one",
            from.display()
        )
    })
}

/// Builds the project, and returns where its components are. None: cargo failed and has said why.
pub(in super::super) fn build(
    project: &Path,
    profile: &[&str],
) -> anyhow::Result<Option<Vec<PathBuf>>> {
    ensure_target(project)?;
    let mut command = Command::new("cargo");
    command.args(["build", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.args(profile).current_dir(project).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut cargo = command.spawn().context("failed to start `cargo`")?;
    let mut built = Vec::new();
    if let Some(messages) = cargo.stdout.take() {
        for line in BufReader::new(messages).lines() {
            let line = line.context("failed to read what `cargo` says")?;
            built.extend(component(&line, project));
        }
    }
    if !cargo.wait().context("failed to wait for `cargo`")?.success() {
        return Ok(None);
    }
    if built.is_empty() {
        bail!(
            "the project in `{}` has no component\nhelp: add `crate-type = [\"cdylib\"]` below \
             `[lib]` in its `Cargo.toml`",
            project.display()
        );
    }
    built.iter().map(|built| at_its_place(built, project)).collect::<anyhow::Result<_>>().map(Some)
}

/// The component that a message of cargo tells of, if it does and the component is the project's own.
fn component(message: &str, project: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is = |value: &Value, text: &str| value.as_str() == Some(text);
    let target = &message["target"];
    let is_filter = is(&message["reason"], "compiler-artifact")
        && target["crate_types"].as_array()?.iter().any(|it| is(it, "cdylib"))
        && Path::new(message["manifest_path"].as_str()?).starts_with(project);
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.find(|file| is_filter && file.ends_with(".wasm")).map(PathBuf::from)
}

/// Puts a component below `target` of the project, where it is unless cargo's output goes elsewhere.
fn at_its_place(built: &Path, project: &Path) -> anyhow::Result<PathBuf> {
    // `<target>/wasm32-wasip2/<profile>/<file>`
    let mut parts: Vec<_> = built.iter().rev().take(3).collect();
    parts.reverse();
    let place = project.join("target").join(parts.into_iter().collect::<PathBuf>());
    let same = |path: &Path| std::fs::canonicalize(path).ok();
    if same(&place) != same(built) {
        put(built, &place)?;
    }
    Ok(place)
}

/// Copies a file so that nobody sees half of it.
pub(in super::super) fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().unwrap_or(to);
    let part = to.with_extension(format!("part-{}", std::process::id()));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::copy(from, &part))
        .and_then(|_| std::fs::rename(&part, to))
        .with_context(|| format!("failed to write `{}`", to.display()))
}

/// A path as it is shortest from here.
pub(in super::super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(crate_type: &str, manifest: &str, file: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": manifest,
            "target": { "crate_types": [crate_type] },
            "filenames": ["/t/x.rlib", file],
        })
        .to_string()
    }

    #[test]
    fn a_component_is_what_cargo_makes_of_a_cdylib_of_the_project() {
        let (project, built) = (Path::new("/p"), "/t/wasm32-wasip2/release/x.wasm");
        for (said, found) in [
            (message("cdylib", "/p/Cargo.toml", built), true),
            (message("cdylib", "/p/member/Cargo.toml", built), true),
            (message("rlib", "/p/Cargo.toml", built), false),
            (message("cdylib", "/other/Cargo.toml", built), false),
            (message("cdylib", "/p/Cargo.toml", "/t/x.so"), false),
            (r#"{"reason":"build-finished","success":true}"#.to_owned(), false),
            ("not JSON".to_owned(), false),
        ] {
            assert_eq!(component(&said, project).is_some(), found, "{said}");
        }
    }

    #[test]
    fn a_component_built_elsewhere_is_put_below_the_project() {
        let root = std::env::temp_dir().join(format!("pillion-put-{}", std::process::id()));
        let built = root.join("shared/wasm32-wasip2/release/x.wasm");
        std::fs::create_dir_all(built.parent().unwrap()).unwrap();
        std::fs::write(&built, "1").unwrap();
        let project = root.join("project");
        let place = at_its_place(&built, &project).unwrap();
        assert_eq!(place, project.join("target/wasm32-wasip2/release/x.wasm"));
        std::fs::write(&built, "2").unwrap();
        at_its_place(&built, &project).unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "2");
        // What is there already is left alone.
        assert_eq!(at_its_place(&place, &project).unwrap(), place);
        let folder = std::fs::read_dir(place.parent().unwrap()).unwrap();
        assert_eq!(folder.count(), 1);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_project_is_found_from_within_and_missed_with_advice() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = std::fs::canonicalize(root).unwrap();
        assert_eq!(find(&root.join("src/cli")).unwrap(), found);
        let error = find(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("`pillion filter new NAME` makes one"), "{error}");
    }
}
