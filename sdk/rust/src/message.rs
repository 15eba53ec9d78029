//! The messages of the exchange in progress, as values without size that hooks are given.
//!
//! They hold nothing: every method asks the host. That they cannot be made or kept by an author is
//! what makes a call in the wrong phase fail to compile. Rules and limits are the host's.

use alloc::{string::String, vec::Vec};
use core::{marker::PhantomData, time::Duration};

use crate::{EditError, Field, NoteError, host};

/// Neither `Send` nor constructible outside this crate.
type Token = PhantomData<*const ()>;

/// The request of the exchange whose hook is being called.
///
/// Readable in every hook. Editable in `on_request`, and in `on_request_body` while
/// [`Decision::WaitForBody`](crate::Decision::WaitForBody) keeps the head back; else edits answer
/// [`EditErrorKind::WrongPhase`](crate::EditErrorKind::WrongPhase). In the response hooks it is the
/// request that was forwarded.
#[derive(Debug)]
pub struct Request(Token);

/// The response of the exchange whose hook is being called.
///
/// Editable in `on_response`, and in `on_response_body` while
/// [`Decision::WaitForBody`](crate::Decision::WaitForBody) keeps the head back; else edits answer
/// [`EditErrorKind::WrongPhase`](crate::EditErrorKind::WrongPhase).
#[derive(Debug)]
pub struct Response(Token);

/// The trailers of the message whose trailer hook is being called.
#[derive(Debug)]
pub struct Trailers(Token);

/// The methods that all messages have; `$host` is the module of the host's functions.
macro_rules! fields {
    ($message:ident, $host:ident, $called:literal) => {
        impl $message {
            pub(crate) const fn token() -> Self {
                Self(PhantomData)
            }

            /// The first value of a field; bytes that are not UTF-8 become U+FFFD. `None`: no such
            /// field.
            pub fn header(&self, name: &str) -> Option<String> {
                host::$host::header(name)
            }

            /// The first value of a field, exactly.
            pub fn header_bytes(&self, name: &str) -> Option<Vec<u8>> {
                host::$host::header_bytes(name)
            }

            /// All fields in order, names in lower case. Costs time in proportion to the message:
            /// prefer [`header`](Self::header).
            pub fn headers(&self) -> Vec<Field> {
                host::$host::headers()
            }

            /// Puts one field line with this value in place of every line of that name.
            ///
            /// # Errors
            /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
            pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), EditError> {
                host::$host::set_header(name, value)
                    .map_err(|kind| EditError::new(kind, $called, "set field", name))
            }

            /// Adds a field line after those there are.
            ///
            /// # Errors
            /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
            pub fn append_header(&mut self, name: &str, value: &str) -> Result<(), EditError> {
                host::$host::append_header(name, value)
                    .map_err(|kind| EditError::new(kind, $called, "append field", name))
            }

            /// Removes every line of a name. `true`: there was one.
            ///
            /// # Errors
            /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
            pub fn remove_header(&mut self, name: &str) -> Result<bool, EditError> {
                host::$host::remove_header(name)
                    .map_err(|kind| EditError::new(kind, $called, "remove field", name))
            }
        }
    };
}

/// The methods that heads have and trailers have not.
macro_rules! head {
    ($message:ident, $host:ident, $called:literal) => {
        impl $message {
            /// Every value of a field, in order; bytes that are not UTF-8 become U+FFFD.
            pub fn header_all(&self, name: &str) -> Vec<String> {
                host::$host::header_all(name)
            }

            /// [`set_header`](Self::set_header) with exact bytes.
            ///
            /// # Errors
            /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
            pub fn set_header_bytes(&mut self, name: &str, value: &[u8]) -> Result<(), EditError> {
                host::$host::set_header_bytes(name, value)
                    .map_err(|kind| EditError::new(kind, $called, "set field", name))
            }
        }
    };
}

fields!(Request, request, "request");
head!(Request, request, "request");
fields!(Response, response, "response");
head!(Response, response, "response");
fields!(Trailers, trailers, "trailers");

impl Request {
    /// Method, as sent (`GET`).
    pub fn method(&self) -> String {
        host::request::method()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> String {
        host::request::scheme()
    }

    /// Host and optional port the request is for, from the target or `host`.
    pub fn authority(&self) -> String {
        host::request::authority()
    }

    /// Path and query in origin form; `*` for `OPTIONS *`.
    pub fn path_with_query(&self) -> String {
        host::request::path_with_query()
    }

    /// The path without the query.
    pub fn path(&self) -> String {
        host::request::path()
    }

    /// The query without its `?`; `None` where there is no `?`.
    pub fn query(&self) -> Option<String> {
        host::request::query()
    }

    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`, as spoken downstream.
    pub fn protocol(&self) -> String {
        host::request::protocol()
    }

    /// Address of the client: the connection's peer, or what a trusted proxy reported.
    pub fn client_address(&self) -> String {
        host::request::client_address()
    }

    /// Name of the listener that took the request.
    pub fn listener(&self) -> String {
        host::request::listener()
    }

    /// Sets the method: a token; `CONNECT` is refused, and `HEAD` in place of another method or the
    /// reverse.
    ///
    /// # Errors
    /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
    pub fn set_method(&mut self, method: &str) -> Result<(), EditError> {
        host::request::set_method(method)
            .map_err(|kind| EditError::new(kind, "request", "set the method", ""))
    }

    /// Sets what the upstream is told, `http` or `https`; it does not change how it is reached.
    ///
    /// # Errors
    /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
    pub fn set_scheme(&mut self, scheme: &str) -> Result<(), EditError> {
        host::request::set_scheme(scheme)
            .map_err(|kind| EditError::new(kind, "request", "set the scheme", ""))
    }

    /// Sets what the upstream gets as `host` or `:authority`: host and optional port.
    ///
    /// # Errors
    /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
    pub fn set_authority(&mut self, authority: &str) -> Result<(), EditError> {
        host::request::set_authority(authority)
            .map_err(|kind| EditError::new(kind, "request", "set the authority", ""))
    }

    /// Sets path and query: origin form, beginning with `/`, without a fragment. The route is not
    /// chosen anew.
    ///
    /// # Errors
    /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
    pub fn set_path_with_query(&mut self, path_with_query: &str) -> Result<(), EditError> {
        host::request::set_path_with_query(path_with_query)
            .map_err(|kind| EditError::new(kind, "request", "set the path", ""))
    }

    /// The text of a note of this exchange; `None` where there is none. Notes are seen by every
    /// filter of the chain and by the response hooks.
    pub fn note(&self, key: &str) -> Option<String> {
        host::notes::note(key)
    }

    /// Writes or overwrites a note: at most 64 an exchange, 1 KiB of key and value each. By
    /// convention the key begins with the writing filter's name.
    ///
    /// # Errors
    /// [`NoteError::LimitExceeded`] over these limits.
    pub fn set_note(&self, key: &str, value: &str) -> Result<(), NoteError> {
        host::notes::set_note(key, value)
    }
}

impl Response {
    /// Final status, 200 to 599, or 101.
    pub fn status(&self) -> u16 {
        host::response::status()
    }

    /// Sets the status: 200 to 599 but not 204, 205 or 304 in place of a status that has a body, nor
    /// the reverse.
    ///
    /// # Errors
    /// The kinds are those of [`EditErrorKind`](crate::EditErrorKind).
    pub fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        host::response::set_status(status)
            .map_err(|kind| EditError::new(kind, "response", "set the status", ""))
    }
}

/// A chunk of a body, at most 64 KiB.
#[derive(Debug)]
pub struct Chunk<'a> {
    bytes: &'a [u8],
    last: bool,
    body: Body,
}

/// Which message a chunk belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Request,
    Response,
}

impl<'a> Chunk<'a> {
    pub(crate) fn new(bytes: &'a [u8], last: bool, body: Body) -> Self {
        Self { bytes, last, body }
    }

    /// The bytes of this chunk.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Is this the final chunk? True exactly once in a body; that chunk may be empty.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// What earlier chunks left held by this filter, oldest first; this chunk is not part of it.
    pub fn held(&self) -> Vec<u8> {
        match self.body {
            Body::Request => host::request_body::held(),
            Body::Response => host::response_body::held(),
        }
    }

    /// The number of bytes held.
    pub fn held_len(&self) -> u64 {
        match self.body {
            Body::Request => host::request_body::held_length(),
            Body::Response => host::response_body::held_length(),
        }
    }

    /// What is held, followed by this chunk: with [`is_last`](Self::is_last) the whole body of a
    /// filter that held every chunk.
    pub fn held_and_this(&self) -> Vec<u8> {
        let mut bytes = self.held();
        bytes.extend_from_slice(self.bytes);
        bytes
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Status sent downstream; `None` if the client left before one was.
    pub status: Option<u16>,
    /// The whole response reached the transport.
    pub complete: bool,
    /// What went wrong, in the words of RFC 9209 section 2.3 (`connection_refused`,
    /// `http_response_timeout`, …).
    pub error: Option<String>,
    /// Bytes of request body received.
    pub request_bytes: u64,
    /// Bytes of response body sent.
    pub response_bytes: u64,
    /// From the complete request head to the last byte.
    pub duration: Duration,
    /// From the complete request head to the upstream's response head; `None` where no upstream
    /// answered.
    pub upstream: Option<Duration>,
}
