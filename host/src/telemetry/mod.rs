//! What Pillion tells about itself: counters and histograms, the access log, structured logs.
//!
//! Workers write to shards of their own with plain relaxed atomics; a scrape reads and adds them up.
//! Nothing here decides anything about a request.

pub mod filter_stats;
pub mod histogram;
pub mod sharded;

pub use filter_stats::{Decision, FilterStats};
pub use histogram::Histogram;
pub use sharded::Sharded;
