//! `pillion filter inspect`: what a component is, without running any of it.

use super::super::say;
use super::{name_of, size};
use crate::chain::Hook;
use crate::reload::read_component;
use crate::wasm::component::PACKAGE;
use crate::wasm::{Capability, CompileLimits, Compiler, FilterCode, Origin, check_imports};
use anyhow::{Context, bail};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Inspected { code, bytes } = Inspected::of(&arguments.file)?;
    say(&report(&arguments.file, &bytes, &code))?;
    Ok(ExitCode::SUCCESS)
}

/// A component that a sidecar would take, if it is granted what it imports.
pub(in super::super) struct Inspected {
    pub(in super::super) code: Arc<FilterCode>,
    pub(in super::super) bytes: Vec<u8>,
}

impl Inspected {
    /// Compiles it, or finds it compiled in the cache, and looks at it.
    pub(in super::super) fn of(file: &Path) -> anyhow::Result<Self> {
        let bytes = match read_component(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "there is no component `{}`\nhelp: `pillion filter build` says where it puts one",
                file.display()
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to read component `{}`", file.display()));
            }
        };
        let compiler = Compiler::new(None, CompileLimits::default());
        let compiler = compiler.context("failed to set up the cache of compiled filters")?;
        let name = name_of(file);
        let code = compiler.load(&name, &bytes)?;
        check_imports(&name, &code)?;
        Ok(Inspected { code, bytes })
    }
}

/// The hooks that it exports, in the order of an exchange.
pub(in super::super) fn hooks(code: &FilterCode) -> String {
    let exported = Hook::ALL.into_iter().filter(|hook| code.hooks().has(*hook));
    exported.map(Hook::name).collect::<Vec<_>>().join(", ")
}

fn report(file: &Path, bytes: &[u8], code: &FilterCode) -> String {
    let (mut contract, mut other) = (Vec::new(), Vec::new());
    for import in code.imported() {
        match import.strip_prefix(PACKAGE).and_then(|interface| interface.split_once('@')) {
            Some((interface, _)) => contract.push(interface.to_owned()),
            None => {
                let package = package(&import);
                if !other.contains(&package) {
                    other.push(package);
                }
            }
        }
    }
    let capabilities: Vec<&str> = code.imports().iter().map(|one| one.name()).collect();
    let list = |items: &[String]| if items.is_empty() { "-".into() } else { items.join(", ") };
    let needs = match &capabilities[..] {
        [] => "nothing that has to be granted".to_owned(),
        some => some.join(", "),
    };
    let stanza = stanza(&name_of(file), file, code);
    format!(
        "{}\n\n\
         component     {}, version {}\n\
         contract      {}\n\
         made with     {}\n\
         hooks         {}\n\
         imports       {}\n\
         also          {}\n\
         capabilities  {needs}\n\n\
         To let it run, name it in the `chain` of a route and add its table to the file:\n\n\
         {stanza}",
        file.display(),
        size(bytes.len()),
        code.version(),
        code.contract_version(),
        Origin::of(bytes),
        hooks(code),
        list(&contract),
        list(&other),
    )
}

/// `wasi:io@0.2.6` of `wasi:io/poll@0.2.6`.
fn package(import: &str) -> String {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let package = name.split_once('/').map_or(name, |(package, _)| package);
    format!("{package}@{version}")
}

/// The table of a configuration file that lets a filter run.
pub(in super::super) fn stanza(name: &str, file: &Path, code: &FilterCode) -> String {
    let path = file.to_string_lossy();
    let source = match file.is_absolute() || path.starts_with('.') {
        true => path.into_owned(),
        false => format!("./{path}"),
    };
    let mut lines = vec![format!("[filter.{name}]"), format!("source = {}", quoted(source))];
    let grants: Vec<&str> = code.imports().iter().copied().map(Capability::example).collect();
    if !grants.is_empty() {
        lines.push(format!("grants = {{ {} }}", grants.join(", ")));
    }
    if code.hooks().has(Hook::Configure) {
        lines.push("config = {}  # what it reads from here, its documentation says".to_owned());
    }
    lines.join("\n")
}

/// A text as TOML writes it.
fn quoted(text: String) -> String {
    toml::Value::String(text).to_string()
}
