//! Sets `x-version: a` on the response: one of two versions of a filter.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        response.set_header("x-version", "a")?;
        Ok(Decision::Proceed)
    }
}
