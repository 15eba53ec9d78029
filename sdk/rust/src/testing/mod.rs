//! A fake host, so that hooks run as plain Rust under `cargo test`.
//!
//! It does what the real host does: host-owned fields are refused, the documented limits hold, edits
//! in the wrong phase answer the error they get in service, names come out in lower case, time stands
//! still within an exchange, buckets and `kv` outlive instances, an instance that fails is replaced.
//! That it does so is tested with random exchanges on both. It runs one filter on one exchange:
//! chains, fail policies, deadlines and memory caps are the real host's.
//!
//! ```
//! use std::time::Duration;
//! use pillion_sdk::{prelude::*, testing::{self, json}};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config { key: String }
//!
//! struct Limit { key: String }
//!
//! #[filter]
//! impl Filter for Limit {
//!     type Config = Config;
//!
//!     fn new(config: Config) -> Result<Self, ConfigError> {
//!         if config.key.is_empty() {
//!             return Err(ConfigError::at("key", "expected a field name"));
//!         }
//!         Ok(Self { key: config.key })
//!     }
//!
//!     fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
//!         let key = request.header(&self.key).unwrap_or_default();
//!         let taken = rate_limit::take(&key, 1);
//!         if taken.allowed {
//!             return Ok(Decision::Proceed);
//!         }
//!         log::info!("`{key}` is over its limit");
//!         let seconds = taken.retry_after.as_secs_f64().ceil().to_string();
//!         Ok(LocalResponse::text(429, "slow down\n").header("retry-after", seconds).into())
//!     }
//!
//!     fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
//!         response.set_header("x-served", &request.path())?;
//!         Ok(Decision::Proceed)
//!     }
//! }
//!
//! let host = testing::Host::new().rate_limit(2, Duration::from_secs(1), 2);
//! let filter = host.load::<Limit>(json!({"key": "x-tenant"})).unwrap();
//! let request = || testing::Request::get("/api?q=1").header("x-tenant", "a");
//!
//! let exchange = filter.request(request());
//! assert_eq!(exchange.forwarded().path_with_query, "/api?q=1");
//! let answered = exchange.answer(testing::Response::new(200).body("fine"));
//! assert_eq!(answered.response().header("x-served"), Some("/api".to_owned()));
//!
//! filter.request(request());
//! let exchange = filter.request(request());
//! let reply = exchange.local_response().unwrap();
//! assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1".to_owned())));
//! assert_eq!(host.logs()[0].text, "`a` is over its limit");
//!
//! host.advance(Duration::from_secs(1));
//! assert!(filter.request(request()).local_response().is_none());
//!
//! let error = host.load::<Limit>(json!({"kye": "x-tenant"})).err().unwrap();
//! assert_eq!(error.key, "kye");
//! ```

mod buckets;
mod exchange;
pub(crate) mod fake;
mod fields;
mod host;
mod message;
mod metrics;
mod rules;
mod run;
mod services;
mod store;

pub use exchange::{Answered, Exchange};
pub use host::{Host, Loaded, LogLine};
pub use message::{Forwarded, Reply, Request, Response};
pub use metrics::Series;
pub use serde_json::json;
