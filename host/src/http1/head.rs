//! Parses heads: pure functions from bytes to `RequestHead` and `ResponseHead`, whose memory is
//! reused, and to how the body is framed.
//!
//! What is malformed is refused and never repaired. How lines are found is in `scan`, what the
//! fields of the connection mean in `framing`.

use super::error::HeadError;
use super::framing::Hops;
use super::limits::HeadLimits;
use super::scan::{self, Scan, ScanError};
use crate::http::fields::is_token;
use crate::http::text::utf8;
use crate::http::{BodyLength, Protocol, RequestHead, ResponseHead, Scheme, edit};
use http::Method;

/// How a request sits on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFraming {
    /// `Unknown` is chunked.
    pub body: BodyLength,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
}

/// How a response sits on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFraming {
    /// `None` for responses that cannot have a body, whatever their fields say. `Unknown` is chunked
    /// or `until_close`.
    pub body: BodyLength,
    /// What `content-length` says, also where there is no body: to `HEAD`, and with 304.
    pub content_length: Option<u64>,
    /// The connection can carry another exchange.
    pub keep_alive: bool,
    /// The body ends where the connection does.
    pub until_close: bool,
}

/// Parses a request head at the start of `bytes`. `None`: it is not complete yet. Otherwise the
/// bytes it took, with an empty line before it, and its framing; `head` holds what it said.
///
/// After an error or `None` the content of `head` is unspecified.
pub fn parse_request(
    bytes: &[u8],
    head: &mut RequestHead,
    limits: &HeadLimits,
) -> Result<Option<(usize, RequestFraming)>, HeadError> {
    let mut scan = Scan::default();
    let Some(end) = request_end(&mut scan, bytes, limits)? else { return Ok(None) };
    let framing = request(&bytes[scan.start..end], scan.lines, head, limits)?;
    Ok(Some((end, framing)))
}

/// Parses a response head at the start of `bytes`, in answer to a request of `method`. Interim
/// responses are returned as such; more than that, the same as [`parse_request`].
pub fn parse_response(
    bytes: &[u8],
    method: &Method,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Result<Option<(usize, ResponseFraming)>, HeadError> {
    let mut scan = Scan::default();
    let Some(end) = response_end(&mut scan, bytes, limits)? else { return Ok(None) };
    let framing = response(&bytes[..end], scan.lines, method, head, limits)?;
    Ok(Some((end, framing)))
}

/// The end of a request head. The first byte alone tells a TLS handshake or other noise apart.
pub(super) fn request_end(
    scan: &mut Scan,
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    if !scan.skip_empty_line(bytes) {
        return Ok(None);
    }
    if bytes.get(scan.start).is_some_and(|first| !is_token(&[*first])) {
        return Err(HeadError::RequestLine);
    }
    head_end(scan, bytes, limits, HeadError::TargetTooLong)
}

/// The end of a response head.
pub(super) fn response_end(
    scan: &mut Scan,
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err(HeadError::StatusLine);
    }
    head_end(scan, bytes, limits, HeadError::TooLarge)
}

fn head_end(
    scan: &mut Scan,
    bytes: &[u8],
    limits: &HeadLimits,
    first_line_too_long: HeadError,
) -> Result<Option<usize>, HeadError> {
    let lines_max = limits.fields.saturating_add(1);
    scan.end(bytes, limits.bytes, lines_max).map_err(|error| match error {
        ScanError::LineEnd => HeadError::LineEnd,
        ScanError::TooManyBytes if scan.lines == 0 => first_line_too_long,
        ScanError::TooManyBytes => HeadError::TooLarge,
        ScanError::TooManyLines => HeadError::TooManyFields,
    })
}

/// Parses a complete request head of `lines` lines.
pub(super) fn request(
    section: &[u8],
    lines: usize,
    head: &mut RequestHead,
    limits: &HeadLimits,
) -> Result<RequestFraming, HeadError> {
    head.clear();
    scan::check_bytes(section, lines + 1)?;
    let mut rest = scan::lines(section);
    request_line(rest.next().unwrap_or_default(), head, limits)?;
    let hops = Hops::read(rest, &mut head.fields, limits.fields)?;

    let http10 = head.protocol == Protocol::Http10;
    match hops.host()? {
        None if http10 => {}
        None => return Err(HeadError::HostMissing),
        Some(host) => {
            let host = authority(host).ok_or(HeadError::HostInvalid)?;
            // An absolute target has already named the authority, and it wins (RFC 9112
            // section 3.2.2).
            if head.authority.is_empty() {
                head.authority.push_str(host);
            }
        }
    }
    let body = hops.body(http10)?;
    head.accepts_trailers = hops.takes_trailers && !http10;
    head.expects_continue = hops.expects_continue(http10, body)?;
    head.upgrade = hops.upgrade(http10)?.map(Box::from);
    Ok(RequestFraming { body, keep_alive: hops.keep_alive(http10) })
}

fn request_line(line: &[u8], head: &mut RequestHead, limits: &HeadLimits) -> Result<(), HeadError> {
    let blank = |byte: &u8| *byte == b' ';
    let first = line.iter().position(blank).ok_or(HeadError::RequestLine)?;
    let last = line.iter().rposition(blank).ok_or(HeadError::RequestLine)?;
    if first == last || !is_token(&line[..first]) {
        return Err(HeadError::RequestLine);
    }
    head.protocol = version(&line[last + 1..]).ok_or(HeadError::RequestLine)??;
    head.method = Method::from_bytes(&line[..first]).map_err(|_| HeadError::RequestLine)?;
    if head.method == Method::CONNECT {
        return Err(HeadError::Connect);
    }
    let target = &line[first + 1..last];
    if target.len() > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    let target = utf8(target).map_err(|_| HeadError::Target)?;
    if target.starts_with('/') {
        head.target.push_str(target);
    } else if target == "*" && head.method == Method::OPTIONS {
        head.target.push('*');
        return Ok(());
    } else {
        absolute_target(target, head)?;
    }
    if head.target != "*" && !edit::is_origin_form(&head.target) {
        return Err(HeadError::Target);
    }
    Ok(())
}

/// Splits `http://authority/path?query`. The scheme says nothing about how the request came and is
/// dropped.
fn absolute_target(target: &str, head: &mut RequestHead) -> Result<(), HeadError> {
    let scheme_ends = target.find("://").ok_or(HeadError::Target)?;
    let (scheme, rest) = (&target[..scheme_ends], &target[scheme_ends + 3..]);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::Target);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !edit::is_authority(authority) {
        return Err(HeadError::Target);
    }
    if scheme.eq_ignore_ascii_case("https") {
        head.asked_scheme = Scheme::Https;
    }
    head.authority.push_str(authority);
    match (path, &head.method) {
        // RFC 9112 section 3.2.4: the last proxy turns it into the asterisk form.
        ("", method) if *method == Method::OPTIONS => head.target.push('*'),
        (path, _) if path.starts_with('/') => head.target.push_str(path),
        (path, _) => {
            head.target.push('/');
            head.target.push_str(path);
        }
    }
    Ok(())
}

fn authority(host: &[u8]) -> Option<&str> {
    utf8(host).ok().filter(|host| edit::is_authority(host))
}

/// `None`: not a version. An error: one that is not spoken here.
fn version(text: &[u8]) -> Option<Result<Protocol, HeadError>> {
    match text {
        b"HTTP/1.1" => Some(Ok(Protocol::Http11)),
        b"HTTP/1.0" => Some(Ok(Protocol::Http10)),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Some(Err(HeadError::Version))
        }
        _ => None,
    }
}

/// Parses a complete response head of `lines` lines.
pub(super) fn response(
    section: &[u8],
    lines: usize,
    method: &Method,
    head: &mut ResponseHead,
    limits: &HeadLimits,
) -> Result<ResponseFraming, HeadError> {
    head.clear();
    scan::check_bytes(section, lines + 1)?;
    let mut rest = scan::lines(section);
    let (protocol, status) = status_line(rest.next().unwrap_or_default())?;
    head.status = status;
    let hops = Hops::read(rest, &mut head.fields, limits.fields)?;

    let http10 = protocol == Protocol::Http10;
    let framed = hops.body(http10)?;
    let keep_alive = hops.keep_alive(http10);
    let content_length = hops.content_length();
    if status == 101 {
        head.upgrade = hops.upgrade(http10)?.map(Box::from);
    }
    // RFC 9110 sections 8.6 and RFC 9112 section 6.1 forbid framing where there is never a body;
    // what follows such a head could be read as another response. `content-length: 0` is harmless.
    let never_framed = matches!(status, 100..=199 | 204);
    if never_framed && !matches!(framed, BodyLength::None | BodyLength::Exact(0)) {
        return Err(HeadError::LengthForbidden);
    }
    let has_body = crate::http::head::response_has_body(method, status);
    let until_close = has_body && framed == BodyLength::None;
    Ok(ResponseFraming {
        body: match framed {
            _ if !has_body => BodyLength::None,
            BodyLength::None => BodyLength::Unknown,
            BodyLength::Exact(_) | BodyLength::Unknown => framed,
        },
        content_length,
        keep_alive: keep_alive && !until_close,
        until_close,
    })
}

/// The reason phrase is optional, as is the blank before it: it means nothing to anyone.
fn status_line(line: &[u8]) -> Result<(Protocol, u16), HeadError> {
    let (start, rest) = line.split_at_checked(8).ok_or(HeadError::StatusLine)?;
    let protocol = version(start).ok_or(HeadError::StatusLine)??;
    match rest {
        [b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']
        | [b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok((protocol, digit(a) * 100 + digit(b) * 10 + digit(c)))
        }
        _ => Err(HeadError::StatusLine),
    }
}
