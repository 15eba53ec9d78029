//! Gives a module its imports, and makes instances of it.

use super::hooks::Hooks;
use super::memory::Guest;
use super::shape::PostReturn;
use super::{capabilities, messages, wasi};
use crate::chain::Hook;
use crate::wasm::component::{Capability, PACKAGE, contract_version};
use crate::wasm::instance::{Data, HostRefusal};
use crate::wasm::prepared::Granted;
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Result, Store};

/// A module with its imports, ready to be instantiated.
pub(in crate::wasm) struct Pre {
    pre: InstancePre<Data>,
    /// Exported names of its hooks.
    names: [Option<Box<str>>; Hook::ALL.len()],
    told: PostReturn,
}

/// Links a module that `shape` found. An error means that it is not what it seemed to be.
pub(in crate::wasm) fn link(
    engine: &Engine,
    module: &Module,
    granted: &Granted,
    told: PostReturn,
) -> Result<Pre> {
    let mut linker = Linker::<Data>::new(engine);
    let mut linked: Vec<&str> = Vec::new();
    for import in module.imports() {
        let interface = import.module();
        if interface.starts_with("wasi:") {
            if !wasi::define(&mut linker, interface, import.name())? {
                return Err(unknown(interface));
            }
        } else if !linked.contains(&interface) {
            linked.push(interface);
            contract(&mut linker, interface, granted)?;
        }
    }
    let mut names = [const { None }; Hook::ALL.len()];
    for export in module.exports() {
        if !matches!(export.ty(), ExternType::Func(_)) {
            continue;
        }
        let Some((interface, function)) = export.name().split_once('#') else { continue };
        let hook = Hook::ALL.into_iter().find(|hook| hook.name() == function);
        if let Some(hook) = hook
            && local_name(interface) == Some(hook.interface())
        {
            names[hook as usize] = Some(export.name().into());
        }
    }
    Ok(Pre { pre: linker.instantiate_pre(module)?, names, told })
}

impl Pre {
    /// The hooks the module exports.
    pub(in crate::wasm) fn has(&self, hook: Hook) -> bool {
        self.names[hook as usize].is_some()
    }

    /// An instance in `store`. Guest code may run.
    pub(in crate::wasm) fn instantiate(&self, store: &mut Store<Data>) -> Result<Hooks> {
        let instance = self.pre.instantiate(&mut *store)?;
        let Some(memory) = instance.get_memory(&mut *store, "memory") else {
            return Err(HostRefusal::new("its module exports no memory"));
        };
        let realloc = match instance.get_func(&mut *store, "cabi_realloc") {
            Some(realloc) => Some(realloc.typed(&*store)?),
            None => None,
        };
        store.data_mut().guest = Some(Box::new(Guest { memory, realloc }));
        if let Some(initialize) = instance.get_func(&mut *store, "_initialize") {
            initialize.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
        }
        Hooks::find(&instance, store, &self.names, self.told)
    }
}

fn contract(linker: &mut Linker<Data>, interface: &str, granted: &Granted) -> Result<()> {
    let capability = |one: Capability| granted.has(one);
    match local_name(interface) {
        Some("request") => messages::request(linker, interface),
        Some("request-body") => messages::body(linker, interface, Hook::OnRequestBody),
        Some("response") => messages::response(linker, interface),
        Some("response-body") => messages::body(linker, interface, Hook::OnResponseBody),
        Some("trailers") => messages::trailers(linker, interface),
        Some("notes") => messages::notes(linker, interface),
        Some("log") if capability(Capability::Log) => capabilities::log(linker, interface),
        Some("clock") if capability(Capability::Clock) => capabilities::clock(linker, interface),
        Some("random") if capability(Capability::Random) => capabilities::random(linker, interface),
        Some("metrics") if capability(Capability::Metrics) => {
            capabilities::metrics(linker, interface)
        }
        Some("kv") => match &granted.kv {
            Some(store) => capabilities::kv(linker, interface, store.clone()),
            None => Err(unknown(interface)),
        },
        Some("rate-limit") => match &granted.rate_limit {
            Some(buckets) => capabilities::rate_limit(linker, interface, buckets.clone()),
            None => Err(unknown(interface)),
        },
        _ => Err(unknown(interface)),
    }
}

/// `request` of `pillion:filter/request@0.1.0`.
fn local_name(interface: &str) -> Option<&str> {
    let (local, version) = interface.strip_prefix(PACKAGE)?.split_once('@')?;
    contract_version(version).then_some(local)
}

fn unknown(interface: &str) -> wasmtime::Error {
    HostRefusal::new(format!("its module imports `{interface}`, which it does not get"))
}
