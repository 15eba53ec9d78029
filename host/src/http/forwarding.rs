//! What a proxy adds to a message it forwards: `Via`, `Forwarded`, `X-Forwarded-*`, `Date`.
//!
//! RFC 9110 sections 6.6.1 and 7.6.3, RFC 7239. What a client says of itself in `Forwarded` and
//! `X-Forwarded-*` is believed only from a trusted proxy, and replaced otherwise.

use super::fields::{Fields, Name, trim};
use super::head::{Protocol, RequestHead, ResponseHead};
use super::peer::PeerIdentity;
use crate::clock;
use ipnet::IpNet;
use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const DATE: Name<'static> = Name::known("date");
const FORWARDED: Name<'static> = Name::known("forwarded");
const VIA: Name<'static> = Name::known("via");
const X_FORWARDED_CLIENT_CERT: Name<'static> = Name::known("x-forwarded-client-cert");
const X_FORWARDED_FOR: Name<'static> = Name::known("x-forwarded-for");
const X_FORWARDED_HOST: Name<'static> = Name::known("x-forwarded-host");
const X_FORWARDED_PROTO: Name<'static> = Name::known("x-forwarded-proto");
const X_FORWARDED_PORT: Name<'static> = Name::known("x-forwarded-port");
const X_REAL_IP: Name<'static> = Name::known("x-real-ip");

/// What a client may claim of how its request came.
const CLAIMS: [Name<'static>; 6] =
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_FORWARDED_PORT, X_REAL_IP];

/// Who the client is: the peer, or where the peer and those before it are trusted proxies, the last
/// address of `X-Forwarded-For` that is not one.
pub fn client_address(peer: IpAddr, fields: &Fields, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let lines: Vec<&[u8]> = fields.get_all(X_FORWARDED_FOR).collect();
    let mut client = peer;
    for member in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        let Some(address) = parse_address(trim(member)) else { break };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// Makes a request say how it came: what an untrusted peer claims goes, this hop is added. What the
/// peer has proved by a certificate is written down; what it claims of that itself is believed of
/// nobody.
pub fn mark_request(
    head: &mut RequestHead,
    peer: IpAddr,
    identity: Option<&PeerIdentity>,
    trusted: &[IpNet],
) {
    let believed = is_trusted(peer, trusted);
    head.fields.remove_with_aliases(X_FORWARDED_CLIENT_CERT);
    if let Some(identity) = identity {
        head.fields.append(X_FORWARDED_CLIENT_CERT, identity.forwarded().as_bytes());
    }
    if !believed {
        head.fields.remove_all(&CLAIMS);
    }
    let RequestHead { fields, authority, scheme, protocol, .. } = head;
    let address = AddressText::new(peer);
    extend_list(fields, X_FORWARDED_FOR, address.as_bytes());
    if !fields.contains(X_FORWARDED_PROTO) {
        fields.append(X_FORWARDED_PROTO, scheme.name().as_bytes());
    }
    if !fields.contains(X_FORWARDED_HOST) && !authority.is_empty() {
        fields.append(X_FORWARDED_HOST, authority.as_bytes());
    }

    let mut text = Buffer::default();
    text.push(b"for=");
    // RFC 7239 section 6: IPv6 in brackets, which a token cannot have.
    let (before, after) =
        if peer.is_ipv6() { (&b"\"["[..], &b"]\""[..]) } else { (&b""[..], &b""[..]) };
    for part in [before, address.as_bytes(), after] {
        text.push(part);
    }
    if !authority.is_empty() {
        // A host with a port is not a token (RFC 7239 section 4).
        text.push(b";host=\"");
        text.push(authority.as_bytes());
        text.push(b"\"");
    }
    text.push(b";proto=");
    text.push(scheme.name().as_bytes());
    extend_list(fields, FORWARDED, text.bytes());
    mark_via(fields, *protocol);
}

/// Adds this hop to the response's `Via`, and a `Date` where the upstream sent none.
pub fn mark_response(head: &mut ResponseHead, upstream: Protocol) {
    mark_via(&mut head.fields, upstream);
    ensure_date(head);
}

/// Adds a `Date` where there is none (RFC 9110 section 6.6.1).
pub fn ensure_date(head: &mut ResponseHead) {
    if !head.fields.contains(DATE) {
        with_date(|date| head.fields.append(DATE, date));
    }
}

fn mark_via(fields: &mut Fields, protocol: Protocol) {
    let entry: &[u8] = match protocol {
        Protocol::Http10 => b"1.0 pillion",
        Protocol::Http11 => b"1.1 pillion",
        Protocol::Http2 => b"2.0 pillion",
    };
    extend_list(fields, VIA, entry);
}

/// Adds a member to a list field, in one line: many readers look at the first line only.
fn extend_list(fields: &mut Fields, name: Name<'_>, member: &[u8]) {
    if !fields.contains(name) {
        return fields.append(name, member);
    }
    let mut joined = Vec::new();
    for line in fields.get_all(name).filter(|line| !line.is_empty()) {
        joined.extend_from_slice(line);
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(member);
    fields.set(name, &joined);
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// An address as `X-Forwarded-For` holds it: bare, or with a port, IPv6 then in brackets.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// An address as text, without an allocation and, for IPv4, without the formatting machinery.
pub struct AddressText {
    text: [u8; ADDRESS_BYTES_MAX],
    length: usize,
}

/// Bytes of the longest address: an IPv6 address that ends in an IPv4 one.
const ADDRESS_BYTES_MAX: usize = 45;

impl AddressText {
    /// The usual form of an address (RFC 5952 for IPv6).
    pub fn new(address: IpAddr) -> Self {
        let mut text = AddressText { text: [0; ADDRESS_BYTES_MAX], length: 0 };
        match address {
            IpAddr::V4(address) => {
                for (nth, octet) in address.octets().into_iter().enumerate() {
                    if nth > 0 {
                        text.push(b'.');
                    }
                    if octet >= 100 {
                        text.push(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        text.push(b'0' + octet / 10 % 10);
                    }
                    text.push(b'0' + octet % 10);
                }
            }
            IpAddr::V6(address) => {
                let mut rest = &mut text.text[..];
                // No address is longer than the room; what did not fit would be cut, never overrun.
                let _cut = write!(rest, "{address}");
                text.length = ADDRESS_BYTES_MAX - rest.len();
            }
        }
        text
    }

    /// The text, which is ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn push(&mut self, byte: u8) {
        self.text[self.length] = byte;
        self.length += 1;
    }
}

/// Text of a field value on the stack: an authority is at most 261 bytes (`edit::is_authority`).
struct Buffer {
    bytes: [u8; 384],
    length: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer { bytes: [0; 384], length: 0 }
    }
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, text: &[u8]) {
        let end = (self.length + text.len()).min(self.bytes.len());
        let taken = end - self.length;
        self.bytes[self.length..end].copy_from_slice(&text[..taken]);
        self.length = end;
    }
}

thread_local! {
    static DATE_NOW: RefCell<Date> = const { RefCell::new(Date { text: [0; DATE_BYTES], until: None }) };
}

/// Length of every `Date` (RFC 9110 section 5.6.7).
const DATE_BYTES: usize = 29;

/// The last second of the year 9999, behind which a `Date` has no form.
const LAST_SECOND: u64 = 253_402_300_799;

/// The `Date` of a second, formatted once.
struct Date {
    text: [u8; DATE_BYTES],
    /// When the second ends; none before there was one.
    until: Option<Instant>,
}

fn with_date(take: impl FnOnce(&[u8])) {
    DATE_NOW.with_borrow_mut(|date| {
        let now = clock::recent();
        if date.until.is_none_or(|until| until <= now) {
            date.renew(now, SystemTime::now());
        }
        take(&date.text);
    });
}

impl Date {
    fn renew(&mut self, now: Instant, wall: SystemTime) {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        let second = Duration::from_secs(since.as_secs().min(LAST_SECOND));
        let text = httpdate::fmt_http_date(UNIX_EPOCH + second);
        self.text.copy_from_slice(text.as_bytes());
        self.until = Some(now + left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{PeerNames, Scheme};

    #[test]
    fn an_address_has_its_usual_text() {
        for text in [
            "0.0.0.0",
            "1.22.133.9",
            "255.255.255.255",
            "::1",
            "2001:db8:1111:2222:3333:4444:5555:6666",
            "::ffff:192.168.100.200",
        ] {
            assert_eq!(AddressText::new(text.parse().unwrap()).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn a_date_is_written_once_a_second_and_exists_at_any_time() {
        let second = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = Instant::now();
        let mut date = Date { text: [0; DATE_BYTES], until: None };
        for (wall, text, left_ms) in [
            (second(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT", 1_000),
            (
                second(784_111_777) + Duration::from_millis(750),
                "Sun, 06 Nov 1994 08:49:37 GMT",
                250,
            ),
            (UNIX_EPOCH - Duration::from_secs(9), "Thu, 01 Jan 1970 00:00:00 GMT", 1_000),
            (second(LAST_SECOND), "Fri, 31 Dec 9999 23:59:59 GMT", 1_000),
            (second(LAST_SECOND + 1), "Fri, 31 Dec 9999 23:59:59 GMT", 1_000),
        ] {
            date.renew(now, wall);
            assert_eq!(std::str::from_utf8(&date.text), Ok(text));
            assert_eq!(date.until, Some(now + Duration::from_millis(left_ms)));
        }
    }

    fn request(lines: &[(&'static str, &str)]) -> RequestHead {
        let mut head = RequestHead { authority: "a.example:81".into(), ..RequestHead::default() };
        for (name, value) in lines {
            head.fields.append(Name::known(name), value.as_bytes());
        }
        head
    }

    fn value<'f>(fields: &'f Fields, name: &'static str) -> Option<&'f str> {
        fields.get(Name::known(name)).map(|value| std::str::from_utf8(value).unwrap())
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    #[test]
    fn what_an_untrusted_peer_claims_is_replaced() {
        let mut head = request(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "6.6.6.6"),
            ("via", "1.0 fred"),
        ]);
        let peer = "192.0.2.7".parse().unwrap();
        assert_eq!(client_address(peer, &head.fields, &trusted()), peer);
        mark_request(&mut head, peer, None, &trusted());
        assert_eq!(value(&head.fields, "x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(value(&head.fields, "x-forwarded-proto"), Some("http"));
        assert_eq!(value(&head.fields, "x-forwarded-host"), Some("a.example:81"));
        assert_eq!(value(&head.fields, "x-forwarded-port"), None);
        assert_eq!(value(&head.fields, "x-real-ip"), None);
        let forwarded = "for=192.0.2.7;host=\"a.example:81\";proto=http";
        assert_eq!(value(&head.fields, "forwarded"), Some(forwarded));
        assert_eq!(value(&head.fields, "via"), Some("1.0 fred, 1.1 pillion"));
    }

    #[test]
    fn only_what_was_proved_is_said_of_a_certificate() {
        let names = PeerNames { hash: "00".to_owned(), ..PeerNames::default() };
        let identity = PeerIdentity::new(names, None);
        for (identity, expected) in [(None, None), (Some(&identity), Some("Hash=00"))] {
            for peer in ["10.2.2.2", "192.0.2.7"] {
                let mut head = request(&[
                    ("x-forwarded-client-cert", "Hash=ff"),
                    ("x-forwarded-client_cert", "Hash=ff"),
                    ("x-forwarded-client-cert", "Hash=fe"),
                ]);
                mark_request(&mut head, peer.parse().unwrap(), identity, &trusted());
                assert_eq!(value(&head.fields, "x-forwarded-client-cert"), expected, "{peer}");
                assert_eq!(value(&head.fields, "x-forwarded-client_cert"), None, "{peer}");
                assert!(head.fields.get_all(X_FORWARDED_CLIENT_CERT).count() <= 1);
            }
        }
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_extended() {
        let mut head = request(&[
            ("x-forwarded-for", "198.51.100.1, 203.0.113.9"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.9"),
        ]);
        let peer = "10.2.2.2".parse().unwrap();
        let client = client_address(peer, &head.fields, &trusted());
        assert_eq!(client, "203.0.113.9".parse::<IpAddr>().unwrap(), "the last untrusted one");
        mark_request(&mut head, peer, None, &trusted());
        let chain = "198.51.100.1, 203.0.113.9, 10.1.1.1, 10.2.2.2";
        assert_eq!(value(&head.fields, "x-forwarded-for"), Some(chain));
        assert_eq!(head.fields.get_all(X_FORWARDED_FOR).count(), 1);
        assert_eq!(value(&head.fields, "x-forwarded-proto"), Some("https"));
        let forwarded = "for=203.0.113.9, for=10.2.2.2;host=\"a.example:81\";proto=http";
        assert_eq!(value(&head.fields, "forwarded"), Some(forwarded));
    }

    #[test]
    fn a_broken_list_from_a_trusted_proxy_ends_the_search() {
        let fields = request(&[("x-forwarded-for", "203.0.113.9, nonsense, 10.1.1.1")]).fields;
        let peer = "10.2.2.2".parse().unwrap();
        let client = client_address(peer, &fields, &trusted());
        assert_eq!(client, "10.1.1.1".parse::<IpAddr>().unwrap());
        for (text, expected) in [
            ("203.0.113.9:80", "203.0.113.9"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            let fields = request(&[("x-forwarded-for", text)]).fields;
            assert_eq!(
                client_address(peer, &fields, &trusted()),
                expected.parse::<IpAddr>().unwrap()
            );
        }
    }

    #[test]
    fn an_ipv6_peer_is_written_as_each_field_wants_it() {
        let mut head = RequestHead { scheme: Scheme::Https, ..RequestHead::default() };
        mark_request(&mut head, "2001:db8::1".parse().unwrap(), None, &[]);
        assert_eq!(value(&head.fields, "x-forwarded-for"), Some("2001:db8::1"));
        assert_eq!(value(&head.fields, "forwarded"), Some("for=\"[2001:db8::1]\";proto=https"));
        assert_eq!(value(&head.fields, "x-forwarded-host"), None);
    }

    #[test]
    fn the_longest_authority_fits() {
        let mut head = RequestHead { authority: "a".repeat(261), ..RequestHead::default() };
        let peer = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        mark_request(&mut head, peer, None, &[]);
        assert!(value(&head.fields, "forwarded").unwrap().ends_with("a\";proto=http"));
    }

    #[test]
    fn a_date_is_added_only_where_there_is_none() {
        let mut head = ResponseHead::default();
        mark_response(&mut head, Protocol::Http2);
        assert_eq!(value(&head.fields, "via"), Some("2.0 pillion"));
        let date = value(&head.fields, "date").unwrap();
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
        let mut head = ResponseHead::default();
        head.fields.append(DATE, b"Sun, 06 Nov 1994 08:49:37 GMT");
        ensure_date(&mut head);
        assert_eq!(head.fields.len(), 1);
    }
}
