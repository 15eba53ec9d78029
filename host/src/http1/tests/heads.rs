//! Every rule of a head, with the exact error for each breach, and every limit of one.

use crate::http::{BodyLength, Fields, Protocol, RequestHead, ResponseHead};
use crate::http1::*;
use http::Method;

fn request_with(
    text: &str,
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, RequestFraming)>, HeadError> {
    let mut head = RequestHead::default();
    let parsed = parse_request(text.as_bytes(), &mut head, limits)?;
    Ok(parsed.map(|(consumed, framing)| {
        assert_eq!(consumed, text.len());
        (head, framing)
    }))
}

fn request(text: &str) -> Result<(RequestHead, RequestFraming), HeadError> {
    request_with(text, &HeadLimits::default()).map(|parsed| parsed.expect("complete"))
}

fn response_to(method: Method, text: &str) -> Result<(ResponseHead, ResponseFraming), HeadError> {
    let mut head = ResponseHead::default();
    let limits = HeadLimits::default();
    let parsed = parse_response(text.as_bytes(), &method, &mut head, &limits)?;
    let (consumed, framing) = parsed.expect("complete");
    assert_eq!(consumed, text.len());
    Ok((head, framing))
}

fn response(text: &str) -> Result<(ResponseHead, ResponseFraming), HeadError> {
    response_to(Method::GET, text)
}

fn text(fields: &Fields) -> String {
    let line = |(name, value): (&[u8], &[u8])| {
        format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    fields.iter().map(line).collect::<Vec<_>>().join(" ")
}

/// A GET with these lines between `host` and the end.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_request_head_is_taken_apart() {
    let (head, framing) = request(
        "POST /a/b?c=%20d HTTP/1.1\r\nHost: a.example:8080\r\nX-Tenant:  one two \t\r\n\
         Content-Length: 12\r\nEmpty:\r\naccept: */*\r\nAccept: x\u{e4}\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target, "/a/b?c=%20d");
    assert_eq!(head.authority, "a.example:8080");
    assert_eq!(head.protocol, Protocol::Http11);
    assert_eq!(text(&head.fields), "x-tenant=one two empty= accept=*/* accept=xä");
    assert_eq!(framing, RequestFraming { body: BodyLength::Exact(12), keep_alive: true });
    assert!(!head.accepts_trailers && !head.expects_continue && head.upgrade.is_none());
}

#[test]
fn an_unfinished_head_is_not_an_error() {
    let whole = get("x: y\r\n");
    for end in 0..whole.len() {
        let parsed = request_with(&whole[..end], &HeadLimits::default());
        assert!(matches!(parsed, Ok(None)), "{end}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_skipped() {
    assert!(request(&format!("\r\n{}", get(""))).is_ok());
    let twice = format!("\r\n\r\n{}", get(""));
    assert_eq!(request(&twice).unwrap_err(), HeadError::RequestLine);
    assert_eq!(response("\r\nHTTP/1.1 200 OK\r\n\r\n").unwrap_err(), HeadError::StatusLine);
}

#[test]
fn start_lines_are_exact() {
    use HeadError::*;
    for (line, error) in [
        ("GET /", RequestLine),
        ("GET", RequestLine),
        ("GET  / HTTP/1.1", Target),
        ("GET /  HTTP/1.1", Target),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET\t/ HTTP/1.1", RequestLine),
        (" GET / HTTP/1.1", RequestLine),
        ("G(T / HTTP/1.1", RequestLine),
        ("GET / http/1.1", RequestLine),
        ("GET / HTTP/11", RequestLine),
        ("GET / HTTP/1.10", RequestLine),
        ("GET / FTP/1.1", RequestLine),
        ("\u{16}\u{3}\u{1}\u{2}", RequestLine),
        ("GET / HTTP/1.2", Version),
        ("GET / HTTP/0.9", Version),
        ("GET / HTTP/2.0", Version),
        ("PRI * HTTP/2.0", Version),
        ("CONNECT a:443 HTTP/1.1", Connect),
        ("GET a HTTP/1.1", Target),
        ("GET * HTTP/1.1", Target),
        ("OPTIONS ** HTTP/1.1", Target),
        ("GET /#a HTTP/1.1", Target),
        ("GET /a b HTTP/1.1", Target),
        ("GET /\u{e4} HTTP/1.1", Target),
        ("GET /\u{7f} HTTP/1.1", ControlByte),
        ("GET http:// HTTP/1.1", Target),
        ("GET http:///a HTTP/1.1", Target),
        ("GET http://u@a/ HTTP/1.1", Target),
        ("GET http://a:b/ HTTP/1.1", Target),
        ("GET http://a#b HTTP/1.1", Target),
        ("GET ftp://a/ HTTP/1.1", Target),
    ] {
        let refused = request(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(refused.unwrap_err(), error, "{line:?}");
    }
}

#[test]
fn targets_come_in_three_forms() {
    for (line, host, authority, target) in [
        ("GET /a?b", "a", "a", "/a?b"),
        ("GET //b/c", "a", "a", "//b/c"),
        ("GET /\"<>\\^`{|}", "a", "a", "/\"<>\\^`{|}"),
        ("GET http://b.example:81/x?y", "a", "b.example:81", "/x?y"),
        ("GET HTTPS://b", "a", "b", "/"),
        ("GET http://b?x", "a", "b", "/?x"),
        ("GET http://[::1]:80/", "a", "[::1]:80", "/"),
        ("OPTIONS *", "a", "a", "*"),
        ("OPTIONS http://b", "a", "b", "*"),
        ("OPTIONS http://b/", "a", "b", "/"),
        ("REPORT /", "a:80", "a:80", "/"),
    ] {
        let head = request(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap().0;
        assert_eq!((&*head.authority, &*head.target), (authority, target), "{line}");
    }
}

#[test]
fn a_request_names_one_valid_host() {
    use HeadError::*;
    for (lines, error) in [
        ("", HostMissing),
        ("Host: a\r\nHost: a\r\n", HostRepeated),
        ("Host: a\r\nhost: b\r\n", HostRepeated),
        ("Host:\r\n", HostInvalid),
        ("Host: a b\r\n", HostInvalid),
        ("Host: u@a\r\n", HostInvalid),
        ("Host: a/b\r\n", HostInvalid),
        ("Host: a:99999\r\n", HostInvalid),
        ("Host: [::1\r\n", HostInvalid),
        ("Host: \u{e4}\r\n", HostInvalid),
    ] {
        let with_path = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(request(&with_path).unwrap_err(), error, "{lines:?}");
        let with_authority = format!("GET http://a/ HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(request(&with_authority).unwrap_err(), error, "{lines:?}");
    }
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n").unwrap().0.authority, "");
    assert_eq!(request("GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap().0.authority, "a");
}

#[test]
fn lines_end_in_cr_lf_and_hold_no_control_byte() {
    use HeadError::*;
    for (head, error) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", LineEnd),
        ("GET / HTTP/1.1\n\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\r\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n", ControlByte),
        ("GET / HTTP/1.1\r\nHost: a\r\nx\0: a\r\n\r\n", ControlByte),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: \u{1b}\r\n\r\n", ControlByte),
        ("GET / HTTP/1.1\r\nHost: a\r\nx: \u{7f}\r\n\r\n", ControlByte),
    ] {
        assert_eq!(request(head).unwrap_err(), error, "{head:?}");
    }
    // A line feed alone is refused as soon as it is there.
    assert_eq!(request_with("GET /\n", &HeadLimits::default()).unwrap_err(), LineEnd);
}

#[test]
fn field_lines_are_exact() {
    use HeadError::*;
    for (lines, error) in [
        ("x: a\r\n b\r\n", Folded),
        ("x: a\r\n\tb\r\n", Folded),
        ("x : a\r\n", BlankBeforeColon),
        ("x\t: a\r\n", BlankBeforeColon),
        ("x\r\n", FieldName),
        (": a\r\n", FieldName),
        ("x y: a\r\n", FieldName),
        ("x(: a\r\n", FieldName),
        ("\u{e4}: a\r\n", FieldName),
    ] {
        assert_eq!(request(&get(lines)).unwrap_err(), error, "{lines:?}");
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(response(&answer).unwrap_err(), error, "{lines:?}");
    }
    let folded_first = "GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(request(folded_first).unwrap_err(), Folded);
}

#[test]
fn framing_is_never_guessed() {
    use HeadError::*;
    for (lines, error) in [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", LengthAndCoding),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", LengthRepeated),
        ("Content-Length: 1, 1\r\n", LengthInvalid),
        ("Content-Length:\r\n", LengthInvalid),
        ("Content-Length: +1\r\n", LengthInvalid),
        ("Content-Length: -1\r\n", LengthInvalid),
        ("Content-Length: 0x1\r\n", LengthInvalid),
        ("Content-Length: 1 1\r\n", LengthInvalid),
        ("Content-Length: 1a\r\n", LengthInvalid),
        ("Content-Length: 18446744073709551616\r\n", LengthInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CodingRepeated),
        ("Transfer-Encoding: gzip, chunked\r\n", CodingInvalid),
        ("Transfer-Encoding: chunked, identity\r\n", CodingInvalid),
        ("Transfer-Encoding: identity\r\n", CodingInvalid),
        ("Transfer-Encoding: \"chunked\"\r\n", CodingInvalid),
        ("Transfer-Encoding: chunked;q=1\r\n", CodingInvalid),
        ("Transfer-Encoding: xchunked\r\n", CodingInvalid),
        ("Transfer-Encoding:\r\n", CodingInvalid),
    ] {
        assert_eq!(request(&get(lines)).unwrap_err(), error, "{lines:?}");
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(response(&answer).unwrap_err(), error, "{lines:?}");
    }
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let old = format!("POST / HTTP/1.0\r\n{chunked}");
    assert_eq!(request(&old).unwrap_err(), CodingInHttp10);
    assert_eq!(response(&format!("HTTP/1.0 200 OK\r\n{chunked}")).unwrap_err(), CodingInHttp10);
}

#[test]
fn bodies_are_framed_by_length_or_chunks() {
    for (lines, body) in [
        ("", BodyLength::None),
        ("Content-Length: 0\r\n", BodyLength::Exact(0)),
        ("Content-Length: 007\r\n", BodyLength::Exact(7)),
        ("CONTENT-LENGTH: 18446744073709551615\r\n", BodyLength::Exact(u64::MAX)),
        ("Transfer-Encoding: Chunked\r\n", BodyLength::Unknown),
    ] {
        let (head, framing) = request(&get(lines)).unwrap();
        assert_eq!(framing.body, body, "{lines:?}");
        assert!(head.fields.is_empty());
    }
}

#[test]
fn fields_of_the_connection_end_here() {
    let lines = "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip, trailers\r\n\
                 Trailer: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\n\
                 HTTP2-Settings: x\r\nUpgrade: websocket\r\nX-Secret: 1\r\nX-Also: 2\r\nKept: 3\r\n\
                 Connection: x-secret, ,TE\r\nConnection: X-Also,content-length,host\r\n\
                 Content-Length: 5\r\n";
    let (head, framing) = request(&get(lines)).unwrap();
    assert_eq!(text(&head.fields), "kept=3");
    assert_eq!(framing.body, BodyLength::Exact(5));
    assert_eq!(head.authority, "a");
    assert!(head.accepts_trailers);
    assert!(head.upgrade.is_none(), "not named by `connection`");

    let (head, framing) = response(
        "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKept: 2\r\nKeep-Alive: 3\r\n\
         Upgrade: h2c\r\nHost: a\r\nHost: b\r\nExpect: nothing\r\nContent-Length: 1\r\n\r\n",
    )
    .unwrap();
    assert_eq!(text(&head.fields), "kept=2");
    assert_eq!(framing.body, BodyLength::Exact(1));

    for bad in ["Connection: a b\r\n", "Connection: close;x\r\n", "Connection: \"close\"\r\n"] {
        assert_eq!(request(&get(bad)).unwrap_err(), HeadError::ConnectionInvalid, "{bad}");
    }
}

#[test]
fn names_that_alias_framing_are_dropped() {
    let lines = "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nKeep_Alive: x\r\n\
                 proxy_connection: x\r\nX_Kept: 1\r\n";
    let (head, framing) = request(&get(lines)).unwrap();
    assert_eq!(text(&head.fields), "x_kept=1");
    assert_eq!(framing.body, BodyLength::None);
}

#[test]
fn connections_stay_as_their_version_has_it() {
    for (version, lines, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(request(&head).unwrap().1.keep_alive, stays, "{version} {lines:?}");
        let head = format!("HTTP/{version} 200\r\nContent-Length: 0\r\n{lines}\r\n");
        assert_eq!(response(&head).unwrap().1.keep_alive, stays, "{version} {lines:?}");
    }
}

#[test]
fn expectations_are_met_or_refused() {
    let expects = |head: &str| request(head).map(|(head, _)| head.expects_continue);
    let lines = "Expect: 100-Continue\r\nContent-Length: 1\r\n";
    assert_eq!(expects(&get(lines)), Ok(true));
    assert_eq!(expects(&get("Expect: 100-continue\r\n")), Ok(false), "no body");
    let old = format!("POST / HTTP/1.0\r\n{lines}\r\n");
    assert_eq!(expects(&old), Ok(false));
    for bad in ["Expect: more\r\n", "Expect:\r\n", "Expect: 100-continue, x\r\n"] {
        assert_eq!(expects(&get(bad)), Err(HeadError::Expectation), "{bad}");
    }
}

#[test]
fn upgrades_are_offered_twice_or_not_at_all() {
    for (lines, protocol) in [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("Upgrade: a/1.0, b\r\nConnection: keep-alive, upgrade\r\n", Some("a/1.0")),
        ("Upgrade: websocket\r\n", None),
        ("Connection: upgrade\r\n", None),
        ("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n", None),
        ("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", Some("websocket")),
    ] {
        let head = request(&get(lines)).unwrap().0;
        assert_eq!(head.upgrade.as_deref(), protocol, "{lines:?}");
        assert!(head.fields.is_empty());
        let answer = response(&format!("HTTP/1.1 101 X\r\n{lines}\r\n")).unwrap().0;
        assert_eq!(answer.upgrade.as_deref(), protocol, "{lines:?}");
    }
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(request(old).unwrap().0.upgrade.is_none());
    for bad in ["a b", "a/", "/1", "a/b/c"] {
        let lines = format!("Connection: upgrade\r\nUpgrade: {bad}\r\n");
        assert_eq!(request(&get(&lines)).unwrap_err(), HeadError::UpgradeInvalid, "{bad}");
    }
    let ordinary = "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2\r\n\r\n";
    assert!(response(ordinary).unwrap().0.upgrade.is_none());
}

#[test]
fn status_lines_are_exact() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.0 404 ", 404),
        ("HTTP/1.1 599", 599),
        ("HTTP/1.1 200 \u{e4} b", 200),
    ] {
        assert_eq!(response(&format!("{line}\r\n\r\n")).unwrap().0.status, status, "{line}");
    }
    use HeadError::*;
    for (line, error) in [
        ("HTTP/1.1 600 X", StatusLine),
        ("HTTP/1.1 099 X", StatusLine),
        ("HTTP/1.1 20", StatusLine),
        ("HTTP/1.1 2000", StatusLine),
        ("HTTP/1.1 200OK", StatusLine),
        ("HTTP/1.1  200 OK", StatusLine),
        ("HTTP/1.1\t200 OK", StatusLine),
        ("HTTP/1.1", StatusLine),
        ("HTTP 200 OK", StatusLine),
        ("ICY 200 OK", StatusLine),
        ("HTTP/2.0 200 OK", Version),
    ] {
        assert_eq!(response(&format!("{line}\r\n\r\n")).unwrap_err(), error, "{line}");
    }
}

#[test]
fn responses_have_the_body_their_request_and_status_give() {
    let framing = |body, content_length, keep_alive, until_close| ResponseFraming {
        body,
        content_length,
        keep_alive,
        until_close,
    };
    let (none, unknown) = (BodyLength::None, BodyLength::Unknown);
    let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for (method, status, lines, expected) in [
        (Method::GET, 200, length, framing(BodyLength::Exact(5), Some(5), true, false)),
        (Method::GET, 200, coding, framing(unknown, None, true, false)),
        (Method::GET, 200, "", framing(unknown, None, false, true)),
        (Method::HEAD, 200, length, framing(none, Some(5), true, false)),
        (Method::HEAD, 200, coding, framing(none, None, true, false)),
        (Method::HEAD, 200, "", framing(none, None, true, false)),
        (Method::GET, 304, length, framing(none, Some(5), true, false)),
        (Method::GET, 304, coding, framing(none, None, true, false)),
        (Method::GET, 204, "", framing(none, None, true, false)),
        (Method::GET, 204, "Content-Length: 0\r\n", framing(none, Some(0), true, false)),
        (Method::GET, 205, "", framing(unknown, None, false, true)),
        (Method::GET, 100, "", framing(none, None, true, false)),
        (Method::GET, 103, "", framing(none, None, true, false)),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        assert_eq!(response_to(method, &head).unwrap().1, expected, "{status} {lines:?}");
    }
    for status in [100, 101, 103, 204] {
        for lines in [length, coding] {
            let head = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
            assert_eq!(response(&head).unwrap_err(), HeadError::LengthForbidden, "{status}");
        }
    }
}

#[test]
fn a_reused_head_keeps_nothing() {
    let mut head = RequestHead::default();
    let limits = HeadLimits::default();
    let full = "OPTIONS http://b/x HTTP/1.0\r\nA: b\r\nHost: c\r\n\r\n";
    assert!(parse_request(full.as_bytes(), &mut head, &limits).unwrap().is_some());
    let plain = get("");
    assert!(parse_request(plain.as_bytes(), &mut head, &limits).unwrap().is_some());
    assert_eq!(format!("{head:?}"), format!("{:?}", request(&plain).unwrap().0));
    assert_eq!((&*head.authority, &*head.target), ("a", "/"));
    assert!(head.fields.is_empty());
}

/// Below, at and above: the first two are accepted.
fn assert_limit(error: HeadError, limits: &HeadLimits, head: impl Fn(usize) -> String, at: usize) {
    for size in [at - 1, at] {
        assert!(request_with(&head(size), limits).unwrap().is_some(), "{size}");
    }
    assert_eq!(request_with(&head(at + 1), limits).unwrap_err(), error);
}

#[test]
fn head_limits_hold() {
    let limits = HeadLimits::default();
    let of_bytes = |bytes: usize| {
        let rest = get("x: \r\n").len();
        get(&format!("x: {}\r\n", "y".repeat(bytes - rest)))
    };
    assert_eq!(of_bytes(500).len(), 500);
    assert_limit(HeadError::TooLarge, &limits, of_bytes, 32 * 1024);
    // What comes before the head does not count.
    let after_empty_line = |bytes: usize| format!("\r\n{}", of_bytes(bytes));
    assert_limit(HeadError::TooLarge, &limits, after_empty_line, 32 * 1024);

    let of_fields = |fields: usize| get(&"x: y\r\n".repeat(fields - 1));
    assert_limit(HeadError::TooManyFields, &limits, of_fields, 100);
    let of_options =
        |options: usize| get(&format!("Connection: a{}\r\n", ",b".repeat(options - 1)));
    assert_limit(HeadError::TooManyFields, &limits, of_options, 100);

    let of_target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1));
    assert_limit(HeadError::TargetTooLong, &limits, of_target, 8 * 1024);
    let absolute = |bytes: usize| {
        format!("GET http://a/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 9))
    };
    assert_limit(HeadError::TargetTooLong, &limits, absolute, 8 * 1024);
}

#[test]
fn a_head_without_end_is_refused_at_its_limit() {
    let limits = HeadLimits { bytes: 100, fields: 2, ..HeadLimits::default() };
    let line = "GET / HTTP/1.1\r\n";
    let unfinished = |bytes: usize| format!("{line}x:{}", "y".repeat(bytes - line.len() - 2));
    assert!(matches!(request_with(&unfinished(100), &limits), Ok(None)));
    assert_eq!(request_with(&unfinished(101), &limits).unwrap_err(), HeadError::TooLarge);
    let first_line = |bytes: usize| "G".repeat(bytes);
    assert!(matches!(request_with(&first_line(100), &limits), Ok(None)));
    assert_eq!(request_with(&first_line(101), &limits).unwrap_err(), HeadError::TargetTooLong);
    let fields = format!("{line}{}", "x:y\r\n".repeat(3));
    assert_eq!(request_with(&fields, &limits).unwrap_err(), HeadError::TooManyFields);

    let mut head = ResponseHead::default();
    let mut parse = |text: &str| parse_response(text.as_bytes(), &Method::GET, &mut head, &limits);
    assert_eq!(parse(&format!("HTTP/1.1 200 {}", "x".repeat(87))), Ok(None));
    assert_eq!(parse(&format!("HTTP/1.1 200 {}", "x".repeat(88))), Err(HeadError::TooLarge));
}

#[test]
fn each_error_has_its_status() {
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ] {
        assert_eq!(request(head).unwrap_err().status(), status, "{head:?}");
    }
    assert_eq!(HeadError::TargetTooLong.status(), 414);
    assert_eq!(HeadError::TooLarge.status(), 431);
    assert_eq!(HeadError::TooManyFields.status(), 431);
    assert_eq!(response("HTTP/1.1 2\r\n\r\n").unwrap_err().status(), 502);
}
