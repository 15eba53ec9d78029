//! The closed WASI of `wasm::wasi` for modules: what the standard libraries of Rust and C import.
//!
//! A module that imports more than this runs as a component. Handles are numbers without a table:
//! there is nothing behind one but which of the two streams it is, and dropping it does nothing.

use super::Caller;
use super::capabilities::{now_monotonic, number, put_now, put_random};
use super::memory::{bytes, count, parts, place};
use crate::capability::Asker;
use crate::wasm::component::same_minor;
use crate::wasm::instance::Data;
use crate::wasm::output::Stream;
use crate::wasm::wasi::{VERSION, WRITE_BYTES, exited};
use wasmtime::{Linker, Result};

/// Can a module get this import?
pub(super) fn known(module: &str, name: &str) -> bool {
    path(module).is_some_and(|path| FUNCTIONS.contains(&(path, name)))
}

/// `cli/stdout` of `wasi:cli/stdout@0.2.6`.
fn path(module: &str) -> Option<&str> {
    let (path, version) = module.strip_prefix("wasi:")?.split_once('@')?;
    same_minor(version, VERSION).then_some(path)
}

const FUNCTIONS: &[(&str, &str)] = &[
    ("cli/environment", "get-arguments"),
    ("cli/environment", "get-environment"),
    ("cli/exit", "exit"),
    ("cli/stderr", "get-stderr"),
    ("cli/stdin", "get-stdin"),
    ("cli/stdout", "get-stdout"),
    ("cli/terminal-input", "[resource-drop]terminal-input"),
    ("cli/terminal-output", "[resource-drop]terminal-output"),
    ("cli/terminal-stderr", "get-terminal-stderr"),
    ("cli/terminal-stdin", "get-terminal-stdin"),
    ("cli/terminal-stdout", "get-terminal-stdout"),
    ("clocks/monotonic-clock", "now"),
    ("clocks/wall-clock", "now"),
    ("io/error", "[resource-drop]error"),
    ("io/poll", "[method]pollable.block"),
    ("io/poll", "[resource-drop]pollable"),
    ("io/streams", "[method]output-stream.blocking-flush"),
    ("io/streams", "[method]output-stream.blocking-write-and-flush"),
    ("io/streams", "[method]output-stream.check-write"),
    ("io/streams", "[method]output-stream.subscribe"),
    ("io/streams", "[method]output-stream.write"),
    ("io/streams", "[resource-drop]input-stream"),
    ("io/streams", "[resource-drop]output-stream"),
    ("random/insecure-seed", "insecure-seed"),
    ("random/random", "get-random-bytes"),
    ("random/random", "get-random-u64"),
];

/// Defines one import of [`FUNCTIONS`]; false: it is none of them.
pub(super) fn define(linker: &mut Linker<Data>, module: &str, name: &str) -> Result<bool> {
    let Some(path) = path(module) else { return Ok(false) };
    if name.starts_with("[resource-drop]") && FUNCTIONS.contains(&(path, name)) {
        linker.func_wrap(module, name, |_: Caller<'_>, _handle: u32| ())?;
        return Ok(true);
    }
    match (path, name) {
        ("cli/environment", "get-arguments" | "get-environment") => {
            linker.func_wrap(module, name, put_empty_list)?
        }
        ("cli/exit", "exit") => {
            linker.func_wrap(module, name, |_: Caller<'_>, failed: u32| -> Result<()> {
                Err(exited(u8::from(failed != 0)))
            })?
        }
        ("cli/stdin", _) => handle(linker, module, name, 0)?,
        ("cli/stdout", _) => handle(linker, module, name, Stream::Output as u32)?,
        ("cli/stderr", _) => handle(linker, module, name, Stream::Error as u32)?,
        // An `option` that is none; its handle is not written.
        ("cli/terminal-stderr" | "cli/terminal-stdin" | "cli/terminal-stdout", _) => linker
            .func_wrap(module, name, |mut caller: Caller<'_>, result: u32| {
                place::<8>(parts(&mut caller)?.0, result, 4)?[0] = 0;
                Ok(())
            })?,
        ("clocks/monotonic-clock", _) => linker.func_wrap(module, name, now_monotonic)?,
        ("clocks/wall-clock", _) => linker.func_wrap(module, name, put_now)?,
        // A filter cannot wait: what it waits for is ready.
        ("io/poll", _) => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, _handle: u32| {
                count(&mut caller);
            })?
        }
        ("io/streams", _) => stream(linker, module, name)?,
        ("random/insecure-seed", _) => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, result: u32| {
                let (memory, data) = parts(&mut caller)?;
                let sources = &data.shared.sources;
                let room = place::<16>(memory, result, 8)?;
                room[..8].copy_from_slice(&sources.number(Asker::Library).to_le_bytes());
                room[8..].copy_from_slice(&sources.number(Asker::Library).to_le_bytes());
                Ok(())
            })?
        }
        ("random/random", "get-random-bytes") => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, length: u64, result: u32| {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                put_random(&mut caller, Asker::Library, length, result)
            })?
        }
        ("random/random", "get-random-u64") => {
            linker.func_wrap(module, name, |caller: Caller<'_>| number(caller, Asker::Library))?
        }
        _ => return Ok(false),
    };
    Ok(true)
}

/// A function that gives the same handle each time.
fn handle<'l>(
    linker: &'l mut Linker<Data>,
    module: &str,
    name: &str,
    number: u32,
) -> Result<&'l mut Linker<Data>> {
    linker.func_wrap(module, name, move |mut caller: Caller<'_>| {
        count(&mut caller);
        number
    })
}

fn stream<'l>(
    linker: &'l mut Linker<Data>,
    module: &str,
    name: &str,
) -> Result<&'l mut Linker<Data>> {
    match name {
        "[method]output-stream.check-write" => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, _handle: u32, result: u32| {
                let room = place::<16>(parts(&mut caller)?.0, result, 8)?;
                room[0] = 0;
                room[8..].copy_from_slice(&WRITE_BYTES.to_le_bytes());
                Ok(())
            })
        }
        "[method]output-stream.subscribe" => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, _handle: u32| {
                count(&mut caller);
                0_u32
            })
        }
        "[method]output-stream.blocking-flush" => {
            linker.func_wrap(module, name, |mut caller: Caller<'_>, _handle: u32, result: u32| {
                put_written(parts(&mut caller)?.0, result)
            })
        }
        // `write` and `blocking-write-and-flush`.
        _ => linker.func_wrap(
            module,
            name,
            |mut caller: Caller<'_>, handle: u32, at: u32, length: u32, result: u32| {
                let (memory, data) = parts(&mut caller)?;
                let stream = match handle {
                    error if error == Stream::Error as u32 => Stream::Error,
                    _ => Stream::Output,
                };
                // Bounded: a longer write is none that `check-write` allowed.
                let length = (length as usize).min(WRITE_BYTES as usize) as u32;
                data.print(stream, bytes(memory, at, length)?);
                put_written(memory, result)
            },
        ),
    }
}

/// `result<_, stream-error>` that is no error. Its size is that of an error with a handle.
fn put_written(memory: &mut [u8], result: u32) -> Result<()> {
    place::<12>(memory, result, 4)?[0] = 0;
    Ok(())
}

fn put_empty_list(mut caller: Caller<'_>, result: u32) -> Result<()> {
    *place::<8>(parts(&mut caller)?.0, result, 4)? = [4, 0, 0, 0, 0, 0, 0, 0];
    Ok(())
}
