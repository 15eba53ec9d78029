//! What the tests of Pillion stand on: a running sidecar (`sidecar`), origins behind it (`origin`),
//! clients before it (`client`, `wire`, `frames`), outside programs (`peer`), and the guests they
//! load.
//!
//! Everything here speaks to Pillion from outside: over sockets, signals, files and its log.

pub mod authority;
pub mod client;
pub mod frames;
pub mod guests;
pub mod log;
pub mod names;
pub mod origin;
pub mod peer;
pub mod process;
pub mod relay;
pub mod sidecar;
pub mod tls;
pub mod wait;
pub mod wire;

pub use authority::{Authority, Issued};
pub use client::{Client, Protocol, Reply};
pub use frames::{Frame, Frames};
pub use http_body_util::BodyExt;
pub use origin::{Origin, Seen};
pub use relay::Relay;
pub use sidecar::Sidecar;
pub use wait::{until, within};
pub use wire::Wire;
