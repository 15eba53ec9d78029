//! Fails with `boom: <path>` where the request has a field `x-poison`, without a panic.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        match request.header("x-poison") {
            Some(_) => Err(Error::new(["boom: ", &request.path()].concat())),
            None => Ok(Decision::Proceed),
        }
    }
}
