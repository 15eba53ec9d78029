//! Requests for hosts that no route names get 404, or go to the host itself where the listener says
//! so.

use pillion_tests::client::full;
use pillion_tests::{Origin, Sidecar};

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

#[tokio::test]
async fn a_listener_that_is_asked_for_itself_stops_going_in_circles() {
    let app = Origin::echo().await;
    let sidecar = sidecar(&app, "pass = { allow_private = true }").await;
    let itself = sidecar.address().to_string();
    let (status, error, _) = ask(&sidecar, "/", &itself).await;
    assert_eq!((status, &*error), (502, "pillion; error=proxy_loop_detected"));
}
