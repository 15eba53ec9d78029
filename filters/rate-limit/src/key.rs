//! What requests are counted by: which bucket a request takes its token from.
//!
//! A key is made of parts of the request, joined in a way that two different combinations never
//! make the same key. The buckets themselves are the host's.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// Stands between parts; no field value, path or address holds it.
const SEPARATOR: char = '\n';

/// What a key is made of, in order.
#[derive(Debug, PartialEq)]
pub(crate) struct Key {
    parts: Vec<Part>,
    /// Leading bits of an IPv6 address that count.
    ipv6_prefix: u8,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Client,
    /// The first line of a request field, by its name in lower case.
    Header(String),
    /// The path without the query.
    Path,
    Method,
    Authority,
}

/// Hands out what keys are made of.
pub(crate) trait Request {
    fn client_address(&self) -> String;
    fn header(&self, name: &str) -> Option<String>;
    fn path(&self) -> String;
    fn method(&self) -> String;
    fn authority(&self) -> String;
}

/// The key of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyOf<'a> {
    Whole(String),
    /// A header that is absent or empty, and the key with nothing in its place.
    Lacking {
        header: &'a str,
        key: String,
    },
}

impl Part {
    /// Read `client`, `header:<name>`, `path`, `method` or `authority`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("header:") {
            return match !name.is_empty() && name.bytes().all(is_token_byte) {
                true => Ok(Self::Header(name.to_ascii_lowercase())),
                false => Err(format!("`{}` is not a field name", name.escape_debug())),
            };
        }
        match text {
            "client" => Ok(Self::Client),
            "path" => Ok(Self::Path),
            "method" => Ok(Self::Method),
            "authority" => Ok(Self::Authority),
            _ => Err(format!(
                "`{}` is not a part of a key, expected `client`, `header:<name>`, `path`, `method` \
                 or `authority`",
                text.escape_debug()
            )),
        }
    }
}

impl Key {
    /// A key of at least one part; `ipv6_prefix` is 1 to 128.
    pub(crate) fn new(parts: Vec<Part>, ipv6_prefix: u8) -> Self {
        Self { parts, ipv6_prefix }
    }

    pub(crate) fn of(&self, request: &impl Request) -> KeyOf<'_> {
        let mut lacking = None;
        let mut key = String::new();
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                key.push(SEPARATOR);
            }
            match part {
                Part::Client => add(&mut key, client(request.client_address(), self.ipv6_prefix)),
                Part::Path => add(&mut key, request.path()),
                Part::Method => add(&mut key, request.method()),
                Part::Authority => {
                    let mut authority = request.authority();
                    authority.make_ascii_lowercase();
                    add(&mut key, authority);
                }
                Part::Header(name) => match request.header(name) {
                    Some(value) if !value.is_empty() => add(&mut key, value),
                    _ => lacking = lacking.or(Some(name.as_str())),
                },
            }
        }
        match lacking {
            None => KeyOf::Whole(key),
            Some(header) => KeyOf::Lacking { header, key },
        }
    }
}

/// Puts the text of a part behind the others; the first is taken as it is, without a copy.
fn add(key: &mut String, part: String) {
    if key.is_empty() { *key = part } else { key.push_str(&part) }
}

/// The address that counts: IPv4 as it is, also where it comes mapped into IPv6; of IPv6 the
/// prefix, as one client has a whole network of addresses at hand.
fn client(address: String, ipv6_prefix: u8) -> String {
    if !address.contains(':') {
        return address;
    }
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(v6)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).to_string()
        }
        Ok(IpAddr::V4(v4)) => v4.to_string(),
        Err(_) => address,
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Get {
        client: &'static str,
        tenant: Option<&'static str>,
    }

    const GET: Get = Get { client: "192.0.2.7", tenant: Some("blue") };

    impl Request for Get {
        fn client_address(&self) -> String {
            self.client.to_owned()
        }

        fn header(&self, name: &str) -> Option<String> {
            if name == "x-tenant" { self.tenant.map(str::to_owned) } else { None }
        }

        fn path(&self) -> String {
            "/a".to_owned()
        }

        fn method(&self) -> String {
            "GET".to_owned()
        }

        fn authority(&self) -> String {
            "Example.org".to_owned()
        }
    }

    fn key(parts: &[&str]) -> Key {
        Key::new(parts.iter().map(|part| Part::parse(part).unwrap()).collect(), 64)
    }

    fn whole(text: &str) -> KeyOf<'static> {
        KeyOf::Whole(text.to_owned())
    }

    #[test]
    fn a_key_is_made_of_its_parts_in_order() {
        assert_eq!(key(&["client"]).of(&GET), whole("192.0.2.7"));
        assert_eq!(key(&["header:X-Tenant"]).of(&GET), whole("blue"));
        assert_eq!(key(&["path"]).of(&GET), whole("/a"));
        assert_eq!(key(&["method", "authority"]).of(&GET), whole("GET\nexample.org"));
        assert_eq!(key(&["path", "header:x-tenant"]).of(&GET), whole("/a\nblue"));
    }

    #[test]
    fn a_missing_header_is_named_and_leaves_a_gap() {
        for tenant in [None, Some("")] {
            let request = Get { tenant, ..GET };
            let expected = KeyOf::Lacking { header: "x-tenant", key: "192.0.2.7\n".to_owned() };
            assert_eq!(key(&["client", "header:x-tenant"]).of(&request), expected);
        }
    }

    #[test]
    fn of_several_missing_headers_the_first_is_named() {
        let both = key(&["header:x-a", "header:x-b"]);
        let KeyOf::Lacking { header, key } = both.of(&GET) else {
            panic!("both are missing");
        };
        assert_eq!((header, key.as_str()), ("x-a", "\n"));
    }

    #[test]
    fn of_an_ipv6_address_the_prefix_counts() {
        for (prefix, expected) in
            [(128, "2001:db8:1:2:3:4:5:6"), (64, "2001:db8:1:2::"), (48, "2001:db8:1::"), (1, "::")]
        {
            assert_eq!(client("2001:db8:1:2:3:4:5:6".to_owned(), prefix), expected);
        }
        assert_eq!(client("::ffff:192.0.2.7".to_owned(), 64), "192.0.2.7");
        assert_eq!(client("192.0.2.7".to_owned(), 1), "192.0.2.7");
        assert_eq!(client("not:an:address".to_owned(), 64), "not:an:address");
    }

    #[test]
    fn a_part_that_is_none_is_refused() {
        for (text, message) in [
            ("", "`` is not a part of a key, expected `client`"),
            ("Client", "`Client` is not a part of a key"),
            ("header", "`header` is not a part of a key"),
            ("header:", "`` is not a field name"),
            ("header:x y", "`x y` is not a field name"),
        ] {
            let error = Part::parse(text).unwrap_err();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }
}
