//! Keys and certificates that change while requests flow: new connections see the new ones, those that
//! are there stay, and what is broken changes nothing.

use pillion_tests::authority::{DAY, Order};
use pillion_tests::tls::Connector;
use pillion_tests::{Authority, Issued, Origin, Sidecar, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const NAME: &str = "app.test";
const APP: &str = "spiffe://example.test/ns/shop/sa/app";
const WEB: &str = "spiffe://example.test/ns/shop/sa/web";

/// How often the certificates of both sides change.
const ROTATIONS: u64 = 20;

/// Replaces a pair, the certificate first: for a moment the two do not belong together.
fn rotate(sidecar: &Sidecar, issued: &Issued, file: &str) {
    sidecar.write(&format!("{file}.crt"), &issued.certificate);
    sidecar.write(&format!("{file}.key"), &issued.key);
}

/// The certificate that a new connection is shown.
async fn shown(sidecar: &Sidecar, authority: &Authority, identity: Option<&Issued>) -> Vec<u8> {
    let connector = Connector::new(authority, NAME, identity, &[]);
    let stream = connector.stream(sidecar.address()).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_both_sides_change_under_load_and_nobody_notices() {
    let authority = Authority::new("mesh");
    let (web, app) = (authority.issue(&[WEB]), authority.issue(&[APP, NAME]));
    let origin = Origin::echo().await;
    let inbound = Sidecar::new()
        .origin(&origin)
        .listener(
            "[listener.tls]\ncertificates = [{ certificate = \"app.crt\", key = \"app.key\" }]\n\
             client_auth = \"required\"\nclient_ca = \"ca.crt\"\n",
        )
        .file("app.crt", &app.certificate)
        .file("app.key", &app.key)
        .file("ca.crt", &authority.pem)
        .start()
        .await;
    let outbound = Sidecar::new()
        .endpoint(inbound.address())
        .upstream("protocol = \"auto\"")
        .upstream(&format!(
            "tls = {{ ca = \"ca.crt\", verify_sans = [\"{APP}\"], certificate = \"web.crt\", \
             key = \"web.key\" }}"
        ))
        .file("web.crt", &web.certificate)
        .file("web.key", &web.key)
        .file("ca.crt", &authority.pem)
        .start()
        .await;
    // One client through both sidecars, and one that stays on the TLS of the inner one.
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let mut through = outbound.connect(pillion_tests::Protocol::Http1).await;
    let connector = Connector::new(&authority, NAME, Some(&web), &["h2"]);
    let mut direct = connector.connect(inbound.address()).await;
    let load = tokio::spawn({
        let (stop, done) = (stop.clone(), done.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                for client in [&mut through, &mut direct] {
                    let reply = client.get("/").await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    let seen = reply.seen();
                    let peer = seen.header("x-forwarded-client-cert").unwrap_or_default();
                    assert!(peer.contains(WEB), "{peer}");
                    assert!(client.is_open(), "the connection was closed");
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for turn in 0..ROTATIONS {
        let before = done.load(Ordering::SeqCst);
        let (web, app) = (authority.issue(&[WEB]), authority.issue(&[APP, NAME]));
        rotate(&inbound, &app, "app");
        rotate(&outbound, &web, "web");
        inbound.generation(turn + 2).await;
        outbound.generation(turn + 2).await;
        until("requests after the change", async || {
            (done.load(Ordering::SeqCst) > before + 1).then_some(())
        })
        .await;
        assert!(shown(&inbound, &authority, Some(&web)).await == app.der(), "turn {turn}");
    }
    stop.store(true, Ordering::SeqCst);
    load.await.expect("no request failed");
    // Each of the two has been open from the beginning.
    let name = "pillion_downstream_connections_accepted_total";
    assert_eq!(outbound.metric(name, &["listener=\"inbound\""]).await, 1.0);
    let failures = outbound.metric("pillion_upstream_failures_total", &[]).await;
    assert!(failures == 0.0, "{failures}");
}

fn secured(authority: &Authority, issued: &Issued) -> pillion_tests::sidecar::Setup {
    Sidecar::new()
        .listener("tls = { certificates = [{ certificate = \"tls.crt\", key = \"tls.key\" }] }")
        .file("tls.crt", &issued.certificate)
        .file("tls.key", &issued.key)
        .file("clients.crt", &authority.pem)
}

#[tokio::test]
async fn a_broken_pair_changes_nothing_and_is_told() {
    let authority = Authority::new("servers");
    let first = authority.issue(&[NAME]);
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, &first).origin(&origin).start().await;
    let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
    let mut client = connector.connect(sidecar.address()).await;
    client.get("/").await;

    let second = authority.issue(&[NAME]);
    sidecar.write("tls.crt", &second.certificate);
    let failed = sidecar.reload_failed().await;
    let problems = failed.field("problems");
    for part in ["tls.key", "does not belong to the certificate in", "tls.crt", "pillion.toml:"] {
        assert!(problems.contains(part), "{part} is not in {problems}");
    }
    assert!(shown(&sidecar, &authority, None).await == first.der(), "the old one is shown");
    assert_eq!(client.get("/").await.status, 200);

    sidecar.write("tls.key", &second.key);
    sidecar.generation(2).await;
    assert!(shown(&sidecar, &authority, None).await == second.der(), "the new one is shown");
    assert_eq!(client.get("/").await.status, 200, "the connection is that of before");
    assert_eq!(sidecar.metric("pillion_generation", &[]).await, 2.0);
}

#[tokio::test]
async fn whoever_is_no_longer_believed_cannot_resume_a_session() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = old.issue(&[NAME]);
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).listener(
        "[listener.tls]\ncertificates = [{ certificate = \"tls.crt\", key = \"tls.key\" }]\n\
         client_auth = \"required\"\nclient_ca = \"clients.crt\"\ncrl = \"clients.crl\"\n",
    );
    let client = old.issue(&[WEB]);
    let both = format!("{}{}", old.pem, new.pem);
    let sidecar = setup
        .file("tls.crt", &server.certificate)
        .file("tls.key", &server.key)
        .file("clients.crt", &both)
        .file("clients.crl", old.revoke(&[]))
        .start()
        .await;
    let connector = Connector::new(&old, NAME, Some(&client), &["http/1.1"]);
    let try_once = async || {
        let Ok(stream) = connector.stream(sidecar.address()).await else { return false };
        let mut client = pillion_tests::Client::over(stream, pillion_tests::Protocol::Http1).await;
        let request = client.request(http::Method::GET, "/").body(pillion_tests::client::empty());
        client.try_fetch(request.unwrap()).await.is_ok_and(|reply| reply.status == 200)
    };
    let name = "pillion_downstream_tls_handshakes_total";
    assert!(try_once().await && try_once().await);
    assert_eq!(sidecar.metric(name, &["result=\"resumed\""]).await, 1.0);

    sidecar.write("clients.crl", old.revoke(&[&client]));
    sidecar.generation(2).await;
    assert!(!try_once().await, "revoked");
    sidecar.write("clients.crl", old.revoke(&[]));
    sidecar.generation(3).await;
    assert!(try_once().await, "revoked no longer");
    sidecar.write("clients.crt", &new.pem);
    sidecar.generation(4).await;
    assert!(!try_once().await, "its authority is no longer believed");
    sidecar.metric_is(name, &["result=\"certificate_revoked\""], |count| count == 1.0).await;
    sidecar.metric_is(name, &["result=\"unknown_ca\""], |count| count == 1.0).await;
}

#[tokio::test]
async fn sessions_are_resumed_over_a_change_of_our_certificate() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let sidecar = secured(&authority, &authority.issue(&[NAME])).origin(&origin).start().await;
    let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
    connector.connect(sidecar.address()).await.get("/").await;
    rotate(&sidecar, &authority.issue(&[NAME]), "tls");
    sidecar.generation(2).await;
    connector.connect(sidecar.address()).await.get("/").await;
    let name = "pillion_downstream_tls_handshakes_total";
    assert_eq!(sidecar.metric(name, &["result=\"resumed\""]).await, 1.0);
}

#[tokio::test]
async fn certificates_that_end_soon_are_warned_of_and_their_ends_are_shown() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    for (order, message) in [
        (Order::names(&[NAME]).ends_in(29 * DAY), "A certificate expires soon."),
        (Order::names(&[NAME]).expired(), "A certificate has expired."),
        (Order::names(&[NAME]).not_yet(), "A certificate is not valid yet."),
    ] {
        let sidecar = secured(&authority, &authority.fill(order)).origin(&origin).start().await;
        let event = sidecar.log.event(message, |event| event.message() == message).await;
        assert!(event.field("file").ends_with("tls.crt"));
        assert_eq!(event.field("of"), "listener inbound");
        let labels = ["listener=\"inbound\"", "tls.crt"];
        let end = sidecar.metric("pillion_certificate_expiry_seconds", &labels).await;
        assert!(end > 1.7e9, "{end}");
    }
}

#[tokio::test]
async fn certificates_of_a_mounted_volume_change_at_once() {
    let authority = Authority::new("servers");
    let (first, second) = (authority.issue(&[NAME]), authority.issue(&[NAME]));
    let origin = Origin::echo().await;
    let setup = Sidecar::new()
        .listener(
            "tls = { certificates = [{ certificate = \"keys/..data/tls.crt\", \
             key = \"keys/..data/tls.key\" }] }",
        )
        .origin(&origin);
    let keys = setup.directory().join("keys");
    for (version, issued) in [("one", &first), ("two", &second)] {
        std::fs::create_dir_all(keys.join(version)).unwrap();
        std::fs::write(keys.join(version).join("tls.crt"), &issued.certificate).unwrap();
        std::fs::write(keys.join(version).join("tls.key"), &issued.key).unwrap();
    }
    std::os::unix::fs::symlink("one", keys.join("..data")).unwrap();
    let sidecar = setup.start().await;
    assert!(shown(&sidecar, &authority, None).await == first.der());
    std::os::unix::fs::symlink("two", keys.join("..new")).unwrap();
    std::fs::rename(keys.join("..new"), keys.join("..data")).unwrap();
    sidecar.generation(2).await;
    assert!(shown(&sidecar, &authority, None).await == second.der());
}

#[tokio::test]
async fn keys_that_change_end_no_rollout_and_take_no_promotion_back() {
    let authority = Authority::new("servers");
    let origin = Origin::echo().await;
    let guest = |name| pillion_tests::guests::path(name).display().to_string();
    let next = format!("next = {{ source = {:?}, version = \"v2\" }}", guest("version-b"));
    let mut sidecar = secured(&authority, &authority.issue(&[NAME]))
        .origin(&origin)
        .filter("version", &guest("version-a"), &next)
        .tables("[rollout]\nsteps = [\"canary 50%\", \"full\"]\nsticky = \"random\"")
        .start()
        .await;
    let state = async |sidecar: &Sidecar| sidecar.status().await["rollout"]["state"].clone();
    crate::rollout::step(&sidecar, 1).await;
    let begun = state(&sidecar).await;
    assert!(begun.is_string(), "{begun}");
    let other = authority.issue(&[NAME]);
    rotate(&sidecar, &other, "tls");
    until("the new certificate", async || {
        (shown(&sidecar, &authority, None).await == other.der()).then_some(())
    })
    .await;
    assert_eq!(state(&sidecar).await, begun, "the rollout goes on");
    assert_ne!(begun, "rolled_back");

    crate::rollout::verb(&sidecar, &["promote"]).await;
    let version = async |sidecar: &Sidecar| {
        let connector = Connector::new(&authority, NAME, None, &["http/1.1"]);
        let reply = connector.connect(sidecar.address()).await.get("/").await;
        reply.header("x-version").to_owned()
    };
    until("the next version", async || (version(&sidecar).await == "b").then_some(())).await;
    let third = authority.issue(&[NAME]);
    rotate(&sidecar, &third, "tls");
    until("the newest certificate", async || {
        (shown(&sidecar, &authority, None).await == third.der()).then_some(())
    })
    .await;
    assert_eq!(version(&sidecar).await, "b", "what was promoted stays");

    let fourth = authority.issue(&[NAME]);
    rotate(&sidecar, &fourth, "tls");
    until("the certificate after it", async || {
        (shown(&sidecar, &authority, None).await == fourth.der()).then_some(())
    })
    .await;
    sidecar.kill_and_restart().await;
    assert_eq!(version(&sidecar).await, "b", "after a restart too");
}
