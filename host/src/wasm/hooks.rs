//! The hooks of a live guest, whichever way it runs: as a component, or directly as its module.
//!
//! Finds them and calls them; what an answer means and what a failure costs is not known here.

use super::component::FilterCode;
use super::direct;
use super::instance::{Data, HostRefusal, StartError};
use super::types::{self, BodyDecision, ConfigError, Head, HeadDecision, HookSet};
use crate::chain::{self, Hook, Outcome};
use wasmtime::component::{ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{Result, Store};

/// The hooks of an instance.
pub(super) enum Hooks {
    /// Through wasmtime's component runtime.
    Component(Box<ComponentHooks>),
    /// On the module inside.
    Direct(Box<direct::Hooks>),
}

type HeadHook = TypedFunc<(), (HeadDecision,)>;
type BodyHook = TypedFunc<(&'static [u8], bool), (BodyDecision,)>;
type Configure = TypedFunc<(&'static str,), (std::result::Result<(), ConfigError>,)>;
type Migrate = TypedFunc<(u32,), (std::result::Result<(), String>,)>;

/// Those that the component does not export are absent.
pub(super) struct ComponentHooks {
    configure: Option<Configure>,
    wanted_hooks: Option<TypedFunc<(), (HookSet,)>>,
    state_version: Option<TypedFunc<(), (u32,)>>,
    migrate: Option<Migrate>,
    on_request: Option<HeadHook>,
    on_request_body: Option<BodyHook>,
    on_request_trailers: Option<TypedFunc<(), ()>>,
    on_response: Option<HeadHook>,
    on_response_body: Option<BodyHook>,
    on_response_trailers: Option<TypedFunc<(), ()>>,
    on_complete: Option<TypedFunc<(types::Outcome,), ()>>,
}

impl Hooks {
    /// `configure`; nothing to do where it is not exported.
    pub(super) fn configure(
        &self,
        store: &mut Store<Data>,
        json: &str,
    ) -> Result<std::result::Result<(), ConfigError>> {
        match self {
            Hooks::Direct(hooks) => hooks.configure(store, json),
            Hooks::Component(hooks) => match &hooks.configure {
                Some(hook) => hook.call(store, (json,)).map(|(configured,)| configured),
                None => Ok(Ok(())),
            },
        }
    }

    /// `wanted-hooks`; nothing where it is not exported, which means all of them.
    pub(super) fn wanted_hooks(&self, store: &mut Store<Data>) -> Result<Option<chain::Hooks>> {
        let hooks = match self {
            Hooks::Direct(hooks) => return hooks.wanted_hooks(store),
            Hooks::Component(hooks) => hooks,
        };
        let Some(hook) = &hooks.wanted_hooks else { return Ok(None) };
        let (wanted,) = hook.call(store, ())?;
        let [bits] = wanted.as_array();
        Ok(Some(types::wanted_hooks(bits)))
    }

    /// `state-version`; 0 where it is not exported.
    pub(super) fn state_version(&self, store: &mut Store<Data>) -> Result<u32> {
        match self {
            Hooks::Direct(hooks) => hooks.state_version(store),
            Hooks::Component(hooks) => match &hooks.state_version {
                Some(hook) => hook.call(store, ()).map(|(version,)| version),
                None => Ok(0),
            },
        }
    }

    /// `migrate`.
    pub(super) fn migrate(
        &self,
        store: &mut Store<Data>,
        from: u32,
    ) -> Result<std::result::Result<(), String>> {
        match self {
            Hooks::Direct(hooks) => hooks.migrate(store, from),
            Hooks::Component(hooks) => {
                let found = hooks.migrate.as_ref().ok_or_else(|| absent(Hook::Migrate))?;
                found.call(store, (from,)).map(|(migrated,)| migrated)
            }
        }
    }

    /// `on-request` or `on-response`.
    pub(super) fn head(&self, hook: Hook, store: &mut Store<Data>) -> Result<Head> {
        let hooks = match self {
            Hooks::Direct(hooks) => return hooks.head(hook, store),
            Hooks::Component(hooks) => hooks,
        };
        let found = match hook {
            Hook::OnRequest => &hooks.on_request,
            Hook::OnResponse => &hooks.on_response,
            _ => &None,
        };
        let found = found.as_ref().ok_or_else(|| absent(hook))?;
        found.call(store, ()).map(|(decision,)| decision.into())
    }

    /// `on-request-body` or `on-response-body`.
    pub(super) fn body(
        &self,
        hook: Hook,
        store: &mut Store<Data>,
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision> {
        let hooks = match self {
            Hooks::Direct(hooks) => return hooks.body(hook, store, chunk, last),
            Hooks::Component(hooks) => hooks,
        };
        let found = match hook {
            Hook::OnRequestBody => &hooks.on_request_body,
            Hook::OnResponseBody => &hooks.on_response_body,
            _ => &None,
        };
        let found = found.as_ref().ok_or_else(|| absent(hook))?;
        found.call(store, (chunk, last)).map(|(decision,)| decision)
    }

    /// `on-request-trailers` or `on-response-trailers`.
    pub(super) fn trailers(&self, hook: Hook, store: &mut Store<Data>) -> Result<()> {
        let hooks = match self {
            Hooks::Direct(hooks) => return hooks.trailers(hook, store),
            Hooks::Component(hooks) => hooks,
        };
        let found = match hook {
            Hook::OnRequestTrailers => &hooks.on_request_trailers,
            Hook::OnResponseTrailers => &hooks.on_response_trailers,
            _ => &None,
        };
        found.as_ref().ok_or_else(|| absent(hook))?.call(store, ())
    }

    /// `on-complete`.
    pub(super) fn complete(&self, store: &mut Store<Data>, outcome: &Outcome) -> Result<()> {
        match self {
            Hooks::Direct(hooks) => hooks.complete(store, outcome),
            Hooks::Component(hooks) => {
                let found = hooks.on_complete.as_ref().ok_or_else(|| absent(Hook::OnComplete))?;
                found.call(store, (types::Outcome::from(outcome),))
            }
        }
    }
}

/// A hook the chain called although the guest does not have it: the chain asks `hooks` first.
pub(super) fn absent(hook: Hook) -> wasmtime::Error {
    HostRefusal::new(format!("`{}` is not exported", hook.name()))
}

impl ComponentHooks {
    /// The hooks of a component's instance, with the contract's signatures or not at all.
    pub(super) fn find(
        code: &FilterCode,
        instance: &Instance,
        store: &mut Store<Data>,
    ) -> std::result::Result<Self, StartError> {
        let mut finder = Finder { code, instance, store };
        Ok(ComponentHooks {
            configure: finder.find(Hook::Configure)?,
            wanted_hooks: finder.find(Hook::WantedHooks)?,
            state_version: finder.find(Hook::StateVersion)?,
            migrate: finder.find(Hook::Migrate)?,
            on_request: finder.find(Hook::OnRequest)?,
            on_request_body: finder.find(Hook::OnRequestBody)?,
            on_request_trailers: finder.find(Hook::OnRequestTrailers)?,
            on_response: finder.find(Hook::OnResponse)?,
            on_response_body: finder.find(Hook::OnResponseBody)?,
            on_response_trailers: finder.find(Hook::OnResponseTrailers)?,
            on_complete: finder.find(Hook::OnComplete)?,
        })
    }
}

struct Finder<'f> {
    code: &'f FilterCode,
    instance: &'f Instance,
    store: &'f mut Store<Data>,
}

impl Finder<'_> {
    fn find<P, R>(&mut self, hook: Hook) -> std::result::Result<Option<TypedFunc<P, R>>, StartError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let Some(export) = &self.code.exports[hook as usize] else { return Ok(None) };
        let function = self.instance.get_typed_func::<P, R>(&mut *self.store, export);
        let wrong = |error| StartError::Signature { hook, why: format!("{error:#}") };
        function.map(Some).map_err(wrong)
    }
}
