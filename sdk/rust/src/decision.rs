//! What a hook answers: decisions, and the local response that some of them carry.
//!
//! The shapes are those of the WIT interface `types`. Nothing here checks a local response: the host
//! does, and a refused one is a failure of the filter.

use alloc::{borrow::Cow, string::String, vec::Vec};

/// A field line: a name and its exact value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name; the host hands names out in lower case.
    pub name: String,
    /// The value: bytes without leading or trailing blanks.
    pub value: Vec<u8>,
}

impl Field {
    /// A field line of this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// The value as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }
}

/// A response made by a filter instead of the upstream.
///
/// ```
/// use pillion_sdk::LocalResponse;
///
/// let reply = LocalResponse::text(429, "too many requests\n").header("retry-after", "1");
/// assert_eq!(reply.status, 429);
/// assert_eq!(reply.headers.len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    /// Final status, 200 to 599.
    pub status: u16,
    /// Fields, checked as edits are: one that is refused makes the whole response a failure of the
    /// filter. The host adds `content-length` and `date`.
    pub headers: Vec<Field>,
    /// Body, at most 64 KiB.
    pub body: Vec<u8>,
}

impl LocalResponse {
    /// A response with this status, no fields and no body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A response with a plain text body.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status)
            .header("content-type", "text/plain; charset=utf-8")
            .body(body.into().into_bytes())
    }

    /// Adds a field line.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Field::new(name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What becomes of a message after its head was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on. The head is forwarded once the rest of the chain has seen it; this filter's body hook,
    /// where it has one, is called for each chunk.
    Proceed,
    /// Go on without this filter's body hook for this message.
    SkipBody,
    /// Go on, but keep the head back until this filter's body hook first answers something other than
    /// [`BodyDecision::Hold`]. Until then the body hook may still edit the head.
    WaitForBody,
    /// End the pass. From `on_request`: answer so, without calling an upstream. From `on_response`:
    /// put this in place of the upstream's response.
    Respond(LocalResponse),
}

/// What becomes of a chunk of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyDecision {
    /// Forward what this filter holds, then this chunk.
    Pass,
    /// Forward these bytes in place of what this filter holds and of this chunk; at most 1 MiB, may
    /// be empty.
    Replace(Vec<u8>),
    /// Keep this chunk with what is held already and forward nothing yet. Held bytes over 1 MiB are a
    /// failure of the filter. With the last chunk: the same as `Pass`.
    Hold,
    /// Answer so, and drop the rest of the body. From `on_request_body`: possible until the response
    /// head is on its way to the client. From `on_response_body`: only while
    /// [`Decision::WaitForBody`] keeps the response head back.
    Respond(LocalResponse),
}

impl From<LocalResponse> for Decision {
    fn from(response: LocalResponse) -> Self {
        Self::Respond(response)
    }
}

impl From<LocalResponse> for BodyDecision {
    fn from(response: LocalResponse) -> Self {
        Self::Respond(response)
    }
}
