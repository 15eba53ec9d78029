//! HTTP/1.0 and HTTP/1.1 on the wire (RFC 9112): strict on what comes in, exact on what goes out.
//!
//! Read `head` for what is refused and why, `framing` for how a body is delimited, then `reader` and
//! `writer`, which move messages over a `Stream` within one task. Nothing in here knows routes,
//! filters or which side of the proxy it is on.

mod chunked;
mod error;
mod framing;
mod head;
mod limits;
mod reader;
mod scan;
mod text;
mod writer;

pub use error::HeadError;
pub use head::{RequestFraming, ResponseFraming, parse_request, parse_response};
pub use limits::HeadLimits;
pub use reader::{Opening, PREFACE, ReadError, Reader};
pub use writer::{ResponseKind, WriteError, Writer};

#[cfg(test)]
mod tests;
