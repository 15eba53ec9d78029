//! Requests for hosts that no route names get 404, or go to the host itself where the listener says
//! so.

use pillion_tests::client::full;
use pillion_tests::{Origin, Protocol, Sidecar};

const FILE: &str = r#"
[admin]
address = "127.0.0.1:0"

[[listener]]
name = "outbound"
address = "127.0.0.1:0"
@PASS@
route = [{ match = { host = "named.test", path_prefix = "/api" }, upstream = "app" }]

[upstream.app]
endpoints = ["@APP@"]
"#;

async fn sidecar(app: &Origin, pass: &str) -> Sidecar {
    Sidecar::with(&FILE.replace("@PASS@", pass)).origin(app).start().await
}

/// The answer's status, the error that it names, and its body.
async fn ask(sidecar: &Sidecar, target: &str, host: &str) -> (u16, String, String) {
    let mut wire = sidecar.wire().await;
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let answer = wire.response().await;
    let error = answer.head.field("proxy-status").unwrap_or_default().to_owned();
    (answer.status(), error, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn an_unknown_host_gets_what_the_listener_says() {
    let app = Origin::serve(|_| async { http::Response::new(full("app")) }).await;
    let other = Origin::echo().await;
    let host = other.address.to_string();

    let refusing = sidecar(&app, "").await;
    assert_eq!(ask(&refusing, "/", &host).await.0, 404);

    let careful = sidecar(&app, "pass = {}").await;
    let (status, error, _) = ask(&careful, "/", &host).await;
    assert_eq!((status, &*error), (502, "pillion; error=destination_ip_prohibited"));

    let passing = sidecar(&app, "pass = { allow_private = true }").await;
    // By `host`, by an absolute target as a forward proxy gets it, and by a name.
    let name = format!("localhost:{}", other.address.port());
    for (target, host) in [
        ("/by/host".to_owned(), &*host),
        (format!("http://{host}/absolute"), "ignored.test"),
        ("/by/name".to_owned(), &*name),
    ] {
        let (status, _, body) = ask(&passing, &target, host).await;
        assert_eq!(status, 200, "{target}: {body}");
        assert!(body.contains("/by/") || body.contains("\"/absolute\""), "{body}");
    }
    assert_eq!(other.requests(), 3);

    // A host that a route names is that route's alone.
    assert_eq!(ask(&passing, "/api/x", "named.test").await.2, "app");
    assert_eq!(ask(&passing, "/else", "named.test").await.0, 404);
    // What was to be secret is not sent in plain text.
    assert_eq!(ask(&passing, &format!("https://{host}/"), "ignored.test").await.0, 404);
    assert_eq!(other.requests(), 3);

    let (status, error, _) = ask(&passing, "/", "no-such-name.invalid").await;
    assert!(
        matches!(
            (status, &*error),
            (502, "pillion; error=dns_error") | (504, "pillion; error=dns_timeout")
        ),
        "{status} {error}"
    );
}

const ANYWHERE: &str = "pass = { allow_private = true }";

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_told_apart_from_one_that_is_not_there() {
    let app = Origin::echo().await;
    let sidecar = sidecar(&app, ANYWHERE).await;
    let refusing = Origin::refusing().await;
    let (status, error, _) = ask(&sidecar, "/", &refusing.to_string()).await;
    assert_eq!((status, &*error), (502, "pillion; error=connection_refused"));
    let (black_hole, full) = Origin::unreachable().await;
    let (status, error, _) = ask(&sidecar, "/", &black_hole.to_string()).await;
    assert_eq!((status, &*error), (504, "pillion; error=connection_timeout"));
    drop(full);
    let failures = "pillion_upstream_failures_total";
    for error in ["error=\"connection_refused\"", "error=\"connection_timeout\""] {
        sidecar.metric_is(failures, &["outbound/pass", error], |count| count == 1.0).await;
    }
    // Names that no resolver is asked for, or has.
    for host in ["no-such-name.invalid", "no-such-name.invalid:8080", "1.2.3.4.5.invalid"] {
        let (status, error, _) = ask(&sidecar, "/", host).await;
        let known = ["pillion; error=dns_error", "pillion; error=dns_timeout"];
        assert!(matches!(status, 502 | 504) && known.contains(&&*error), "{status} {error}");
    }
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn an_authority_is_read_as_a_host_and_a_port_or_not_at_all() {
    let app = Origin::echo().await;
    let other = Origin::echo().await;
    let sidecar = sidecar(&app, ANYWHERE).await;
    let port = other.address.port();
    for host in
        [format!("127.0.0.1:{port}"), format!("LocalHost:{port}"), format!("127.0.0.1:0{port}")]
    {
        let (status, error, body) = ask(&sidecar, "/", &host).await;
        assert_eq!(status, 200, "{host}: {error} {body}");
    }
    let served = other.requests();
    for (host, status) in [
        ("127.0.0.1:0", 404),
        ("127.0.0.1:65536", 400),
        ("127.0.0.1:99999999999999999999", 400),
        ("127.0.0.1:-1", 400),
        ("127.0.0.1:http", 400),
        ("127.0.0.1:80:80", 400),
        ("[::1", 400),
        ("::1", 400),
        ("[::1]x", 400),
        ("[]:80", 400),
        (":80", 400),
        ("a b", 400),
    ] {
        assert_eq!(ask(&sidecar, "/", host).await.0, status, "{host}");
    }
    assert_eq!((app.requests(), other.requests()), (0, served));
}

#[tokio::test]
async fn an_address_of_ipv6_is_reached_by_its_literal() {
    let app = Origin::echo().await;
    let other = Origin::echo_at((std::net::Ipv6Addr::LOCALHOST, 0).into()).await;
    let passing = sidecar(&app, ANYWHERE).await;
    let host = format!("[::1]:{}", other.address.port());
    for (target, host) in [("/", &*host), (&format!("http://{host}/"), "ignored.test")] {
        let (status, error, body) = ask(&passing, target, host).await;
        assert_eq!(status, 200, "{target}: {error} {body}");
        assert!(body.contains("[::1]:"), "{body}");
    }
    let careful = sidecar(&app, "pass = {}").await;
    let mapped = format!("[::ffff:127.0.0.1]:{}", app.address.port());
    for host in [&*host, &*mapped] {
        let (status, error, _) = ask(&careful, "/", host).await;
        assert_eq!((status, &*error), (502, "pillion; error=destination_ip_prohibited"), "{host}");
    }
    assert_eq!((app.requests(), other.requests()), (0, 2));
}

#[tokio::test]
async fn what_comes_in_http2_goes_on_in_http1() {
    let app = Origin::echo().await;
    let other = Origin::echo().await;
    let sidecar = sidecar(&app, ANYWHERE).await;
    let mut client = sidecar.connect(Protocol::Http2).await;
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("http://{}/calls?a=b", other.address))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(full("call"));
    let seen = client.fetch(request.expect("the request is valid")).await.seen();
    assert_eq!((&*seen.version, &*seen.target, &*seen.body), ("HTTP/1.1", "/calls?a=b", "call"));
    assert_eq!(seen.authority, other.address.to_string());
}

/// The documented number of sidecars that a request may have come through.
const HOPS_MAX: f64 = 8.0;

#[tokio::test]
async fn a_listener_that_is_asked_for_itself_stops_going_in_circles() {
    let app = Origin::echo().await;
    let first = sidecar(&app, ANYWHERE).await;
    let itself = first.address();
    let name = format!("localhost:{}", itself.port());
    let mut came = 0.0;
    for host in [itself.to_string(), name] {
        let (status, error, _) = ask(&first, "/", &host).await;
        assert_eq!((status, &*error), (502, "pillion; error=proxy_loop_detected"), "{host}");
        // As often as it may, and once more to find out.
        came += HOPS_MAX + 1.0;
        first.metric_is("pillion_requests_total", &[], |requests| requests == came).await;
    }
    // Round about through another one.
    let second = sidecar(&app, ANYWHERE).await;
    let (status, error, _) = ask(&second, "/", &itself.to_string()).await;
    assert_eq!((status, &*error), (502, "pillion; error=proxy_loop_detected"));
    for sidecar in [&first, &second] {
        sidecar.metric_is("pillion_requests_active", &[], |now| now == 0.0).await;
    }
    assert_eq!(app.requests(), 0);
}
