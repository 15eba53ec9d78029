//! Tries to set framing fields of a response, and lists in `x-refused` those it could not.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_response(&mut self, _: &Request, response: &mut Response) -> Result<Decision> {
        let mut refused = Vec::new();
        for name in ["content-length", "transfer-encoding", "connection"] {
            if let Err(error) = response.set_header(name, "1") {
                refused.push(format!("{name}={:?}", error.kind()));
            }
        }
        response.set_header("x-refused", &refused.join(", "))?;
        Ok(Decision::Proceed)
    }
}
