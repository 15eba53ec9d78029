//! A guest's memory as the canonical ABI sees it: pointers and lengths that are checked, values that
//! are read where they stand, and room that the guest's own allocator gives for values of the host.

use super::Caller;
use crate::chain::Exchange;
use crate::http::text::utf8;
use crate::wasm::instance::{Data, HostRefusal};
use wasmtime::{AsContextMut, Memory, Result, TypedFunc};

/// What the host needs of an instance to pass values.
pub(in crate::wasm) struct Guest {
    pub(super) memory: Memory,
    /// `cabi_realloc`; a guest that takes no values from the host may lack it.
    pub(super) realloc: Option<Realloc>,
}

pub(super) type Realloc = TypedFunc<(u32, u32, u32, u32), u32>;

/// What crossed the boundary is no value of its type. (Not a trap of the guest: what it answered is
/// invalid.)
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Invalid(&'static str);

fn invalid(what: &'static str) -> wasmtime::Error {
    wasmtime::Error::new(Invalid(what))
}

/// An error for a value that is larger than what a call may hand over.
pub(super) fn too_large() -> wasmtime::Error {
    invalid("the answer is larger than what a call may hand over")
}

/// An error for a discriminant that names no case.
pub(super) fn no_such_case() -> wasmtime::Error {
    invalid("a value names no case of its type")
}

/// Counts a call of a host function; [`parts`] and [`lend`], with which nearly all begin, do too.
pub(super) fn count(caller: &mut Caller<'_>) {
    caller.data_mut().host_calls += 1;
}

/// The guest's memory, and what host functions act on.
pub(super) fn parts<'c>(caller: &'c mut Caller<'_>) -> Result<(&'c mut [u8], &'c mut Data)> {
    count(caller);
    let memory = caller.data().guest.as_ref().ok_or_else(not_ready)?.memory;
    Ok(memory.data_and_store_mut(caller))
}

/// `length` bytes at `at`.
pub(super) fn bytes(memory: &[u8], at: u32, length: u32) -> Result<&[u8]> {
    let from = memory.get(at as usize..);
    let found = from.and_then(|from| from.get(..length as usize));
    found.ok_or_else(|| invalid("a list or string reaches beyond the guest's memory"))
}

/// A string.
pub(super) fn text(memory: &[u8], at: u32, length: u32) -> Result<&str> {
    utf8(bytes(memory, at, length)?).map_err(|_| invalid("a string is not UTF-8"))
}

/// A string that is wanted as bytes.
pub(super) fn text_bytes(memory: &[u8], at: u32, length: u32) -> Result<&[u8]> {
    text(memory, at, length).map(str::as_bytes)
}

/// `N` bytes for a value that is aligned to `align`, which is a power of two.
pub(super) fn place<const N: usize>(
    memory: &mut [u8],
    at: u32,
    align: u32,
) -> Result<&mut [u8; N]> {
    if !at.is_multiple_of(align) {
        return Err(invalid("a pointer is not aligned"));
    }
    let from = memory.get_mut(at as usize..);
    let found = from.and_then(|from| from.first_chunk_mut());
    found.ok_or_else(|| invalid("a result reaches beyond the guest's memory"))
}

/// The bytes of a list whose elements take `size` bytes and are aligned to 4.
pub(super) fn elements(memory: &[u8], at: u32, count: u32, size: usize) -> Result<&[u8]> {
    if !at.is_multiple_of(4) {
        return Err(invalid("a pointer is not aligned"));
    }
    let from = memory.get(at as usize..);
    let length = (count as usize).checked_mul(size);
    let found = from.zip(length).and_then(|(from, length)| from.get(..length));
    found.ok_or_else(|| invalid("a list or string reaches beyond the guest's memory"))
}

/// `N` bytes at `at`, to be read.
pub(super) fn value<const N: usize>(memory: &[u8], at: u32, align: u32) -> Result<&[u8; N]> {
    if !at.is_multiple_of(align) {
        return Err(invalid("a pointer is not aligned"));
    }
    let from = memory.get(at as usize..);
    let found = from.and_then(|from| from.first_chunk());
    found.ok_or_else(|| invalid("a value reaches beyond the guest's memory"))
}

/// The little-endian word at `at` in `bytes`, which has it.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

/// Writes a list or a string, which stands at `at`, as a result.
pub(super) fn put_list(
    caller: &mut Caller<'_>,
    guest: &Guest,
    result: u32,
    (at, length): (u32, u32),
) -> Result<()> {
    let room = place::<8>(guest.memory.data_mut(caller), result, 4)?;
    room[..4].copy_from_slice(&at.to_le_bytes());
    room[4..].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Writes an optional list or string as a result.
pub(super) fn put_option(
    caller: &mut Caller<'_>,
    guest: &Guest,
    result: u32,
    some: Option<(u32, u32)>,
) -> Result<()> {
    let room = place::<12>(guest.memory.data_mut(caller), result, 4)?;
    let Some((at, length)) = some else {
        room[0] = 0;
        return Ok(());
    };
    room[0] = 1;
    room[4..8].copy_from_slice(&at.to_le_bytes());
    room[8..].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Writes a `result` without a value, and with an error that has no more than a case.
pub(super) fn put_result(memory: &mut [u8], at: u32, error: Option<u8>) -> Result<()> {
    *place::<2>(memory, at, 1)? = match error {
        None => [0, 0],
        Some(case) => [1, case],
    };
    Ok(())
}

/// Copies `bytes` to room of the guest's own: pointer and length.
pub(super) fn give(
    store: impl AsContextMut<Data = Data>,
    guest: &Guest,
    bytes: &[u8],
) -> Result<(u32, u32)> {
    give_aligned(store, guest, 1, bytes)
}

/// The same, at a multiple of `align`.
pub(super) fn give_aligned(
    mut store: impl AsContextMut<Data = Data>,
    guest: &Guest,
    align: u32,
    bytes: &[u8],
) -> Result<(u32, u32)> {
    if bytes.is_empty() {
        // What allocators of guests answer to such a request too: no pointer to anything.
        return Ok((align, 0));
    }
    let length = u32::try_from(bytes.len()).map_err(|_| invalid("a value is over 4 GiB"))?;
    let Some(realloc) = &guest.realloc else {
        return Err(invalid("the guest takes a value and has no allocator for it"));
    };
    let at = realloc.call(&mut store, (0, 0, align, length))?;
    if !at.is_multiple_of(align) {
        return Err(invalid("the guest's allocator gave a pointer that is not aligned"));
    }
    let memory = guest.memory.data_mut(&mut store);
    let room = memory.get_mut(at as usize..).and_then(|from| from.get_mut(..bytes.len()));
    let Some(room) = room else {
        return Err(invalid("the guest's allocator gave room beyond the guest's memory"));
    };
    room.copy_from_slice(bytes);
    Ok((at, length))
}

/// Pointers and lengths that become a list.
#[derive(Default)]
pub(super) struct List(Vec<u8>);

impl List {
    pub(super) fn push(&mut self, (at, length): (u32, u32)) {
        self.0.extend_from_slice(&at.to_le_bytes());
        self.0.extend_from_slice(&length.to_le_bytes());
    }

    /// The list in the guest's memory, of elements of `pairs` pairs.
    pub(super) fn give(
        &self,
        caller: &mut Caller<'_>,
        guest: &Guest,
        pairs: usize,
    ) -> Result<(u32, u32)> {
        let (at, _) = give_aligned(caller, guest, 4, &self.0)?;
        Ok((at, u32::try_from(self.0.len() / 8 / pairs).unwrap_or(u32::MAX)))
    }
}

/// Calls `act` with the exchange and the guest beside the store, so that values of the one can be
/// copied into the other. The guest's allocator may run meanwhile: a host function it calls finds no
/// guest and is refused, as the canonical ABI wants it.
pub(super) fn lend<T>(
    caller: &mut Caller<'_>,
    act: impl FnOnce(&mut Exchange, &mut Caller<'_>, &Guest) -> Result<T>,
) -> Result<T> {
    count(caller);
    let data = caller.data_mut();
    let Some(guest) = data.guest.take() else { return Err(not_ready()) };
    let mut exchange = data.take_exchange();
    let done = act(&mut exchange, caller, &guest);
    let data = caller.data_mut();
    data.put_exchange(exchange);
    data.guest = Some(guest);
    done
}

fn not_ready() -> wasmtime::Error {
    HostRefusal::new("the host was called before the instance was ready, or by its allocator")
}
