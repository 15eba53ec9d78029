//! Leaks 64 KiB with each request.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, _: &mut Request) -> Result<Decision> {
        std::hint::black_box(vec![1_u8; 64 * 1024].leak());
        Ok(Decision::Proceed)
    }
}
