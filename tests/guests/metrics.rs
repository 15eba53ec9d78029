//! Defines and reports a metric of each kind.

use pillion_sdk::prelude::*;

struct Guest {
    requests: metrics::Counter,
    last_bytes: metrics::Gauge,
    path_length: metrics::Histogram,
}

#[filter]
impl Filter for Guest {
    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            requests: metrics::Counter::define("requests", "Requests seen.", &["method"])?,
            last_bytes: metrics::Gauge::define("last_path_bytes", "Length of the last path.", &[])?,
            path_length: metrics::Histogram::define("path_bytes", "Lengths of paths.", &[])?,
        })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let length = request.path().len() as f64;
        self.requests.increment(&[&request.method()])?;
        self.last_bytes.set(length, &[])?;
        self.path_length.observe(length, &[])?;
        Ok(Decision::Proceed)
    }
}
