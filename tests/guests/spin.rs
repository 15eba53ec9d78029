//! Never ends where the request has a field `x-poison`.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        while request.header("x-poison").is_some() {
            for turn in 0..1_000_000_u32 {
                std::hint::black_box(turn);
            }
        }
        Ok(Decision::Proceed)
    }
}
