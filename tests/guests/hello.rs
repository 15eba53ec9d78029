//! The smallest useful filter: sets `x-hello: world` on the request.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        request.set_header("x-hello", "world")?;
        Ok(Decision::Proceed)
    }
}
