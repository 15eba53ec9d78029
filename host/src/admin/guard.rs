//! Who is turned away: browsers acting for a page from elsewhere.
//!
//! A page on the internet can make a browser send requests to loopback. The browser then says so in
//! `origin`; or, when the page's own name was made to resolve to loopback, the name is in `host`.

use crate::http::{Name, RequestHead};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a request is refused, as one sentence.
pub(super) fn refusal(request: &RequestHead) -> Option<&'static str> {
    if request.fields.contains(Name::known("origin")) {
        return Some("Requests from web pages (with an `origin` header) are refused.");
    }
    // HTTP/1.0 without `host`: no browser, and no name.
    if !request.authority.is_empty() && !is_local_name(&request.authority) {
        return Some("The `host` must be an address or `localhost`, not a name: use the address.");
    }
    None
}

/// `localhost` or a literal address, with or without a port. An address cannot be made to point
/// somewhere else.
fn is_local_name(authority: &str) -> bool {
    if let Some(rest) = authority.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, port)) => address.parse::<Ipv6Addr>().is_ok() && is_port(port),
            None => false,
        };
    }
    let (host, port) = match authority.find(':') {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    is_port(port) && (host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok())
}

/// Nothing, or a colon and digits.
fn is_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_let_in() {
        for authority in [
            "localhost",
            "LocalHost:9901",
            "127.0.0.1",
            "127.0.0.1:9901",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9901",
            "",
        ] {
            let request = RequestHead { authority: authority.into(), ..RequestHead::default() };
            assert_eq!(refusal(&request), None, "{authority}");
        }
    }

    #[test]
    fn other_names_are_turned_away() {
        for authority in [
            "evil.example",
            "localhost.evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.",
            "[::1",
            "[::1]evil",
            "[evil]",
            "::1",
            "127.1",
            "127.0.0.1:x",
            "0x7f.1",
        ] {
            let request = RequestHead { authority: authority.into(), ..RequestHead::default() };
            assert!(refusal(&request).is_some(), "{authority}");
        }
    }

    #[test]
    fn pages_are_turned_away_whatever_their_origin() {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9901", ""] {
            let mut request =
                RequestHead { authority: "localhost".into(), ..RequestHead::default() };
            request.fields.append(Name::known("origin"), origin.as_bytes());
            assert!(refusal(&request).is_some(), "{origin}");
        }
    }
}
