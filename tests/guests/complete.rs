//! Logs how each exchange ended.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_complete(&mut self, request: &Request, outcome: &Outcome) -> Result<()> {
        log::info!(
            "completed {} status={} complete={} error={} request_bytes={} response_bytes={}",
            request.path(),
            outcome.status.unwrap_or_default(),
            outcome.complete,
            outcome.error.as_deref().unwrap_or("none"),
            outcome.request_bytes,
            outcome.response_bytes,
        );
        Ok(())
    }
}
