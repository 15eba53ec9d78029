//! `pillion demo`: a small app, a sidecar before it, and lines to try.
pub(super) use super::run::{Arguments, main};
