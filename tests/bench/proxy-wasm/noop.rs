//! Does nothing: what a filter costs.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_http_context(|_, _| Box::new(Noop));
}}

struct Noop;

impl Context for Noop {}

impl HttpContext for Noop {}
