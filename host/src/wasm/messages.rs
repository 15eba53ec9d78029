//! The message interfaces of the contract: `request`, `response`, their bodies, `trailers`, `notes`.
//!
//! A thin layer over `chain::Exchange`, which holds every rule. Strings of the guest are looked at
//! where they stand in its memory; nothing is copied for a lookup but the value that is handed over.

use super::instance::{Data, HostRefusal};
use super::linker::Interface;
use super::types::{EditError, Field, NoteError};
use crate::chain::exchange::{Exchange, Message, Phase};
use crate::chain::{self, Hook};
use crate::http::fields::{Fields, Name};
use wasmtime::component::{WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

type Edited = (std::result::Result<(), EditError>,);

/// `request`.
pub(super) fn request(interface: &mut Interface<'_>) -> Result<()> {
    text(interface, "method", |exchange| exchange.request.method.as_str().to_owned())?;
    text(interface, "scheme", |exchange| exchange.request.scheme.name().to_owned())?;
    text(interface, "authority", |exchange| exchange.request.authority.clone())?;
    text(interface, "path-with-query", |exchange| exchange.request.target.clone())?;
    text(interface, "path", |exchange| exchange.request.path().to_owned())?;
    text(interface, "protocol", |exchange| exchange.request.protocol.name().to_owned())?;
    text(interface, "client-address", |exchange| exchange.client.to_string())?;
    text(interface, "listener", |exchange| exchange.listener.to_string())?;
    interface.func_wrap("query", |store: StoreContextMut<'_, Data>, (): ()| {
        let exchange = readable(store.data().exchange(), Message::Request)?;
        Ok((exchange.request.query().map(str::to_owned),))
    })?;
    fields(interface, Message::Request)?;
    edit(interface, "set-method", |exchange, text| exchange.set_method(text.as_bytes()))?;
    edit(interface, "set-scheme", Exchange::set_scheme)?;
    edit(interface, "set-authority", Exchange::set_authority)?;
    edit(interface, "set-path-with-query", Exchange::set_target)
}

/// `response`.
pub(super) fn response(interface: &mut Interface<'_>) -> Result<()> {
    interface.func_wrap("status", |store: StoreContextMut<'_, Data>, (): ()| {
        Ok((readable(store.data().exchange(), Message::Response)?.response.status,))
    })?;
    interface.func_wrap(
        "set-status",
        |mut store: StoreContextMut<'_, Data>, (status,): (u16,)| -> Result<Edited> {
            let edited = store.data_mut().exchange_mut().set_status(status);
            Ok((edited.map_err(EditError::from),))
        },
    )?;
    fields(interface, Message::Response)
}

/// `trailers`.
pub(super) fn trailers(interface: &mut Interface<'_>) -> Result<()> {
    fields(interface, Message::Trailers)
}

/// `request-body` and `response-body`: `hook` is the one that holds bytes.
pub(super) fn body(interface: &mut Interface<'_>, hook: Hook) -> Result<()> {
    interface.func_wrap("held", move |store: StoreContextMut<'_, Data>, (): ()| {
        Ok((held(store.data(), hook).to_vec(),))
    })?;
    interface.func_wrap("held-length", move |store: StoreContextMut<'_, Data>, (): ()| {
        Ok((held(store.data(), hook).len() as u64,))
    })
}

pub(super) fn held(data: &Data, hook: Hook) -> &[u8] {
    if data.hook == hook { &data.held } else { &[] }
}

/// `notes`.
pub(super) fn notes(interface: &mut Interface<'_>) -> Result<()> {
    interface.func_wrap("note", |store: StoreContextMut<'_, Data>, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        Ok((store.data().exchange().note(&key).map(str::to_owned),))
    })?;
    interface.func_wrap(
        "set-note",
        |mut store: StoreContextMut<'_, Data>, (key, value): (WasmStr, WasmStr)| {
            let noted = lend(&mut store, |exchange, memory| {
                Ok(exchange.set_note(&key.to_str(memory)?, &value.to_str(memory)?))
            })?;
            Ok((noted.map_err(NoteError::from),))
        },
    )
}

/// What every message with fields has.
fn fields(interface: &mut Interface<'_>, message: Message) -> Result<()> {
    interface.func_wrap(
        "header",
        move |store: StoreContextMut<'_, Data>, (name,): (WasmStr,)| {
            let name = name.to_str(&store)?;
            Ok((first(store.data().exchange(), message, name.as_bytes())?.map(lossy),))
        },
    )?;
    interface.func_wrap(
        "header-bytes",
        move |store: StoreContextMut<'_, Data>, (name,): (WasmStr,)| {
            let name = name.to_str(&store)?;
            Ok((first(store.data().exchange(), message, name.as_bytes())?.map(<[u8]>::to_vec),))
        },
    )?;
    interface.func_wrap(
        "header-all",
        move |store: StoreContextMut<'_, Data>, (name,): (WasmStr,)| {
            let name = name.to_str(&store)?;
            let fields = fields_of(store.data().exchange(), message)?;
            let (Some(fields), Ok(name)) = (fields, Name::parse(name.as_bytes())) else {
                return Ok((Vec::new(),));
            };
            Ok((fields.get_all(name).map(lossy).collect::<Vec<String>>(),))
        },
    )?;
    interface.func_wrap("headers", move |store: StoreContextMut<'_, Data>, (): ()| {
        let every = fields_of(store.data().exchange(), message)?.into_iter().flat_map(Fields::iter);
        let field =
            |(name, value): (&[u8], &[u8])| Field { name: lossy(name), value: value.to_vec() };
        Ok((every.map(field).collect::<Vec<Field>>(),))
    })?;
    edits(interface, message)
}

fn edits(interface: &mut Interface<'_>, message: Message) -> Result<()> {
    interface.func_wrap(
        "set-header",
        move |mut store: StoreContextMut<'_, Data>,
              (name, value): (WasmStr, WasmStr)|
              -> Result<Edited> {
            let edited = lend(&mut store, |exchange, memory| {
                let (name, value) = (name.to_str(memory)?, value.to_str(memory)?);
                Ok(exchange.set_field(message, name.as_bytes(), value.as_bytes()))
            })?;
            Ok((edited.map_err(EditError::from),))
        },
    )?;
    interface.func_wrap(
        "set-header-bytes",
        move |mut store: StoreContextMut<'_, Data>,
              (name, value): (WasmStr, WasmList<u8>)|
              -> Result<Edited> {
            let edited = lend(&mut store, |exchange, memory| {
                let (name, value) = (name.to_str(memory)?, value.as_le_slice(memory));
                Ok(exchange.set_field(message, name.as_bytes(), value))
            })?;
            Ok((edited.map_err(EditError::from),))
        },
    )?;
    interface.func_wrap(
        "append-header",
        move |mut store: StoreContextMut<'_, Data>,
              (name, value): (WasmStr, WasmStr)|
              -> Result<Edited> {
            let edited = lend(&mut store, |exchange, memory| {
                let (name, value) = (name.to_str(memory)?, value.to_str(memory)?);
                Ok(exchange.append_field(message, name.as_bytes(), value.as_bytes()))
            })?;
            Ok((edited.map_err(EditError::from),))
        },
    )?;
    interface.func_wrap(
        "remove-header",
        move |mut store: StoreContextMut<'_, Data>, (name,): (WasmStr,)| {
            let removed = lend(&mut store, |exchange, memory| {
                Ok(exchange.remove_field(message, name.to_str(memory)?.as_bytes()))
            })?;
            Ok((removed.map_err(EditError::from),))
        },
    )
}

/// A function without parameters that gives a text of the request.
fn text(
    interface: &mut Interface<'_>,
    name: &str,
    of: impl Fn(&Exchange) -> String + Send + Sync + 'static,
) -> Result<()> {
    interface.func_wrap(name, move |store: StoreContextMut<'_, Data>, (): ()| {
        Ok((of(readable(store.data().exchange(), Message::Request)?),))
    })
}

/// A function that sets a text of the request.
fn edit(
    interface: &mut Interface<'_>,
    name: &str,
    set: impl Fn(&mut Exchange, &str) -> std::result::Result<(), chain::EditError>
    + Send
    + Sync
    + 'static,
) -> Result<()> {
    interface.func_wrap(
        name,
        move |mut store: StoreContextMut<'_, Data>, (text,): (WasmStr,)| -> Result<Edited> {
            let edited =
                lend(&mut store, |exchange, memory| Ok(set(exchange, &text.to_str(memory)?)))?;
            Ok((edited.map_err(EditError::from),))
        },
    )
}

/// The exchange, if `message` can be read in the phase it is in.
pub(super) fn readable(exchange: &Exchange, message: Message) -> Result<&Exchange> {
    let why = match message {
        Message::Request if !exchange.has_request() => {
            "the request was read outside a hook: `configure` has none"
        }
        Message::Response if !exchange.has_response() => {
            "the response was read where there is none yet: only the response hooks and \
             `on-complete` have it"
        }
        Message::Request | Message::Response | Message::Trailers => return Ok(exchange),
    };
    Err(HostRefusal::new(why))
}

/// The fields of a message; none for trailers in a hook that has none.
pub(super) fn fields_of(exchange: &Exchange, message: Message) -> Result<Option<&Fields>> {
    let exchange = readable(exchange, message)?;
    let absent = message == Message::Trailers
        && !matches!(exchange.phase, Phase::RequestTrailers | Phase::ResponseTrailers);
    Ok((!absent).then(|| exchange.fields(message)))
}

/// The first value of a field.
pub(super) fn first<'e>(
    exchange: &'e Exchange,
    message: Message,
    name: &[u8],
) -> Result<Option<&'e [u8]>> {
    let fields = fields_of(exchange, message)?;
    // What is not a name is the name of no field.
    let Ok(name) = Name::parse(name) else { return Ok(None) };
    Ok(fields.and_then(|fields| fields.get(name)))
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Calls `act` with the exchange to change and the guest's memory to read: both belong to the store,
/// so the exchange leaves it for that long.
fn lend<T>(
    store: &mut StoreContextMut<'_, Data>,
    act: impl FnOnce(&mut Exchange, &StoreContextMut<'_, Data>) -> Result<T>,
) -> Result<T> {
    let mut exchange = store.data_mut().take_exchange();
    let done = act(&mut exchange, store);
    store.data_mut().put_exchange(exchange);
    done
}
