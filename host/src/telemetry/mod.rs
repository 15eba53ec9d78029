//! What Pillion tells about itself: counters and histograms, the access log, structured logs.
//!
//! Workers write to shards of their own with plain relaxed atomics; a scrape reads and adds them
//! up. Nothing here decides anything about a request. Read `metrics` for what is counted,
//! `access_log` and `tracing_setup` for what is written.

pub mod access_log;
pub mod counters;
mod custom;
pub mod dns_stats;
pub mod exposition;
mod families;
pub mod filter_stats;
pub mod guard_stats;
mod guards;
pub mod handshakes;
pub mod histogram;
mod json;
pub mod metrics;
pub mod mirror;
pub mod overload;
pub mod rollout;
pub mod sharded;
pub mod sink;
pub mod tracing_setup;

pub use access_log::{AccessLog, WorkerLog};
pub use counters::{
    CacheLookup, CertificateStats, DeadlineResult, ListenerStats, ProcessStats, RolloutEnd,
    RouteStats, UpstreamStats,
};
pub use dns_stats::LookupResult;
pub use filter_stats::{Decision, FilterStats};
pub use guard_stats::{EjectionCause, Guard, HedgeResult, RetryCause, RetryRefusal};
pub use handshakes::{HandshakeResult, HandshakeVersion};
pub use histogram::Histogram;
pub use metrics::Metrics;
pub use mirror::Mirrored;
pub use overload::{OverloadStats, Shed};
pub use rollout::{RolloutNumbers, SideNumbers};
pub use sharded::Sharded;
