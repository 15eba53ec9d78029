//! Listeners that speak TLS: what clients agree on, who is let in, what the app hears of them, and what
//! becomes of those who do not speak it.

use pillion_tests::authority::Order;
use pillion_tests::process::sockets;
use pillion_tests::tls::Connector;
use pillion_tests::wire::Ending;
use pillion_tests::{Authority, Issued, Origin, Protocol, Sidecar, until, within};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The listener's name in its certificate.
const NAME: &str = "app.test";
/// A workload that is welcome.
const WEB: &str = "spiffe://example.test/ns/shop/sa/web";

/// A sidecar whose listener speaks TLS with a certificate of `authority`; `keys` are further ones of
/// its table.
fn secured(authority: &Authority, keys: &str) -> pillion_tests::sidecar::Setup {
    let issued = authority.issue(&[NAME, "spiffe://example.test/ns/shop/sa/app"]);
    let pair = "{ certificate = \"tls.crt\", key = \"tls.key\" }";
    Sidecar::new()
        .listener(&format!("[listener.tls]\ncertificates = [{pair}]\n{keys}"))
        .file("tls.crt", &issued.certificate)
        .file("tls.key", &issued.key)
        .file("clients.crt", &authority.pem)
}

fn required(more: &str) -> String {
    format!("client_auth = \"required\"\nclient_ca = \"clients.crt\"\n{more}")
}

/// What becomes of a client that shows `identity`: the status of its answer, if it gets one.
async fn attempt(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Issued>,
) -> Option<u16> {
    let connector = Connector::new(authority, NAME, identity, &["http/1.1"]);
    // In TLS 1.3 the client hears of a refusal only when it reads.
    let stream = connector.stream(address).await.ok()?;
    let mut client = pillion_tests::Client::over(stream, Protocol::Http1).await;
    let request = client.request(http::Method::GET, "/").body(pillion_tests::client::empty());
    client.try_fetch(request.expect("the request is valid")).await.ok().map(|reply| reply.status)
}

#[tokio::test]
async fn both_protocols_are_spoken_over_tls_as_agreed() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    for (offer, version) in [
        (&["h2", "http/1.1"][..], http::Version::HTTP_2),
        (&["http/1.1"], http::Version::HTTP_11),
        (&["h2"], http::Version::HTTP_2),
        (&[], http::Version::HTTP_11),
    ] {
        let connector = Connector::new(&authority, NAME, None, offer);
        let mut client = connector.connect(sidecar.address()).await;
        for _ in 0..3 {
            let reply = client.post("/a", vec![b'x'; 100_000]).await;
            assert_eq!((reply.status, reply.version), (200, version), "{offer:?}");
            let seen = reply.seen();
            assert_eq!(seen.body_bytes, 100_000);
            assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
            assert_eq!(seen.header("x-forwarded-client-cert"), None);
        }
    }
    let ok = ["result=\"ok\"", "version=\"1.3\"", "listener=\"inbound\""];
    assert_eq!(sidecar.metric("pillion_downstream_tls_handshakes_total", &ok).await, 4.0);
}

#[tokio::test]
async fn large_bodies_pass_both_ways_whole() {
    let authority = Authority::new("servers");
    let body: Vec<u8> = (0..5_000_003_u32).map(|number| (number % 251) as u8).collect();
    let answer = bytes::Bytes::from(body.clone());
    let origin = Origin::serve(move |request| {
        let answer = answer.clone();
        async move {
            use pillion_tests::BodyExt;
            let got = request.into_body().collect().await.expect("a whole body").to_bytes();
            assert!(got == answer, "the upload differs");
            http::Response::new(pillion_tests::client::full(answer))
        }
    })
    .await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    for offer in ["h2", "http/1.1"] {
        let connector = Connector::new(&authority, NAME, None, &[offer]);
        let reply = connector.connect(sidecar.address()).await.post("/", body.clone()).await;
        assert!(reply.body == body, "{offer}: the download differs");
    }
}

#[tokio::test]
async fn the_name_that_is_asked_for_decides_which_certificate_is_shown() {
    let authority = Authority::new("servers");
    let names = [(NAME, "a"), ("*.example.test", "b"), ("api.example.test", "c")];
    let origin = Origin::echo().await;
    let mut setup = Sidecar::new().origin(&origin);
    let mut pairs = String::new();
    for (name, file) in names {
        let issued = authority.issue(&[name]);
        setup = setup.file(&format!("{file}.crt"), &issued.certificate);
        setup = setup.file(&format!("{file}.key"), &issued.key);
        pairs.push_str(&format!("{{ certificate = \"{file}.crt\", key = \"{file}.key\" }}, "));
    }
    let sidecar = setup.listener(&format!("tls = {{ certificates = [{pairs}] }}")).start().await;
    for (name, shown) in [
        (NAME, NAME),
        ("www.example.test", "*.example.test"),
        ("api.example.test", "api.example.test"),
    ] {
        let connector = Connector::new(&authority, name, None, &[]);
        // The client verifies the name, so that a wrong certificate fails here.
        let stream = connector.stream(sidecar.address()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{name}: {error}"));
        let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
        let text = String::from_utf8_lossy(certificate).into_owned();
        assert!(text.contains(shown), "{name}");
    }
    let stranger = Connector::new(&authority, "other.test", None, &[]);
    let error = stranger.stream(sidecar.address()).await.unwrap_err().to_string();
    assert!(error.contains(NAME), "the first certificate is shown: {error}");
}

#[tokio::test]
async fn only_clients_with_a_good_certificate_are_let_in() {
    let authority = Authority::new("everybody");
    let other = Authority::new("others");
    let (good, revoked) = (authority.issue(&[WEB]), authority.issue(&[WEB]));
    let origin = Origin::echo().await;
    let keys = required(
        "crl = \"clients.crl\"\nclient_allow = [\"spiffe://example.test/ns/shop/sa/*\", \
         \"dns:client.test\"]\n",
    );
    let setup = secured(&authority, &keys).origin(&origin);
    let sidecar = setup.file("clients.crl", authority.revoke(&[&revoked])).start().await;
    let address = sidecar.address();
    for (identity, result) in [
        (Some(&good), "ok"),
        (Some(&authority.issue(&["client.test"])), "ok"),
        (None, "no_certificate"),
        (Some(&revoked), "certificate_revoked"),
        (Some(&authority.fill(Order::names(&[WEB]).expired())), "certificate_expired"),
        (Some(&authority.fill(Order::names(&[WEB]).not_yet())), "certificate_expired"),
        (Some(&authority.issue(&["spiffe://example.test/ns/bank/sa/web"])), "wrong_name"),
        (Some(&other.issue(&[WEB])), "unknown_ca"),
    ] {
        let label = format!("result=\"{result}\"");
        let name = "pillion_downstream_tls_handshakes_total";
        let before = sidecar.metric(name, &[&label]).await;
        let status = attempt(address, &authority, identity).await;
        assert_eq!(status, (result == "ok").then_some(200), "{result}");
        sidecar.metric_is(name, &[&label], |now| now == before + 1.0).await;
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn a_client_may_come_without_a_certificate_where_it_is_optional() {
    let authority = Authority::new("everybody");
    let origin = Origin::echo().await;
    let keys = "client_auth = \"optional\"\nclient_ca = \"clients.crt\"";
    let setup = secured(&authority, keys).origin(&origin).route("match = { method = \"GET\" }");
    let sidecar = setup.start().await;
    let web = authority.issue(&[WEB]);
    let expired = authority.fill(Order::names(&[WEB]).expired());
    for (identity, expected) in [(None, Some(200)), (Some(&web), Some(200)), (Some(&expired), None)]
    {
        assert_eq!(attempt(sidecar.address(), &authority, identity).await, expected);
    }
}

#[tokio::test]
async fn who_the_client_is_reaches_app_routes_and_access_log() {
    let authority = Authority::new("everybody");
    let origin = Origin::echo().await;
    let keys = "client_auth = \"optional\"\nclient_ca = \"clients.crt\"";
    let setup = secured(&authority, keys).origin(&origin);
    let setup = setup.route("match = { peer = \"spiffe://example.test/ns/shop/sa/*\" }");
    let sidecar = setup.tables("[access_log]").start().await;
    let web = authority.issue(&[WEB, "web.test"]);
    for offer in ["h2", "http/1.1"] {
        let connector = Connector::new(&authority, NAME, Some(&web), &[offer]);
        let mut client = connector.connect(sidecar.address()).await;
        let request = client
            .request(http::Method::GET, "/")
            .header(
                "x-forwarded-client-cert",
                "Hash=forged;URI=spiffe://example.test/ns/shop/sa/root",
            )
            .header("x_forwarded_client_cert", "Hash=forged")
            .body(pillion_tests::client::empty());
        let seen = client.fetch(request.unwrap()).await.seen();
        let [value] = seen.all("x-forwarded-client-cert")[..] else { panic!("{seen:?}") };
        let (by, rest) = value.split_once(";Hash=").unwrap();
        assert_eq!(by, "By=spiffe://example.test/ns/shop/sa/app");
        let (hash, names) = rest.split_at(64);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        let expected = format!(";Subject=\"O=Tests\\\\, and more,CN=leaf\";URI={WEB};DNS=web.test");
        assert_eq!(names, expected);
        assert_eq!(seen.header("x_forwarded_client_cert"), None);

        let line = sidecar.output.line(&format!("\"peer\":\"{WEB}\"")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["peer"], &line["status"]), (&WEB.into(), &200.into()));
    }
    let mut nobody = Connector::new(&authority, NAME, None, &[]).connect(sidecar.address()).await;
    let request = nobody
        .request(http::Method::GET, "/")
        .header("x-forwarded-client-cert", format!("Hash=forged;URI={WEB}"))
        .body(pillion_tests::client::empty());
    assert_eq!(nobody.fetch(request.unwrap()).await.status, 404, "no route takes a nobody");
    let line = sidecar.output.line("\"peer\":null").await;
    assert!(line.contains("\"status\":404"), "{line}");
}

#[tokio::test]
async fn a_session_is_resumed_and_still_tells_who_the_client_is() {
    let authority = Authority::new("everybody");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, &required("")).origin(&origin).start().await;
    let connector = Connector::new(&authority, NAME, Some(&authority.issue(&[WEB])), &["http/1.1"]);
    let name = "pillion_downstream_tls_handshakes_total";
    for _ in 0..4 {
        let seen = connector.connect(sidecar.address()).await.get("/").await.seen();
        let value = seen.header("x-forwarded-client-cert").unwrap_or_default();
        assert!(value.contains(WEB), "{value}");
    }
    assert_eq!(sidecar.metric(name, &["result=\"ok\""]).await, 1.0);
    assert_eq!(sidecar.metric(name, &["result=\"resumed\""]).await, 3.0);
}

#[tokio::test]
async fn plain_http_is_told_that_the_port_speaks_tls() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    for request in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut wire = sidecar.wire().await;
        wire.send(request).await;
        let (bytes, ending) = wire.rest().await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nThis port speaks TLS: use https.\r\n"), "{text}");
        assert_eq!(ending, Ending::Closed);
    }
    let label = ["result=\"plain_http\""];
    sidecar.metric_is("pillion_downstream_tls_handshakes_total", &label, |n| n == 2.0).await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn garbage_and_cut_off_handshakes_end_with_their_connection() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    let hello = [&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 100]].concat();
    let huge = [&[22, 3, 1, 0xFF, 0xFF][..], &[0; 70_000]].concat();
    let name = "pillion_downstream_tls_handshakes_total";
    for (bytes, result) in [
        (&[0_u8; 500][..], "protocol"),
        (&[0x80, 0x2E, 1, 0, 2], "protocol"),
        (&[21, 3, 3, 0, 2, 2, 40], "alert"),
        (&huge, "protocol"),
        (&hello, "closed"),
        (&[22], "closed"),
        (&[], "closed"),
    ] {
        let label = format!("result=\"{result}\"");
        let before = sidecar.metric(name, &[&label]).await;
        let mut wire = sidecar.wire().await;
        wire.send(bytes).await;
        wire.finish().await;
        wire.rest().await;
        sidecar.metric_is(name, &[&label], |now| now == before + 1.0).await;
    }
    let connector = Connector::new(&authority, NAME, None, &[]);
    assert_eq!(connector.connect(sidecar.address()).await.get("/").await.status, 200);
}

/// A `client_hello` as a record: up to this version of TLS, with the suites of 1.2 and no extension but
/// these.
fn hello(minor: u8, extensions: &[u8]) -> Vec<u8> {
    let suites = [0, 4, 0xC0, 0x2B, 0xC0, 0x2F];
    let mut body = [&[3, minor][..], &[7; 32], &[0], &suites, &[1, 0]].concat();
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let length = body.len() as u8;
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn a_handshake_that_leads_nowhere_is_ended_with_the_alert_for_it() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    // `signature_algorithms` with ecdsa_secp256r1_sha256; `supported_groups` with x25519.
    let (signatures, groups) = ([0, 13, 0, 4, 0, 2, 4, 3], [0, 10, 0, 4, 0, 2, 0, 29]);
    let with_signatures = [signatures, groups].concat();
    // `supported_versions` with TLS 1.1 alone.
    let old_versions = [&with_signatures[..], &[0, 43, 0, 3, 2, 3, 2]].concat();
    for (name, bytes, alert) in [
        ("TLS 1.0", hello(1, &[]), 70),
        ("TLS 1.1", hello(2, &[]), 70),
        ("TLS 1.1 with extensions", hello(2, &with_signatures), 70),
        ("TLS 1.1 by the extension", hello(3, &old_versions), 70),
        // The version is fine, and what it lacks is another thing.
        ("TLS 1.2 without signatures", hello(3, &[]), 40),
        // What `rustls` takes for unreadable; by RFC 8446 section 5 the first is `unexpected_message`,
        // and the last `record_overflow`.
        ("zeros", vec![0; 500], 50),
        ("SSL 2", vec![0x80, 0x2E, 1, 0, 2], 50),
        ("an endless record", [&[22, 3, 1, 0xFF, 0xFF][..], &[0; 70_000]].concat(), 50),
        ("application data", vec![23, 3, 3, 0, 4, 1, 2, 3, 4], 10),
        ("another message", vec![22, 3, 1, 0, 4, 14, 0, 0, 0], 10),
    ] {
        let mut wire = sidecar.wire().await;
        wire.send(&bytes).await;
        let (answer, _) = wire.rest().await;
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "{name}");
    }
    let connector = Connector::new(&authority, NAME, None, &[]);
    assert_eq!(connector.connect(sidecar.address()).await.get("/").await.status, 200);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn a_handshake_has_its_time_and_no_more() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let setup = secured(&authority, "").origin(&origin);
    let sidecar = setup.listener_limits("handshake_timeout = \"300ms\"").start().await;
    for bytes in [&[][..], &[22, 3, 1]] {
        let mut wire = sidecar.wire().await;
        wire.send(bytes).await;
        wire.rest().await;
    }
    let timeouts = ["result=\"timeout\""];
    sidecar.metric_is("pillion_downstream_tls_handshakes_total", &timeouts, |n| n == 2.0).await;
    // The time is that of the handshake alone.
    let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
    let mut client = connector.connect(sidecar.address()).await;
    sidecar.wire().await.rest().await;
    assert_eq!(client.get("/").await.status, 200);
}

/// What a client that never finishes a handshake may cost, in KiB.
const HALF_OPEN_KIB_MAX: u64 = 24;

#[tokio::test]
async fn a_thousand_half_open_handshakes_are_no_matter_to_others() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let setup = secured(&authority, "").origin(&origin).runtime("workers = 1");
    let sidecar = setup.listener_limits("handshake_timeout = \"5m\"").start().await;
    let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
    let mut client = connector.connect(sidecar.address()).await;
    client.get("/").await;
    let before = sidecar.resident_kib();

    let mut open = Vec::new();
    for _ in 0..1000 {
        let mut socket = TcpStream::connect(sidecar.address()).await.unwrap();
        socket.write_all(&[22, 3, 1, 0x10, 0, 1, 0, 0x0F, 0xFC, 3, 3]).await.unwrap();
        open.push(socket);
    }
    let name = "pillion_downstream_tls_handshakes_total";
    sidecar.metric_is(name, &["result=\"crowded_out\""], |n| n == 1000.0 - 512.0).await;
    for _ in 0..20 {
        assert_eq!(connector.connect(sidecar.address()).await.get("/").await.status, 200);
    }
    assert_eq!(client.get("/").await.status, 200, "the connection from before is there");
    // The oldest have gone, the latest are still there.
    let mut byte = [0];
    let gone = within("the first one to be closed", open[0].read(&mut byte)).await;
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    assert!(open[999].try_read(&mut byte).is_err(), "the last one waits");
    let grown = sidecar.resident_kib().saturating_sub(before);
    assert!(grown < 512 * HALF_OPEN_KIB_MAX, "{grown} KiB for 512 handshakes");
    drop(open);
    until("the connections to be gone", async || (sockets(sidecar.id()) < 50).then_some(())).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let setup = secured(&authority, "").origin(&origin).runtime("drain_timeout = \"1h\"");
    let mut sidecar = setup.listener_limits("handshake_timeout = \"5m\"").start().await;
    let mut wire = sidecar.wire().await;
    wire.send(&[22, 3, 1]).await;
    sidecar
        .metric_is("pillion_downstream_connections", &["listener=\"inbound\""], |n| n == 1.0)
        .await;
    sidecar.terminate();
    assert_eq!(sidecar.exit_code().await, 0);
}

#[tokio::test]
async fn a_request_that_is_cut_off_without_a_goodbye_is_incomplete() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).tables("[access_log]").start().await;
    let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
    let mut stream = connector.stream(sidecar.address()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n123";
    stream.write_all(head).await.unwrap();
    let (mut socket, _) = stream.into_inner();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = within("the end", socket.read_to_end(&mut rest)).await;
    let line = sidecar.output.line("\"method\":\"POST\"").await;
    assert!(line.contains("\"error\":\"http_request_error\""), "{line}");
}

#[tokio::test]
async fn a_connection_ends_with_a_goodbye() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, "").origin(&origin).start().await;
    for (offer, request) in [
        ("http/1.1", &b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"[..]),
        ("http/1.1", b"GET / HTTP/1.0\r\n\r\n"),
        ("http/1.1", b"nonsense\r\n\r\n"),
        ("h2", b"nonsense that is no preface of HTTP/2"),
    ] {
        let connector = Connector::new(&authority, NAME, None, &[offer]);
        let mut stream = connector.stream(sidecar.address()).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut rest = Vec::new();
        // An end without `close_notify` is an error here.
        let read = within("the end", stream.read_to_end(&mut rest)).await;
        read.unwrap_or_else(|error| panic!("{:?}: {error}", String::from_utf8_lossy(request)));
        assert!(!rest.is_empty());
    }
}

#[tokio::test]
async fn what_is_wrong_with_keys_is_said_at_their_lines() {
    let authority = Authority::new("servers");
    let (one, two) = (authority.issue(&[NAME]), authority.issue(&[NAME]));
    let refusal = secured(&authority, &required("crl = \"missing.crl\""))
        .file("tls.crt", &one.certificate)
        .file("tls.key", &two.key)
        .file("clients.crt", &one.key)
        .origin(&Origin::echo().await)
        .refused()
        .await;
    assert_eq!(refusal.code, 1, "{}", refusal.text);
    for part in [
        "does not belong to the certificate in",
        "help: write both files anew, from one pair",
        "there is no certificate in",
        "cannot read",
        "missing.crl",
        "pillion.toml:",
    ] {
        assert!(refusal.text.contains(part), "{part} is not in\n{}", refusal.text);
    }
    assert!(!refusal.text.contains("PRIVATE KEY-----"), "{}", refusal.text);
}
