//! Answers locally with the status in the field `x-status`: 99 and 1000 are not statuses.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let Some(status) = request.header("x-status") else {
            return Ok(Decision::Proceed);
        };
        let status = status.parse().map_err(|_| Error::new("`x-status` is not a number"))?;
        Ok(LocalResponse::new(status).into())
    }
}
