use super::*;
use crate::http2::SendError;

fn request(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> HeadCase {
    let builder = http::Request::builder().version(http::Version::HTTP_2).uri("http://a.test/x?y");
    HeadCase { parts: build(builder).body(()).unwrap().into_parts().0, ended: true }
}

struct HeadCase {
    parts: http::request::Parts,
    ended: bool,
}

impl HeadCase {
    fn with_body(mut self) -> Self {
        self.ended = false;
        self
    }

    fn read(&self) -> Result<(RequestHead, BodyLength), HeadError> {
        self.read_within(&Http2Limits::default())
    }

    fn read_within(&self, limits: &Http2Limits) -> Result<(RequestHead, BodyLength), HeadError> {
        let mut head = RequestHead::default();
        let length = read_request(&self.parts, self.ended, &mut head, limits)?;
        Ok((head, length))
    }

    fn malformed(&self) -> &'static str {
        match self.read() {
            Err(HeadError::Malformed(why)) => why,
            other => panic!("accepted: {other:?}"),
        }
    }
}

fn lines(fields: &Fields) -> Vec<String> {
    fields
        .iter()
        .map(|(name, value)| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect()
}

#[test]
fn a_request_head_is_filled() {
    let case = request(|builder| {
        builder
            .method("POST")
            .uri("https://a.test:8443/x?y=1")
            .header("X-One", "1")
            .header("te", "trailers")
            .header("content-length", "12")
            .header("x-two", "2")
            .header("x-one", "3")
    })
    .with_body();
    let (head, length) = case.read().unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.scheme, Scheme::Https);
    assert_eq!(head.authority, "a.test:8443");
    assert_eq!(head.target, "/x?y=1");
    assert_eq!(head.protocol, Protocol::Http2);
    assert!(head.accepts_trailers);
    assert!(!head.expects_continue);
    assert_eq!(lines(&head.fields), ["x-one: 1", "x-one: 3", "x-two: 2"]);
    assert_eq!(length, BodyLength::Exact(12));
}

#[test]
fn the_length_of_a_body_is_what_the_head_tells() {
    assert_eq!(request(|b| b).read().unwrap().1, BodyLength::None);
    assert_eq!(request(|b| b).with_body().read().unwrap().1, BodyLength::Unknown);
    let zero = request(|b| b.header("content-length", "0"));
    assert_eq!(zero.read().unwrap().1, BodyLength::Exact(0));
}

#[test]
fn framing_fields_and_their_aliases_are_left_out() {
    let case = request(|builder| {
        builder
            .header("host", "a.test")
            .header("content_length", "5")
            .header("transfer_encoding", "chunked")
            .header("Proxy_Connection", "close")
            .header("host_", "kept")
            .header("http2-settings", "x")
            .header("trailer", "x")
            .header("x_kept", "1")
    });
    assert_eq!(lines(&case.read().unwrap().0.fields), ["host_: kept", "x_kept: 1"]);
}

#[test]
fn authority_and_host_say_the_same() {
    let same = request(|b| b.header("host", "A.TEST"));
    assert_eq!(same.read().unwrap().0.authority, "a.test");
    let only_host = request(|b| b.uri("/x").header("host", "b.test:80"));
    assert_eq!(only_host.read().unwrap().0.authority, "b.test:80");
    let differs = request(|b| b.header("host", "b.test"));
    assert_eq!(differs.malformed(), "`:authority` and `host` differ");
    let two = request(|b| b.header("host", "a.test").header("host", "a.test"));
    assert_eq!(two.malformed(), "more than one `host`");
    assert_eq!(request(|b| b.uri("/x")).malformed(), "neither `:authority` nor `host`");
    let user = request(|b| b.uri("http://user@a.test/"));
    assert_eq!(user.malformed(), "the authority is not a host and a port");
}

#[test]
fn a_path_is_in_origin_form_or_an_asterisk() {
    let star = request(|b| b.method("OPTIONS").uri("*").header("host", "a.test"));
    assert_eq!(star.read().unwrap().0.target, "*");
    let star_get = request(|b| b.uri("*").header("host", "a.test"));
    assert_eq!(star_get.malformed(), "the path is not in origin form");
    let high = request(|b| b.uri("/é").header("host", "a.test"));
    assert_eq!(high.malformed(), "the path is not in origin form");
}

#[test]
fn connect_and_odd_schemes_are_refused() {
    let connect = request(|b| b.method("CONNECT"));
    assert_eq!(connect.read().unwrap_err(), HeadError::Connect);
    let scheme = request(|b| b.uri("ftp://a.test/"));
    assert_eq!(scheme.malformed(), "the scheme is not `http` or `https`");
}

#[test]
fn cookie_crumbs_are_joined() {
    let case = request(|b| {
        b.header("cookie", "a=1").header("x", "y").header("cookie", "b=2").header("cookie", "c=3")
    });
    assert_eq!(lines(&case.read().unwrap().0.fields), ["cookie: a=1; b=2; c=3", "x: y"]);
    let one = request(|b| b.header("cookie", "a=1"));
    assert_eq!(lines(&one.read().unwrap().0.fields), ["cookie: a=1"]);
}

#[test]
fn expectations_are_understood_or_refused() {
    let expects = |value: &str| request(|b| b.header("expect", value));
    assert!(expects("100-Continue").with_body().read().unwrap().0.expects_continue);
    assert!(!expects("100-continue").read().unwrap().0.expects_continue);
    let empty = request(|b| b.header("expect", "100-continue").header("content-length", "0"));
    assert!(!empty.with_body().read().unwrap().0.expects_continue);
    assert_eq!(expects("200-ok").read().unwrap_err(), HeadError::Expectation);
}

#[test]
fn a_content_length_is_one_number() {
    for bad in ["", "+1", "1,1", "0x1", "12345678901234567890"] {
        let case = request(|b| b.header("content-length", bad)).with_body();
        assert_eq!(case.malformed(), "`content-length` is not a number", "{bad}");
    }
    let twice = request(|b| b.header("content-length", "1").header("content-length", "1"));
    assert_eq!(twice.malformed(), "more than one `content-length`");
    let large = request(|b| b.header("content-length", "9999999999999999999")).with_body();
    assert_eq!(large.read().unwrap().1, BodyLength::Exact(9_999_999_999_999_999_999));
}

#[test]
fn blanks_around_a_value_are_malformed() {
    for bad in [" a", "a\t", " "] {
        let case = request(|b| b.header("x", bad));
        assert_eq!(case.malformed(), "a field value begins or ends with a blank");
    }
    assert!(request(|b| b.header("x", "")).read().is_ok());
}

#[test]
fn fields_and_target_have_limits() {
    let limits = Http2Limits { fields: 3, target_bytes: 5, ..Http2Limits::default() };
    let with_fields = |count: usize| {
        request(|b| (0..count).fold(b, |b, n| b.header(format!("x-{}", n % 2), "v")))
            .read_within(&Http2Limits { target_bytes: 8192, ..limits.clone() })
            .map(|_| ())
    };
    assert_eq!(with_fields(2), Ok(()));
    assert_eq!(with_fields(3), Ok(()));
    assert_eq!(with_fields(4), Err(HeadError::TooManyFields));
    let with_target = |target: &str| {
        request(|b| b.uri(format!("http://a.test{target}"))).read_within(&limits).map(|_| ())
    };
    assert_eq!(with_target("/ab?"), Ok(()));
    assert_eq!(with_target("/ab?c"), Ok(()));
    assert_eq!(with_target("/ab?cd"), Err(HeadError::TargetTooLong));
}

#[test]
fn every_head_error_has_its_status() {
    let statuses = [
        (HeadError::Malformed(""), 400),
        (HeadError::TooLarge, 431),
        (HeadError::TooManyFields, 431),
        (HeadError::TargetTooLong, 414),
        (HeadError::Expectation, 417),
        (HeadError::Connect, 501),
    ];
    for (error, status) in statuses {
        assert_eq!(error.status(), status, "{error}");
    }
}

fn response(
    status: u16,
    content_length: Option<&str>,
    method: Method,
    ended: bool,
) -> Result<ResponseFraming, HeadError> {
    let mut builder = http::Response::builder().status(status).header("x", "y");
    if let Some(length) = content_length {
        builder = builder.header("content-length", length);
    }
    let parts = builder.body(()).unwrap().into_parts().0;
    let mut head = ResponseHead::default();
    let framing = read_response(&parts, &method, ended, &mut head, &Http2Limits::default())?;
    assert_eq!(head.status, status);
    assert_eq!(lines(&head.fields), ["x: y"]);
    Ok(framing)
}

#[test]
fn the_framing_of_a_response_follows_status_and_method() {
    let framing = |body, content_length| Ok(ResponseFraming { body, content_length });
    let get = || Method::GET;
    assert_eq!(response(200, None, get(), false), framing(BodyLength::Unknown, None));
    assert_eq!(response(200, None, get(), true), framing(BodyLength::Exact(0), None));
    assert_eq!(response(200, Some("7"), get(), false), framing(BodyLength::Exact(7), Some(7)));
    assert_eq!(response(200, Some("7"), Method::HEAD, true), framing(BodyLength::None, Some(7)));
    assert_eq!(response(304, Some("7"), get(), true), framing(BodyLength::None, Some(7)));
    assert_eq!(response(204, None, get(), true), framing(BodyLength::None, None));
    assert_eq!(response(103, None, get(), false), framing(BodyLength::None, None));
    assert!(matches!(response(101, None, get(), false), Err(HeadError::Malformed(_))));
    assert!(matches!(response(600, None, get(), false), Err(HeadError::Malformed(_))));
}

#[test]
fn trailers_have_limits_and_never_frame() {
    let limits = TrailerLimits { bytes: 20, fields: 2 };
    let read = |lines: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        read_trailers(&map, limits).map(|fields| super::tests::lines(&fields))
    };
    // Name, value and four bytes make 19, 20 and 21.
    assert!(read(&[("grpc-status", "0000")]).is_ok());
    assert!(read(&[("grpc-status", "00000")]).is_ok());
    assert_eq!(read(&[("grpc-status", "000000")]), Err("trailer_bytes"));
    assert!(read(&[("a", "1")]).is_ok());
    assert!(read(&[("a", "1"), ("a", "2")]).is_ok());
    assert_eq!(read(&[("a", "1"), ("a", "2"), ("b", "3")]), Err("trailer_fields"));
    assert_eq!(read(&[("host", "x"), ("content-length", "1")]), Ok(vec![]));
}

#[test]
fn a_request_is_written() {
    let mut head = RequestHead { scheme: Scheme::Https, ..RequestHead::default() };
    head.authority.push_str("a.test:1");
    head.target.push_str("/x?y");
    head.accepts_trailers = true;
    head.expects_continue = true;
    head.fields.append(Name::known("x-one"), b"1");
    let request = write_request(&head, BodyLength::Exact(5)).unwrap();
    assert_eq!(request.uri().to_string(), "https://a.test:1/x?y");
    assert_eq!(request.version(), http::Version::HTTP_2);
    let headers = request.headers();
    assert_eq!(headers.len(), 4);
    assert_eq!(headers["x-one"], "1");
    assert_eq!(headers["content-length"], "5");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["expect"], "100-continue");
}

#[test]
fn a_request_without_authority_can_be_written() {
    let mut head = RequestHead { method: Method::OPTIONS, ..RequestHead::default() };
    head.target.push('*');
    let request = write_request(&head, BodyLength::None).unwrap();
    assert_eq!(request.uri().path(), "*");
    assert!(request.uri().authority().is_none());
    assert!(request.headers().is_empty());
}

#[test]
fn what_cannot_be_written_is_named() {
    let mut head = RequestHead::default();
    head.target.push_str("/a b");
    assert_eq!(write_request(&head, BodyLength::None).unwrap_err(), "target");
    head.target.replace_range(.., "/");
    head.authority.push_str("a b");
    assert_eq!(write_request(&head, BodyLength::None).unwrap_err(), "authority");
    head.authority.clear();
    head.fields.append(Name::known("x"), b"a\nb");
    let error = SendError::Head(write_request(&head, BodyLength::None).unwrap_err());
    assert_eq!(error.to_string(), "the head cannot be sent: field value");
    let none = Fields::default();
    for status in [99, 101, 600] {
        assert_eq!(write_response(status, &none, BodyLength::None).unwrap_err(), "status");
    }
    assert_eq!(write_response(599, &none, BodyLength::None).unwrap().status(), 599);
}
