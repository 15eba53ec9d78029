//! The guest `panic`, without the standard library.

#![cfg_attr(target_arch = "wasm32", no_std)]

use pillion_sdk::prelude::*;

pillion_sdk::no_std!();

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        assert!(request.header("x-poison").is_none(), "boom: {}", request.path());
        Ok(Decision::Proceed)
    }
}
