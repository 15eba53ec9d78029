//! Memory of filters without the standard library: the allocator, and room for what the host hands
//! over.
//!
//! Knows nothing of filters. `no_std!` puts both into a component.

use crate::kept::Keeping;
use alloc::alloc::{Layout, alloc, realloc};
use core::ptr;
use dlmalloc::GlobalDlmalloc;

/// Memory of a component.
pub type Allocator = Keeping<GlobalDlmalloc>;

/// That has given nothing yet.
pub const fn allocator() -> Allocator {
    Keeping::new(GlobalDlmalloc)
}

/// What the canonical ABI calls for room in the guest. Traps where there is none.
///
/// # Safety
/// `old` is null, or came from here with this length and alignment.
pub unsafe fn cabi_realloc(
    old: *mut u8,
    old_length: usize,
    align: usize,
    length: usize,
) -> *mut u8 {
    if length == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: `align` is that of a type, and a length that does not fit traps in the allocator.
    let place = unsafe {
        if old_length == 0 {
            alloc(Layout::from_size_align_unchecked(length, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_length, align), length)
        }
    };
    if place.is_null() {
        core::arch::wasm32::unreachable()
    }
    place
}

// `memcpy` and the like, which the standard library would bring.
#[link(name = "c")]
unsafe extern "C" {}
