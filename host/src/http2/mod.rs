//! HTTP/2: heads, bodies and connections over the `h2` crate, for both sides of the proxy.
//!
//! `server` accepts requests of one downstream connection, `client` sends them on one upstream
//! connection; `head` maps heads both ways, `body` moves bodies under flow control, `guard` counts
//! frames and refuses what the crate below lets pass. Knows no routes, filters or TLS. Everything
//! here belongs to one thread. Start with `server`.

pub mod body;
pub mod client;
pub mod error;
mod guard;
pub mod head;
mod keepalive;
pub mod limits;
pub mod server;
#[cfg(test)]
mod tests;

pub use body::{BodyReader, BodyWriter};
pub use client::{Answer, Client, ClientSendError, Response};
pub use error::{AcceptError, ConnectionError, RequestError, SendError, Violation};
pub use h2::Reason;
pub use head::{HeadError, ResponseFraming};
pub use limits::Http2Limits;
pub use server::{Connection, Incoming, Responder};
