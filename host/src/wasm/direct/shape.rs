//! Which components are one core module in a wrapping, seen from their bytes.
//!
//! Runs where components are compiled. It answers with the same component and one export more, the
//! module, so that what is compiled once can be run in either way. Nothing is trusted because of it:
//! the component is validated with the export, and `link` checks every import and hook of the module.

use super::wasi;
use crate::wasm::component::PACKAGE;
use crate::wasm::origin::SDK_SECTION;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentExternalKind, ComponentTypeRef, ExternalKind,
    Parser, Payload, TypeRef,
};

/// Names of the export that `expose` adds, by what they say of the module.
pub(in crate::wasm) const MODULE_EXPORTS: [(&str, PostReturn); 2] = [
    ("pillion-direct-module", PostReturn::Always),
    ("pillion-direct-module-of-sdk", PostReturn::WithMemory),
];

/// When a module is to be told that its answer was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasm) enum PostReturn {
    /// Always, as the canonical ABI has it: who knows what it does then.
    Always,
    /// Where the answer handed memory over. What our SDK makes frees that and does nothing else; a
    /// module that says so and is none keeps what it would have freed, within its own limits.
    WithMemory,
}

/// The component with its main module exported too; none: it has another shape, or is not valid.
pub(in crate::wasm) fn expose(component: &[u8]) -> Option<Vec<u8>> {
    let module = u8::try_from(main_module(component).ok()??).ok().filter(|at| *at < 0x80)?;
    let told = if is_of_sdk(component) { PostReturn::WithMemory } else { PostReturn::Always };
    let (name, _) = MODULE_EXPORTS.into_iter().find(|(_, when)| *when == told)?;
    let length = u8::try_from(name.len()).ok()?;
    // Component model, binary format: an export section of one export of sort `core module`, without
    // a type of its own. All numbers are below 128, and so are their own LEB128 form.
    let mut section = vec![1, 0x00, length];
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(&[0x00, 0x11, module, 0x00]);
    let mut exposed = component.to_vec();
    exposed.extend_from_slice(&[EXPORT_SECTION, u8::try_from(section.len()).ok()?]);
    exposed.extend_from_slice(&section);
    Some(exposed)
}

const EXPORT_SECTION: u8 = 11;

/// Index of the one module with hooks that can be run by itself.
fn main_module(component: &[u8]) -> wasmparser::Result<Option<usize>> {
    // `parse_all` walks into nested parts; the stack says which of them are modules.
    let mut open: Vec<Part> = Vec::new();
    let mut modules: Vec<Module> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let outermost = open.is_empty();
        match payload? {
            Payload::ModuleSection { .. } => {
                if outermost {
                    modules.push(Module { standalone: true, ..Module::default() });
                }
                open.push(if outermost { Part::Module } else { Part::Other });
            }
            Payload::ComponentSection { .. } => open.push(Part::Other),
            Payload::End(_) => drop(open.pop()),
            Payload::ImportSection(imports) if open == [Part::Module] => {
                for import in imports.into_imports() {
                    let import = import?;
                    let function = matches!(import.ty, TypeRef::Func(_));
                    let known = import.module.starts_with(PACKAGE)
                        || wasi::known(import.module, import.name);
                    let Some(module) = modules.last_mut() else { return Ok(None) };
                    module.standalone &= function && known;
                }
            }
            Payload::ExportSection(exports) if open == [Part::Module] => {
                for export in exports {
                    let export = export?;
                    let Some(module) = modules.last_mut() else { return Ok(None) };
                    module.hooks |=
                        export.kind == ExternalKind::Func && export.name.starts_with(PACKAGE);
                }
            }
            // A module that comes from elsewhere would shift the indexes.
            Payload::ComponentImportSection(imports) if outermost => {
                for import in imports {
                    if matches!(import?.ty, ComponentTypeRef::Module(_)) {
                        return Ok(None);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) if outermost => {
                for alias in aliases {
                    let kind = match alias? {
                        wasmparser::ComponentAlias::InstanceExport { kind, .. } => Some(kind),
                        wasmparser::ComponentAlias::Outer { .. }
                        | wasmparser::ComponentAlias::CoreInstanceExport { .. } => None,
                    };
                    if kind == Some(ComponentExternalKind::Module) {
                        return Ok(None);
                    }
                }
            }
            Payload::ComponentExportSection(exports) if outermost => {
                for export in exports {
                    let export = export?;
                    let module = export.kind == ComponentExternalKind::Module;
                    let ours = MODULE_EXPORTS.iter().any(|(name, _)| *name == export.name.name);
                    if module || ours {
                        return Ok(None);
                    }
                }
            }
            Payload::ComponentCanonicalSection(functions) if outermost => {
                for function in functions {
                    if !plain(&function?) {
                        return Ok(None);
                    }
                }
            }
            _ => {}
        }
    }
    let mut mains = modules.iter().enumerate().filter(|(_, module)| module.hooks);
    Ok(match (mains.next(), mains.next()) {
        (Some((at, module)), None) if module.standalone => Some(at),
        _ => None,
    })
}

/// Was it made with the SDK for Rust?
fn is_of_sdk(component: &[u8]) -> bool {
    Parser::new(0).parse_all(component).any(|payload| {
        matches!(payload, Ok(Payload::CustomSection(section)) if section.name() == SDK_SECTION
            && section.data().ends_with(b"(Rust)"))
    })
}

#[derive(Default)]
struct Module {
    /// Imports functions of the contract and of WASI alone.
    standalone: bool,
    /// Exports functions of the contract.
    hooks: bool,
}

#[derive(PartialEq)]
enum Part {
    Module,
    Other,
}

/// Crosses the boundary in the way that is done by hand here: at once, strings as UTF-8.
fn plain(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().all(|option| {
                matches!(
                    option,
                    CanonicalOption::UTF8
                        | CanonicalOption::Memory(_)
                        | CanonicalOption::Realloc(_)
                        | CanonicalOption::PostReturn(_)
                )
            })
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceRep { .. }
        | CanonicalFunction::ResourceDrop { .. } => true,
        _ => false,
    }
}
