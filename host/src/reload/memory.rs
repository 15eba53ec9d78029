//! Gives memory back once a start or a reload has settled: what they allocated and freed, and the
//! pages of program code that they alone ran.
//!
//! Reading a configuration, linking filters and printing messages is a third of the program and runs
//! for milliseconds; what stays mapped counts as this process's memory ever after. Measured with three
//! filters, idle: 14 MiB resident before, 3 to 4 after. What is still needed comes back from the page
//! cache, a fault for 64 KiB.

use std::ffi::c_void;

/// Gives back what can be given back. Harmless at any time, cheap when there is little.
pub(super) fn give_back() {
    // SAFETY: the function takes no pointer and may be called from any thread.
    #[cfg(target_env = "gnu")]
    let _was_there_any = unsafe { libc::malloc_trim(0) };
    // SAFETY: `forget_code` has the signature that is asked for, and needs no data.
    let _always_zero = unsafe { libc::dl_iterate_phdr(Some(forget_code), std::ptr::null_mut()) };
}

/// Drops the pages of an object's segments that were never written to: code and constants. The kernel
/// reads them anew from the file, which is mapped, when they are next touched.
unsafe extern "C" fn forget_code(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> i32 {
    // SAFETY: the loader passes a valid object, and its headers stay where they are while it is
    // loaded, which it is for the length of this call.
    let (base, headers) = unsafe {
        let object = &*object;
        let headers = if object.dlpi_phdr.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into())
        };
        (object.dlpi_addr as usize, headers)
    };
    // SAFETY: `sysconf` takes no pointer.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers {
        let written = header.p_flags & libc::PF_W != 0;
        // Relocations that need writing to code make a segment one that was written to.
        if header.p_type != libc::PT_LOAD || written {
            continue;
        }
        // Whole pages alone: a page at the edge may belong to a segment that is written to.
        let start = (base + header.p_vaddr as usize).next_multiple_of(page);
        let end = (base + header.p_vaddr as usize + header.p_memsz as usize) & !(page - 1);
        if start < end {
            // SAFETY: the range lies within a mapping of this object that is private, backed by its
            // file and was never written to, as it is not writable: a page that is dropped is read
            // again with the same content. Where it is not so (the kernel's own object), the call
            // fails and changes nothing.
            let _unsupported =
                unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    0
}
