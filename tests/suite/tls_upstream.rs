//! Upstreams that speak TLS: whom they believe, what they show, what is spoken, what a failure looks
//! like, and what two sidecars say to each other.

use pillion_tests::authority::Order;
use pillion_tests::peer::{Peer, python_with, run};
use pillion_tests::sidecar::Setup;
use pillion_tests::tls::{Front, Goodbye};
use pillion_tests::wire::Ending;
use pillion_tests::{Authority, BodyExt, Client, Issued, Origin, Protocol, Sidecar, within};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Name of the endpoint in its certificate.
const NAME: &str = "app.test";
pub(crate) const APP: &str = "spiffe://example.test/ns/shop/sa/app";
pub(crate) const WEB: &str = "spiffe://example.test/ns/shop/sa/web";

/// A sidecar whose upstream speaks TLS and believes `authority`.
fn to(address: SocketAddr, authority: &Authority, keys: &str) -> Setup {
    Sidecar::new()
        .endpoint(address)
        .file("ca.crt", &authority.pem)
        .upstream(&format!("tls = {{ ca = \"ca.crt\", {keys} }}"))
}

fn by_name() -> String {
    format!("server_name = \"{NAME}\"")
}

async fn front(origin: &Origin, identity: &Issued, alpn: &[&str]) -> Front {
    Front::before(origin.address, identity, None, alpn, Goodbye::Said).await
}

#[tokio::test]
async fn an_endpoint_is_spoken_to_in_what_it_chooses() {
    let authority = Authority::new("servers");
    let issued = authority.issue(&[NAME]);
    let origin = Origin::echo().await;
    for (protocol, alpn, expected) in [
        ("http1", &["http/1.1"][..], "HTTP/1.1"),
        ("http1", &[], "HTTP/1.1"),
        ("h2", &["h2"], "HTTP/2.0"),
        ("auto", &["h2", "http/1.1"], "HTTP/2.0"),
        ("auto", &["http/1.1"], "HTTP/1.1"),
        ("auto", &[], "HTTP/1.1"),
    ] {
        let front = front(&origin, &issued, alpn).await;
        let setup = to(front.address, &authority, &by_name()).runtime("workers = 1");
        let setup = setup.upstream(&format!("protocol = \"{protocol}\""));
        let sidecar = setup.start().await;
        let mut client = sidecar.connect(Protocol::Http1).await;
        for _ in 0..3 {
            let seen = client.post("/", vec![b'x'; 100_000]).await.seen();
            assert_eq!(
                (&*seen.version, seen.body_bytes),
                (expected, 100_000),
                "{protocol} {alpn:?}"
            );
        }
        assert_eq!(front.handshakes(), 1, "{protocol} {alpn:?}: the connection is kept");
        let labels = ["upstream=\"app\"", "result=\"ok\"", "version=\"1.3\""];
        assert_eq!(sidecar.metric("pillion_upstream_tls_handshakes_total", &labels).await, 1.0);
    }
}

#[tokio::test]
async fn an_endpoint_known_by_its_address_needs_a_certificate_for_it() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    for (name, status) in [("127.0.0.1", 200), ("127.0.0.2", 502), (NAME, 502)] {
        let front = front(&origin, &authority.issue(&[name]), &[]).await;
        let sidecar = to(front.address, &authority, "").start().await;
        assert_eq!(sidecar.get("/").await.status, status, "{name}");
    }
}

#[tokio::test]
async fn a_session_with_an_endpoint_is_resumed() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let front = front(&origin, &authority.issue(&[NAME]), &["http/1.1"]).await;
    let setup = to(front.address, &authority, &by_name()).runtime("workers = 1");
    let sidecar = setup.upstream_limits("keepalive_connections = 0").start().await;
    for _ in 0..3 {
        assert_eq!(sidecar.get("/").await.status, 200);
    }
    let name = "pillion_upstream_tls_handshakes_total";
    assert_eq!(sidecar.metric(name, &["result=\"ok\""]).await, 1.0);
    assert_eq!(sidecar.metric(name, &["result=\"resumed\""]).await, 2.0);
}

#[tokio::test]
async fn an_endpoint_that_is_not_believed_gets_no_request() {
    let (authority, other) = (Authority::new("servers"), Authority::new("others"));
    let origin = Origin::echo().await;
    let revoked = authority.issue(&[NAME, APP]);
    let by_sans = format!("verify_sans = [\"{APP}\"], crl = \"ca.crl\"");
    let by_name = format!("{}, crl = \"ca.crl\"", by_name());
    for (identity, result) in [
        (authority.issue(&[NAME, APP]), "ok"),
        (authority.issue(&["other.test", WEB]), "wrong_name"),
        (other.issue(&[NAME, APP]), "unknown_ca"),
        (authority.fill(Order::names(&[NAME, APP]).expired()), "certificate_expired"),
        (authority.fill(Order::names(&[NAME, APP]).not_yet()), "certificate_expired"),
        (revoked.clone(), "certificate_revoked"),
    ] {
        for keys in [&by_name, &by_sans] {
            let front = front(&origin, &identity, &[]).await;
            let setup = to(front.address, &authority, keys);
            let setup = setup.file("ca.crl", authority.revoke(&[&revoked]));
            let sidecar = setup.start().await;
            let before = origin.requests();
            let reply = sidecar.get("/").await;
            let label = format!("result=\"{result}\"");
            let name = "pillion_upstream_tls_handshakes_total";
            assert_eq!(sidecar.metric(name, &[&label]).await, 1.0, "{keys} {result}");
            if result == "ok" {
                assert_eq!(reply.status, 200, "{keys}");
                continue;
            }
            assert_eq!(reply.status, 502, "{keys} {result}");
            assert_eq!(reply.header("proxy-status"), "pillion; error=tls_certificate_error");
            assert_eq!(reply.text(), "The upstream's certificate is not accepted.\n");
            assert_eq!(origin.requests(), before, "{keys} {result}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_our_certificate_says_so() {
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let origin = Origin::echo().await;
    let issued = authority.issue(&[NAME]);
    let front = Front::before(origin.address, &issued, Some(&clients), &[], Goodbye::Said).await;
    let shown = format!("{}, certificate = \"web.crt\", key = \"web.key\"", by_name());
    for (keys, identity, status) in [
        (by_name(), None, 502),
        (shown.clone(), Some(authority.issue(&[WEB])), 502),
        (shown, Some(clients.issue(&[WEB])), 200),
    ] {
        let mut setup = to(front.address, &authority, &keys);
        if let Some(identity) = identity {
            setup = setup.file("web.crt", &identity.certificate).file("web.key", &identity.key);
        }
        let sidecar = setup.start().await;
        let reply = sidecar.get("/").await;
        assert_eq!(reply.status, status);
        if status != 200 {
            assert_eq!(reply.header("proxy-status"), "pillion; error=tls_alert_received");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_or_nothing_is_an_upstream_that_failed() {
    let authority = Authority::new("servers");
    let plain = Origin::bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let garbage = Origin::script(|mut wire, _| async move {
        wire.send(b"SSH-2.0-nonsense\r\n").await;
        wire.rest().await;
    })
    .await;
    let closing = Origin::script(|_, _| async {}).await;
    let silent = Origin::silent().await;
    for (origin, status, word) in [
        (&plain, 504, "connection_timeout"),
        (&garbage, 502, "tls_protocol_error"),
        (&closing, 502, "connection_terminated"),
        (&silent, 504, "connection_timeout"),
    ] {
        let setup = to(origin.address, &authority, &by_name());
        let sidecar = setup.upstream_limits("handshake_timeout = \"300ms\"").start().await;
        let reply = sidecar.get("/").await;
        let status_line = format!("pillion; error={word}");
        assert_eq!((reply.status, reply.header("proxy-status")), (status, &*status_line));
    }
}

#[tokio::test]
async fn an_endpoint_without_http2_is_none_where_it_is_needed() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    for alpn in [&["http/1.1"][..], &[]] {
        let front = front(&origin, &authority.issue(&[NAME]), alpn).await;
        let setup = to(front.address, &authority, &by_name()).upstream("protocol = \"h2\"");
        let reply = setup.start().await.get("/").await;
        assert_eq!(reply.status, 502, "{alpn:?}");
        let word = reply.header("proxy-status").trim_start_matches("pillion; error=").to_owned();
        assert!(matches!(&*word, "tls_protocol_error" | "tls_alert_received"), "{word}");
    }
}

#[tokio::test]
async fn an_answer_without_length_is_whole_only_with_a_goodbye() {
    let authority = Authority::new("servers");
    let issued = authority.issue(&[NAME]);
    let origin = Origin::bytes("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    for (goodbye, whole) in [(Goodbye::Said, true), (Goodbye::Missing, false)] {
        let front = Front::before(origin.address, &issued, None, &[], goodbye).await;
        let sidecar = to(front.address, &authority, &by_name()).start().await;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut client = sidecar.connect(protocol).await;
            let request = client.request(http::Method::GET, "/");
            let request = request.body(pillion_tests::client::empty()).unwrap();
            let is_whole = match client.send(request).await {
                Ok(response) => within("the end", response.into_body().collect()).await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(is_whole, whole, "{goodbye:?} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn connections_are_not_shared_by_upstreams_that_believe_others() {
    let authority = Authority::new("servers");
    let issued = authority.issue(&[NAME, APP]);
    let origin = Origin::echo().await;
    let front = front(&origin, &issued, &[]).await;
    let address = front.address;
    let more = format!(
        "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\nroute = [{{ upstream = \"other\" }}]\n\
         [upstream.other]\nendpoints = [\"{address}\"]\n\
         tls = {{ ca = \"ca.crt\", verify_sans = [\"{WEB}\"] }}\n"
    );
    let setup = to(address, &authority, &by_name()).tables(&more).runtime("workers = 1");
    let sidecar = setup.start().await;
    assert_eq!(sidecar.get("/").await.status, 200);
    let mut other = Client::connect(sidecar.listener("second"), Protocol::Http1).await;
    assert_eq!(
        other.get("/").await.status,
        502,
        "the connection of `app` is there, and not for it"
    );
}

/// Carries bytes to `address`, and keeps a copy of them.
async fn tap(address: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
    let here = listener.local_addr().expect("a bound socket has an address");
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(address).await.expect("the sidecar listens");
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            for (mut from, mut to) in [(near_read, far_write), (far_read, near_write)] {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 16 * 1024];
                    while let Ok(read @ 1..) = from.read(&mut bytes).await {
                        kept.lock()
                            .expect("nothing panics there")
                            .extend_from_slice(&bytes[..read]);
                        if to.write_all(&bytes[..read]).await.is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown().await;
                });
            }
        }
    });
    (here, seen)
}

/// A sidecar that stands before `app` in the mesh, and lets only [`WEB`] in.
pub(crate) fn inbound(authority: &Authority, app: &Issued) -> Setup {
    let table = "[listener.tls]\ncertificates = [{ certificate = \"app.crt\", key = \"app.key\" }]\n\
                 client_auth = \"required\"\nclient_ca = \"ca.crt\"\n";
    Sidecar::new()
        .listener(&format!("{table}client_allow = [\"{WEB}\"]"))
        .file("app.crt", &app.certificate)
        .file("app.key", &app.key)
        .file("ca.crt", &authority.pem)
}

/// A sidecar that [`WEB`] reaches the one at `address` through.
pub(crate) fn outbound(
    authority: &Authority,
    web: &Issued,
    address: SocketAddr,
    protocol: &str,
) -> Setup {
    let keys = format!("verify_sans = [\"{APP}\"], certificate = \"web.crt\", key = \"web.key\"");
    to(address, authority, &keys)
        .upstream(&format!("protocol = \"{protocol}\""))
        .file("web.crt", &web.certificate)
        .file("web.key", &web.key)
}

#[tokio::test]
async fn between_two_sidecars_everything_is_sealed_and_both_are_known() {
    let authority = Authority::new("mesh");
    let (web, app) = (authority.issue(&[WEB]), authority.issue(&[APP]));
    let origin = Origin::echo().await;
    let inner = inbound(&authority, &app).origin(&origin).tables("[access_log]").start().await;
    let (between, captured) = tap(inner.address()).await;
    for protocol in ["http1", "h2", "auto"] {
        let outer = outbound(&authority, &web, between, protocol).start().await;
        let reply = outer.get_with("/secret-path", &[("x-secret", "s3cr3t")]).await;
        assert_eq!(reply.status, 200, "{protocol}");
        let seen = reply.seen();
        let client = seen.header("x-forwarded-client-cert").unwrap_or_default().to_owned();
        assert!(client.starts_with(&format!("By={APP};Hash=")), "{client}");
        assert!(client.contains(&format!("URI={WEB}")), "{client}");
        let line = inner.output.line(&format!("\"peer\":\"{WEB}\"")).await;
        assert!(line.contains("\"path\":\"/secret-path\""), "{line}");
    }
    let bytes = captured.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes);
    assert!(bytes.len() > 1000);
    for word in ["HTTP", "secret", "s3cr3t", "GET", "PRI *", "x-forwarded", NAME, "spiffe"] {
        assert!(!text.contains(word), "`{word}` was on the wire");
    }
}

#[tokio::test]
async fn an_upgraded_connection_passes_between_sidecars_and_ends_in_order() {
    let authority = Authority::new("mesh");
    let (web, app) = (authority.issue(&[WEB]), authority.issue(&[APP]));
    let origin = crate::upgrade::echoing().await;
    let inner = inbound(&authority, &app).origin(&origin).start().await;
    let outer = outbound(&authority, &web, inner.address(), "http1").start().await;
    let mut wire = outer.wire().await;
    crate::upgrade::switch(&mut wire).await;
    for text in ["ping", "\0\r\n\u{7f}", "pong"] {
        wire.send(text).await;
        assert_eq!(wire.exactly(4).await, text.as_bytes());
    }
    wire.finish().await;
    assert_eq!(wire.ended().await, Ending::Closed);
}

#[tokio::test]
async fn grpc_passes_between_sidecars() {
    let Some(python) = python_with("grpc") else { return };
    let authority = Authority::new("mesh");
    let (web, app) = (authority.issue(&[WEB]), authority.issue(&[APP]));
    let server = Peer::python(&python, "grpc_server.py").await;
    let inner = inbound(&authority, &app).endpoint(server.address).h2c().start().await;
    let outer = outbound(&authority, &web, inner.address(), "h2").start().await;
    let mut command = std::process::Command::new(&python);
    command.arg(pillion_tests::process::repository().join("tests/peers/grpc_client.py"));
    command.arg(outer.address().to_string()).env("no_proxy", "*").env("no_grpc_proxy", "*");
    let (code, text, error) = run(command).await;
    assert_eq!((code, text.as_str()), (0, "unary ok\nchat ok\nfailure ok\n"), "{error}");
}
