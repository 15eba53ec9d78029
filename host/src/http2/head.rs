//! Heads between HTTP/2 and the rest of the proxy: pure functions both ways.
//!
//! The `h2` crate has refused what is malformed at its level: pseudo-fields (order, repetition,
//! absence), upper-case names, connection-specific fields, `te` other than `trailers`, a
//! content-length that is no number or contradicts the body. It also cuts a fragment off `:path`
//! unseen. This file checks the rest and leaves framing fields out of [`Fields`].

use super::limits::Http2Limits;
use crate::http::fields::{self, Fields, Name};
use crate::http::head::response_has_body;
use crate::http::{BodyLength, Protocol, RequestHead, ResponseHead, Scheme, edit};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, uri};

/// Why a head that `h2` let pass is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It breaks a rule.
    #[error("malformed head: {0}")]
    Malformed(&'static str),
    /// A header list over `header_list_bytes`.
    #[error("the head is too large")]
    TooLarge,
    /// More field lines than `fields`.
    #[error("the head has too many fields")]
    TooManyFields,
    /// A target longer than `target_bytes`.
    #[error("the target is too long")]
    TargetTooLong,
    /// `expect` other than `100-continue`.
    #[error("the head expects something unknown")]
    Expectation,
    /// `CONNECT`, which a sidecar does not offer.
    #[error("the method is `CONNECT`")]
    Connect,
}

impl HeadError {
    /// The status of the answer to a request with this error.
    pub fn status(self) -> u16 {
        match self {
            HeadError::Malformed(_) => 400,
            HeadError::TooLarge | HeadError::TooManyFields => 431,
            HeadError::TargetTooLong => 414,
            HeadError::Expectation => 417,
            HeadError::Connect => 501,
        }
    }
}

/// How the body of a response is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFraming {
    /// The body on this stream.
    pub body: BodyLength,
    /// `content-length` as it was sent, also where there is no body (HEAD, 304).
    pub content_length: Option<u64>,
}

/// Fills `head` from a request; `ended`: the stream ended with the head. The scheme is what the
/// client says and as trustworthy.
pub(super) fn read_request(
    parts: &http::request::Parts,
    ended: bool,
    head: &mut RequestHead,
    limits: &Http2Limits,
) -> Result<BodyLength, HeadError> {
    head.clear();
    head.protocol = Protocol::Http2;
    if parts.method == Method::CONNECT {
        return Err(HeadError::Connect);
    }
    head.method.clone_from(&parts.method);
    read_target(&parts.uri, &parts.method, head, limits)?;
    read_authority(parts, head)?;
    // The names of the pseudo-fields make 7 + 7 + 5 bytes, and 10 for an authority.
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len() + 10 + 32);
    let pseudo_fields = 7
        + 7
        + 5
        + 3 * 32
        + parts.method.as_str().len()
        + parts.uri.scheme_str().unwrap_or("https").len()
        + head.target.len()
        + authority;
    let content_length = read_fields(&parts.headers, &mut head.fields, pseudo_fields, limits)?;
    join_cookies(&parts.headers, &mut head.fields);
    head.accepts_trailers = parts.headers.contains_key(header::TE);
    if let Some(expect) = parts.headers.get(header::EXPECT) {
        if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
        // Without a body there is nothing to wait for.
        head.expects_continue = !ended && content_length != Some(0);
    }
    Ok(match (content_length, ended) {
        (Some(length), _) => BodyLength::Exact(length),
        (None, true) => BodyLength::None,
        (None, false) => BodyLength::Unknown,
    })
}

/// Fills `head` from a response, final or interim; `ended`: the stream ended with the head.
pub(super) fn read_response(
    parts: &http::response::Parts,
    request_method: &Method,
    ended: bool,
    head: &mut ResponseHead,
    limits: &Http2Limits,
) -> Result<ResponseFraming, HeadError> {
    head.clear();
    head.status = parts.status.as_u16();
    if !matches!(head.status, 100 | 102..=599) {
        return Err(HeadError::Malformed("the status is 101 or out of range"));
    }
    // `:status` and its three digits.
    let pseudo_fields = 7 + 3 + 32;
    let content_length = read_fields(&parts.headers, &mut head.fields, pseudo_fields, limits)?;
    let body = if !response_has_body(request_method, head.status) {
        BodyLength::None
    } else {
        match (content_length, ended) {
            (Some(length), _) => BodyLength::Exact(length),
            (None, true) => BodyLength::Exact(0),
            (None, false) => BodyLength::Unknown,
        }
    };
    Ok(ResponseFraming { body, content_length })
}

fn read_target(
    uri: &http::Uri,
    method: &Method,
    head: &mut RequestHead,
    limits: &Http2Limits,
) -> Result<(), HeadError> {
    match uri.scheme_str() {
        // Without `:authority` the scheme does not reach us.
        None | Some("http") => head.scheme = Scheme::Http,
        Some("https") => head.scheme = Scheme::Https,
        Some(_) => return Err(HeadError::Malformed("the scheme is not `http` or `https`")),
    }
    head.asked_scheme = head.scheme;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.target_bytes {
        return Err(HeadError::TargetTooLong);
    }
    let asterisk = target == "*" && *method == Method::OPTIONS;
    if !asterisk && !edit::is_origin_form(target) {
        return Err(HeadError::Malformed("the path is not in origin form"));
    }
    head.target.push_str(target);
    Ok(())
}

/// `:authority`, or `host` in its place; where there are both they say the same (RFC 9113
/// section 8.3.1).
fn read_authority(parts: &http::request::Parts, head: &mut RequestHead) -> Result<(), HeadError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::Malformed("more than one `host`"));
    }
    let authority = match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) => {
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) {
                return Err(HeadError::Malformed("`:authority` and `host` differ"));
            }
            authority.as_str().as_bytes()
        }
        (Some(authority), None) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return Err(HeadError::Malformed("neither `:authority` nor `host`")),
    };
    match std::str::from_utf8(authority) {
        Ok(authority) if edit::is_authority(authority) => head.authority.push_str(authority),
        _ => return Err(HeadError::Malformed("the authority is not a host and a port")),
    }
    Ok(())
}

/// Copies end-to-end fields and returns the content-length. `list_bytes`: what the pseudo-fields
/// add to the size of the header list.
fn read_fields(
    map: &HeaderMap,
    fields: &mut Fields,
    mut list_bytes: usize,
    limits: &Http2Limits,
) -> Result<Option<u64>, HeadError> {
    if map.len() > limits.fields {
        return Err(HeadError::TooManyFields);
    }
    let mut content_length = None;
    for (header, value) in map {
        let value = value.as_bytes();
        list_bytes += header.as_str().len() + value.len() + 32;
        if fields::trim(value).len() != value.len() {
            return Err(HeadError::Malformed("a field value begins or ends with a blank"));
        }
        let name = Name::parse(header.as_str().as_bytes())
            .map_err(|_| HeadError::Malformed("a field name is too long"))?;
        if !edit::is_host_owned(name) {
            fields.append(name, value);
        } else if *header == header::CONTENT_LENGTH {
            if content_length.is_some() {
                return Err(HeadError::Malformed("more than one `content-length`"));
            }
            content_length = Some(parse_length(value)?);
        }
    }
    if list_bytes > limits.header_list_bytes as usize {
        return Err(HeadError::TooLarge);
    }
    Ok(content_length)
}

/// Clients may split `cookie` for the sake of compression; behind us it is one field again (RFC
/// 9113 section 8.2.3).
fn join_cookies(map: &HeaderMap, fields: &mut Fields) {
    const COOKIE: Name<'static> = Name::known("cookie");
    let mut crumbs = map.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    fields.set(COOKIE, &joined);
}

fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    const ERROR: HeadError = HeadError::Malformed("`content-length` is not a number");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(ERROR);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Reads a trailer section; fields that frame or route a message are left out (RFC 9110
/// section 6.5.1). The error names the limit that was passed.
pub(super) fn read_trailers(
    map: &HeaderMap,
    limits: TrailerLimits,
) -> Result<Fields, &'static str> {
    let mut fields = Fields::default();
    if map.len() > limits.fields {
        return Err("trailer_fields");
    }
    for (name, value) in map {
        let Ok(name) = Name::parse(name.as_str().as_bytes()) else {
            return Err("trailer_bytes");
        };
        if edit::is_host_owned(name) {
            continue;
        }
        fields.append(name, fields::trim(value.as_bytes()));
        if fields.wire_bytes() > limits.bytes {
            return Err("trailer_bytes");
        }
    }
    Ok(fields)
}

/// The limits of a trailer section, apart from the others because every body carries them.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrailerLimits {
    bytes: usize,
    fields: usize,
}

impl From<&Http2Limits> for TrailerLimits {
    fn from(limits: &Http2Limits) -> Self {
        TrailerLimits { bytes: limits.trailer_bytes, fields: limits.trailer_fields }
    }
}

/// The request as `h2` writes it. The error says what cannot be written.
pub(super) fn write_request(
    head: &RequestHead,
    length: BodyLength,
) -> Result<http::Request<()>, &'static str> {
    let mut parts = uri::Parts::default();
    parts.path_and_query =
        Some(uri::PathAndQuery::try_from(head.target.as_str()).map_err(|_| "target")?);
    // Without an authority `h2` takes the scheme from the version: `http` for HTTP/1.
    let mut version = http::Version::HTTP_11;
    if !head.authority.is_empty() {
        version = http::Version::HTTP_2;
        parts.authority =
            Some(uri::Authority::try_from(head.authority.as_str()).map_err(|_| "authority")?);
        parts.scheme = Some(match head.scheme {
            Scheme::Http => uri::Scheme::HTTP,
            Scheme::Https => uri::Scheme::HTTPS,
        });
    }
    let mut request = http::Request::new(());
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|_| "target")?;
    *request.version_mut() = version;
    request.method_mut().clone_from(&head.method);
    let map = request.headers_mut();
    write_fields(&head.fields, length, map)?;
    if head.accepts_trailers {
        map.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if head.expects_continue {
        map.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    Ok(request)
}

/// The response as `h2` writes it. The error says what cannot be written.
pub(super) fn write_response(
    status: u16,
    fields: &Fields,
    length: BodyLength,
) -> Result<http::Response<()>, &'static str> {
    let mut response = http::Response::new(());
    // 101 has no meaning here (RFC 9113 section 8.6).
    if !matches!(status, 100 | 102..=599) {
        return Err("status");
    }
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| "status")?;
    write_fields(fields, length, response.headers_mut())?;
    Ok(response)
}

/// The trailer section as `h2` writes it. The error says what cannot be written.
pub(super) fn write_trailers(fields: &Fields) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::new();
    write_fields(fields, BodyLength::None, &mut map)?;
    Ok(map)
}

/// `fields` are end-to-end ones, as every accepted and edited head has them.
fn write_fields(
    fields: &Fields,
    length: BodyLength,
    map: &mut HeaderMap,
) -> Result<(), &'static str> {
    map.try_reserve(fields.len() + 2).map_err(|_| "fields")?;
    for (name, value) in fields.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| "field name")?;
        let value = HeaderValue::from_bytes(value).map_err(|_| "field value")?;
        map.try_append(name, value).map_err(|_| "fields")?;
    }
    if let BodyLength::Exact(length) = length {
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
