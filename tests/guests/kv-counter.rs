//! Counts requests in `kv`, and sets `x-count` on the response.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        let count = kv::increment("requests", 1, None)?;
        response.set_header("x-count", &count.to_string())?;
        Ok(Decision::Proceed)
    }
}
