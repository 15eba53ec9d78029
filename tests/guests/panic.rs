//! Panics with `boom: <path>` where the request has a field `x-poison`.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        assert!(request.header("x-poison").is_none(), "boom: {}", request.path());
        Ok(Decision::Proceed)
    }
}
