//! One request: the data path. `service` is the page to read first.

pub mod reply;
pub mod timer;
