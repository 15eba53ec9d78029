//! The message interfaces of the contract for modules: `request`, `response`, their bodies,
//! `trailers`, `notes`. The rules are `chain::Exchange`'s, the phases those of `wasm::messages`.

use super::Caller;
use super::memory::{
    List, bytes, count, give, lend, parts, place, put_list, put_option, put_result, text,
    text_bytes,
};
use crate::chain::exchange::{Exchange, Message};
use crate::chain::{EditError, Hook};
use crate::http::fields::Name;
use crate::http::forwarding::AddressText;
use crate::wasm::instance::Data;
use crate::wasm::messages::{fields_of, first, held, readable};
use crate::wasm::types;
use wasmtime::{Linker, Result};

type Edited = std::result::Result<(), EditError>;

/// A list without elements: a pointer to nothing, aligned.
const NO_LIST: (u32, u32) = (4, 0);

/// `request`; `module` is the interface as the guest's module names it.
pub(super) fn request(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    let m = module;
    text_of(linker, m, "method", |exchange| exchange.request.method.as_str())?;
    text_of(linker, m, "scheme", |exchange| exchange.request.scheme.name())?;
    text_of(linker, m, "authority", |exchange| &exchange.request.authority)?;
    text_of(linker, m, "path-with-query", |exchange| &exchange.request.target)?;
    text_of(linker, m, "path", |exchange| exchange.request.path())?;
    text_of(linker, m, "protocol", |exchange| exchange.request.protocol.name())?;
    text_of(linker, m, "listener", |exchange| &exchange.listener)?;
    linker.func_wrap(m, "client-address", |mut caller: Caller<'_>, result: u32| {
        lend(&mut caller, |exchange, caller, guest| {
            let client = readable(exchange, Message::Request)?.client;
            let pair = give(&mut *caller, guest, AddressText::new(client).as_bytes())?;
            put_list(caller, guest, result, pair)
        })
    })?;
    linker.func_wrap(m, "query", |mut caller: Caller<'_>, result: u32| {
        lend(&mut caller, |exchange, caller, guest| {
            let query = readable(exchange, Message::Request)?.request.query();
            let pair =
                query.map(|query| give(&mut *caller, guest, query.as_bytes())).transpose()?;
            put_option(caller, guest, result, pair)
        })
    })?;
    fields(linker, m, Message::Request)?;
    edit(linker, m, "set-method", |exchange, text| exchange.set_method(text.as_bytes()))?;
    edit(linker, m, "set-scheme", Exchange::set_scheme)?;
    edit(linker, m, "set-authority", Exchange::set_authority)?;
    edit(linker, m, "set-path-with-query", Exchange::set_target)
}

/// `response`.
pub(super) fn response(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(module, "status", |mut caller: Caller<'_>| {
        let (_, data) = parts(&mut caller)?;
        Ok(u32::from(readable(data.exchange(), Message::Response)?.response.status))
    })?;
    linker.func_wrap(
        module,
        "set-status",
        |mut caller: Caller<'_>, status: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            // Upper bits of a small integer are to be ignored.
            put_edited(memory, result, data.exchange_mut().set_status(status as u16))
        },
    )?;
    fields(linker, module, Message::Response)
}

/// `trailers`.
pub(super) fn trailers(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    fields(linker, module, Message::Trailers)
}

/// `request-body` and `response-body`: `hook` is the one that holds bytes.
pub(super) fn body(linker: &mut Linker<Data>, module: &str, hook: Hook) -> Result<()> {
    linker.func_wrap(module, "held", move |mut caller: Caller<'_>, result: u32| {
        let bytes = held(caller.data(), hook).to_vec();
        lend(&mut caller, |_, caller, guest| {
            let pair = give(&mut *caller, guest, &bytes)?;
            put_list(caller, guest, result, pair)
        })
    })?;
    linker.func_wrap(module, "held-length", move |mut caller: Caller<'_>| -> u64 {
        count(&mut caller);
        held(caller.data(), hook).len() as u64
    })?;
    Ok(())
}

/// `notes`.
pub(super) fn notes(linker: &mut Linker<Data>, module: &str) -> Result<()> {
    linker.func_wrap(
        module,
        "note",
        |mut caller: Caller<'_>, key: u32, key_length: u32, result: u32| {
            lend(&mut caller, |exchange, caller, guest| {
                let note = exchange.note(text(guest.memory.data(&*caller), key, key_length)?);
                let pair = note.map(|note| give(&mut *caller, guest, note.as_bytes()));
                put_option(caller, guest, result, pair.transpose()?)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "set-note",
        |mut caller: Caller<'_>,
         key: u32,
         key_length: u32,
         value: u32,
         length: u32,
         result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let (key, value) = (text(memory, key, key_length)?, text(memory, value, length)?);
            let noted = data.exchange_mut().set_note(key, value);
            let case = noted.err().map(|error| types::NoteError::from(error) as u8);
            put_result(memory, result, case)
        },
    )?;
    Ok(())
}

/// What every message with fields has.
fn fields(linker: &mut Linker<Data>, module: &str, message: Message) -> Result<()> {
    linker.func_wrap(
        module,
        "header",
        move |mut caller: Caller<'_>, name: u32, length: u32, result: u32| {
            lend(&mut caller, |exchange, caller, guest| {
                let name = text_bytes(guest.memory.data(&*caller), name, length)?;
                let value = first(exchange, message, name)?.map(String::from_utf8_lossy);
                let pair = value.map(|value| give(&mut *caller, guest, value.as_bytes()));
                put_option(caller, guest, result, pair.transpose()?)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header-bytes",
        move |mut caller: Caller<'_>, name: u32, length: u32, result: u32| {
            lend(&mut caller, |exchange, caller, guest| {
                let name = text_bytes(guest.memory.data(&*caller), name, length)?;
                let value = first(exchange, message, name)?;
                let pair = value.map(|value| give(&mut *caller, guest, value));
                put_option(caller, guest, result, pair.transpose()?)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header-all",
        move |mut caller: Caller<'_>, name: u32, length: u32, result: u32| {
            lend(&mut caller, |exchange, caller, guest| {
                let name = text_bytes(guest.memory.data(&*caller), name, length)?;
                if first(exchange, message, name)?.is_none() {
                    return put_list(caller, guest, result, NO_LIST);
                }
                // A copy: the guest's memory may move while it makes room for the values.
                let name = name.to_vec();
                let fields = fields_of(exchange, message)?;
                let mut room = List::default();
                if let (Some(fields), Ok(name)) = (fields, Name::parse(&name)) {
                    for value in fields.get_all(name) {
                        let value = String::from_utf8_lossy(value);
                        room.push(give(&mut *caller, guest, value.as_bytes())?);
                    }
                }
                let pair = room.give(caller, guest, 1)?;
                put_list(caller, guest, result, pair)
            })
        },
    )?;
    linker.func_wrap(module, "headers", move |mut caller: Caller<'_>, result: u32| {
        lend(&mut caller, |exchange, caller, guest| {
            let mut room = List::default();
            for (name, value) in fields_of(exchange, message)?.into_iter().flat_map(|f| f.iter()) {
                room.push(give(&mut *caller, guest, String::from_utf8_lossy(name).as_bytes())?);
                room.push(give(&mut *caller, guest, value)?);
            }
            let pair = room.give(caller, guest, 2)?;
            put_list(caller, guest, result, pair)
        })
    })?;
    edits(linker, module, message)
}

fn edits(linker: &mut Linker<Data>, module: &str, message: Message) -> Result<()> {
    linker.func_wrap(
        module,
        "set-header",
        move |mut caller: Caller<'_>, name: u32, n: u32, value: u32, v: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let (name, value) = (text_bytes(memory, name, n)?, text_bytes(memory, value, v)?);
            let edited = data.exchange_mut().set_field(message, name, value);
            put_edited(memory, result, edited)
        },
    )?;
    linker.func_wrap(
        module,
        "set-header-bytes",
        move |mut caller: Caller<'_>, name: u32, n: u32, value: u32, v: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let (name, value) = (text_bytes(memory, name, n)?, bytes(memory, value, v)?);
            let edited = data.exchange_mut().set_field(message, name, value);
            put_edited(memory, result, edited)
        },
    )?;
    linker.func_wrap(
        module,
        "append-header",
        move |mut caller: Caller<'_>, name: u32, n: u32, value: u32, v: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let (name, value) = (text_bytes(memory, name, n)?, text_bytes(memory, value, v)?);
            let edited = data.exchange_mut().append_field(message, name, value);
            put_edited(memory, result, edited)
        },
    )?;
    linker.func_wrap(
        module,
        "remove-header",
        move |mut caller: Caller<'_>, name: u32, length: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let name = text_bytes(memory, name, length)?;
            let removed = data.exchange_mut().remove_field(message, name);
            let room = place::<2>(memory, result, 1)?;
            *room = match removed {
                Ok(removed) => [0, u8::from(removed)],
                Err(error) => [1, types::EditError::from(error) as u8],
            };
            Ok(())
        },
    )?;
    Ok(())
}

/// A function without parameters that gives a text of the request.
fn text_of(
    linker: &mut Linker<Data>,
    module: &str,
    name: &str,
    of: impl Fn(&Exchange) -> &str + Send + Sync + 'static,
) -> Result<()> {
    linker.func_wrap(module, name, move |mut caller: Caller<'_>, result: u32| {
        lend(&mut caller, |exchange, caller, guest| {
            let text = of(readable(exchange, Message::Request)?);
            let pair = give(&mut *caller, guest, text.as_bytes())?;
            put_list(caller, guest, result, pair)
        })
    })?;
    Ok(())
}

/// A function that sets a text of the request.
fn edit(
    linker: &mut Linker<Data>,
    module: &str,
    name: &str,
    set: impl Fn(&mut Exchange, &str) -> Edited + Send + Sync + 'static,
) -> Result<()> {
    linker.func_wrap(
        module,
        name,
        move |mut caller: Caller<'_>, at: u32, length: u32, result: u32| {
            let (memory, data) = parts(&mut caller)?;
            let edited = set(data.exchange_mut(), text(memory, at, length)?);
            put_edited(memory, result, edited)
        },
    )?;
    Ok(())
}

fn put_edited(memory: &mut [u8], result: u32, edited: Edited) -> Result<()> {
    put_result(memory, result, edited.err().map(|error| types::EditError::from(error) as u8))
}
