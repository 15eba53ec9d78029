//! Message heads as the rest of the proxy sees them: the same for HTTP/1 and HTTP/2.
//!
//! A head that exists has passed the checks of its wire format. It holds end-to-end facts; how the
//! message was framed on its connection is a [`BodyLength`] beside it.

use super::fields::Fields;
use http::Method;

/// The protocol a message came in, as spoken on its own connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0: no chunked coding, closes by default.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The name filters and logs see.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }

    /// The version as `Via` and `Forwarded` write it (RFC 9110 section 7.6.3).
    pub fn via_version(self) -> &'static str {
        match self {
            Protocol::Http10 => "1.0",
            Protocol::Http11 => "1.1",
            Protocol::Http2 => "2.0",
        }
    }
}

/// The scheme of a request's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// How long a body is, as far as its head tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no field that speaks of one.
    #[default]
    None,
    /// So many bytes; may be 0.
    Exact(u64),
    /// Until it ends: chunked, an HTTP/2 stream, or until the connection closes.
    Unknown,
}

/// The head of a request. `host` is not among the fields: it is the authority.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Any token but `CONNECT`.
    pub method: Method,
    /// Of the downstream connection, unless a trusted proxy or a filter says otherwise.
    pub scheme: Scheme,
    /// What the client's target said, where it said one. Decides nothing but what is not sent in plain
    /// text.
    pub asked_scheme: Scheme,
    /// Host and optional port, checked; empty only in HTTP/1.0 without `Host`.
    pub authority: String,
    /// Path and query in origin form, or `*`.
    pub target: String,
    /// As spoken by the client.
    pub protocol: Protocol,
    /// End-to-end fields; no framing and no hop-by-hop fields once the head is accepted.
    pub fields: Fields,
    /// `te: trailers` was there: the client can take response trailers, and gRPC insists on it.
    pub accepts_trailers: bool,
    /// `expect: 100-continue`: the body comes once we or the upstream ask for it.
    pub expects_continue: bool,
    /// The protocol the client wants to switch to (`websocket`); HTTP/1.1 only.
    pub upgrade: Option<Box<str>>,
}

impl RequestHead {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// Empties the head for the next request and keeps its memory.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.scheme = Scheme::Http;
        self.asked_scheme = Scheme::Http;
        self.authority.clear();
        self.target.clear();
        self.protocol = Protocol::Http11;
        self.fields.clear();
        self.accepts_trailers = false;
        self.expects_continue = false;
        self.upgrade = None;
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// 101, or 200 to 599; 100 to 199 only for interim responses on their way through.
    pub status: u16,
    /// End-to-end fields.
    pub fields: Fields,
    /// With status 101: the protocol switched to.
    pub upgrade: Option<Box<str>>,
}

impl ResponseHead {
    /// Empties the head for the next response and keeps its memory.
    pub fn clear(&mut self) {
        self.status = 0;
        self.fields.clear();
        self.upgrade = None;
    }
}

/// Can a response of this status, to a request of this method, have a body (RFC 9110 section 6.4.1)?
pub fn response_has_body(method: &Method, status: u16) -> bool {
    *method != Method::HEAD && !matches!(status, 100..=199 | 204 | 304)
}
