//! Time. Grant: `clock`.

use core::time::Duration;

use crate::host;

/// Wall time of the request since 1970-01-01T00:00:00Z: the same for every call within one exchange.
pub fn now() -> Duration {
    host::clock::now()
}

/// Time of a clock that never goes back, from an arbitrary start; it moves within a hook.
pub fn monotonic() -> Duration {
    host::clock::monotonic()
}
