//! Which origins are allowed (RFC 6454 section 6.2, Fetch standard section 3.2).
//!
//! Patterns are checked and put into order once; an origin is compared byte for byte, as browsers
//! write it in lower case and without a default port. Knows nothing of messages.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of an origin that is looked at; a host has at most 253. A longer one is not allowed.
pub(crate) const ORIGIN_BYTES_MAX: usize = 512;

/// What browsers send for documents without an origin of their own: sandboxed, or from a file.
const OPAQUE: &str = "null";

/// The allowed origins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    Any,
    Listed(Vec<Pattern>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Exactly this origin.
    Exact(String),
    /// Every host below a domain: `https://*.example.com:8443` is cut at its `*`.
    Below { scheme: String, suffix: String },
}

impl Origins {
    pub(crate) fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => {
                origin.len() <= ORIGIN_BYTES_MAX
                    && patterns.iter().any(|pattern| pattern.allows(origin))
            }
        }
    }

    /// Is `null` one of them? It is the origin of very different documents.
    pub(crate) fn allow_opaque(&self) -> bool {
        self.allow(OPAQUE)
    }
}

impl Pattern {
    /// Read `https://app.example`, `https://*.example.com` or `null`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |what: &str| Err(format!("`{}` {what}", text.escape_debug()));
        if text == OPAQUE {
            return Ok(Self::Exact(text.to_owned()));
        }
        let text = text.to_ascii_lowercase();
        let Some((scheme, place)) = text.split_once("://").filter(|(it, _)| is_scheme(it)) else {
            return refuse("is not an origin: write `https://app.example`");
        };
        if place.contains(['/', '?', '#']) {
            return refuse("has a path, which an origin has not: end it after host and port");
        }
        let (host, port) = split_port(place);
        if let Some(port) = port {
            if !port.parse::<u16>().is_ok_and(|port| port > 0) || port.starts_with(['0', '+']) {
                return refuse("has a port that is not a number from 1 to 65535");
            }
            if matches!((scheme, port), ("http", "80") | ("https", "443")) {
                return refuse(
                    "names the default port, which browsers leave out: leave it out too",
                );
            }
        }
        let below = host.strip_prefix("*.");
        if !below.map_or_else(|| is_host(host), is_name) {
            return refuse(
                "has no valid host: write a name (not ASCII: as `xn--…`) or an address, and `*` only \
                 as its first label",
            );
        }
        Ok(match place.strip_prefix('*') {
            Some(suffix) => {
                Self::Below { scheme: format!("{scheme}://"), suffix: suffix.to_owned() }
            }
            None => Self::Exact(text),
        })
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::Below { scheme, suffix } => origin
                .strip_prefix(scheme.as_str())
                .and_then(|place| place.strip_suffix(suffix.as_str()))
                .is_some_and(is_name),
        }
    }
}

/// Host, and port where there is one; the colons of `[::1]` are not its.
fn split_port(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    }
}

/// `scheme` of RFC 3986 section 3.1, in lower case.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => is_name(text),
    }
}

/// One or more labels, in lower case.
fn is_name(text: &str) -> bool {
    let belongs = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(belongs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(patterns: &[&str]) -> Origins {
        Origins::Listed(patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect())
    }

    #[test]
    fn an_exact_origin_is_itself_and_nothing_else() {
        let origins =
            listed(&["https://App.example", "http://localhost:3000", "http://[::1]:8080"]);
        for origin in ["https://app.example", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://www.app.example",
            "https://APP.example",
            "http://localhost:30000",
        ] {
            assert!(!origins.allow(origin), "{origin}");
        }
    }

    #[test]
    fn a_star_stands_for_one_or_more_labels() {
        let origins = listed(&["https://*.example.com", "http://*.local:8080"]);
        for origin in ["https://a.example.com", "https://b.a.example.com", "http://x-1.local:8080"]
        {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://evil.example/.example.com",
            "https://evil.example:1.example.com",
            "https://u@a.example.com",
            "https://aexample.com",
            "https://a.example.com.evil.example",
            "http://x.local",
        ] {
            assert!(!origins.allow(origin), "{origin}");
        }
    }

    #[test]
    fn null_is_allowed_only_by_name() {
        assert!(listed(&["null"]).allow_opaque());
        assert!(!listed(&["https://a.example"]).allow_opaque());
        assert!(Origins::Any.allow_opaque());
    }

    #[test]
    fn an_origin_over_its_length_is_not_allowed() {
        let origins = listed(&["https://*.a"]);
        let of = |length: usize| format!("https://{}.a", "x".repeat(length - 10));
        assert!(origins.allow(&of(ORIGIN_BYTES_MAX - 1)));
        assert!(origins.allow(&of(ORIGIN_BYTES_MAX)));
        assert!(!origins.allow(&of(ORIGIN_BYTES_MAX + 1)));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is not an origin"),
            ("app.example", "is not an origin"),
            ("://a", "is not an origin"),
            ("1a://a", "is not an origin"),
            ("https://a/", "has a path"),
            ("https://a?b", "has a path"),
            ("https://a:0", "has a port"),
            ("https://a:080", "has a port"),
            ("https://a:65536", "has a port"),
            ("https://a:", "has a port"),
            ("https://a:443", "names the default port"),
            ("http://*.a:80", "names the default port"),
            ("https://", "has no valid host"),
            ("https://*", "has no valid host"),
            ("https://*.", "has no valid host"),
            ("https://a.*.b", "has no valid host"),
            ("https://ä.example", "has no valid host"),
            ("https://[::g]", "has no valid host"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for text in ["https://a:1", "https://a:65535", "http://a:443", "capacitor://localhost"] {
            assert!(Pattern::parse(text).is_ok(), "{text}");
        }
    }
}
