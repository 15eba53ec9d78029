//! What the host allows: the documented rules and limits of messages, as pure functions.
//!
//! The texts are those of `wit/v0.1.0`. Knows no exchange and no phase.

use crate::{EditErrorKind, LocalResponse};

/// Fields of a head.
pub(super) const HEAD_FIELDS: usize = 100;
/// Bytes of a head: names, values, and the four bytes around each.
pub(super) const HEAD_BYTES: usize = 32 * 1024;
/// Fields of a trailer section.
pub(super) const TRAILER_FIELDS: usize = 32;
/// Bytes of a trailer section, counted as those of a head.
pub(super) const TRAILER_BYTES: usize = 8 * 1024;
/// Bytes of a path with its query.
const TARGET_BYTES: usize = 8 * 1024;
/// Edits that the host carries out in one exchange.
pub(super) const EDITS: usize = 256;
/// Notes of one exchange.
pub(super) const NOTES: usize = 64;
/// Bytes of key and value of a note.
pub(super) const NOTE_BYTES: usize = 1024;
/// Log lines of one exchange.
pub(super) const LOG_LINES: usize = 20;
/// Bytes of a log line; the rest is cut.
pub(super) const LOG_LINE_BYTES: usize = 1024;
/// Bytes of the body of a local response.
const LOCAL_REPLY_BYTES: usize = 64 * 1024;
/// Bytes of a body that a filter may hold, or put in place of what it holds.
pub(super) const BODY_BYTES: usize = 1024 * 1024;
/// Bytes of a chunk of a body.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Random bytes of one call.
pub(super) const RANDOM_BYTES: u32 = 4 * 1024;

/// Fields that frame or route a message on its connection.
const HOST_OWNED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The name in lower case, if a filter may edit it.
pub(super) fn editable_name(name: &str) -> Result<String, EditErrorKind> {
    if name.starts_with(':') {
        return Err(EditErrorKind::HostOwned);
    }
    if !is_token(name) {
        return Err(EditErrorKind::InvalidName);
    }
    let name = name.to_ascii_lowercase();
    if HOST_OWNED.contains(&name.as_str()) {
        return Err(EditErrorKind::HostOwned);
    }
    Ok(name)
}

/// The value without leading and trailing blanks, if it is one.
pub(super) fn field_value(value: &[u8]) -> Result<Vec<u8>, EditErrorKind> {
    if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(EditErrorKind::InvalidValue);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    Ok(value[start..end].to_vec())
}

/// A method that a filter may set.
pub(super) fn method(method: &str) -> Result<(), EditErrorKind> {
    valid(is_token(method) && method != "CONNECT")
}

/// A scheme that a filter may set.
pub(super) fn scheme(scheme: &str) -> Result<(), EditErrorKind> {
    valid(scheme == "http" || scheme == "https")
}

/// Host and optional port.
pub(super) fn authority(authority: &str) -> Result<(), EditErrorKind> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    let port_is_valid = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    valid(host_is_valid && port_is_valid)
}

/// A path with its query in origin form.
pub(super) fn target(target: &str) -> Result<(), EditErrorKind> {
    if target.len() > TARGET_BYTES {
        return Err(EditErrorKind::LimitExceeded);
    }
    let graphic = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b'#';
    valid(target.starts_with('/') && target.bytes().all(graphic))
}

/// A status in place of another: final, and with a body exactly where the other has one.
pub(super) fn status(present: u16, wanted: u16) -> Result<(), EditErrorKind> {
    let bodiless = |status: u16| matches!(status, 101 | 204 | 205 | 304);
    valid((200..=599).contains(&wanted) && bodiless(present) == bodiless(wanted))
}

/// Can a response of this status, to a request of this method, have a body?
pub(super) fn response_has_body(method: &str, status: u16) -> bool {
    method != "HEAD" && !matches!(status, 100..=199 | 204 | 304)
}

/// A local response as the client gets it, names in lower case; or why the host refuses it.
pub(super) fn local_response(response: LocalResponse) -> Result<LocalResponse, String> {
    if !(200..=599).contains(&response.status) {
        return Err(format!(
            "the local response has status {}: expected 200 to 599",
            response.status
        ));
    }
    if response.body.len() > LOCAL_REPLY_BYTES {
        return Err(format!(
            "the local response has {} bytes of body: at most {LOCAL_REPLY_BYTES} are allowed",
            response.body.len()
        ));
    }
    if response.headers.len() > HEAD_FIELDS {
        return Err(format!("the local response has more than {HEAD_FIELDS} fields"));
    }
    let mut checked = LocalResponse { headers: Vec::new(), ..response };
    for field in response.headers {
        let refused = |kind| format!("the local response has a field `{}`: {kind}", field.name);
        let name = editable_name(&field.name).map_err(refused)?;
        let value = field_value(&field.value).map_err(refused)?;
        checked.headers.push(crate::Field { name, value });
    }
    Ok(checked)
}

/// `[a-zA-Z_][a-zA-Z0-9_]*` of at most 64 bytes: the name of a metric or of a label.
pub(super) fn is_metric_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 64
        && name.bytes().all(word)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn is_token(text: &str) -> bool {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(symbol)
}

fn valid(holds: bool) -> Result<(), EditErrorKind> {
    if holds { Ok(()) } else { Err(EditErrorKind::InvalidValue) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_and_not_the_hosts() {
        assert_eq!(editable_name("X-A"), Ok("x-a".to_owned()));
        for name in ["", "a b", "a:", "ä", "a\n"] {
            assert_eq!(editable_name(name), Err(EditErrorKind::InvalidName), "{name:?}");
        }
        for name in HOST_OWNED.into_iter().chain([":path", "Content-Length", "TE"]) {
            assert_eq!(editable_name(name), Err(EditErrorKind::HostOwned), "{name}");
        }
    }

    #[test]
    fn values_have_no_control_bytes_and_lose_their_blanks() {
        assert_eq!(field_value(b" \ta\tb "), Ok(b"a\tb".to_vec()));
        assert_eq!(field_value(b"  "), Ok(Vec::new()));
        assert_eq!(field_value(b"\xff"), Ok(b"\xff".to_vec()));
        for value in [&b"a\r\nb"[..], b"\0", b"\x7f", b"\x1b"] {
            assert_eq!(field_value(value), Err(EditErrorKind::InvalidValue));
        }
    }

    #[test]
    fn parts_of_the_request_line_are_checked() {
        assert!(method("PATCH").is_ok() && method("CONNECT").is_err() && method("A B").is_err());
        assert!(scheme("https").is_ok() && scheme("ftp").is_err());
        for good in ["a", "a.example:80", "127.0.0.1:8080", "[::1]:80", "[::1]"] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in ["", ":80", "a:b", "a:65536", "user@a", "a/b", "[::1", "[x]"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
        assert!(target("/a?b").is_ok() && target("a").is_err() && target("/a#b").is_err());
        assert!(target("/a b").is_err());
        let long = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert_eq!(target(&long(8191)), Ok(()));
        assert_eq!(target(&long(8192)), Ok(()));
        assert_eq!(target(&long(8193)), Err(EditErrorKind::LimitExceeded));
    }

    #[test]
    fn a_status_keeps_whether_there_is_a_body() {
        assert!(status(200, 599).is_ok() && status(204, 304).is_ok());
        for (present, wanted) in [(200, 199), (200, 600), (200, 204), (304, 200), (200, 101)] {
            assert!(status(present, wanted).is_err(), "{present} to {wanted}");
        }
    }

    #[test]
    fn local_responses_are_checked_whole() {
        let status = |status| local_response(LocalResponse::new(status)).is_ok();
        assert_eq!([199, 200, 599, 600].map(status), [false, true, true, false]);
        let body = |length| local_response(LocalResponse::new(200).body(vec![0; length])).is_ok();
        assert_eq!([65_535, 65_536, 65_537].map(body), [true, true, false]);
        let refused = local_response(LocalResponse::new(200).header("Content-Length", "1"));
        assert_eq!(
            refused,
            Err("the local response has a field `Content-Length`: the field belongs to the host"
                .to_owned())
        );
    }

    #[test]
    fn metric_names_have_64_bytes() {
        assert!(is_metric_name("_a1") && !is_metric_name("1a") && !is_metric_name("a-b"));
        assert!(!is_metric_name(""));
        assert_eq!([63, 64, 65].map(|n| is_metric_name(&"a".repeat(n))), [true, true, false]);
    }
}
