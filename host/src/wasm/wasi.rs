//! A closed WASI 0.2: enough for the standard libraries of guests, and nothing behind it.
//!
//! No files, no sockets, no environment, an empty standard input; what is written becomes log lines.
//! Our own because the ready-made one waits on an async runtime, which a worker already is. A function
//! that is not here can be imported and traps when it is called, with a message that names it.

use super::capabilities::{monotonic, now, random_bytes, random_number};
use super::instance::{Data, HostRefusal};
use super::linker::Interface;
use super::output::Stream;
use super::types::Timestamp;
use crate::capability::Asker;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{ComponentType, Lower, Resource, ResourceType, WasmList};
use wasmtime::{Engine, Result, StoreContextMut};

/// The versions of WASI whose interfaces are taken for known.
pub(super) const VERSION: &str = "0.2.0";
/// Bytes that a stream takes in one write.
pub(super) const WRITE_BYTES: u64 = 4096;

type Context<'a> = StoreContextMut<'a, Data>;
type Streamed<T> = (std::result::Result<T, StreamError>,);

// Kinds of handles. No value of these types exists: a handle is its number.
enum IoError {}
enum Pollable {}
enum InputStream {}
enum OutputStream {}
enum TerminalInput {}
enum TerminalOutput {}
/// Of filesystem and sockets: none is ever handed out.
enum Other {}

/// `streams.stream-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[expect(dead_code, reason = "a case of the interface that no stream here comes to")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

/// Defines what a component imports of one WASI interface; `path` is its name without `wasi:` and
/// version, as in `cli/stdout`. `known` are the resources of the interfaces before it.
pub(super) fn link(
    interface: &mut Interface<'_>,
    engine: &Engine,
    path: &str,
    imported: &ComponentInstance,
    known: &mut Vec<ResourceType>,
) -> Result<()> {
    for (name, item) in imported.exports(engine) {
        if let ComponentItem::Resource(resource) = item.ty {
            // One that is used from another interface, maybe under another name, is defined there.
            if !known.contains(&resource) {
                known.push(resource);
                interface.resource(name, resource_type(name), |_, _| Ok(()))?;
            }
        }
    }
    for (name, item) in imported.exports(engine) {
        if let ComponentItem::ComponentFunc(_) = item.ty
            && !function(interface, path, name)?
        {
            let why =
                format!("`wasi:{path}` `{name}` was called: filters have no files or sockets");
            interface.func_new(name, move |_, _, _, _| Err(HostRefusal::new(why.clone())))?;
        }
    }
    Ok(())
}

fn resource_type(name: &str) -> ResourceType {
    match name {
        "error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "terminal-input" => ResourceType::host::<TerminalInput>(),
        "terminal-output" => ResourceType::host::<TerminalOutput>(),
        _ => ResourceType::host::<Other>(),
    }
}

/// Defines one function, if it is known.
fn function(interface: &mut Interface<'_>, path: &str, name: &str) -> Result<bool> {
    match path {
        "cli/environment" | "cli/exit" | "filesystem/preopens" => process(interface, name),
        "cli/stdin"
        | "cli/stdout"
        | "cli/stderr"
        | "cli/terminal-stdin"
        | "cli/terminal-stdout"
        | "cli/terminal-stderr" => standard_stream(interface, name),
        "io/error" | "io/poll" => poll(interface, name),
        "io/streams" => match name.split_once('.') {
            Some(("[method]input-stream", method)) => input_stream(interface, name, method),
            Some(("[method]output-stream", method)) => output_stream(interface, name, method),
            _ => Ok(false),
        },
        "clocks/monotonic-clock" | "clocks/wall-clock" => clocks(interface, path, name),
        "random/random" | "random/insecure" | "random/insecure-seed" => random(interface, name),
        _ => Ok(false),
    }
}

fn process(interface: &mut Interface<'_>, name: &str) -> Result<bool> {
    match name {
        "get-environment" => interface
            .func_wrap(name, |_: Context<'_>, (): ()| Ok((Vec::<(String, String)>::new(),)))?,
        "get-arguments" => {
            interface.func_wrap(name, |_: Context<'_>, (): ()| Ok((Vec::<String>::new(),)))?;
        }
        "initial-cwd" => {
            interface.func_wrap(name, |_: Context<'_>, (): ()| Ok((None::<String>,)))?;
        }
        "get-directories" => interface.func_wrap(name, |_: Context<'_>, (): ()| {
            Ok((Vec::<(Resource<Other>, String)>::new(),))
        })?,
        "exit" => interface.func_wrap(
            name,
            |_: Context<'_>, (status,): (std::result::Result<(), ()>,)| -> Result<()> {
                Err(exited(u8::from(status.is_err())))
            },
        )?,
        "exit-with-code" => interface
            .func_wrap(name, |_: Context<'_>, (code,): (u8,)| -> Result<()> {
                Err(exited(code))
            })?,
        _ => return Ok(false),
    }
    Ok(true)
}

pub(super) fn exited(code: u8) -> wasmtime::Error {
    HostRefusal::new(format!("the guest called `exit` with code {code}"))
}

fn standard_stream(interface: &mut Interface<'_>, name: &str) -> Result<bool> {
    let number = |stream: Stream| stream as u32;
    match name {
        "get-stdin" => interface
            .func_wrap(name, |_: Context<'_>, (): ()| Ok((Resource::<InputStream>::new_own(0),)))?,
        "get-stdout" => interface.func_wrap(name, move |_: Context<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(number(Stream::Output)),))
        })?,
        "get-stderr" => interface.func_wrap(name, move |_: Context<'_>, (): ()| {
            Ok((Resource::<OutputStream>::new_own(number(Stream::Error)),))
        })?,
        "get-terminal-stdin" => interface
            .func_wrap(name, |_: Context<'_>, (): ()| Ok((None::<Resource<TerminalInput>>,)))?,
        "get-terminal-stdout" | "get-terminal-stderr" => {
            interface.func_wrap(name, |_: Context<'_>, (): ()| {
                Ok((None::<Resource<TerminalOutput>>,))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn poll(interface: &mut Interface<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]error.to-debug-string" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): (Resource<IoError>,)| {
                Ok((String::new(),))
            })?;
        }
        "[method]pollable.ready" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): (Resource<Pollable>,)| Ok((true,)))?
        }
        "[method]pollable.block" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): (Resource<Pollable>,)| Ok(()))?
        }
        "poll" => {
            interface.func_wrap(
                name,
                |_: Context<'_>, (asked,): (WasmList<Resource<Pollable>>,)| {
                    let count = u32::try_from(asked.len()).unwrap_or(u32::MAX);
                    if count == 0 {
                        return Err(HostRefusal::new(
                            "`wasi:io/poll` was called with an empty list",
                        ));
                    }
                    Ok(((0..count).collect::<Vec<u32>>(),))
                },
            )?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Always at its end.
fn input_stream(interface: &mut Interface<'_>, name: &str, method: &str) -> Result<bool> {
    type Asked = (Resource<InputStream>, u64);
    match method {
        "read" | "blocking-read" => {
            interface.func_wrap(name, |_: Context<'_>, _: Asked| -> Result<Streamed<Vec<u8>>> {
                Ok((Err(StreamError::Closed),))
            })?;
        }
        "skip" | "blocking-skip" => {
            interface.func_wrap(name, |_: Context<'_>, _: Asked| -> Result<Streamed<u64>> {
                Ok((Err(StreamError::Closed),))
            })?;
        }
        "subscribe" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): (Resource<InputStream>,)| {
                Ok((Resource::<Pollable>::new_own(0),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn output_stream(interface: &mut Interface<'_>, name: &str, method: &str) -> Result<bool> {
    type This = (Resource<OutputStream>,);
    match method {
        "check-write" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): This| -> Result<Streamed<u64>> {
                Ok((Ok(WRITE_BYTES),))
            })?;
        }
        "write" | "blocking-write-and-flush" => interface.func_wrap(
            name,
            |mut store: Context<'_>,
             (stream, bytes): (Resource<OutputStream>, WasmList<u8>)|
             -> Result<Streamed<()>> {
                let stream = match stream.rep() {
                    number if number == Stream::Error as u32 => Stream::Error,
                    _ => Stream::Output,
                };
                // Bounded: a longer write is none that `check-write` allowed.
                let length = bytes.len().min(WRITE_BYTES as usize);
                let bytes = bytes.as_le_slice(&store)[..length].to_vec();
                store.data_mut().print(stream, &bytes);
                Ok((Ok(()),))
            },
        )?,
        "flush" | "blocking-flush" => {
            interface.func_wrap(name, |_: Context<'_>, (_,): This| -> Result<Streamed<()>> {
                Ok((Ok(()),))
            })?;
        }
        "write-zeroes" | "blocking-write-zeroes-and-flush" => interface.func_wrap(
            name,
            |_: Context<'_>, (_, _): (Resource<OutputStream>, u64)| -> Result<Streamed<()>> {
                Ok((Ok(()),))
            },
        )?,
        "subscribe" => interface.func_wrap(name, |_: Context<'_>, (_,): This| {
            Ok((Resource::<Pollable>::new_own(0),))
        })?,
        "splice" | "blocking-splice" => interface.func_wrap(
            name,
            |_: Context<'_>,
             (_, _, _): (Resource<OutputStream>, Resource<InputStream>, u64)|
             -> Result<Streamed<u64>> { Ok((Err(StreamError::Closed),)) },
        )?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn clocks(interface: &mut Interface<'_>, path: &str, name: &str) -> Result<bool> {
    match (path, name) {
        ("clocks/wall-clock", "now") => interface
            .func_wrap(name, |mut store: Context<'_>, (): ()| Ok((now(store.data_mut()),)))?,
        ("clocks/wall-clock", "resolution") => {
            interface.func_wrap(name, |_: Context<'_>, (): ()| {
                Ok((Timestamp { seconds: 0, nanoseconds: 1 },))
            })?;
        }
        (_, "now") => {
            interface
                .func_wrap(name, |store: Context<'_>, (): ()| Ok((monotonic(store.data()),)))?;
        }
        (_, "resolution") => interface.func_wrap(name, |_: Context<'_>, (): ()| Ok((1_u64,)))?,
        // A filter cannot wait: what it waits for is ready.
        (_, "subscribe-instant" | "subscribe-duration") => {
            interface.func_wrap(name, |_: Context<'_>, (_,): (u64,)| {
                Ok((Resource::<Pollable>::new_own(0),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn random(interface: &mut Interface<'_>, name: &str) -> Result<bool> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            interface.func_wrap(name, |store: Context<'_>, (length,): (u64,)| {
                random_bytes(&store, Asker::Library, u32::try_from(length).unwrap_or(u32::MAX))
            })?;
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            interface.func_wrap(name, |store: Context<'_>, (): ()| {
                Ok((random_number(&store, Asker::Library),))
            })?;
        }
        "insecure-seed" => interface.func_wrap(name, |store: Context<'_>, (): ()| {
            Ok(((random_number(&store, Asker::Library), random_number(&store, Asker::Library)),))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}
