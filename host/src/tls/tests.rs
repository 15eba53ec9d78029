//! What is read out of certificates and files, and who is believed.

use super::certificate::Certificate;
use super::verify::{Endpoints, Trust};
use super::{
    CERTIFICATE_FILE_BYTES_MAX, CHAIN_CERTIFICATES_MAX, CRL_FILE_BYTES_MAX, Tls, failure_of,
};
use crate::config::{Loaded, parse};
use crate::http::PeerPattern;
use crate::telemetry::{HandshakeResult, Metrics};
use pillion_tests::authority::{DAY, Order};
use pillion_tests::{Authority, Issued};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-tls-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), content).unwrap();
    }

    /// A configuration with a listener and an upstream that speak TLS.
    fn loaded(&self, listener: &str, upstream: &str) -> Loaded {
        let text = format!(
            "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:1\"\nroute = [{{ upstream = \"up\" }}]\n\
             tls = {{ certificates = [{{ certificate = \"a.crt\", key = \"a.key\" }}], {listener} }}\n\
             [upstream.up]\nendpoints = [\"app.test:2\"]\n\
             tls = {{ ca = \"ca.crt\", {upstream} }}\n"
        );
        parse(&text, "p.toml", &self.0, &|_| None).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

fn build(loaded: &Loaded) -> Result<Tls, String> {
    let built = Tls::build(loaded, None, &Metrics::new(1, UNIX_EPOCH));
    built.map_err(|problems| problems.iter().map(|it| format!("{it}\n")).collect())
}

/// A directory whose files are as they should be.
fn good(authority: &Authority) -> Directory {
    let directory = Directory::new();
    let issued = authority.issue(&["app.test"]);
    directory.write("a.crt", &issued.certificate);
    directory.write("a.key", &issued.key);
    directory.write("ca.crt", &authority.pem);
    directory
}

#[test]
fn a_certificate_tells_its_names_and_when_it_holds() {
    let authority = Authority::new("a");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let order = Order::names(&["spiffe://t/a", "a.test", "*.b.test"]).ends_in(5 * DAY);
    let read = Certificate::read(&der(&authority.fill(order))).unwrap();
    assert_eq!(read.names.uris, ["spiffe://t/a"]);
    assert_eq!(read.names.dns, ["a.test", "*.b.test"]);
    assert_eq!(read.names.subject, r"O=Tests\, and more,CN=leaf");
    assert_eq!(read.names.hash.len(), 64);
    let days = |seconds: i64| (seconds - now + 43_200).div_euclid(86_400);
    assert_eq!((days(read.not_before), days(read.not_after)), (-1, 5));
}

#[test]
fn what_is_no_certificate_is_nothing_at_any_length() {
    let whole = der(&Authority::new("a").issue(&["spiffe://t/a"]));
    for length in 0..whole.len() {
        assert!(Certificate::read(&CertificateDer::from(&whole[..length])).is_none(), "{length}");
    }
    for index in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[index] ^= 0xFF;
        // What comes of it does not matter, as long as something does.
        let _ = Certificate::read(&CertificateDer::from(changed));
    }
}

fn trust(authority: &Authority, accepted: &[&str]) -> Endpoints {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let accepted = accepted.iter().map(|it| PeerPattern::parse(it).unwrap()).collect();
    Endpoints(Trust::new(store, Vec::new(), accepted))
}

#[test]
fn an_endpoint_needs_an_authority_whatever_its_name() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let verdict = |verifier: &Endpoints, issued: &Issued, name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(&der(issued), &[], &name, &[], UnixTime::now());
        verified.map_or_else(|error| failure_of(&error), |_| HandshakeResult::Ok)
    };
    let by_name = trust(&ours, &[]);
    let by_pattern = trust(&ours, &["spiffe://t/*"]);
    let (good, bad) =
        (ours.issue(&["a.test", "spiffe://t/a"]), theirs.issue(&["a.test", "spiffe://t/a"]));
    for (verifier, issued, name, expected) in [
        (&by_name, &good, "a.test", HandshakeResult::Ok),
        (&by_name, &good, "b.test", HandshakeResult::WrongName),
        (&by_name, &bad, "a.test", HandshakeResult::UnknownAuthority),
        (&by_name, &bad, "b.test", HandshakeResult::UnknownAuthority),
        (&by_pattern, &good, "b.test", HandshakeResult::Ok),
        (&by_pattern, &bad, "a.test", HandshakeResult::UnknownAuthority),
        (&by_pattern, &bad, "b.test", HandshakeResult::UnknownAuthority),
        (&by_pattern, &ours.issue(&["a.test"]), "a.test", HandshakeResult::WrongName),
        (
            &by_name,
            &ours.fill(Order::names(&["a.test"]).expired()),
            "a.test",
            HandshakeResult::Expired,
        ),
        (
            &by_name,
            &ours.fill(Order::names(&["a.test"]).not_yet()),
            "a.test",
            HandshakeResult::Expired,
        ),
    ] {
        assert_eq!(verdict(verifier, issued, name), expected, "{name}");
    }
}

#[test]
fn what_is_unchanged_is_taken_over_and_what_changes_is_made_anew() {
    let authority = Authority::new("a");
    let directory = good(&authority);
    let loaded = directory.loaded("", "");
    let metrics = Metrics::new(1, UNIX_EPOCH);
    let first = Tls::build(&loaded, None, &metrics).unwrap();
    let second = Tls::build(&loaded, Some(&first), &metrics).unwrap();
    let same = |one: &Tls, other: &Tls| {
        let listeners = [one, other].map(|tls| tls.listener(0).unwrap().clone());
        let upstreams = [one, other].map(|tls| tls.upstream(0).unwrap().clone());
        (
            std::sync::Arc::ptr_eq(&listeners[0], &listeners[1]),
            std::sync::Arc::ptr_eq(&upstreams[0], &upstreams[1]),
            upstreams[0].trust() == upstreams[1].trust(),
        )
    };
    assert_eq!(same(&first, &second), (true, true, true));
    let issued = authority.issue(&["app.test"]);
    directory.write("a.crt", &issued.certificate);
    directory.write("a.key", &issued.key);
    let third = Tls::build(&loaded, Some(&second), &metrics).unwrap();
    assert_eq!(same(&second, &third), (false, true, true));
    directory.write("ca.crt", Authority::new("b").pem);
    let fourth = Tls::build(&loaded, Some(&third), &metrics).unwrap();
    assert_eq!(same(&third, &fourth), (true, false, false));
}

#[test]
fn a_certificate_of_ours_makes_no_difference_to_connections_there_are() {
    let authority = Authority::new("a");
    let directory = good(&authority);
    let loaded = directory.loaded("", "certificate = \"a.crt\", key = \"a.key\"");
    let metrics = Metrics::new(1, UNIX_EPOCH);
    let first = Tls::build(&loaded, None, &metrics).unwrap();
    let issued = authority.issue(&["app.test"]);
    directory.write("a.crt", &issued.certificate);
    directory.write("a.key", &issued.key);
    let second = Tls::build(&loaded, Some(&first), &metrics).unwrap();
    let (one, other) = (first.upstream(0).unwrap(), second.upstream(0).unwrap());
    assert!(!std::sync::Arc::ptr_eq(one, other));
    assert_eq!(one.trust(), other.trust());
}

#[test]
fn each_wrong_file_is_said_at_its_key() {
    let authority = Authority::new("a");
    let issued = authority.issue(&["app.test"]);
    let clients = "client_auth = \"required\", client_ca = \"c.crt\", crl = \"c.crl\"";
    let crl = authority.revoke(&[]);
    let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (file, content, place, message) in [
        ("a.crt", "", "p.toml:5:", "there is no certificate in"),
        ("a.crt", cut, "p.toml:5:", "the first certificate in"),
        ("a.crt", "-----BEGIN CERTIFICATE-----\n!\n", "p.toml:5:", "is no PEM file"),
        ("a.key", &*issued.certificate, "p.toml:5:", "there is no private key in"),
        ("a.key", &*issued.key, "p.toml:5:", "does not belong to the certificate in"),
        ("c.crt", &*issued.key, "p.toml:5:", "there is no certificate in"),
        ("c.crt", cut, "p.toml:5:", "certificate 1 in"),
        ("c.crl", &*authority.pem, "p.toml:5:", "there is no list of revoked certificates in"),
        ("ca.crt", cut, "p.toml:8:", "is no authority"),
    ] {
        let directory = good(&authority);
        directory.write("c.crt", &authority.pem);
        directory.write("c.crl", &crl);
        let loaded = directory.loaded(clients, "");
        build(&loaded).unwrap();
        directory.write(file, content);
        let shown = build(&loaded).unwrap_err();
        assert!(shown.starts_with(place), "{file}: {shown}");
        assert!(shown.contains(message) && shown.contains("help: "), "{file}: {shown}");
        assert!(shown.contains(file), "{file}: {shown}");
    }
}

#[test]
fn files_and_chains_have_their_bounds() {
    let authority = Authority::new("a");
    let directory = good(&authority);
    let loaded = directory.loaded("", "");
    let issued = std::fs::read_to_string(directory.0.join("a.crt")).unwrap();
    for (length, fits) in [
        (CHAIN_CERTIFICATES_MAX - 1, true),
        (CHAIN_CERTIFICATES_MAX, true),
        (CHAIN_CERTIFICATES_MAX + 1, false),
    ] {
        directory.write("a.crt", issued.repeat(length));
        assert_eq!(build(&loaded).is_ok(), fits, "{length}");
    }
    directory.write("a.crt", &issued);
    for (length, fits) in [
        (CERTIFICATE_FILE_BYTES_MAX - 1, true),
        (CERTIFICATE_FILE_BYTES_MAX, true),
        (CERTIFICATE_FILE_BYTES_MAX + 1, false),
    ] {
        let padded = format!("{}{}", authority.pem, "\n".repeat(length - authority.pem.len()));
        directory.write("ca.crt", padded);
        assert_eq!(build(&loaded).is_ok(), fits, "{length}");
    }
    directory.write("ca.crt", &authority.pem);
    directory.write("c.crt", &authority.pem);
    let crl = authority.revoke(&[]);
    let loaded =
        directory.loaded("client_auth = \"required\", client_ca = \"c.crt\", crl = \"c.crl\"", "");
    for (length, fits) in [
        (CRL_FILE_BYTES_MAX - 1, true),
        (CRL_FILE_BYTES_MAX, true),
        (CRL_FILE_BYTES_MAX + 1, false),
    ] {
        directory.write("c.crl", format!("{crl}{}", "\n".repeat(length - crl.len())));
        assert_eq!(build(&loaded).is_ok(), fits, "{length}");
    }
}

#[test]
fn every_file_is_one_to_be_watched() {
    let directory = Directory::new();
    let clients = "client_auth = \"required\", client_ca = \"c.crt\", crl = \"c.crl\"";
    let loaded =
        directory.loaded(clients, "certificate = \"u.crt\", key = \"u.key\", crl = \"u.crl\"");
    let files = loaded.files();
    let names = ["a.crt", "a.key", "c.crl", "c.crt", "ca.crt", "p.toml", "u.crl", "u.crt", "u.key"];
    let expected: Vec<PathBuf> = names.iter().map(|name| directory.0.join(name)).collect();
    assert_eq!(files.iter().map(PathBuf::as_path).collect::<Vec<&Path>>(), expected);
}

#[test]
fn the_end_of_a_certificate_is_shown_when_it_is_published() {
    let authority = Authority::new("a");
    let directory = good(&authority);
    let issued = authority.fill(Order::names(&["app.test"]).ends_in(Duration::from_secs(1000)));
    directory.write("a.crt", &issued.certificate);
    directory.write("a.key", &issued.key);
    let metrics = Metrics::new(1, UNIX_EPOCH);
    let tls = Tls::build(&directory.loaded("", ""), None, &metrics).unwrap();
    tls.published();
    let text = metrics.expose();
    let file = directory.0.join("a.crt");
    let start = format!(
        "pillion_certificate_expiry_seconds{{listener=\"in\",file=\"{}\"}} ",
        file.display()
    );
    let value = text.lines().find_map(|line| line.strip_prefix(&start)).expect(&text);
    let left = value.parse::<i64>().unwrap()
        - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((0..=1000).contains(&left), "{left}");
    drop(tls);
    assert!(!metrics.expose().contains(&start));
}
