//! Writes 10,000 log lines for each request.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        for line in 0..10_000 {
            log::info!("line {line}");
        }
        Ok(Decision::Proceed)
    }
}
