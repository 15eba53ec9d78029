//! Sets a field of the request to the client's address, and one of the response.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_http_context(|_, _| Box::new(Headers));
}}

struct Headers;

impl Context for Headers {}

impl HttpContext for Headers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let address = self.get_property(vec!["source", "address"]).unwrap_or_default();
        let address = String::from_utf8(address).unwrap_or_default();
        let client = address.rsplit_once(':').map_or(address.as_str(), |(client, _)| client);
        self.set_http_request_header("x-client", Some(client));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("x-served-by", Some("envoy"));
        Action::Continue
    }
}
