//! Small blocks of memory, kept for the next that asks for their size.
//!
//! A hook takes a few names and values from the host, and lets go of them at its end: the same sizes
//! with every request. An allocator for all sizes looks for the best place each time, which took a
//! tenth of a small hook; here a block is taken off a list, or put back on it.

use alloc::alloc::Layout;
use core::alloc::GlobalAlloc;
use core::cell::UnsafeCell;
use core::ptr;

/// Sizes of kept blocks, in bytes: 16, and twice as many up to 512.
const CLASSES: usize = 6;
const SMALLEST_BYTES: usize = 16;
const LARGEST_BYTES: usize = SMALLEST_BYTES << (CLASSES - 1);
/// Alignment of every kept block, in bytes.
const ALIGN: usize = 16;
/// Blocks of a size that are kept: together at most 63 KiB.
const KEPT_MAX: u32 = 64;

/// An allocator that keeps small blocks of another one. For a single thread.
pub struct Keeping<A> {
    below: A,
    kept: UnsafeCell<[List; CLASSES]>,
}

// SAFETY: a component has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl<A> Sync for Keeping<A> {}

/// Free blocks of one size, each of which holds the place of the next.
#[derive(Clone, Copy)]
struct List {
    first: *mut Block,
    length: u32,
}

struct Block {
    next: *mut Block,
}

impl<A> Keeping<A> {
    /// Keeps nothing yet.
    pub const fn new(below: A) -> Self {
        let empty = List { first: ptr::null_mut(), length: 0 };
        Keeping { below, kept: UnsafeCell::new([empty; CLASSES]) }
    }

    /// # Safety
    /// The list is used by nobody else until the reference is gone.
    #[allow(clippy::mut_from_ref, reason = "one thread, and no call within another")]
    unsafe fn list(&self, class: usize) -> &mut List {
        // SAFETY: the caller says so.
        unsafe { &mut (*self.kept.get())[class] }
    }
}

/// The size a small block is kept as.
#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    if layout.size() > LARGEST_BYTES || layout.align() > ALIGN {
        return None;
    }
    let above = (layout.size().max(SMALLEST_BYTES) - 1) / SMALLEST_BYTES;
    Some((usize::BITS - above.leading_zeros()) as usize)
}

fn layout_of(class: usize) -> Layout {
    // SAFETY: both are powers of two, and small.
    unsafe { Layout::from_size_align_unchecked(SMALLEST_BYTES << class, ALIGN) }
}

// SAFETY: a block of a class is of the allocator below, with the layout of its class, and has one owner:
// a list, or whoever asked for it.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Keeping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the same is asked of us.
            return unsafe { self.below.alloc(layout) };
        };
        // SAFETY: the reference ends here.
        let list = unsafe { self.list(class) };
        let first = list.first;
        if first.is_null() {
            // SAFETY: the layout is of no size 0.
            return unsafe { self.below.alloc(layout_of(class)) };
        }
        // SAFETY: what stands on a list is a block that nobody else has.
        list.first = unsafe { (*first).next };
        list.length -= 1;
        first.cast()
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: it is of the allocator below.
            return unsafe { self.below.dealloc(place, layout) };
        };
        // SAFETY: the reference ends here.
        let list = unsafe { self.list(class) };
        if list.length == KEPT_MAX {
            // SAFETY: it is of the allocator below, with the layout of its class.
            return unsafe { self.below.dealloc(place, layout_of(class)) };
        }
        let block: *mut Block = place.cast();
        // SAFETY: a block has room for a pointer, is aligned to it, and was given up to us.
        unsafe { block.write(Block { next: list.first }) };
        list.first = block;
        list.length += 1;
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller sees to it that `size` does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            // SAFETY: it is of the allocator below.
            (None, None) => unsafe { self.below.realloc(place, layout, size) },
            (one, other) if one == other => place,
            // SAFETY: both blocks have that many bytes, and are not the same.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(place, moved, layout.size().min(size));
                    self.dealloc(place, layout);
                }
                moved
            },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout).is_none() {
            // SAFETY: the same is asked of us. It may know that its memory is zero.
            return unsafe { self.below.alloc_zeroed(layout) };
        }
        // SAFETY: the same is asked of us.
        let place = unsafe { self.alloc(layout) };
        if !place.is_null() {
            // SAFETY: the block has that many bytes.
            unsafe { place.write_bytes(0, layout.size()) };
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::alloc::System;
    use std::collections::HashMap;

    /// Counts what is lent, and holds whoever gives back to what was asked for.
    #[derive(Default)]
    struct Below {
        lent: Cell<usize>,
        layouts: core::cell::RefCell<HashMap<usize, Layout>>,
    }

    // SAFETY: `System` does the work.
    unsafe impl GlobalAlloc for Below {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let place = unsafe { System.alloc(layout) };
            self.lent.set(self.lent.get() + 1);
            self.layouts.borrow_mut().insert(place.addr(), layout);
            place
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            self.lent.set(self.lent.get() - 1);
            assert_eq!(self.layouts.borrow_mut().remove(&place.addr()), Some(layout));
            unsafe { System.dealloc(place, layout) };
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn a_block_has_the_least_size_that_holds_it() {
        for (size, class) in
            [(0, 0), (1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (256, 4), (257, 5), (512, 5)]
        {
            assert_eq!(class_of(layout(size)), Some(class), "{size}");
            assert!(layout_of(class).size() >= size);
        }
        assert_eq!(class_of(layout(513)), None);
        assert_eq!(class_of(Layout::from_size_align(32, 16).unwrap()), Some(1));
        assert_eq!(class_of(Layout::from_size_align(32, 32).unwrap()), None);
    }

    #[test]
    fn a_block_is_used_again_by_the_next_of_its_size() {
        let keeping = Keeping::new(Below::default());
        unsafe {
            let one = keeping.alloc(layout(20));
            let other = keeping.alloc(layout(20));
            assert_ne!(one, other);
            keeping.dealloc(one, layout(20));
            keeping.dealloc(other, layout(20));
            assert_eq!(keeping.alloc(layout(32)), other);
            assert_eq!(keeping.alloc(layout(17)), one);
            assert_eq!(keeping.below.lent.get(), 2);
            other.write_bytes(7, 32);
            keeping.dealloc(other, layout(32));
            let zeroed = keeping.alloc_zeroed(layout(31));
            assert_eq!(zeroed, other);
            assert_eq!(core::slice::from_raw_parts(zeroed, 31), [0; 31]);
            keeping.dealloc(zeroed, layout(31));
            keeping.dealloc(one, layout(17));
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        for (blocks, back) in
            [(KEPT_MAX as usize - 1, 0), (KEPT_MAX as usize, 0), (KEPT_MAX as usize + 1, 1)]
        {
            let keeping = Keeping::new(Below::default());
            unsafe {
                let places: Vec<_> = (0..blocks).map(|_| keeping.alloc(layout(64))).collect();
                places.iter().for_each(|place| keeping.dealloc(*place, layout(64)));
            }
            assert_eq!(keeping.below.lent.get(), blocks - back, "{blocks}");
        }
        let keeping = Keeping::new(Below::default());
        unsafe {
            let large = keeping.alloc(layout(513));
            keeping.dealloc(large, layout(513));
            let large = keeping.alloc_zeroed(layout(600));
            keeping.dealloc(large, layout(600));
        }
        assert_eq!(keeping.below.lent.get(), 0, "nor anything large");
    }

    #[test]
    fn what_grows_or_shrinks_keeps_its_bytes() {
        let keeping = Keeping::new(Below::default());
        for sizes in [[10, 16], [10, 17], [500, 600], [600, 500], [600, 900], [40, 8], [512, 257]] {
            let [before, after] = sizes;
            let bytes: Vec<u8> = (0..before).map(|byte| byte as u8).collect();
            unsafe {
                let place = keeping.alloc(layout(before));
                place.copy_from_nonoverlapping(bytes.as_ptr(), before);
                let moved = keeping.realloc(place, layout(before), after);
                let same = before.min(after);
                assert_eq!(core::slice::from_raw_parts(moved, same), &bytes[..same], "{sizes:?}");
                keeping.dealloc(moved, layout(after));
            }
        }
    }
}
