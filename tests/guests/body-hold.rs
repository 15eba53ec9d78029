//! Holds both bodies whole, and sets `x-held` on the head to their number of bytes.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        Ok(Decision::WaitForBody)
    }

    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        if !chunk.is_last() {
            return Ok(BodyDecision::Hold);
        }
        let body = chunk.held_and_this();
        request.set_header("x-held", &body.len().to_string())?;
        Ok(BodyDecision::Replace(body))
    }

    fn on_response(&mut self, _: &Request, _: &mut Response) -> Result<Decision> {
        Ok(Decision::WaitForBody)
    }

    fn on_response_body(
        &mut self,
        _: &Request,
        response: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        if !chunk.is_last() {
            return Ok(BodyDecision::Hold);
        }
        let body = chunk.held_and_this();
        response.set_header("x-held", &body.len().to_string())?;
        Ok(BodyDecision::Replace(body))
    }
}
