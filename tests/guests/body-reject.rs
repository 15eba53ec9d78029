//! Answers 403 while the request body is still arriving, once a chunk holds `forbidden`.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request_body(&mut self, _: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        if String::from_utf8_lossy(chunk.bytes()).contains("forbidden") {
            return Ok(LocalResponse::text(403, "forbidden\n").into());
        }
        Ok(BodyDecision::Pass)
    }
}
