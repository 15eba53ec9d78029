//! The fields of a head that speak of its own connection: how the body is delimited, whether the
//! connection stays, what else is for this hop alone (RFC 9110 section 7.6.1, RFC 9112 section 6).
//!
//! They are taken out of the head here and written anew by `writer`, so that no peer decides what
//! the next one sees. `head` calls this once a line, and asks for the verdict at the end.

use super::error::HeadError;
use super::scan;
use crate::http::fields::is_token;
use crate::http::{BodyLength, Fields, Name, edit};

/// A field of the connection. All other fields are end-to-end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Connection,
    ContentLength,
    Expect,
    Host,
    Te,
    TransferEncoding,
    Upgrade,
    /// For this hop, and of no use to it.
    Dropped,
}

impl Hop {
    /// The length sorts out nearly all end-to-end fields; one or two comparisons settle the rest.
    fn of(name: Name<'_>) -> Option<Hop> {
        const fn known(text: &'static str, hop: Hop) -> (Name<'static>, Hop) {
            (Name::known(text), hop)
        }
        const TE: [(Name<'static>, Hop); 1] = [known("te", Hop::Te)];
        const HOST: [(Name<'static>, Hop); 1] = [known("host", Hop::Host)];
        const EXPECT: [(Name<'static>, Hop); 1] = [known("expect", Hop::Expect)];
        const OF_7: [(Name<'static>, Hop); 2] =
            [known("upgrade", Hop::Upgrade), known("trailer", Hop::Dropped)];
        const OF_10: [(Name<'static>, Hop); 2] =
            [known("connection", Hop::Connection), known("keep-alive", Hop::Dropped)];
        const OF_14: [(Name<'static>, Hop); 2] =
            [known("content-length", Hop::ContentLength), known("http2-settings", Hop::Dropped)];
        const OF_16: [(Name<'static>, Hop); 1] = [known("proxy-connection", Hop::Dropped)];
        const OF_17: [(Name<'static>, Hop); 1] =
            [known("transfer-encoding", Hop::TransferEncoding)];
        const OF_18: [(Name<'static>, Hop); 1] = [known("proxy-authenticate", Hop::Dropped)];
        const OF_19: [(Name<'static>, Hop); 1] = [known("proxy-authorization", Hop::Dropped)];
        let table: &[(Name<'_>, Hop)] = match name.as_bytes().len() {
            2 => &TE,
            4 => &HOST,
            6 => &EXPECT,
            7 => &OF_7,
            10 => &OF_10,
            14 => &OF_14,
            16 => &OF_16,
            17 => &OF_17,
            18 => &OF_18,
            19 => &OF_19,
            _ => &[],
        };
        table.iter().find(|(known, _)| name == *known).map(|(_, hop)| *hop)
    }
}

/// What a head says about its connection, collected line by line. Slices are of the head itself.
#[derive(Debug, Default)]
pub(super) struct Hops<'h> {
    host: Option<&'h [u8]>,
    host_repeated: bool,
    /// `te` lists `trailers`.
    pub(super) takes_trailers: bool,
    expects_continue: bool,
    expects_else: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: Option<&'h [u8]>,
    options: usize,
    /// `connection` names fields that may stand among the end-to-end ones.
    names_fields: bool,
}

impl<'h> Hops<'h> {
    /// Takes every line behind the first: fields of the connection into itself, the others into
    /// `fields`, which is empty. `options_max` bounds the options of `connection`, each of which
    /// costs a search.
    pub(super) fn read(
        lines: impl Iterator<Item = &'h [u8]> + Clone,
        fields: &mut Fields,
        options_max: usize,
    ) -> Result<Self, HeadError> {
        let mut hops = Hops::default();
        for line in lines.clone() {
            let (name, value) = scan::field(line)?;
            match Hop::of(name) {
                Some(hop) => hops.take(hop, value, options_max)?,
                None if edit::aliases_framing(name) => {}
                None => fields.append(name, value),
            }
        }
        if hops.names_fields {
            remove_named_fields(lines, fields)?;
        }
        Ok(hops)
    }

    fn take(&mut self, hop: Hop, value: &'h [u8], options_max: usize) -> Result<(), HeadError> {
        match hop {
            Hop::Connection => self.take_options(value, options_max)?,
            Hop::ContentLength => {
                if self.length.replace(decimal(value)?).is_some() {
                    return Err(HeadError::LengthRepeated);
                }
            }
            Hop::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
            }
            Hop::Expect => self.expects_else = true,
            Hop::Host => self.host_repeated |= self.host.replace(value).is_some(),
            Hop::Te => {
                self.takes_trailers |=
                    members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"));
            }
            Hop::TransferEncoding if self.chunked => return Err(HeadError::CodingRepeated),
            Hop::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => self.chunked = true,
            Hop::TransferEncoding => return Err(HeadError::CodingInvalid),
            Hop::Upgrade => self.upgrade = self.upgrade.or(Some(value)),
            Hop::Dropped => {}
        }
        Ok(())
    }

    fn take_options(&mut self, value: &[u8], options_max: usize) -> Result<(), HeadError> {
        for option in members(value) {
            self.options += 1;
            if self.options > options_max {
                return Err(HeadError::TooManyFields);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !is_token(option) {
                return Err(HeadError::ConnectionInvalid);
            } else {
                // A name taken out above (`te`, `content-length`) costs a search and has no effect:
                // framing does not depend on what `connection` names.
                self.names_fields = true;
            }
        }
        Ok(())
    }

    /// The one `host` of a request.
    pub(super) fn host(&self) -> Result<Option<&'h [u8]>, HeadError> {
        if self.host_repeated { Err(HeadError::HostRepeated) } else { Ok(self.host) }
    }

    /// The length that `content-length` gives.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// The length of the body, or that there is nothing to tell it (RFC 9112 section 6.3).
    /// `http10`: the version of the message.
    pub(super) fn body(&self, http10: bool) -> Result<BodyLength, HeadError> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(HeadError::LengthAndCoding),
            (None, true) if http10 => Err(HeadError::CodingInHttp10),
            (None, true) => Ok(BodyLength::Unknown),
            (Some(length), false) => Ok(BodyLength::Exact(length)),
            (None, false) => Ok(BodyLength::None),
        }
    }

    /// May the connection carry another message (RFC 9112 section 9.3)?
    pub(super) fn keep_alive(&self, http10: bool) -> bool {
        !self.close && (!http10 || self.keep_alive)
    }

    /// Does the client wait for leave to send its body? Without a body there is nothing to wait for,
    /// and in HTTP/1.0 the expectation has no meaning (RFC 9110 section 10.1.1).
    pub(super) fn expects_continue(
        &self,
        http10: bool,
        body: BodyLength,
    ) -> Result<bool, HeadError> {
        if self.expects_else {
            return Err(HeadError::Expectation);
        }
        let empty = matches!(body, BodyLength::None | BodyLength::Exact(0));
        Ok(self.expects_continue && !http10 && !empty)
    }

    /// The protocol to switch to: the first that is offered by name in `connection` too, is not
    /// offered in HTTP/1.0, and is not `h2c`, which RFC 9113 has withdrawn and which would carry
    /// requests past the filters.
    pub(super) fn upgrade(&self, http10: bool) -> Result<Option<&'h str>, HeadError> {
        let Some(value) = self.upgrade.filter(|_| self.upgrade_option && !http10) else {
            return Ok(None);
        };
        for protocol in members(value) {
            let (name, version) = match protocol.iter().position(|byte| *byte == b'/') {
                Some(slash) => (&protocol[..slash], Some(&protocol[slash + 1..])),
                None => (protocol, None),
            };
            if !is_token(name) || !version.is_none_or(is_token) {
                return Err(HeadError::UpgradeInvalid);
            }
            if !protocol.eq_ignore_ascii_case(b"h2c") {
                let text = std::str::from_utf8(protocol).map_err(|_| HeadError::UpgradeInvalid)?;
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

/// The second pass over a head whose `connection` names fields: they belong to this hop.
fn remove_named_fields<'h>(
    lines: impl Iterator<Item = &'h [u8]>,
    fields: &mut Fields,
) -> Result<(), HeadError> {
    for line in lines {
        let (name, value) = scan::field(line)?;
        if Hop::of(name) == Some(Hop::Connection) {
            for option in members(value).filter_map(|option| Name::parse(option).ok()) {
                fields.remove(option);
            }
        }
    }
    Ok(())
}

/// May a field not stand in a trailer section (RFC 9110 section 6.5.1)? Those of the connection, and
/// those that route a message, say who sent it, or tell how its content is to be read: a recipient
/// that merges trailers into the head must not be led by them.
pub(super) fn is_kept_from_trailers(name: Name<'_>) -> bool {
    const NOT_IN_TRAILERS: [Name<'static>; 15] = [
        Name::known("authorization"),
        Name::known("cache-control"),
        Name::known("content-encoding"),
        Name::known("content-range"),
        Name::known("content-type"),
        Name::known("cookie"),
        Name::known("forwarded"),
        Name::known("location"),
        Name::known("max-forwards"),
        Name::known("range"),
        Name::known("set-cookie"),
        Name::known("via"),
        Name::known("x-forwarded-for"),
        Name::known("x-forwarded-host"),
        Name::known("x-forwarded-proto"),
    ];
    edit::is_host_owned(name) || NOT_IN_TRAILERS.contains(&name)
}

/// The members of a list, without the empty ones (RFC 9110 section 5.6.1).
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(crate::http::fields::trim)
        .filter(|member| !member.is_empty())
}

/// A length: digits and nothing else.
fn decimal(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() {
        return Err(HeadError::LengthInvalid);
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        digit
            .and_then(|digit| number.checked_mul(10)?.checked_add(digit))
            .ok_or(HeadError::LengthInvalid)
    })
}

impl From<scan::LineError> for HeadError {
    fn from(error: scan::LineError) -> Self {
        match error {
            scan::LineError::Folded => HeadError::Folded,
            scan::LineError::Name => HeadError::FieldName,
            scan::LineError::BlankBeforeColon => HeadError::BlankBeforeColon,
        }
    }
}

impl From<scan::ByteError> for HeadError {
    fn from(error: scan::ByteError) -> Self {
        match error {
            scan::ByteError::BareReturn => HeadError::LineEnd,
            scan::ByteError::Control => HeadError::ControlByte,
        }
    }
}
