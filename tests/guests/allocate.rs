//! Allocates without bound where the request has a field `x-poison`.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let mut hoard = Vec::new();
        while request.header("x-poison").is_some() {
            hoard.push(vec![1_u8; 1024 * 1024]);
            std::hint::black_box(&hoard);
        }
        Ok(Decision::Proceed)
    }
}
