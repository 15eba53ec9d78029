//! Does nothing: what a hook costs.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        Ok(Decision::Proceed)
    }
}
