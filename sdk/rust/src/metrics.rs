//! Metrics of this filter. Grant: `metrics`.
//!
//! The host shows them as `pillion_filter_custom_<name>` with the labels `filter` and `version`
//! added. At most 32 metrics, 8 labels a metric and 1,000 series a filter. Define them in
//! [`Filter::new`](crate::Filter::new) and keep them in the filter.
//!
//! ```
//! use pillion_sdk::{prelude::*, testing::{self, json}};
//!
//! struct Count { requests: metrics::Counter }
//!
//! #[filter]
//! impl Filter for Count {
//!     fn new(_: NoConfig) -> Result<Self, ConfigError> {
//!         Ok(Self { requests: metrics::Counter::define("requests", "Requests seen.", &["method"])? })
//!     }
//!
//!     fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
//!         self.requests.increment(&[&request.method()])?;
//!         Ok(Decision::Proceed)
//!     }
//! }
//!
//! let host = testing::Host::new();
//! let filter = host.load::<Count>(json!({})).unwrap();
//! filter.request(testing::Request::get("/"));
//! assert_eq!(host.metric("requests", &["GET"]), Some(1.0));
//! ```

use crate::{MetricError, host};

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Defines a typed wrapper with its constructor.
macro_rules! metric {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(u32);

        impl $name {
            /// Registers the metric; the same name again gives the same metric. Names and labels are
            /// `[a-zA-Z_][a-zA-Z0-9_]*` of at most 64 bytes.
            ///
            /// # Errors
            /// See [`MetricError`].
            pub fn define(name: &str, help: &str, labels: &[&str]) -> Result<Self, MetricError> {
                host::metrics::define(Kind::$name, name, help, labels).map(Self)
            }
        }
    };
}

metric! {
    /// A number that only grows.
    Counter
}

metric! {
    /// A number that goes up and down.
    Gauge
}

metric! {
    /// A distribution: buckets from 1 µs to 10 s when the name ends in `_seconds`, powers of four
    /// from 1 otherwise.
    Histogram
}

impl Counter {
    /// Adds one. `labels` are the values, in the order of the definition.
    ///
    /// # Errors
    /// See [`MetricError`].
    pub fn increment(&self, labels: &[&str]) -> Result<(), MetricError> {
        self.add(1.0, labels)
    }

    /// Adds `by`, which must not be negative.
    ///
    /// # Errors
    /// See [`MetricError`].
    pub fn add(&self, by: f64, labels: &[&str]) -> Result<(), MetricError> {
        host::metrics::report(self.0, labels, by)
    }
}

impl Gauge {
    /// Sets the number. `labels` are the values, in the order of the definition.
    ///
    /// # Errors
    /// See [`MetricError`].
    pub fn set(&self, value: f64, labels: &[&str]) -> Result<(), MetricError> {
        host::metrics::report(self.0, labels, value)
    }
}

impl Histogram {
    /// Counts one observation. `labels` are the values, in the order of the definition.
    ///
    /// # Errors
    /// See [`MetricError`].
    pub fn observe(&self, value: f64, labels: &[&str]) -> Result<(), MetricError> {
        host::metrics::report(self.0, labels, value)
    }
}
