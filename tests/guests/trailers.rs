//! Edits the trailers of both messages: sets `x-seen`, removes `x-remove`.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request_trailers(&mut self, _: &Request, trailers: &mut Trailers) -> Result<()> {
        trailers.set_header("x-seen", "request")?;
        trailers.remove_header("x-remove")?;
        Ok(())
    }

    fn on_response_trailers(
        &mut self,
        _: &Request,
        _: &Response,
        trailers: &mut Trailers,
    ) -> Result<()> {
        trailers.set_header("x-seen", "response")?;
        trailers.remove_header("x-remove")?;
        Ok(())
    }
}
