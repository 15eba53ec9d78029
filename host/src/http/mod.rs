//! The rules of HTTP as data and pure functions: fields, heads, what may be edited, what belongs to
//! one hop. Nothing in here reads, writes, waits or knows of filters and routes. The wire formats
//! stand in `http1` and `http2`.

pub mod body;
pub mod edit;
pub mod fields;
pub mod forwarding;
pub mod head;
pub mod peer;
pub mod text;
pub mod timeout;

pub use body::{BodyError, Frame};
pub use fields::{Fields, Name};
pub use head::{BodyLength, Protocol, RequestHead, ResponseHead, Scheme};
pub use peer::{PeerIdentity, PeerNames, PeerPattern};
