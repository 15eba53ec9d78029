//! Shows what `clock` and `random` answer in fields of the response.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        let (wall, start) = (clock::now(), clock::monotonic());
        response.set_header("x-wall", &wall.as_nanos().to_string())?;
        response.set_header("x-wall-stable", &(wall == clock::now()).to_string())?;
        response.set_header("x-monotonic", &(clock::monotonic() >= start).to_string())?;
        response.set_header("x-random", &random::number().to_string())?;
        response.set_header("x-random-bytes", &random::bytes(16).len().to_string())?;
        Ok(Decision::Proceed)
    }
}
