//! A compiled component, mapped: which hooks it exports, what it imports, and why it may be refused.
//!
//! Nothing of it runs here. Linking and configuring are the matter of `prepared`.

use super::cache::CacheError;
use super::compile::{COMPONENT_BYTES_MAX, CompileError};
use super::direct;
use super::engine::Runtime;
use crate::chain::{Hook, Hooks};
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};

/// Package of the contract.
pub const PACKAGE: &str = "pillion:filter/";
/// Version of the contract that this host speaks. A component made for another patch release of the
/// same minor version loads, as long as it imports no function that is not there.
pub const CONTRACT_VERSION: &str = "0.1.0";
/// Hexadecimal digits of a content hash that stand for a filter's version.
const VERSION_DIGITS: usize = 12;

/// Why a filter cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Over [`COMPONENT_BYTES_MAX`].
    #[error(
        "filter `{name}` has {bytes} bytes; a component has at most {} MiB",
        COMPONENT_BYTES_MAX >> 20
    )]
    TooLarge {
        /// The filter.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// Garbage, or the text format.
    #[error(
        "filter `{name}` is not a WebAssembly component: it does not begin as one; name the file \
         that a build for `wasm32-wasip2` made"
    )]
    NotWasm {
        /// The filter.
        name: String,
    },
    /// A module without component types.
    #[error(
        "filter `{name}` is a core WebAssembly module, not a component; build it for the target \
         `wasm32-wasip2`"
    )]
    CoreModule {
        /// The filter.
        name: String,
    },
    /// The compiler refused it, or did not come to an end.
    #[error("failed to compile component `{name}`")]
    Compile {
        /// The filter.
        name: String,
        /// Why.
        #[source]
        source: CompileError,
    },
    /// The cache could not be written.
    #[error("failed to keep the compiled filter")]
    Cache(#[source] CacheError),
    /// Compiled, and yet not to be mapped.
    #[error("failed to map the compiled form of component `{name}`: {why}")]
    Unusable {
        /// The filter.
        name: String,
        /// Why.
        why: String,
    },
    /// It would never be called.
    #[error("filter `{name}` exports no hook; was `#[filter]` forgotten?")]
    NoHook {
        /// The filter.
        name: String,
    },
    /// Made for another version of the contract.
    #[error(
        "filter `{name}` is made for another version of the contract: it has `{interface}`, and \
         this Pillion speaks version {CONTRACT_VERSION}; build it with an SDK of that version"
    )]
    OtherContract {
        /// The filter.
        name: String,
        /// The import or export that shows it.
        interface: String,
    },
    /// An export of the contract that is no hook.
    #[error("filter `{name}` exports `{interface}`, which is not a hook of the contract")]
    UnknownExport {
        /// The filter.
        name: String,
        /// The export.
        interface: String,
    },
    /// A hook with other parameters or results.
    #[error("hook `{}` of filter `{name}` does not have the contract's signature: {why}", hook.name())]
    WrongSignature {
        /// The filter.
        name: String,
        /// The hook.
        hook: Hook,
        /// What differs.
        why: String,
    },
    /// Neither the contract nor WASI has it.
    #[error(
        "filter `{name}` imports `{import}`, which no filter gets; filters may import the contract \
         (`{PACKAGE}…@{CONTRACT_VERSION}`) and WASI 0.2"
    )]
    UnknownImport {
        /// The filter.
        name: String,
        /// The import.
        import: String,
    },
    /// The interface is known and does not have this function, or has it with another signature.
    #[error("filter `{name}` cannot be linked: {why}")]
    Link {
        /// The filter.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// Capabilities without their grants.
    #[error(
        "filter `{name}` imports {}, which it is not granted; to grant {}, add \
         `{}` to its table", named(missing), if missing.len() == 1 { "it" } else { "them" }, grants(missing)
    )]
    NotGranted {
        /// The filter.
        name: String,
        /// What it wants and may not have; at least one.
        missing: Vec<Capability>,
    },
    /// Instantiating trapped, or took more memory or time than it may.
    #[error("filter `{name}` failed to start: {why}")]
    Start {
        /// The filter.
        name: String,
        /// What happened.
        why: String,
    },
    /// A hook that is called before any exchange trapped, or took more memory or time than it may.
    #[error("filter `{name}` failed in `{}`: {why}", hook.name())]
    ConfigureFailed {
        /// The filter.
        name: String,
        /// Which of them.
        hook: Hook,
        /// What happened.
        why: String,
    },
    /// `migrate` could not bring the state of the version that runs into its own form.
    #[error(
        "filter `{name}` refuses to take over the state of the version that runs, from state \
         version {from} to {to}: {message}; mend its `migrate`, or give the filter another name and \
         with it a map of its own"
    )]
    NotMigrated {
        /// The filter.
        name: String,
        /// State version of the version that runs.
        from: u32,
        /// Its own.
        to: u32,
        /// What is wrong, in the filter's words.
        message: String,
    },
    /// `configure` refused the configuration.
    #[error("filter `{name}` refuses its configuration: {}{message}", at_key(key))]
    Refused {
        /// The filter.
        name: String,
        /// Path of the offending key; empty: the table as a whole.
        key: String,
        /// What is wrong, in the filter's words.
        message: String,
    },
}

fn at_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// What a filter imports only with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Log lines.
    Log,
    /// Time.
    Clock,
    /// Random bytes.
    Random,
    /// Metrics of its own.
    Metrics,
    /// A map kept by the host.
    Kv,
    /// Token buckets kept by the host.
    RateLimit,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Capability; 6] = [
        Capability::Log,
        Capability::Clock,
        Capability::Random,
        Capability::Metrics,
        Capability::Kv,
        Capability::RateLimit,
    ];

    /// Name of the interface and of the grant.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Log => "log",
            Capability::Clock => "clock",
            Capability::Random => "random",
            Capability::Metrics => "metrics",
            Capability::Kv => "kv",
            Capability::RateLimit => "rate-limit",
        }
    }

    /// What stands in the filter's `grants` to grant it.
    pub fn example(self) -> &'static str {
        match self {
            Capability::Log => "log = true",
            Capability::Clock => "clock = true",
            Capability::Random => "random = true",
            Capability::Metrics => "metrics = true",
            Capability::Kv => "kv = true",
            Capability::RateLimit => "rate-limit = { requests = 100, per = \"1s\", burst = 20 }",
        }
    }
}

fn named(missing: &[Capability]) -> String {
    let names: Vec<String> = missing.iter().map(|one| format!("`{}`", one.name())).collect();
    let noun = if names.len() == 1 { "the capability" } else { "the capabilities" };
    format!("{noun} {}", names.join(", "))
}

fn grants(missing: &[Capability]) -> String {
    let examples: Vec<&str> = missing.iter().map(|one| one.example()).collect();
    format!("grants = {{ {} }}", examples.join(", "))
}

/// A component, compiled and mapped. Dropping the last handle unmaps it.
pub struct FilterCode {
    pub(super) runtime: Runtime,
    pub(super) component: Component,
    pub(super) exports: [Option<ComponentExportIndex>; Hook::ALL.len()],
    hooks: Hooks,
    imports: Vec<Capability>,
    /// Its module can be had by itself (`direct`).
    pub(super) direct_form: Option<(&'static str, direct::PostReturn)>,
    content: blake3::Hash,
    code_bytes: u64,
}

impl FilterCode {
    /// Hash of the component.
    pub fn content(&self) -> blake3::Hash {
        self.content
    }

    pub(super) fn new(
        name: &str,
        runtime: Runtime,
        component: Component,
        content: blake3::Hash,
        code_bytes: u64,
    ) -> Result<Self, LoadError> {
        let ty = component.component_type();
        let mut hooks = Hooks::default();
        let mut exports = [const { None }; Hook::ALL.len()];
        for (interface, _) in ty.exports(runtime.engine()) {
            let Some(local) = contract_interface(name, interface)? else { continue };
            // Bindings generators export what a world `use`s along with the hooks.
            let mut known = local == "types";
            for hook in Hook::ALL.into_iter().filter(|hook| hook.interface() == local) {
                known = true;
                let instance = component.get_export_index(None, interface);
                let function =
                    instance.and_then(|i| component.get_export_index(Some(&i), hook.name()));
                let Some(function) = function else {
                    let why = format!("`{interface}` has no function of that name");
                    return Err(LoadError::WrongSignature { name: name.to_owned(), hook, why });
                };
                exports[hook as usize] = Some(function);
                hooks = hooks.with(hook);
            }
            if !known {
                let (name, interface) = (name.to_owned(), interface.to_owned());
                return Err(LoadError::UnknownExport { name, interface });
            }
        }
        if !Hook::ALL.into_iter().any(|hook| hook.is_of_exchange() && hooks.has(hook)) {
            return Err(LoadError::NoHook { name: name.to_owned() });
        }
        let mut imports = Vec::new();
        for (interface, item) in ty.imports(runtime.engine()) {
            // An interface of types alone needs nothing.
            let needs = match item.ty {
                ComponentItem::ComponentInstance(instance) => instance
                    .exports(runtime.engine())
                    .any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_))),
                _ => true,
            };
            let Some(local) = contract_interface(name, interface)? else { continue };
            let capability = Capability::ALL.into_iter().find(|one| one.name() == local);
            imports.extend(capability.filter(|_| needs));
        }
        let direct_form = direct::MODULE_EXPORTS
            .into_iter()
            .find(|(name, _)| component.get_export_index(None, name).is_some());
        Ok(FilterCode {
            runtime,
            component,
            exports,
            hooks,
            imports,
            direct_form,
            content,
            code_bytes,
        })
    }

    /// The hooks it exports, whether it wants them called or not.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The capabilities it imports.
    pub fn imports(&self) -> &[Capability] {
        &self.imports
    }

    /// The version of the contract that its hooks are of.
    pub fn contract_version(&self) -> String {
        let ty = self.component.component_type();
        let mut interfaces = ty.exports(self.runtime.engine()).map(|(name, _)| name);
        let version = interfaces.find_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
        version.map_or(CONTRACT_VERSION, |(_, version)| version).to_owned()
    }

    /// Names of everything it imports, as in `pillion:filter/request@0.1.0`.
    pub fn imported(&self) -> Vec<String> {
        let ty = self.component.component_type();
        ty.imports(self.runtime.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// The version of a filter: the first digits of the hash of its component.
    pub fn version(&self) -> Arc<str> {
        Arc::from(&self.content.to_hex()[..VERSION_DIGITS])
    }

    /// Hash of the component, as hexadecimal digits.
    pub fn content_hash(&self) -> String {
        self.content.to_hex().to_string()
    }

    /// Size of its machine code and data on disk.
    pub fn code_bytes(&self) -> u64 {
        self.code_bytes
    }
}

/// The name within the contract's package, of an interface of the version spoken here; none for an
/// interface of another package.
pub(super) fn contract_interface<'i>(
    name: &str,
    interface: &'i str,
) -> Result<Option<&'i str>, LoadError> {
    let Some(rest) = interface.strip_prefix(PACKAGE) else { return Ok(None) };
    match rest.split_once('@') {
        Some((local, version)) if contract_version(version) => Ok(Some(local)),
        _ => {
            let (name, interface) = (name.to_owned(), interface.to_owned());
            Err(LoadError::OtherContract { name, interface })
        }
    }
}

/// A version of the contract that is spoken here?
pub(super) fn contract_version(version: &str) -> bool {
    same_minor(version, CONTRACT_VERSION)
}

/// Do two versions agree but for the patch number? Before 1.0, the minor number is the breaking one.
pub(super) fn same_minor(one: &str, other: &str) -> bool {
    let minor = |version: &str| {
        let mut parts = version.splitn(3, '.');
        let pair = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
        parts.next()?.parse::<u32>().ok()?;
        Some(pair)
    };
    minor(one).is_some() && minor(one) == minor(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_agree_up_to_the_patch_number() {
        for (version, agrees) in [
            ("0.1.0", true),
            ("0.1.7", true),
            ("0.2.0", false),
            ("1.1.0", false),
            ("0.1", false),
            ("0.1.0-rc1", false),
            ("", false),
        ] {
            assert_eq!(same_minor(version, CONTRACT_VERSION), agrees, "{version}");
        }
    }

    #[test]
    fn capabilities_are_the_interfaces_of_the_contract() {
        let contract = include_str!("../../../wit/v0.1.0/capabilities.wit");
        let interfaces: Vec<&str> = contract
            .lines()
            .filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {"))
            .collect();
        assert_eq!(interfaces, Capability::ALL.map(Capability::name));
    }
}
