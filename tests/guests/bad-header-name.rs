//! Sets a field whose name is not a token, and gives up when that is refused.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        request.set_header("not a token", "1")?;
        Ok(Decision::Proceed)
    }
}
