//! Who is turned away: browsers acting for a page from elsewhere, whoever lacks the token, other
//! hosts where they would bring code, and bodies that are not what they have to be.
//!
//! A page on the internet can make a browser send requests to loopback. The browser then says so in
//! `origin`; or, when the page's own name was made to resolve to loopback, the name is in `host`. What
//! comes with a body has a media type, too, that a browser sends only after asking, and is refused.

use super::answer::{Answer, accepts_json, refusal};
use super::paths::{self, Body, Found, Path, Who};
use super::token::Token;
use crate::http::{BodyLength, Name, RequestHead};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Through the Unix socket, and so this user or root.
    Owner,
    /// This address; none when the connection is dead already.
    Address(Option<SocketAddr>),
}

impl Peer {
    fn is_this_host(self) -> bool {
        match self {
            Peer::Owner => true,
            Peer::Address(address) => {
                address.is_some_and(|address| address.ip().to_canonical().is_loopback())
            }
        }
    }
}

/// A request that may be answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: &'static Path,
    /// The segment that the path's pattern leaves open.
    pub(super) name: Option<String>,
}

/// Checks a head, before anything of a body is read. An error is what is answered instead.
pub(super) fn admit(
    request: &RequestHead,
    body: BodyLength,
    peer: Peer,
    token: Option<&Token>,
) -> Result<Asked, Answer> {
    let found = paths::find(request.method.as_str(), request.path());
    let (path, json) = match &found {
        Found::Path(path, _) | Found::OtherMethods(path, _) => {
            (Some(*path), path.speaks_json() || accepts_json(request))
        }
        Found::Nothing => (None, accepts_json(request)),
    };
    let refused = |status, message: &str| refusal(json, status, message, Vec::new());
    if let Some(reason) = of_a_page(request) {
        return Err(refused(403, reason));
    }
    let open = path.is_some_and(|path| path.who == Who::Anyone);
    if !open && token.is_some_and(|token| !token.is_in(request)) {
        let answer =
            refused(401, "This needs `authorization: Bearer TOKEN`, with `[admin] token`.");
        return Err(answer.with("www-authenticate", "Bearer".to_owned()));
    }
    let asked = match found {
        Found::Path(path, name) => Asked { path, name },
        Found::OtherMethods(_, allow) => {
            let (path, method) = (request.path(), &request.method);
            let answer = refused(405, &format!("`{path}` takes {allow}, not {method}."));
            return Err(answer.with("allow", allow));
        }
        Found::Nothing => {
            let paths = paths::listed();
            let message = format!("There is nothing here. The paths are:\n\n{paths}");
            return Err(refused(404, &message));
        }
    };
    if asked.path.who == Who::HolderOrHost && token.is_none() && !peer.is_this_host() {
        let message = "Without a token only this host may ask for this: set `[admin] token`.";
        return Err(refused(403, message));
    }
    match unfit(request, body, asked.path.body) {
        Some((status, message)) => Err(refused(status, &message)),
        None => Ok(asked),
    }
}

/// Why a body is refused, as far as the head tells.
fn unfit(request: &RequestHead, length: BodyLength, wanted: Body) -> Option<(u16, String)> {
    if matches!(length, BodyLength::None | BodyLength::Exact(0)) {
        return None;
    }
    let bytes_max = wanted.bytes_max();
    if matches!(length, BodyLength::Exact(bytes) if bytes > bytes_max as u64) {
        return Some((413, too_large(bytes_max)));
    }
    let media_type = wanted.media_type()?;
    let mut fields = request.fields.get_all(Name::known("content-type"));
    let is_it = |value: &[u8]| {
        let stated = value.split(|byte| *byte == b';').next().unwrap_or_default();
        stated.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes())
    };
    let fits = fields.next().is_some_and(is_it) && fields.next().is_none();
    (!fits).then(|| (415, format!("The body has to be `content-type: {media_type}`.")))
}

/// What to say of a body over its limit.
pub(super) fn too_large(bytes_max: usize) -> String {
    format!("The body is larger than {bytes_max} bytes.")
}

/// Why a request that a page may have sent is refused, as one sentence.
fn of_a_page(request: &RequestHead) -> Option<&'static str> {
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
pub(super) mod tests {
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
            assert_eq!(of_a_page(&request), None, "{authority}");
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
            assert!(of_a_page(&request).is_some(), "{authority}");
        }
    }

    #[test]
    fn pages_are_turned_away_whatever_their_origin() {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9901", ""] {
            let mut request =
                RequestHead { authority: "localhost".into(), ..RequestHead::default() };
            request.fields.append(Name::known("origin"), origin.as_bytes());
            assert!(of_a_page(&request).is_some(), "{origin}");
        }
    }

    pub(in super::super) fn asking(method: &str, target: &str) -> RequestHead {
        RequestHead {
            method: http::Method::from_bytes(method.as_bytes()).unwrap(),
            target: target.into(),
            authority: "127.0.0.1:9901".into(),
            ..RequestHead::default()
        }
    }

    pub(in super::super) fn status(
        request: &RequestHead,
        body: BodyLength,
        peer: Peer,
        token: Option<&Token>,
    ) -> u16 {
        admit(request, body, peer, token).map_or_else(|answer| answer.status, |_| 200)
    }

    const NOTHING: BodyLength = BodyLength::None;

    #[test]
    fn a_token_is_asked_for_everywhere_but_by_probes_and_scrapers() {
        let token = Token::new("correct horse battery");
        for path in &paths::PATHS {
            let at = path.pattern.replace(['{', '}'], "");
            let mut request = asking(path.method, &at);
            let asked = |request: &RequestHead, peer| status(request, NOTHING, peer, Some(&token));
            let without = if path.who == Who::Anyone { 200 } else { 401 };
            assert_eq!(asked(&request, Peer::Owner), without, "{at}");
            request.fields.append(Name::known("authorization"), b"Bearer correct horse batterx");
            assert_eq!(asked(&request, Peer::Owner), without, "{at}");
            request.fields.clear();
            request.fields.append(Name::known("authorization"), b"Bearer correct horse battery");
            assert_eq!(asked(&request, Peer::Address(None)), 200, "{at}");
        }
        for path in ["/", "/nothing"] {
            let refused = admit(&asking("GET", path), NOTHING, Peer::Owner, Some(&token));
            let refused = refused.unwrap_err();
            assert_eq!(refused.status, 401, "what there is, is not told either");
            assert_eq!(refused.field, Some(("www-authenticate", "Bearer".into())));
        }
    }

    #[test]
    fn without_a_token_other_hosts_bring_no_code() {
        let address = |text: &str| Peer::Address(Some(text.parse().unwrap()));
        for (peer, brings) in [
            (Peer::Owner, 200),
            (address("127.0.0.1:5"), 200),
            (address("127.9.9.9:5"), 200),
            (address("[::1]:5"), 200),
            (address("[::ffff:127.0.0.1]:5"), 200),
            (address("10.0.0.1:5"), 403),
            (address("[::ffff:10.0.0.1]:5"), 403),
            (Peer::Address(None), 403),
        ] {
            for path in ["/filters/x/next", "/rollout", "/rollback", "/rollout/promote"] {
                assert_eq!(status(&asking("POST", path), NOTHING, peer, None), brings, "{peer:?}");
            }
            assert_eq!(status(&asking("DELETE", "/pinned/x"), NOTHING, peer, None), brings);
            assert_eq!(status(&asking("GET", "/rollout"), NOTHING, peer, None), 200);
        }
    }

    #[test]
    fn a_body_has_the_type_and_the_size_of_its_path() {
        for (path, media_type, other) in [
            ("/rollout", "application/json", "application/wasm"),
            ("/rollback", "Application/JSON; charset=utf-8", "text/plain"),
            ("/filters/x/next", "application/wasm", "application/json"),
        ] {
            let here = BodyLength::Exact(1);
            let mut request = asking("POST", path);
            let asked = |request: &RequestHead, body| status(request, body, Peer::Owner, None);
            assert_eq!(asked(&request, here), 415, "{path} without a type");
            assert_eq!(asked(&request, BodyLength::Unknown), 415, "{path} without a type");
            assert_eq!(asked(&request, BodyLength::Exact(0)), 200, "{path} without a body");
            request.fields.append(Name::known("content-type"), media_type.as_bytes());
            assert_eq!(asked(&request, BodyLength::Unknown), 200, "{path}");
            let Found::Path(found, _) = paths::find("POST", path) else { panic!("{path}") };
            let bytes_max = found.body.bytes_max() as u64;
            for (bytes, answer) in [(bytes_max - 1, 200), (bytes_max, 200), (bytes_max + 1, 413)] {
                assert_eq!(asked(&request, BodyLength::Exact(bytes)), answer, "{path} {bytes}");
            }
            request.fields.append(Name::known("content-type"), media_type.as_bytes());
            assert_eq!(asked(&request, here), 415, "{path} with two types");
            request.fields.clear();
            for wrong in [other, "application/x-www-form-urlencoded", "", "application/jsonx"] {
                request.fields.clear();
                request.fields.append(Name::known("content-type"), wrong.as_bytes());
                assert_eq!(asked(&request, here), 415, "{path} with {wrong}");
            }
        }
        assert_eq!(paths::JSON_BYTES_MAX, 256 << 10);
        assert_eq!(crate::rollout::control::UPLOAD_BYTES_MAX, 64 << 20);
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        for (method, path, allow) in [
            ("GET", "/drain", "POST"),
            ("HEAD", "/reload", "POST"),
            ("POST", "/metrics", "GET, HEAD"),
            ("DELETE", "/livez", "GET, HEAD"),
        ] {
            let refused = admit(&asking(method, path), NOTHING, Peer::Owner, None).unwrap_err();
            assert_eq!((refused.status, refused.field), (405, Some(("allow", allow.into()))));
            assert_eq!(refused.body, format!("`{path}` takes {allow}, not {method}.\n"));
        }
    }

    #[test]
    fn an_unknown_path_shows_the_known_ones() {
        for path in ["/", "/livez/", "/metricsx", "*"] {
            let refused = admit(&asking("GET", path), NOTHING, Peer::Owner, None).unwrap_err();
            assert_eq!(refused.status, 404);
            assert!(refused.body.contains("POST   /reload"), "{}", refused.body);
        }
    }

    #[test]
    fn pages_from_elsewhere_set_nothing_in_motion() {
        for (name, authority) in [(None, "evil.example"), (Some("origin"), "localhost")] {
            for path in &paths::PATHS {
                let mut foreign = asking(path.method, path.pattern);
                foreign.authority = authority.into();
                if let Some(name) = name {
                    foreign.fields.append(Name::known(name), b"https://evil.example");
                }
                assert_eq!(status(&foreign, NOTHING, Peer::Owner, None), 403, "{}", path.pattern);
            }
        }
    }
}
