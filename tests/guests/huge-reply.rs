//! Answers locally with as many bytes as the field `x-bytes` says; 1 MiB without it.

use pillion_sdk::prelude::*;

#[derive(Default)]
struct Guest;

#[filter]
impl Filter for Guest {
    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let length = request.header("x-bytes").and_then(|bytes| bytes.parse().ok());
        let body = vec![b'x'; length.unwrap_or(1024 * 1024)];
        Ok(LocalResponse::new(200).body(body).into())
    }
}
