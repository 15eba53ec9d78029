//! Carries the path from the request to the field `x-note` of the response in a note.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        request.set_note("notes.path", &request.path())?;
        Ok(Decision::Proceed)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let note = request.note("notes.path").unwrap_or_else(|| "none".to_owned());
        response.set_header("x-note", &note)?;
        Ok(Decision::Proceed)
    }
}
