use pillion_sdk::prelude::*;

#[derive(Default)]
pub struct Hello;

#[filter]
impl Filter for Hello {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        request.set_header("x-hello", "world")?;
        Ok(Decision::Proceed)
    }
}
