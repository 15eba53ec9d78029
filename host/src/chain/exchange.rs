//! One request and its response, as filters see them: what can be read in which phase, what can be
//! edited, and the limits of edits and notes.
//!
//! The guest interface (`wasm::messages`) is a thin layer over these methods, and so are the tests of
//! the chain. Reused from one exchange to the next of a connection: `begin` resets it.

use crate::http::edit::{
    EDITS_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TARGET_BYTES_MAX, TRAILER_BYTES_MAX,
    TRAILER_FIELDS_MAX, is_authority, is_host_owned, is_origin_form,
};
use crate::http::fields::{Fields, Name, is_token, is_value, trim};
use crate::http::{PeerIdentity, RequestHead, ResponseHead, Scheme};
use http::Method;
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Notes of one exchange.
pub const NOTES_MAX: usize = 64;
/// Bytes of one note, key and value together.
pub const NOTE_BYTES_MAX: usize = 1024;

/// Which hook the exchange is in, and with it what may be edited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Between hooks, or in `configure`: there are no messages.
    #[default]
    Outside,
    /// `on-request`, or `on-request-body` while the head is kept back.
    RequestHead,
    /// `on-request-body` after the head went upstream.
    RequestBody,
    /// `on-request-trailers`.
    RequestTrailers,
    /// `on-response`, or `on-response-body` while the head is kept back.
    ResponseHead,
    /// `on-response-body` after the head went downstream.
    ResponseBody,
    /// `on-response-trailers`.
    ResponseTrailers,
    /// `on-complete`.
    Complete,
}

/// Why an edit was refused; the cases of `edit-error` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Not a token.
    #[error("the name is not a token")]
    InvalidName,
    /// Control bytes, or not a method, authority, path or status.
    #[error("the value is not allowed there")]
    InvalidValue,
    /// A field of the host.
    #[error("the field belongs to the host")]
    HostOwned,
    /// A limit of the message or of the exchange.
    #[error("the edit would exceed a limit")]
    LimitExceeded,
    /// Not editable now.
    #[error("the message cannot be edited in this phase")]
    WrongPhase,
}

/// Why a note was refused; the cases of `note-error` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Too many, or too long.
    #[error("the note would exceed a limit")]
    LimitExceeded,
    /// There is no exchange.
    #[error("there is no exchange to note anything on")]
    WrongPhase,
}

/// Which message an edit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The request head.
    Request,
    /// The response head.
    Response,
    /// The trailers of the message whose trailer hook is running.
    Trailers,
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    /// The hook in progress. The chain sets it before a call and resets it after.
    pub phase: Phase,
    /// As received, then as edited, then as forwarded.
    pub request: RequestHead,
    /// Empty (status 0) until there is one.
    pub response: ResponseHead,
    /// In a trailer hook: the trailers.
    pub trailers: Fields,
    /// The connection's peer, or what a trusted proxy said of it.
    pub client: IpAddr,
    /// Who the connection's peer has proved to be, if it has.
    pub peer: Option<Arc<PeerIdentity>>,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the route.
    pub route: Arc<str>,
    /// Wasm time that the filters of this exchange have used, for `exchange_time`. One clock a
    /// filter: indexed as the chain is.
    pub filter_time: Vec<Duration>,
    /// When the last hook of the pass in progress ended, which is when the next begins: one look at
    /// the clock fewer a hook. None between passes.
    pub lap: Option<Instant>,
    /// Log lines each filter wrote, indexed as the chain is.
    pub log_lines: Vec<u32>,
    /// Index in the chain of the filter whose hook is in progress.
    pub filter: usize,
    guests: Vec<Option<Box<dyn Any + Send>>>,
    notes: Vec<(Box<str>, Box<str>)>,
    edits: u32,
    wall: Option<SystemTime>,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            phase: Phase::Outside,
            request: RequestHead::default(),
            response: ResponseHead::default(),
            trailers: Fields::default(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer: None,
            listener: Arc::from(""),
            route: Arc::from(""),
            filter_time: Vec::new(),
            lap: None,
            log_lines: Vec::new(),
            filter: 0,
            guests: Vec::new(),
            notes: Vec::new(),
            edits: 0,
            wall: None,
        }
    }
}

impl Exchange {
    /// Forgets everything but the memory it stood in.
    pub fn clear(&mut self) {
        self.phase = Phase::Outside;
        self.request.clear();
        self.response.clear();
        self.trailers.clear();
        self.filter_time.clear();
        self.lap = None;
        self.log_lines.clear();
        self.filter = 0;
        self.guests.clear();
        self.notes.clear();
        self.edits = 0;
        self.wall = None;
    }

    /// Sets the wall time of the exchange, in place of the moment it is first asked for.
    pub fn begin_at(&mut self, wall: SystemTime) {
        self.wall = Some(wall);
    }

    /// Wall time of the exchange: read once, then the same to its end.
    pub fn now(&mut self) -> SystemTime {
        *self.wall.get_or_insert_with(SystemTime::now)
    }

    /// Wasm time the filter in progress has used in this exchange.
    pub fn filter_time_used(&self) -> Duration {
        self.filter_time.get(self.filter).copied().unwrap_or_default()
    }

    /// Adds to it.
    pub fn add_filter_time(&mut self, time: Duration) {
        if self.filter_time.len() <= self.filter {
            self.filter_time.resize(self.filter + 1, Duration::ZERO);
        }
        self.filter_time[self.filter] += time;
    }

    /// Counts a log line of the filter in progress; the number of them with this one.
    pub fn count_log_line(&mut self) -> u32 {
        if self.log_lines.len() <= self.filter {
            self.log_lines.resize(self.filter + 1, 0);
        }
        self.log_lines[self.filter] = self.log_lines[self.filter].saturating_add(1);
        self.log_lines[self.filter]
    }

    /// Takes what the filter in progress keeps for this exchange alone.
    pub fn take_guest(&mut self) -> Option<Box<dyn Any + Send>> {
        self.guests.get_mut(self.filter).and_then(Option::take)
    }

    /// Keeps something of the filter in progress until it takes it back or the exchange is over.
    pub fn put_guest(&mut self, guest: Box<dyn Any + Send>) {
        if self.guests.len() <= self.filter {
            self.guests.resize_with(self.filter + 1, || None);
        }
        self.guests[self.filter] = Some(guest);
    }

    /// Can the request be read?
    pub fn has_request(&self) -> bool {
        self.phase != Phase::Outside
    }

    /// Can the response be read?
    pub fn has_response(&self) -> bool {
        match self.phase {
            Phase::ResponseHead | Phase::ResponseBody | Phase::ResponseTrailers => true,
            Phase::Complete => self.response.status != 0,
            Phase::Outside | Phase::RequestHead | Phase::RequestBody | Phase::RequestTrailers => {
                false
            }
        }
    }

    /// The fields of a message.
    pub fn fields(&self, message: Message) -> &Fields {
        match message {
            Message::Request => &self.request.fields,
            Message::Response => &self.response.fields,
            Message::Trailers => &self.trailers,
        }
    }

    /// One line in place of every line of `name`.
    pub fn set_field(
        &mut self,
        message: Message,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), EditError> {
        let value = trim(value);
        let name = self.admit(message, name, value)?;
        let fields = self.fields_mut(message);
        let (lines, freed) = fields.weight(name);
        let bytes = fields.wire_bytes() - freed + name.as_bytes().len() + value.len() + 4;
        fits(message, bytes, fields.len() - lines + 1)?;
        if lines == 0 {
            fields.append(name, value);
        } else {
            fields.set(name, value);
        }
        self.edits += 1;
        Ok(())
    }

    /// One line more.
    pub fn append_field(
        &mut self,
        message: Message,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), EditError> {
        let value = trim(value);
        let name = self.admit(message, name, value)?;
        let fields = self.fields_mut(message);
        let bytes = fields.wire_bytes() + name.as_bytes().len() + value.len() + 4;
        fits(message, bytes, fields.len() + 1)?;
        fields.append(name, value);
        self.edits += 1;
        Ok(())
    }

    /// No line of `name` any more. Was there one?
    pub fn remove_field(&mut self, message: Message, name: &[u8]) -> Result<bool, EditError> {
        let name = self.admit(message, name, b"")?;
        self.edits += 1;
        Ok(self.fields_mut(message).remove(name))
    }

    /// A token other than `CONNECT`. `HEAD` neither takes the place of another method nor gives it:
    /// it decides whether the client waits for a body.
    pub fn set_method(&mut self, method: &[u8]) -> Result<(), EditError> {
        self.editable(Message::Request)?;
        let keeps_body = (method == b"HEAD") == (self.request.method == Method::HEAD);
        if !is_token(method) || method == b"CONNECT" || !keeps_body {
            return Err(EditError::InvalidValue);
        }
        self.request.method = Method::from_bytes(method).map_err(|_| EditError::InvalidValue)?;
        self.edits += 1;
        Ok(())
    }

    /// `http` or `https`.
    pub fn set_scheme(&mut self, scheme: &str) -> Result<(), EditError> {
        self.editable(Message::Request)?;
        self.request.scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(EditError::InvalidValue),
        };
        self.edits += 1;
        Ok(())
    }

    /// Host and optional port.
    pub fn set_authority(&mut self, authority: &str) -> Result<(), EditError> {
        self.editable(Message::Request)?;
        if !is_authority(authority) {
            return Err(EditError::InvalidValue);
        }
        self.request.authority.clear();
        self.request.authority.push_str(authority);
        self.edits += 1;
        Ok(())
    }

    /// Origin form.
    pub fn set_target(&mut self, target: &str) -> Result<(), EditError> {
        self.editable(Message::Request)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(EditError::LimitExceeded);
        }
        if !is_origin_form(target) {
            return Err(EditError::InvalidValue);
        }
        self.request.target.clear();
        self.request.target.push_str(target);
        self.edits += 1;
        Ok(())
    }

    /// 200 to 599, with a body where there was one and without where there was none.
    pub fn set_status(&mut self, status: u16) -> Result<(), EditError> {
        self.editable(Message::Response)?;
        let bodiless = |status| matches!(status, 101 | 204 | 205 | 304);
        if !(200..=599).contains(&status) || bodiless(status) != bodiless(self.response.status) {
            return Err(EditError::InvalidValue);
        }
        self.response.status = status;
        self.edits += 1;
        Ok(())
    }

    /// A note's text.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }

    /// Writes or overwrites a note.
    pub fn set_note(&mut self, key: &str, value: &str) -> Result<(), NoteError> {
        if self.phase == Phase::Outside {
            return Err(NoteError::WrongPhase);
        }
        if key.len() + value.len() > NOTE_BYTES_MAX {
            return Err(NoteError::LimitExceeded);
        }
        let known = self.notes.iter().position(|(known, _)| **known == *key);
        match known {
            Some(at) => self.notes[at].1 = value.into(),
            None if self.notes.len() == NOTES_MAX => return Err(NoteError::LimitExceeded),
            None => self.notes.push((key.into(), value.into())),
        }
        Ok(())
    }

    /// Every note, in the order of first writing.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.notes.iter().map(|(key, value)| (&**key, &**value))
    }

    fn editable(&self, message: Message) -> Result<(), EditError> {
        let editable = match message {
            Message::Request => self.phase == Phase::RequestHead,
            Message::Response => self.phase == Phase::ResponseHead,
            Message::Trailers => {
                matches!(self.phase, Phase::RequestTrailers | Phase::ResponseTrailers)
            }
        };
        if !editable {
            return Err(EditError::WrongPhase);
        }
        if self.edits >= EDITS_MAX {
            return Err(EditError::LimitExceeded);
        }
        Ok(())
    }

    fn admit<'n>(
        &self,
        message: Message,
        name: &'n [u8],
        value: &[u8],
    ) -> Result<Name<'n>, EditError> {
        self.editable(message)?;
        if name.first() == Some(&b':') {
            return Err(EditError::HostOwned);
        }
        let name = Name::parse(name).map_err(|_| EditError::InvalidName)?;
        if is_host_owned(name) {
            return Err(EditError::HostOwned);
        }
        if !is_value(value) {
            return Err(EditError::InvalidValue);
        }
        Ok(name)
    }

    fn fields_mut(&mut self, message: Message) -> &mut Fields {
        match message {
            Message::Request => &mut self.request.fields,
            Message::Response => &mut self.response.fields,
            Message::Trailers => &mut self.trailers,
        }
    }
}

fn fits(message: Message, bytes: usize, lines: usize) -> Result<(), EditError> {
    let (bytes_max, lines_max) = match message {
        Message::Request | Message::Response => (HEAD_BYTES_MAX, HEAD_FIELDS_MAX),
        Message::Trailers => (TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX),
    };
    if bytes > bytes_max || lines > lines_max { Err(EditError::LimitExceeded) } else { Ok(()) }
}
