//! Messages on both sides of a filter under test: what goes in (builders) and what comes out.

use super::{fields::Fields, rules};
use crate::Field;

/// A request as it comes from the client.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: String,
    pub(super) scheme: String,
    pub(super) authority: String,
    pub(super) path_with_query: String,
    pub(super) protocol: String,
    pub(super) client_address: String,
    pub(super) listener: String,
    pub(super) headers: Vec<Field>,
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) trailers: Vec<Field>,
    pub(super) notes: Vec<(String, String)>,
}

impl Request {
    /// A request over HTTP/1.1 to `app.example` from 192.0.2.1, taken by the listener `inbound`.
    pub fn new(method: &str, path_with_query: &str) -> Self {
        Self {
            method: method.to_owned(),
            scheme: "http".to_owned(),
            authority: "app.example".to_owned(),
            path_with_query: path_with_query.to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            client_address: "192.0.2.1".to_owned(),
            listener: "inbound".to_owned(),
            headers: Vec::new(),
            chunks: Vec::new(),
            trailers: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A `GET` request.
    pub fn get(path_with_query: &str) -> Self {
        Self::new("GET", path_with_query)
    }

    /// A `POST` request.
    pub fn post(path_with_query: &str) -> Self {
        Self::new("POST", path_with_query)
    }

    /// Adds a field line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Field::new(name, value));
        self
    }

    /// Sets the scheme.
    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        scheme.clone_into(&mut self.scheme);
        self
    }

    /// Sets host and optional port.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// Sets the protocol: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        protocol.clone_into(&mut self.protocol);
        self
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn client_address(mut self, address: &str) -> Self {
        address.clone_into(&mut self.client_address);
        self
    }

    /// Sets the name of the listener.
    #[must_use]
    pub fn listener(mut self, listener: &str) -> Self {
        listener.clone_into(&mut self.listener);
        self
    }

    /// Sets the body, cut into chunks of at most 64 KiB.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks = chunks([body]);
        self
    }

    /// Sets the body as it arrives; the final chunk comes with `is_last` and may be empty.
    #[must_use]
    pub fn chunks<C: AsRef<[u8]>>(mut self, body: impl IntoIterator<Item = C>) -> Self {
        self.chunks = chunks(body);
        self
    }

    /// Adds a trailer field.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push(Field::new(name, value));
        self
    }

    /// Adds a note, as an earlier filter of the chain would.
    #[must_use]
    pub fn note(mut self, key: &str, value: &str) -> Self {
        self.notes.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A response as it comes from the upstream.
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<Field>,
    pub(super) chunks: Vec<Vec<u8>>,
    pub(super) trailers: Vec<Field>,
}

impl Response {
    /// A response with this status, no fields and no body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), chunks: Vec::new(), trailers: Vec::new() }
    }

    /// Adds a field line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Field::new(name, value));
        self
    }

    /// Sets the body, cut into chunks of at most 64 KiB.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.chunks = chunks([body]);
        self
    }

    /// Sets the body as it arrives; the final chunk comes with `is_last` and may be empty.
    #[must_use]
    pub fn chunks<C: AsRef<[u8]>>(mut self, body: impl IntoIterator<Item = C>) -> Self {
        self.chunks = chunks(body);
        self
    }

    /// Adds a trailer field.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push(Field::new(name, value));
        self
    }
}

fn chunks<C: AsRef<[u8]>>(body: impl IntoIterator<Item = C>) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for bytes in body {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            chunks.push(Vec::new());
        }
        chunks.extend(bytes.chunks(rules::CHUNK_BYTES).map(<[u8]>::to_vec));
    }
    chunks
}

/// A request as the filter forwarded it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Method.
    pub method: String,
    /// Scheme.
    pub scheme: String,
    /// Host and optional port.
    pub authority: String,
    /// Path and query.
    pub path_with_query: String,
    /// Field lines in order, names in lower case.
    pub headers: Vec<Field>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<Field>,
}

/// A response as the client gets it. The fields that the host adds are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Field lines in order, names in lower case.
    pub headers: Vec<Field>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<Field>,
}

/// Looking up what came out.
macro_rules! lookup {
    ($message:ident) => {
        impl $message {
            /// The first value of a field, as text.
            pub fn header(&self, name: &str) -> Option<String> {
                first(&self.headers, name)
            }

            /// Every value of a field, as text.
            pub fn header_all(&self, name: &str) -> Vec<String> {
                Fields::received(self.headers.clone()).named(name).map(text).collect()
            }

            /// The first value of a trailer field, as text.
            pub fn trailer(&self, name: &str) -> Option<String> {
                first(&self.trailers, name)
            }

            /// The body as text.
            pub fn body_text(&self) -> String {
                text(&self.body)
            }
        }
    };
}

lookup!(Forwarded);
lookup!(Reply);

fn first(lines: &[Field], name: &str) -> Option<String> {
    Fields::received(lines.to_vec()).first(name).map(text)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
