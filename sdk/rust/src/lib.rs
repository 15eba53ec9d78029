//! Write Pillion filters in Rust.
//!
//! A filter is a type that implements [`Filter`] under the [`filter`] attribute. The attribute
//! exports exactly the hooks that are written, so that a hook that is absent costs nothing. Messages
//! come as `&mut Request` and the like: values without size that stand for the exchange in progress,
//! so that a call in the wrong phase does not compile. Capabilities are modules: [`log`], [`clock`],
//! [`random`], [`metrics`], [`kv`], [`rate_limit`].
//!
//! ```
//! use pillion_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! #[filter]
//! impl Filter for Hello {
//!     fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
//!         request.set_header("x-hello", "world")?;
//!         Ok(Decision::Proceed)
//!     }
//! }
//!
//! // Natively the hooks run against a fake host: see `testing`.
//! use pillion_sdk::testing::{self, json};
//! let hello = testing::Host::new().load::<Hello>(json!({})).unwrap();
//! let exchange = hello.request(testing::Request::get("/"));
//! assert_eq!(exchange.forwarded().header("x-hello"), Some("world".to_owned()));
//! ```
//!
//! A crate with `crate-type = ["cdylib"]`, built for `wasm32-wasip2`, is a component. A component has
//! one filter: a filter crate linked into another would add its hooks to it.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

// The `#[filter]` attribute names this crate by its name, in its own tests too.
#[cfg(test)]
extern crate self as pillion_sdk;

pub mod clock;
mod config;
mod decision;
mod error;
mod filter;
mod hooks;
mod json;
pub mod kv;
pub mod log;
mod message;
pub mod metrics;
pub mod random;
pub mod rate_limit;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod export;
#[cfg(target_arch = "wasm32")]
mod failure;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(any(target_arch = "wasm32", test))]
#[cfg_attr(test, allow(unreachable_pub, reason = "`no_std!` reaches it, in a component"))]
mod kept;
#[cfg(target_arch = "wasm32")]
mod memory;
#[cfg(target_arch = "wasm32")]
mod types;

#[cfg(not(target_arch = "wasm32"))]
use testing::fake as host;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use config::ConfigError;
pub use decision::{BodyDecision, Decision, Field, LocalResponse};
pub use error::{EditError, EditErrorKind, Error, KvError, MetricError, NoteError, Result};
pub use filter::{Filter, NoConfig};
pub use hooks::Hooks;
pub use message::{Chunk, Outcome, Request, Response, Trailers};

/// Exports the hooks of a filter: put it on the one `impl Filter for …` of a crate.
///
/// - Each hook that is written is exported, and no other. `configure` is exported when `new` is,
///   `wanted-hooks` when `wants` is, `state` when `STATE_VERSION` and `migrate` are.
/// - Where `new` is missing the filter takes no configuration and is made by [`Default`].
/// - Where `type Config` is missing it is [`NoConfig`].
pub use pillion_sdk_macros::filter;

/// Makes a component of a filter crate that does without the standard library: about 30 KiB smaller
/// than one with it.
///
/// Write it once, at the root of a crate with `#![cfg_attr(target_arch = "wasm32", no_std)]`, none of
/// whose dependencies uses the standard library. It adds what that would bring: memory, and panics
/// whose text reaches the host's log. Natively it adds nothing.
#[macro_export]
macro_rules! no_std {
    () => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[global_allocator]
            static ALLOCATOR: $crate::__private::Allocator = $crate::__private::allocator();

            /// Room for what the host hands over.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn cabi_realloc(
                old: *mut u8,
                old_length: usize,
                align: usize,
                length: usize,
            ) -> *mut u8 {
                // SAFETY: the canonical ABI asks of both the same.
                unsafe { $crate::__private::cabi_realloc(old, old_length, align, length) }
            }

            #[panic_handler]
            fn panicked(panic: &::core::panic::PanicInfo<'_>) -> ! {
                $crate::__private::end(::core::format_args!("{panic}"))
            }
        };
    };
}

/// What a filter needs in one line: `use pillion_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        BodyDecision, Chunk, ConfigError, Decision, EditErrorKind, Error, Field, Filter, Hooks,
        LocalResponse, NoConfig, Outcome, Request, Response, Result, Trailers, clock, filter, kv,
        log, metrics, random, rate_limit,
    };
}

/// What the `#[filter]` attribute expands to; not for authors.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings::{
        configure, on_complete, on_request, on_request_body, on_request_trailers, on_response,
        on_response_body, on_response_trailers, state, wanted_hooks,
    };
    #[cfg(target_arch = "wasm32")]
    pub use crate::{
        export::Exported,
        failure::end,
        memory::{Allocator, allocator, cabi_realloc},
    };
}
