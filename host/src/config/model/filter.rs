//! One filter as the rest of Pillion uses it: its component, what it may do, and its next version.
//!
//! Plain data, as in `model`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::limits::{FilterLimits, KvGrant};

/// `[filter.NAME]`
#[derive(Clone)]
pub struct Filter {
    /// Unique among filters.
    pub name: Arc<str>,
    /// What people call this version; none: the hash of its component is all.
    pub version: Option<Arc<str>>,
    /// Where its component is.
    pub source: FilterSource,
    /// What `configure` gets; always an object.
    pub config: serde_json::Value,
    /// The capabilities it may import.
    pub grants: Grants,
    /// Bounds on its calls.
    pub limits: FilterLimits,
    /// What a request gets when the filter fails.
    pub fail_policy: FailPolicy,
    /// Which requests share an instance.
    pub isolation: Isolation,
    /// What is to take its place: the whole filter, of the same name and without a next one.
    pub next: Option<Box<Filter>>,
}

impl Filter {
    /// The keys in which `other` is something else, by which a filter does something else. What
    /// people call its version is none of them.
    pub fn differences(&self, other: &Filter) -> Vec<&'static str> {
        let Self {
            name: _,
            version: _,
            source,
            config,
            grants,
            limits,
            fail_policy,
            isolation,
            next: _,
        } = self;
        let keys = [
            ("source", *source != other.source),
            ("config", *config != other.config),
            ("grants", *grants != other.grants),
            ("limits", *limits != other.limits),
            ("fail_policy", *fail_policy != other.fail_policy),
            ("isolation", *isolation != other.isolation),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// `config` may hold secrets, so it is left out.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, source, config: _, grants, limits, fail_policy, isolation, next } =
            self;
        f.debug_struct("Filter")
            .field("name", name)
            .field("version", version)
            .field("source", source)
            .field("grants", grants)
            .field("limits", limits)
            .field("fail_policy", fail_policy)
            .field("isolation", isolation)
            .field("next", next)
            .finish_non_exhaustive()
    }
}

/// Where a filter's component is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FilterSource {
    /// One of the filters shipped in the binary, by name.
    Builtin(String),
    /// A file, by absolute path.
    File(PathBuf),
    /// Bytes that came through the admin interface.
    Uploaded(Upload),
}

/// A component that is in memory, known by its hash. Debug leaves the bytes out.
#[derive(Clone)]
pub struct Upload {
    hash: blake3::Hash,
    bytes: Bytes,
}

impl Upload {
    /// The component with these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Upload { hash: blake3::hash(&bytes), bytes }
    }

    /// Of all its bytes.
    pub fn hash(&self) -> blake3::Hash {
        self.hash
    }

    /// The component.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Upload {}

impl Hash for Upload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.hash.to_hex())
    }
}

/// The capabilities a filter may import. A shipped filter has the first four unless the file takes
/// them away; a filter from a file has none unless the file gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Write log lines.
    pub log: bool,
    /// Read the time.
    pub clock: bool,
    /// Get random bytes.
    pub random: bool,
    /// Define and report metrics.
    pub metrics: bool,
    /// A map kept by the host.
    pub kv: Option<KvGrant>,
    /// Token buckets kept by the host.
    pub rate_limit: Option<RateLimitGrant>,
}

/// The token buckets of a filter, all of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitGrant {
    /// Tokens added in each window.
    pub requests: u64,
    /// Length of the window; whole milliseconds.
    pub per: Duration,
    /// Tokens a full bucket holds.
    pub burst: u64,
    /// Buckets at most.
    pub keys: usize,
}

/// What a request gets when a filter fails to load, traps, or exceeds its time or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPolicy {
    /// An error.
    Closed,
    /// It goes on without the filter.
    Open,
}

/// Which requests share an instance of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those of one worker, one after another.
    Shared,
    /// None: each gets a fresh one.
    PerRequest,
}
