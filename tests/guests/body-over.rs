//! Holds every chunk of a request body: more than the limit, for a large one.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request_body(&mut self, _: &mut Request, _: Chunk<'_>) -> Result<BodyDecision> {
        Ok(BodyDecision::Hold)
    }
}
