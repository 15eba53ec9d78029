//! What may be edited in a head by a filter, and what belongs to the host.
//!
//! Pure rules over names and values. When an edit may happen is the matter of `chain::exchange`.

use super::fields::Name;

/// Edits of one exchange, over all filters.
pub const EDITS_MAX: u32 = 256;
/// Fields of a head.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Bytes of a head, as HTTP/1 writes its fields.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Fields of a trailer section.
pub const TRAILER_FIELDS_MAX: usize = 32;
/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request target.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Fields that frame or route a message on its connection (RFC 9110 section 7.6.1, RFC 9112
/// sections 6 and 9): the host writes them, a filter cannot.
static HOST_OWNED: [Name<'static>; 14] = [
    Name::known("connection"),
    Name::known("content-length"),
    Name::known("expect"),
    Name::known("host"),
    Name::known("http2-settings"),
    Name::known("keep-alive"),
    Name::known("proxy-authenticate"),
    Name::known("proxy-authorization"),
    Name::known("proxy-connection"),
    Name::known("te"),
    Name::known("trailer"),
    Name::known("transfer-encoding"),
    Name::known("upgrade"),
    // Some servers read it as `transfer-encoding` (see `aliases_framing`).
    Name::known("transfer_encoding"),
];

/// Is this one of the host's own fields, or a name that some servers take for one?
pub fn is_host_owned(name: Name<'_>) -> bool {
    let length = name.as_bytes().len();
    let possible = length < 32 && HOST_OWNED_LENGTHS & (1 << length) != 0;
    possible && (HOST_OWNED.contains(&name) || aliases_framing(name))
}

/// The lengths of [`HOST_OWNED`], a bit each: they rule out most names.
const HOST_OWNED_LENGTHS: u32 = {
    let mut lengths = 0;
    let mut at = 0;
    while at < HOST_OWNED.len() {
        lengths |= 1 << HOST_OWNED[at].as_bytes().len();
        at += 1;
    }
    lengths
};

/// Would a server that reads `_` as `-` (CGI and its heirs) take this name for one that frames or
/// routes the message?
pub fn aliases_framing(name: Name<'_>) -> bool {
    if !name.has_underscore() {
        return false;
    }
    let name = name.as_bytes();
    let same = |known: &[u8]| {
        known.len() == name.len()
            && known.iter().zip(name).all(|(known, given)| {
                let given = if *given == b'_' { b'-' } else { given.to_ascii_lowercase() };
                *known == given
            })
    };
    HOST_OWNED.iter().any(|known| same(known.as_bytes()))
}

/// Host and optional port, without user information (RFC 9110 section 7.2, RFC 3986 section 3.2).
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => ("[]", Some(port)),
                None if after.is_empty() => ("[]", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_byte = |byte: u8| HOST_BYTES[usize::from(byte)];
    let host_holds = host == "[]" || (!host.is_empty() && host.bytes().all(host_byte));
    let port_holds = port.is_none_or(|port| {
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    });
    host_holds && port_holds && text.len() <= 255 + 6
}

/// What a name in place of an address may have: unreserved bytes, sub-delimiters and the percent sign.
static HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+,;=";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Origin form: begins with `/`, visible ASCII, no fragment (RFC 9112 section 3.2.1). Bytes outside
/// ASCII are refused: they would have to be percent-encoded.
pub fn is_origin_form(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_fields_belong_to_the_host() {
        for name in
            ["Connection", "content-LENGTH", "host", "te", "Content_Length", "proxy_connection"]
        {
            assert!(is_host_owned(Name::parse(name.as_bytes()).unwrap()), "{name}");
        }
        for name in ["content-type", "x_y", "via", "date", "cookie", "hosts"] {
            assert!(!is_host_owned(Name::parse(name.as_bytes()).unwrap()), "{name}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for good in [
            "a",
            "a.example:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
            "a:",
            "a_b",
            "%41!$&'()*+,;=~-.",
        ] {
            assert!(is_authority(good), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:65536", "u@a", "a/b", "[::1", "[x]:1", "[::1]x", "a b", "a:1:2",
            "a\"b", "a\\b", "\u{e4}",
        ] {
            assert!(!is_authority(bad), "{bad}");
        }
        assert!(is_authority(&"a".repeat(261)));
        assert!(!is_authority(&"a".repeat(262)));
    }

    #[test]
    fn a_target_is_in_origin_form() {
        for good in ["/", "/a?b=c", "/%20", "/a//b"] {
            assert!(is_origin_form(good), "{good}");
        }
        for bad in ["", "a", "/a b", "/a#b", "/ä", "/\r", "*"] {
            assert!(!is_origin_form(bad), "{bad}");
        }
    }
}
