//! Log lines with the filter's name and version. Grant: `log`.
//!
//! At most 20 lines an exchange (further ones are counted and dropped by the host), 1 KiB each (cut).
//!
//! ```no_run
//! use pillion_sdk::log;
//! log::warn!("tenant `{}` has no quota", "acme");
//! ```

use alloc::string::ToString;
use core::fmt;

use crate::host;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing in normal service.
    Info,
    /// For the author of the filter.
    Debug,
    /// Every step.
    Trace,
}

/// Would a line of this level be written? The macros ask before they format.
pub fn enabled(level: Level) -> bool {
    host::log::enabled(level)
}

/// Writes a line; formats only if the level is enabled. [`error!`], [`warn!`], [`info!`], [`debug!`]
/// and [`trace!`] are shorter.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        match message.as_str() {
            Some(text) => host::log::write(level, text),
            None => host::log::write(level, &message.to_string()),
        }
    }
}

/// Defines one macro for each level: the text, then the level.
macro_rules! levels {
    ($d:tt $($(#[$doc:meta])* $hidden:ident as $name:ident: $level:ident;)+) => {
        $(
            #[doc(hidden)]
            #[macro_export]
            macro_rules! $hidden {
                ($d($d part:tt)+) => {
                    $crate::log::write($crate::log::Level::$level, ::core::format_args!($d($d part)+))
                };
            }

            $(#[$doc])*
            #[doc(inline)]
            pub use $hidden as $name;
        )+
    };
}

levels! { $
    /// Writes a line that says that something failed; takes what `format!` takes.
    __pillion_log_error as error: Error;
    /// Writes a line that says that something is odd; takes what `format!` takes.
    __pillion_log_warn as warn: Warn;
    /// Writes a line worth knowing in normal service; takes what `format!` takes.
    __pillion_log_info as info: Info;
    /// Writes a line for the author of the filter; takes what `format!` takes.
    __pillion_log_debug as debug: Debug;
    /// Writes a line about a single step; takes what `format!` takes.
    __pillion_log_trace as trace: Trace;
}
