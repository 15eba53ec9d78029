//! Who the other end of a TLS connection has proved to be, and patterns for such identities.
//!
//! What a certificate says, as plain data: reading and verifying it is the matter of `tls`. The value
//! of `x-forwarded-client-cert` is made here, once a connection, in the form that Envoy documents.

use std::fmt;

/// What a verified certificate says of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    uris: Vec<String>,
    dns: Vec<String>,
    name: String,
    forwarded: String,
}

/// Parts of a certificate.
#[derive(Clone, Debug, Default)]
pub struct PeerNames {
    /// Alternative names that are URIs, SPIFFE's among them.
    pub uris: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns: Vec<String>,
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub hash: String,
}

impl PeerIdentity {
    /// The owner of a certificate that was verified. `by`: the URI of the certificate that we have
    /// shown in return, if it has one.
    pub fn new(names: PeerNames, by: Option<&str>) -> Self {
        let forwarded = forwarded(&names, by);
        let PeerNames { uris, mut dns, subject, hash } = names;
        dns.iter_mut().for_each(|name| name.make_ascii_lowercase());
        let name = match (uris.first(), dns.first()) {
            (Some(uri), _) => uri.clone(),
            (None, Some(dns)) => format!("dns:{dns}"),
            (None, None) if !subject.is_empty() => format!("subject:{subject}"),
            (None, None) => format!("sha256:{hash}"),
        };
        PeerIdentity { uris, dns, name, forwarded }
    }

    /// One name for logs: the first URI, else the first DNS name after `dns:`, else the subject after
    /// `subject:`, else the hash after `sha256:`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of `x-forwarded-client-cert`.
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }
}

/// `By=...;Hash=...;Subject="...";URI=...;DNS=...`, the last two as often as there are such names.
/// A part that would make it longer than [`FORWARDED_BYTES_MAX`] is left out.
fn forwarded(names: &PeerNames, by: Option<&str>) -> String {
    let mut text = String::new();
    let mut part = |key: &str, value: &str| {
        // With the sign before it, quotes, and every character escaped.
        if text.len() + key.len() + 2 * value.len() + 4 > FORWARDED_BYTES_MAX {
            return;
        }
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(key);
        text.push('=');
        push_value(&mut text, value);
    };
    if let Some(by) = by {
        part("By", by);
    }
    part("Hash", &names.hash);
    if !names.subject.is_empty() {
        part("Subject", &names.subject);
    }
    for uri in &names.uris {
        part("URI", uri);
    }
    for dns in &names.dns {
        part("DNS", dns);
    }
    text
}

/// A value in quotes where it has a character that divides values. What no field value may have
/// becomes `?`.
fn push_value(text: &mut String, value: &str) {
    let quoted = value.contains([',', ';', '=', '"', '\\', ' ']);
    if quoted {
        text.push('"');
    }
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if letter.is_control() || !letter.is_ascii() => text.push('?'),
            letter => text.push(letter),
        }
    }
    if quoted {
        text.push('"');
    }
}

/// A name that a peer may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerPattern {
    /// A URI such as `spiffe://trust/ns/x/sa/*`, in which `*` stands for one whole segment of the
    /// path.
    Uri(String),
    /// `dns:api.example.com`, or `dns:*.example.com` for one label before the domain. Lower case.
    Dns(String),
}

impl PeerPattern {
    /// A pattern as it is written in a file. None: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > PATTERN_BYTES_MAX || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return None;
        }
        if let Some(name) = text.strip_prefix("dns:") {
            let rest = name.strip_prefix("*.").unwrap_or(name);
            let is_name = !rest.is_empty() && !rest.contains(['*', '/', ':']);
            let is_name = is_name && rest.split('.').all(|label| !label.is_empty());
            return is_name.then(|| PeerPattern::Dns(name.to_ascii_lowercase()));
        }
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let whole = |segment: &str| segment == "*" || !segment.contains('*');
        let is_uri = !scheme.is_empty()
            && !scheme.contains(['*', '/', ':'])
            && !authority.is_empty()
            && !authority.contains('*')
            && path.split('/').all(whole);
        is_uri.then(|| PeerPattern::Uri(text.to_owned()))
    }

    /// Does the peer have such a name?
    pub fn matches(&self, peer: &PeerIdentity) -> bool {
        match self {
            PeerPattern::Uri(pattern) => peer.uris.iter().any(|uri| {
                let (mut expected, mut found) = (pattern.split('/'), uri.split('/'));
                loop {
                    match (expected.next(), found.next()) {
                        (None, None) => return true,
                        (Some("*"), Some(segment)) if !segment.is_empty() => {}
                        (Some(one), Some(other)) if one == other => {}
                        _ => return false,
                    }
                }
            }),
            PeerPattern::Dns(pattern) => match pattern.strip_prefix('*') {
                None => peer.dns.contains(pattern),
                Some(domain) => peer.dns.iter().any(|name| {
                    let label = name.strip_suffix(domain).unwrap_or_default();
                    !label.is_empty() && !label.contains('.')
                }),
            },
        }
    }

    /// Does this pattern match every peer that `other` matches?
    pub fn covers(&self, other: &PeerPattern) -> bool {
        match (self, other) {
            (PeerPattern::Uri(_), PeerPattern::Uri(text)) => {
                self.matches(&PeerIdentity { uris: vec![text.clone()], ..PeerIdentity::default() })
            }
            (PeerPattern::Dns(_), PeerPattern::Dns(text)) => {
                self.matches(&PeerIdentity { dns: vec![text.clone()], ..PeerIdentity::default() })
            }
            (PeerPattern::Uri(_), PeerPattern::Dns(_))
            | (PeerPattern::Dns(_), PeerPattern::Uri(_)) => false,
        }
    }
}

/// Bytes of the value of `x-forwarded-client-cert`.
pub const FORWARDED_BYTES_MAX: usize = 4096;
/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 2048;

impl fmt::Display for PeerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerPattern::Uri(pattern) => f.write_str(pattern),
            PeerPattern::Dns(pattern) => write!(f, "dns:{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uris: &[&str], dns: &[&str]) -> PeerIdentity {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = PeerNames {
            uris: owned(uris),
            dns: owned(dns),
            subject: "CN=web, O=Example".to_owned(),
            hash: "ab".repeat(32),
        };
        PeerIdentity::new(names, Some("spiffe://trust/ns/x/sa/proxy"))
    }

    fn pattern(text: &str) -> PeerPattern {
        PeerPattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_one_segment() {
        for (text, uri, expected) in [
            ("spiffe://t/ns/x/sa/a", "spiffe://t/ns/x/sa/a", true),
            ("spiffe://t/ns/x/sa/a", "spiffe://t/ns/x/sa/b", false),
            ("spiffe://t/ns/x/sa/a", "spiffe://t/ns/x/sa/a/b", false),
            ("spiffe://t/ns/x/sa/*", "spiffe://t/ns/x/sa/b", true),
            ("spiffe://t/ns/x/sa/*", "spiffe://t/ns/x/sa/", false),
            ("spiffe://t/ns/x/sa/*", "spiffe://t/ns/x/sa", false),
            ("spiffe://t/ns/x/sa/*", "spiffe://t/ns/x/sa/b/c", false),
            ("spiffe://t/ns/x/sa/*", "spiffe://other/ns/x/sa/b", false),
            ("spiffe://t/ns/*/sa/*", "spiffe://t/ns/y/sa/b", true),
            ("spiffe://t", "spiffe://t", true),
        ] {
            assert_eq!(pattern(text).matches(&peer(&[uri], &[])), expected, "{text} {uri}");
            assert!(!pattern(text).matches(&peer(&[], &["t"])), "{text}");
        }
        assert!(pattern("spiffe://t/a").matches(&peer(&["spiffe://t/b", "spiffe://t/a"], &[])));
    }

    #[test]
    fn dns_names_are_compared_without_case() {
        for (text, name, expected) in [
            ("dns:api.example.com", "API.example.com", true),
            ("dns:API.example.com", "api.example.com", true),
            ("dns:*.example.com", "api.example.com", true),
            ("dns:*.example.com", "a.api.example.com", false),
            ("dns:*.example.com", "example.com", false),
            ("dns:*.example.com", "apiexample.com", false),
        ] {
            assert_eq!(pattern(text).matches(&peer(&[], &[name])), expected, "{text} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "api.example.com",
            "dns:",
            "dns:*",
            "dns:a.*.b",
            "dns:a..b",
            "dns:http://a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://t/a*",
            "spiffe://*/a",
            "*",
            "spiffe://t/a b",
            "://t/a",
        ] {
            assert_eq!(PeerPattern::parse(text), None, "{text}");
        }
        for (length, is_pattern) in [
            (PATTERN_BYTES_MAX - 1, true),
            (PATTERN_BYTES_MAX, true),
            (PATTERN_BYTES_MAX + 1, false),
        ] {
            let text = format!("spiffe://t/{}", "a".repeat(length - "spiffe://t/".len()));
            assert_eq!(PeerPattern::parse(&text).is_some(), is_pattern, "{length}");
        }
        for text in ["spiffe://t/ns/*/sa/*", "dns:*.example.com"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        for (wide, narrow, expected) in [
            ("spiffe://t/*", "spiffe://t/a", true),
            ("spiffe://t/*", "spiffe://t/*", true),
            ("spiffe://t/a", "spiffe://t/*", false),
            ("dns:*.a.b", "dns:x.a.b", true),
            ("dns:x.a.b", "dns:*.a.b", false),
            ("dns:t", "spiffe://t", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn the_forwarded_value_has_every_part() {
        let value = peer(&["spiffe://t/ns/x/sa/a"], &["a.example", "b.example"]);
        let expected = format!(
            "By=spiffe://trust/ns/x/sa/proxy;Hash={};Subject=\"CN=web, O=Example\";\
             URI=spiffe://t/ns/x/sa/a;DNS=a.example;DNS=b.example",
            "ab".repeat(32)
        );
        assert_eq!(value.forwarded(), expected);
    }

    #[test]
    fn a_hostile_name_stays_within_its_part() {
        let names = PeerNames {
            uris: vec!["spiffe://t/a;By=\"x\\\r\n,Hash=0é".to_owned()],
            hash: "00".to_owned(),
            ..PeerNames::default()
        };
        let value = PeerIdentity::new(names, None);
        let expected = r#"Hash=00;URI="spiffe://t/a;By=\"x\\??,Hash=0?""#;
        assert_eq!(value.forwarded(), expected);
    }

    #[test]
    fn the_forwarded_value_is_bounded() {
        // What stands before the value of the name, and how a part is counted.
        let fixed = "Hash=00".len() + "URI".len() + 4;
        let room = FORWARDED_BYTES_MAX - fixed;
        for (length, is_there) in [(room / 2 - 1, true), (room / 2, true), (room / 2 + 1, false)] {
            let uris = vec!["u".repeat(length)];
            let names = PeerNames { uris, hash: "00".to_owned(), ..PeerNames::default() };
            let peer = PeerIdentity::new(names, None);
            assert_eq!(peer.forwarded().contains("URI"), is_there, "{length}");
            assert!(peer.forwarded().len() <= FORWARDED_BYTES_MAX);
        }
    }

    #[test]
    fn the_name_for_logs_is_the_best_there_is() {
        assert_eq!(peer(&["spiffe://t/a"], &["a"]).name(), "spiffe://t/a");
        assert_eq!(peer(&[], &["A.b"]).name(), "dns:a.b");
        assert_eq!(peer(&[], &[]).name(), "subject:CN=web, O=Example");
        let hash = PeerNames { hash: "00".to_owned(), ..PeerNames::default() };
        assert_eq!(PeerIdentity::new(hash, None).name(), "sha256:00");
    }
}
