//! OpenSSL and curl before a listener that speaks TLS: what they are told when something is wrong, and
//! that they get along when nothing is.

use pillion_tests::authority::Order;
use pillion_tests::log::Log;
use pillion_tests::peer::{program, run};
use pillion_tests::process::Running;
use pillion_tests::{Authority, Origin, Sidecar};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

const NAME: &str = "app.test";
const WEB: &str = "spiffe://example.test/ns/shop/sa/web";

/// A sidecar that asks clients for a certificate of `authority`.
async fn asking(authority: &Authority, origin: &Origin, keys: &str) -> Sidecar {
    let issued = authority.issue(&[NAME]);
    let revoked = authority.issue(&[WEB]);
    let other = Authority::new("others");
    let mut setup = Sidecar::new()
        .origin(origin)
        .listener(&format!(
            "[listener.tls]\ncertificates = [{{ certificate = \"tls.crt\", key = \"tls.key\" }}]\n{keys}"
        ))
        .file("tls.crt", &issued.certificate)
        .file("tls.key", &issued.key)
        .file("ca.crt", &authority.pem)
        .file("ca.crl", authority.revoke(&[&revoked]));
    for (name, issued) in [
        ("good", authority.issue(&[WEB])),
        ("revoked", revoked),
        ("expired", authority.fill(Order::names(&[WEB]).expired())),
        ("early", authority.fill(Order::names(&[WEB]).not_yet())),
        ("stranger", authority.issue(&["spiffe://example.test/ns/bank/sa/web"])),
        ("foreign", other.issue(&[WEB])),
    ] {
        setup = setup.file(&format!("{name}.crt"), &issued.certificate);
        setup = setup.file(&format!("{name}.key"), &issued.key);
    }
    setup.start().await
}

const REQUIRED: &str = "client_auth = \"required\"\nclient_ca = \"ca.crt\"\ncrl = \"ca.crl\"\n\
    client_allow = [\"spiffe://example.test/ns/shop/sa/*\"]\n";

fn curl(curl: &Path, sidecar: &Sidecar, arguments: &[&str]) -> Command {
    let mut command = Command::new(curl);
    let resolve = format!("{NAME}:{}:127.0.0.1", sidecar.address().port());
    command.args(["-sS", "--max-time", "60", "--cacert", "ca.crt", "--resolve", &resolve]);
    command.args(arguments).arg(format!("https://{NAME}:{}/", sidecar.address().port()));
    command.current_dir(sidecar.directory());
    command
}

#[tokio::test]
async fn curl_comes_in_with_its_certificate_in_either_protocol() {
    let Some(binary) = program("curl") else { return };
    let authority = Authority::new("mesh");
    let origin = Origin::echo().await;
    let sidecar = asking(&authority, &origin, REQUIRED).await;
    for (arguments, protocol, version) in [
        (&["--http1.1", "--tlsv1.3"][..], "HTTP/1.1 200", "1.3"),
        (&["--http2", "--tlsv1.3"], "HTTP/2 200", "1.3"),
        (&["--http2", "--tls-max", "1.2"], "HTTP/2 200", "1.2"),
    ] {
        let arguments = [arguments, &["-i", "--cert", "good.crt", "--key", "good.key"]].concat();
        let label = format!("version=\"{version}\"");
        let labels = ["result=\"ok\"", &*label];
        let name = "pillion_downstream_tls_handshakes_total";
        let before = sidecar.metric(name, &labels).await;
        let (code, text, error) = run(curl(&binary, &sidecar, &arguments)).await;
        assert_eq!(code, 0, "{arguments:?}: {error}");
        assert!(text.starts_with(protocol), "{arguments:?}: {text}");
        assert!(text.contains(&format!("URI={WEB}")), "{arguments:?}: {text}");
        assert_eq!(sidecar.metric(name, &labels).await, before + 1.0);
    }
}

#[tokio::test]
async fn curl_is_told_what_is_wrong_with_its_certificate() {
    let Some(binary) = program("curl") else { return };
    let authority = Authority::new("mesh");
    let origin = Origin::echo().await;
    let sidecar = asking(&authority, &origin, REQUIRED).await;
    for (identity, alert) in [
        ("", "certificate required"),
        ("revoked", "certificate revoked"),
        ("expired", "certificate expired"),
        ("early", "certificate expired"),
        ("stranger", "access denied"),
        ("foreign", "unknown ca"),
    ] {
        let (certificate, key) = (format!("{identity}.crt"), format!("{identity}.key"));
        let mut arguments = vec!["--http1.1"];
        if !identity.is_empty() {
            arguments.extend(["--cert", &certificate, "--key", &key]);
        }
        let (code, text, error) = run(curl(&binary, &sidecar, &arguments)).await;
        assert_ne!(code, 0, "{identity}: {text}");
        assert!(error.to_lowercase().contains(alert), "{identity}: {error}");
    }
    assert_eq!(origin.connections(), 0);
}

/// What `openssl s_client` says to the server of the sidecar.
async fn s_client(openssl: &Path, sidecar: &Sidecar, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(openssl);
    let address = sidecar.address().to_string();
    command.args(["s_client", "-connect", &address, "-servername", NAME, "-CAfile", "ca.crt"]);
    command.args(["-verify_return_error"]).args(arguments).current_dir(sidecar.directory());
    let (code, text, error) = run(command).await;
    (code, format!("{text}{error}"))
}

#[tokio::test]
async fn openssl_agrees_on_what_is_offered_and_nothing_else() {
    let Some(openssl) = program("openssl") else { return };
    let authority = Authority::new("mesh");
    let origin = Origin::echo().await;
    let sidecar = asking(&authority, &origin, "").await;
    for (arguments, expected) in [
        (&["-tls1_3", "-alpn", "h2,http/1.1"][..], "ALPN protocol: h2"),
        (&["-tls1_2", "-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&["-tls1_3"], "No ALPN negotiated"),
        (&["-tls1_3"], "Verification: OK"),
    ] {
        let (code, text) = s_client(&openssl, &sidecar, arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    for (arguments, expected) in [
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..], "alert protocol version"),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version"),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "handshake failure"),
        (&["-alpn", "spdy/3"], "no application protocol"),
    ] {
        let (code, text) = s_client(&openssl, &sidecar, arguments).await;
        assert_ne!(code, 0, "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
    let label = ["result=\"incompatible\""];
    sidecar.metric_is("pillion_downstream_tls_handshakes_total", &label, |n| n == 4.0).await;
}

/// `openssl s_server` with a certificate of this name, from the sidecar's directory; ends with the value.
struct Server {
    address: SocketAddr,
    errors: Log,
    _process: Running,
}

impl Server {
    async fn start(openssl: &Path, directory: &Path, name: &str, arguments: &[&str]) -> Server {
        let mut command = Command::new(openssl);
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        command.args(["s_server", "-accept", "127.0.0.1:0", "-www"]);
        command.args(["-cert", &certificate, "-key", &key]).args(arguments).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Running::new(command.spawn().expect("openssl can be started"));
        let output = Log::capture(process.child().stdout.take().expect("it was asked for"));
        let errors = Log::capture(process.child().stderr.take().expect("it was asked for"));
        let line = output.line("ACCEPT ").await;
        let address = line.trim_start_matches("ACCEPT ").trim().parse();
        Server { address: address.expect("an address"), errors, _process: process }
    }
}

#[tokio::test]
async fn openssl_is_told_what_is_wrong_with_it_as_an_endpoint() {
    let Some(openssl) = program("openssl") else { return };
    let (authority, other) = (Authority::new("mesh"), Authority::new("others"));
    let revoked = authority.issue(&[NAME]);
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let wanting = ["-Verify", "1", "-verify_return_error", "-CAfile", "ca.crt"];
    for (identity, arguments, word, alert) in [
        (authority.issue(&[NAME]), &[][..], "", ""),
        (authority.issue(&[NAME]), &["-tls1_2"], "", ""),
        (
            authority.fill(Order::names(&[NAME]).expired()),
            &[],
            "tls_certificate_error",
            "alert certificate expired",
        ),
        (
            authority.fill(Order::names(&[NAME]).not_yet()),
            &[],
            "tls_certificate_error",
            "alert certificate expired",
        ),
        (authority.issue(&["b.test"]), &[], "tls_certificate_error", "alert bad certificate"),
        (other.issue(&[NAME]), &[], "tls_certificate_error", "alert unknown ca"),
        (revoked.clone(), &[], "tls_certificate_error", "alert certificate revoked"),
        (authority.issue(&[NAME]), &old, "tls_alert_received", "unsupported protocol"),
        (authority.issue(&[NAME]), &wanting, "tls_alert_received", "did not return a certificate"),
    ] {
        let setup = Sidecar::new()
            .file("ca.crt", &authority.pem)
            .file("ca.crl", authority.revoke(&[&revoked]))
            .file("its.crt", &identity.certificate)
            .file("its.key", &identity.key)
            .upstream(&format!(
                "tls = {{ ca = \"ca.crt\", crl = \"ca.crl\", server_name = \"{NAME}\" }}"
            ));
        let server = Server::start(&openssl, setup.directory(), "its", arguments).await;
        let sidecar = setup.endpoint(server.address).start().await;
        let reply = sidecar.get("/").await;
        if word.is_empty() {
            assert_eq!(reply.status, 200, "{arguments:?}: {}", reply.text());
            continue;
        }
        let status = reply.header("proxy-status");
        assert_eq!((reply.status, status), (502, &*format!("pillion; error={word}")), "{alert}");
        server.errors.line(alert).await;
    }
}

#[tokio::test]
async fn a_listener_speaks_no_other_version_than_it_says() {
    let Some(openssl) = program("openssl") else { return };
    let authority = Authority::new("mesh");
    let origin = Origin::echo().await;
    for (versions, good, bad) in [("1.2", "-tls1_2", "-tls1_3"), ("1.3", "-tls1_3", "-tls1_2")] {
        let keys = format!("versions = [\"{versions}\"]\nalpn = [\"http/1.1\"]\n");
        let sidecar = asking(&authority, &origin, &keys).await;
        let (code, text) = s_client(&openssl, &sidecar, &[good, "-alpn", "h2,http/1.1"]).await;
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
        let (code, text) = s_client(&openssl, &sidecar, &[bad]).await;
        assert_ne!(code, 0, "{text}");
        assert!(text.contains("protocol version"), "{text}");
    }
}
