//! Calls into a module: parameters are lowered, answers lifted, what the guest handed over is freed.

use super::memory::{bytes, elements, give, no_such_case, text, too_large, value, word};
use super::shape::PostReturn;
use crate::chain::{self, Hook, Outcome};
use crate::wasm::instance::{Data, HostRefusal};
use crate::wasm::types::{self, BodyDecision, ConfigError, Field, Head, LocalResponse};
use std::time::Duration;
use wasmtime::{Instance, Result, Store, TypedFunc, WasmParams, WasmResults};

/// The hooks of a module's instance; those it does not export are absent.
pub(in crate::wasm) struct Hooks {
    configure: Option<Answering<(u32, u32)>>,
    /// Its answer is no place, but the flags themselves.
    wanted_hooks: Option<Answering<()>>,
    state_version: Option<TypedFunc<(), u32>>,
    migrate: Option<Answering<(u32,)>>,
    on_request: Option<Answering<()>>,
    on_request_body: Option<Answering<(u32, u32, u32)>>,
    on_request_trailers: Option<TypedFunc<(), ()>>,
    on_response: Option<Answering<()>>,
    on_response_body: Option<Answering<(u32, u32, u32)>>,
    on_response_trailers: Option<TypedFunc<(), ()>>,
    on_complete: Option<TypedFunc<Completed, ()>>,
}

/// `on-complete.outcome`, flattened.
type Completed = (u32, u32, u32, u32, u32, u32, u64, u64, u64, u32, u64);

/// A hook that answers with the place of its answer, and the function that takes it back.
struct Answering<P> {
    call: TypedFunc<P, u32>,
    post_return: Option<TypedFunc<u32, ()>>,
    told: PostReturn,
}

impl Hooks {
    /// The hooks, which `names` are the exported names of.
    pub(super) fn find(
        instance: &Instance,
        store: &mut Store<Data>,
        names: &[Option<Box<str>>; Hook::ALL.len()],
        told: PostReturn,
    ) -> Result<Self> {
        let mut finder = Finder { instance, store, names, told };
        Ok(Hooks {
            configure: finder.answering(Hook::Configure)?,
            wanted_hooks: finder.answering(Hook::WantedHooks)?,
            state_version: finder.find(Hook::StateVersion)?,
            migrate: finder.answering(Hook::Migrate)?,
            on_request: finder.answering(Hook::OnRequest)?,
            on_request_body: finder.answering(Hook::OnRequestBody)?,
            on_request_trailers: finder.find(Hook::OnRequestTrailers)?,
            on_response: finder.answering(Hook::OnResponse)?,
            on_response_body: finder.answering(Hook::OnResponseBody)?,
            on_response_trailers: finder.find(Hook::OnResponseTrailers)?,
            on_complete: finder.find(Hook::OnComplete)?,
        })
    }

    /// `configure`; nothing to do where it is not exported.
    pub(in crate::wasm) fn configure(
        &self,
        store: &mut Store<Data>,
        json: &str,
    ) -> Result<std::result::Result<(), ConfigError>> {
        let Some(hook) = &self.configure else { return Ok(Ok(())) };
        let (at, length) = hand_over(store, json.as_bytes())?;
        hook.call(store, (at, length), |memory, answer, budget| {
            let result = value::<20>(memory, answer, 4)?;
            Ok(match result[0] {
                0 => Ok(()),
                1 => Err(ConfigError {
                    key: budget.text(memory, word(result, 4), word(result, 8))?,
                    message: budget.text(memory, word(result, 12), word(result, 16))?,
                }),
                _ => return Err(no_such_case()),
            })
        })
    }

    /// `wanted-hooks`; nothing where it is not exported.
    pub(in crate::wasm) fn wanted_hooks(
        &self,
        store: &mut Store<Data>,
    ) -> Result<Option<chain::Hooks>> {
        let Some(hook) = &self.wanted_hooks else { return Ok(None) };
        hook.call(store, (), |_, flags, _| Ok(Some(types::wanted_hooks(flags))))
    }

    /// `state-version`; 0 where it is not exported.
    pub(in crate::wasm) fn state_version(&self, store: &mut Store<Data>) -> Result<u32> {
        self.state_version.as_ref().map_or(Ok(0), |hook| hook.call(store, ()))
    }

    /// `migrate`.
    pub(in crate::wasm) fn migrate(
        &self,
        store: &mut Store<Data>,
        from: u32,
    ) -> Result<std::result::Result<(), String>> {
        let found = self.migrate.as_ref().ok_or_else(|| absent(Hook::Migrate))?;
        found.call(store, (from,), |memory, answer, budget| {
            let result = value::<12>(memory, answer, 4)?;
            Ok(match result[0] {
                0 => Ok(()),
                1 => Err(budget.text(memory, word(result, 4), word(result, 8))?),
                _ => return Err(no_such_case()),
            })
        })
    }

    /// `on-request` and `on-response`.
    pub(in crate::wasm) fn head(&self, hook: Hook, store: &mut Store<Data>) -> Result<Head> {
        let found = match hook {
            Hook::OnRequest => &self.on_request,
            Hook::OnResponse => &self.on_response,
            _ => &None,
        };
        let found = found.as_ref().ok_or_else(|| absent(hook))?;
        found.call(store, (), |memory, answer, budget| {
            Ok(match value::<1>(memory, answer, 4)?[0] {
                0 => Head::Proceed,
                1 => Head::SkipBody,
                2 => Head::WaitForBody,
                3 => {
                    let decision = value::<24>(memory, answer, 4)?;
                    Head::Respond(Box::new(budget.local_response(memory, &decision[4..])?))
                }
                _ => return Err(no_such_case()),
            })
        })
    }

    /// `on-request-body` and `on-response-body`.
    pub(in crate::wasm) fn body(
        &self,
        hook: Hook,
        store: &mut Store<Data>,
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision> {
        let found = match hook {
            Hook::OnRequestBody => &self.on_request_body,
            Hook::OnResponseBody => &self.on_response_body,
            _ => &None,
        };
        let found = found.as_ref().ok_or_else(|| absent(hook))?;
        let (at, length) = hand_over(store, chunk)?;
        found.call(store, (at, length, u32::from(last)), |memory, answer, budget| {
            let decision = value::<24>(memory, answer, 4)?;
            Ok(match decision[0] {
                0 => BodyDecision::Pass,
                1 => {
                    let bytes = budget.bytes(memory, word(decision, 4), word(decision, 8))?;
                    BodyDecision::Replace(bytes)
                }
                2 => BodyDecision::Hold,
                3 => BodyDecision::Respond(budget.local_response(memory, &decision[4..])?),
                _ => return Err(no_such_case()),
            })
        })
    }

    /// `on-request-trailers` and `on-response-trailers`.
    pub(in crate::wasm) fn trailers(&self, hook: Hook, store: &mut Store<Data>) -> Result<()> {
        let found = match hook {
            Hook::OnRequestTrailers => &self.on_request_trailers,
            Hook::OnResponseTrailers => &self.on_response_trailers,
            _ => &None,
        };
        found.as_ref().ok_or_else(|| absent(hook))?.call(store, ())
    }

    /// `on-complete`.
    pub(in crate::wasm) fn complete(
        &self,
        store: &mut Store<Data>,
        outcome: &Outcome,
    ) -> Result<()> {
        let found = self.on_complete.as_ref().ok_or_else(|| absent(Hook::OnComplete))?;
        let (error, length) = match outcome.error {
            Some(error) => hand_over(store, error.as_bytes())?,
            None => (0, 0),
        };
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let outcome = (
            u32::from(outcome.status.is_some()),
            u32::from(outcome.status.unwrap_or(0)),
            u32::from(outcome.complete),
            u32::from(outcome.error.is_some()),
            error,
            length,
            outcome.request_bytes,
            outcome.response_bytes,
            nanoseconds(outcome.duration),
            u32::from(outcome.upstream.is_some()),
            outcome.upstream.map_or(0, nanoseconds),
        );
        found.call(store, outcome)
    }
}

impl<P: WasmParams> Answering<P> {
    /// Calls, lifts the answer with `lift`, and lets the guest free it.
    #[inline]
    fn call<T>(
        &self,
        store: &mut Store<Data>,
        parameters: P,
        lift: impl FnOnce(&[u8], u32, &mut Budget) -> Result<T>,
    ) -> Result<T> {
        let answer = self.call.call(&mut *store, parameters)?;
        let guest = store.data().guest.as_ref().ok_or_else(not_in_place)?;
        let memory = guest.memory;
        let (memory, data) = memory.data_and_store_mut(&mut *store);
        let mut budget = Budget::new(data.shared.transfer_bytes_max());
        let lifted = lift(memory, answer, &mut budget)?;
        if let Some(post_return) = &self.post_return
            && (budget.touched || self.told == PostReturn::Always)
        {
            post_return.call(store, answer)?;
        }
        Ok(lifted)
    }
}

/// What an answer hands over.
struct Budget {
    /// Bytes that may still be: what is larger is not even read.
    left: usize,
    /// There was a list or a text, be it an empty one: the guest may have made room for it.
    touched: bool,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        Budget { left: bytes, touched: false }
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.touched = true;
        self.left = self.left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }

    fn bytes(&mut self, memory: &[u8], at: u32, length: u32) -> Result<Vec<u8>> {
        self.spend(length as usize)?;
        bytes(memory, at, length).map(<[u8]>::to_vec)
    }

    fn text(&mut self, memory: &[u8], at: u32, length: u32) -> Result<String> {
        self.spend(length as usize)?;
        text(memory, at, length).map(str::to_owned)
    }

    /// `record` is `types.local-response` as it stands in memory: 20 bytes.
    fn local_response(&mut self, memory: &[u8], record: &[u8]) -> Result<LocalResponse> {
        let status = u16::from_le_bytes([record[0], record[1]]);
        let (at, count) = (word(record, 4), word(record, 8));
        self.spend((count as usize).saturating_mul(std::mem::size_of::<Field>()))?;
        let fields = elements(memory, at, count, 16)?.chunks_exact(16);
        let headers = fields.map(|field| {
            Ok(Field {
                name: self.text(memory, word(field, 0), word(field, 4))?,
                value: self.bytes(memory, word(field, 8), word(field, 12))?,
            })
        });
        let headers = headers.collect::<Result<Vec<Field>>>()?;
        let body = self.bytes(memory, word(record, 12), word(record, 16))?;
        Ok(LocalResponse { status, headers, body })
    }
}

/// Puts a parameter into the guest's memory. Its allocator may call nothing of the host.
fn hand_over(store: &mut Store<Data>, bytes: &[u8]) -> Result<(u32, u32)> {
    let guest = store.data_mut().guest.take().ok_or_else(not_in_place)?;
    let given = give(&mut *store, &guest, bytes);
    store.data_mut().guest = Some(guest);
    given
}

fn not_in_place() -> wasmtime::Error {
    HostRefusal::new("a hook was called while another one runs")
}

fn absent(hook: Hook) -> wasmtime::Error {
    HostRefusal::new(format!("`{}` is not exported", hook.name()))
}

struct Finder<'f> {
    instance: &'f Instance,
    store: &'f mut Store<Data>,
    names: &'f [Option<Box<str>>; Hook::ALL.len()],
    told: PostReturn,
}

impl Finder<'_> {
    fn find<P: WasmParams, R: WasmResults>(
        &mut self,
        hook: Hook,
    ) -> Result<Option<TypedFunc<P, R>>> {
        let Some(name) = &self.names[hook as usize] else { return Ok(None) };
        self.instance.get_typed_func(&mut *self.store, name).map(Some)
    }

    fn answering<P: WasmParams>(&mut self, hook: Hook) -> Result<Option<Answering<P>>> {
        let Some(call) = self.find(hook)? else { return Ok(None) };
        let Some(name) = &self.names[hook as usize] else { return Ok(None) };
        let name = format!("cabi_post_{name}");
        let post_return = match self.instance.get_func(&mut *self.store, &name) {
            Some(function) => Some(function.typed(&*self.store)?),
            None => None,
        };
        Ok(Some(Answering { call, post_return, told: self.told }))
    }
}
