//! Links a component with what it may import: the messages, the capabilities it is granted, and a
//! WASI with nothing behind it. Everything else is refused, with the reason.

use super::capabilities;
use super::component::{Capability, FilterCode, LoadError, contract_interface, same_minor};
use super::instance::Data;
use super::messages;
use super::prepared::Granted;
use super::wasi;
use crate::chain::Hook;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{
    ComponentNamedList, InstancePre, Lift, Linker, LinkerInstance, Lower, ResourceType, Val,
};
use wasmtime::{Result, StoreContextMut};

/// An interface that is being defined. Its functions count their calls.
pub(super) struct Interface<'l>(LinkerInstance<'l, Data>);

impl Interface<'_> {
    /// A function with types that are known.
    pub(super) fn func_wrap<F, P, R>(&mut self, name: &str, function: F) -> Result<()>
    where
        F: Fn(StoreContextMut<'_, Data>, P) -> Result<R> + Send + Sync + 'static,
        P: ComponentNamedList + Lift + 'static,
        R: ComponentNamedList + Lower + 'static,
    {
        self.0.func_wrap(name, move |mut store: StoreContextMut<'_, Data>, parameters: P| {
            store.data_mut().host_calls += 1;
            function(store, parameters)
        })
    }

    /// A function of any type.
    pub(super) fn func_new(
        &mut self,
        name: &str,
        function: impl Fn(StoreContextMut<'_, Data>, ComponentFunc, &[Val], &mut [Val]) -> Result<()>
        + Send
        + Sync
        + 'static,
    ) -> Result<()> {
        self.0.func_new(name, function)
    }

    /// A resource.
    pub(super) fn resource(
        &mut self,
        name: &str,
        ty: ResourceType,
        end: impl Fn(StoreContextMut<'_, Data>, u32) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        self.0.resource(name, ty, end)
    }
}

/// Everything that can be decided about a component without running it.
pub(super) fn link(
    name: &str,
    code: &FilterCode,
    granted: &Granted,
) -> std::result::Result<InstancePre<Data>, LoadError> {
    let engine = code.runtime.engine();
    let unlinkable = |error: wasmtime::Error| LoadError::Link {
        name: name.to_owned(),
        why: format!("{error:#}"),
    };
    let unknown = |import: &str| LoadError::UnknownImport {
        name: name.to_owned(),
        import: import.to_owned(),
    };
    let wanted = Capability::ALL.into_iter().filter(|one| code.imports().contains(one));
    let missing: Vec<Capability> = wanted.filter(|one| !granted.has(*one)).collect();
    if !missing.is_empty() {
        return Err(LoadError::NotGranted { name: name.to_owned(), missing });
    }
    let mut linker = Linker::<Data>::new(engine);
    let mut resources = Vec::new();
    for (import, item) in code.component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(imported) = item.ty else {
            return Err(unknown(import));
        };
        let mut interface = Interface(linker.instance(import).map_err(unlinkable)?);
        if let Some(local) = contract_interface(name, import)? {
            let capability = Capability::ALL.into_iter().find(|one| one.name() == local);
            let linked = match capability {
                Some(capability) if granted.has(capability) => {
                    capability_interface(&mut interface, capability, granted)
                }
                // An interface of which only types are used needs no grant.
                Some(_) => Ok(()),
                None => match message_interface(&mut interface, local) {
                    Some(linked) => linked,
                    None => return Err(unknown(import)),
                },
            };
            linked.map_err(unlinkable)?;
        } else if let Some(path) = wasi_path(import) {
            wasi::link(&mut interface, engine, path, &imported, &mut resources)
                .map_err(unlinkable)?;
        } else {
            return Err(unknown(import));
        }
    }
    linker.instantiate_pre(&code.component).map_err(unlinkable)
}

fn message_interface(interface: &mut Interface<'_>, local: &str) -> Option<Result<()>> {
    Some(match local {
        "types" => Ok(()),
        "request" => messages::request(interface),
        "request-body" => messages::body(interface, Hook::OnRequestBody),
        "response" => messages::response(interface),
        "response-body" => messages::body(interface, Hook::OnResponseBody),
        "trailers" => messages::trailers(interface),
        "notes" => messages::notes(interface),
        _ => return None,
    })
}

fn capability_interface(
    interface: &mut Interface<'_>,
    capability: Capability,
    granted: &Granted,
) -> Result<()> {
    match capability {
        Capability::Log => capabilities::log(interface),
        Capability::Clock => capabilities::clock(interface),
        Capability::Random => capabilities::random(interface),
        Capability::Metrics => capabilities::metrics(interface),
        Capability::Kv => match &granted.kv {
            Some(store) => capabilities::kv(interface, store.clone()),
            None => Ok(()),
        },
        Capability::RateLimit => match &granted.rate_limit {
            Some(buckets) => capabilities::rate_limit(interface, buckets.clone()),
            None => Ok(()),
        },
    }
}

/// `cli/stdout` of `wasi:cli/stdout@0.2.6`.
fn wasi_path(import: &str) -> Option<&str> {
    let (path, version) = import.strip_prefix("wasi:")?.split_once('@')?;
    same_minor(version, wasi::VERSION).then_some(path)
}
