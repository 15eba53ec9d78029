//! Replaces every chunk of both bodies with the same in upper case.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request_body(&mut self, _: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        Ok(BodyDecision::Replace(chunk.bytes().to_ascii_uppercase()))
    }

    fn on_response_body(
        &mut self,
        _: &Request,
        _: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        Ok(BodyDecision::Replace(chunk.bytes().to_ascii_uppercase()))
    }
}
