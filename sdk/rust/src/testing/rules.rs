//! What the host allows: the documented rules and limits of messages, as pure functions.
//!
//! The texts are those of `wit/v0.1.0`. Knows no exchange and no phase.

use crate::{EditErrorKind, Field, LocalResponse};

/// Fields of a head.
pub(super) const HEAD_FIELDS: usize = 100;
/// Bytes of a head: names, values, and the four bytes around each.
pub(super) const HEAD_BYTES: usize = 32 * 1024;
/// Fields of a trailer section.
pub(super) const TRAILER_FIELDS: usize = 32;
/// Bytes of a trailer section, counted as those of a head.
pub(super) const TRAILER_BYTES: usize = 8 * 1024;
/// Bytes of a host and its port.
const AUTHORITY_BYTES: usize = 255 + ":65535".len();
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

/// Body of the host's reply to the failure of a filter, whose status is 500.
pub(super) const FAILURE_REPLY: &str = "The request could not be processed.\n";
/// What went wrong then, in the words of RFC 9209.
pub(super) const FAILURE_ERROR: &str = "proxy_internal_error";

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
    if is_host_owned(name) {
        return Err(EditErrorKind::HostOwned);
    }
    Ok(name.to_ascii_lowercase())
}

/// Some servers read `_` as `-`, so that such a name is taken for the host's own.
fn is_host_owned(name: &str) -> bool {
    HOST_OWNED.contains(&name.to_ascii_lowercase().replace('_', "-").as_str())
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

/// A text of a filter as one line of the log: at most `most` bytes of it, what would disturb the log
/// as escapes, and `…` where it was cut.
pub(super) fn printable(text: &str, most: usize) -> String {
    let disturbs =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = &text[..text.floor_char_boundary(most)];
    let shown = |c: char| if disturbs(c) { c.escape_default().to_string() } else { c.into() };
    let mut line: String = kept.chars().map(shown).collect();
    if kept.len() < text.len() {
        line.push('…');
    }
    line
}

/// A method in place of another: the response has a body exactly where it had one.
pub(super) fn method(present: &str, wanted: &str) -> Result<(), EditErrorKind> {
    let keeps_body = (present == "HEAD") == (wanted == "HEAD");
    valid(is_token(wanted) && wanted != "CONNECT" && keeps_body)
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
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        port.is_empty() || (is_number && port.parse::<u16>().is_ok())
    });
    valid(host_is_valid && port_is_valid && authority.len() <= AUTHORITY_BYTES)
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

/// A local response as the client gets it, names in lower case; or why the host refuses it, in the
/// words of its log.
pub(super) fn local_response(response: LocalResponse) -> Result<LocalResponse, String> {
    let LocalResponse { status, headers, body } = response;
    if !(200..=599).contains(&status) {
        return Err(format!("its local response has status {status}; 200 to 599 are allowed"));
    }
    if body.len() > LOCAL_REPLY_BYTES {
        let length = body.len();
        return Err(format!(
            "its local response has {length} bytes, over the limit `local_reply` of \
             {LOCAL_REPLY_BYTES}"
        ));
    }
    for field in &headers {
        let shown = printable(&field.name, 64);
        if !is_token(&field.name) {
            return Err(format!("its local response has a field `{shown}`, which is no name"));
        }
        if is_host_owned(&field.name) {
            return Err(format!("its local response sets `{shown}`, which belongs to the host"));
        }
        if field_value(&field.value).is_err() {
            return Err(format!("its local response has control bytes in field `{shown}`"));
        }
    }
    let bytes: usize = headers.iter().map(|field| field.name.len() + field.value.len() + 4).sum();
    if headers.len() > HEAD_FIELDS || bytes > HEAD_BYTES {
        let count = headers.len();
        return Err(format!(
            "its local response has {count} fields of {bytes} bytes; {HEAD_FIELDS} of \
             {HEAD_BYTES} are allowed"
        ));
    }
    let lower = |field: Field| Field { name: field.name.to_ascii_lowercase(), ..field };
    Ok(LocalResponse { status, headers: headers.into_iter().map(lower).collect(), body })
}

/// `[a-zA-Z_][a-zA-Z0-9_]*` of at most 64 bytes: the name of a metric.
pub(super) fn is_metric_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 64
        && name.bytes().all(word)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// The name of a metric that neither the host nor the exposition format needs for a label of its own.
pub(super) fn is_label(name: &str) -> bool {
    is_metric_name(name)
        && !name.starts_with("__")
        && !["filter", "version", "le", "quantile"].contains(&name)
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
        let others = [":path", "Content-Length", "TE", "transfer_encoding", "Keep_Alive"];
        for name in HOST_OWNED.into_iter().chain(others) {
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
        for (present, wanted, fits) in [
            ("GET", "PATCH", true),
            ("GET", "CONNECT", false),
            ("GET", "A B", false),
            ("GET", "HEAD", false),
            ("HEAD", "GET", false),
            ("HEAD", "HEAD", true),
        ] {
            assert_eq!(method(present, wanted).is_ok(), fits, "{present} to {wanted}");
        }
        assert!(scheme("https").is_ok() && scheme("ftp").is_err());
        for good in ["a", "a.example:80", "127.0.0.1:8080", "[::1]:80", "[::1]", "a:"] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in ["", ":80", "a:b", "a:65536", "user@a", "a/b", "[::1", "[x]"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
        let long = |length| authority(&"a".repeat(length)).is_ok();
        assert_eq!([260, 261, 262].map(long), [true, true, false]);
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
        let fields = |count: usize, value: usize| {
            let field = || Field::new("X-A", vec![b'v'; value]);
            let headers = std::iter::repeat_with(field).take(count).collect();
            local_response(LocalResponse { headers, ..LocalResponse::new(200) }).is_ok()
        };
        assert_eq!([99, 100, 101].map(|count| fields(count, 1)), [true, true, false]);
        assert_eq!([32_760, 32_761, 32_762].map(|value| fields(1, value)), [true, true, false]);
    }

    #[test]
    fn a_refused_local_response_is_told_of_as_in_the_log() {
        let refused = |name: &str, value: &[u8]| {
            local_response(LocalResponse::new(200).header(name, value)).unwrap_err()
        };
        for (name, told) in [
            (
                "Content-Length",
                "its local response sets `Content-Length`, which belongs to the host",
            ),
            (":a\n", "its local response has a field `:a\\n`, which is no name"),
        ] {
            assert_eq!(refused(name, b"1"), told);
        }
        assert_eq!(refused("x", b"\n"), "its local response has control bytes in field `x`");
    }

    #[test]
    fn lines_of_the_log_are_cut_and_stay_lines() {
        let at = |length| printable(&"x".repeat(length), 1024).len();
        assert_eq!([1023, 1024, 1025].map(at), [1023, 1024, 1024 + "…".len()]);
        assert_eq!(printable("a\r\n\u{1b}\u{202e}\u{2028}ä", 99), r"a\r\n\u{1b}\u{202e}\u{2028}ä");
        assert_eq!(printable("aä", 2), "a…");
    }

    #[test]
    fn metric_names_have_64_bytes() {
        assert!(is_metric_name("_a1") && !is_metric_name("1a") && !is_metric_name("a-b"));
        assert!(!is_metric_name(""));
        assert!(is_label("a__") && is_label("les"));
        for name in ["__a", "filter", "version", "le", "quantile", "a b"] {
            assert!(!is_label(name), "{name}");
        }
        assert_eq!([63, 64, 65].map(|n| is_metric_name(&"a".repeat(n))), [true, true, false]);
    }
}
