//! The end of a hook call that failed: a text for the host's log, then a trap.
//!
//! Writes to standard error, which the host keeps as the last words of a call. Needs no memory, so that
//! a filter that has none left can still tell.

use core::fmt::{self, Write};

use crate::bindings::wasi::wasi::{cli::stderr::get_stderr, io::streams::OutputStream};

/// Writes the text to standard error and traps.
#[cold]
pub fn end(text: fmt::Arguments<'_>) -> ! {
    // What cannot be written is lost; the host still tells of the trap.
    let _lost = Stderr(get_stderr()).write_fmt(text);
    core::arch::wasm32::unreachable()
}

struct Stderr(OutputStream);

impl Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.blocking_write_and_flush(text.as_bytes()).map_err(|_closed| fmt::Error)
    }
}
