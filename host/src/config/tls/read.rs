//! Reads `[listener.tls]` and `[upstream.NAME.tls]`: paths, names, and what only shows when several
//! keys are seen together.

use super::super::check::read_path;
use super::super::endpoint::Endpoint;
use super::super::reader::{TableReader, Text};
use super::{AlpnOffer, Authorities, ClientAuth, KeyPair, ListenerTls, TlsVersions, UpstreamTls};
use crate::http::PeerPattern;
use std::net::IpAddr;
use std::path::PathBuf;

/// The table of a listener, where it has one. That it cannot be used is reported.
pub(in crate::config) fn listener(listener: &TableReader<'_, '_>) -> Option<ListenerTls> {
    let table = listener.has("tls").then(|| listener.table("tls"))?;
    let pairs = table.tables("certificates");
    let certificates = pairs.iter().filter_map(|pair| {
        Some(KeyPair { certificate: path(pair, "certificate")?, key: path(pair, "key")? })
    });
    let client_auth = match table.choice("client_auth") {
        "optional" => ClientAuth::Optional,
        "required" => ClientAuth::Required,
        _ => ClientAuth::None,
    };
    let tls = ListenerTls {
        certificates: certificates.collect(),
        client_auth,
        client_ca: path(&table, "client_ca"),
        client_allow: patterns(&table, "client_allow"),
        crl: path(&table, "crl"),
        versions: versions(&table),
        alpn: alpn(&table),
    };
    match client_auth {
        ClientAuth::None => {
            for key in ["client_ca", "client_allow", "crl"] {
                if table.has(key) {
                    let message =
                        format!("`{key}` is of no use: clients are not asked for anything");
                    let help = "add `client_auth = \"required\"`, or remove it";
                    table.context.error(table.span_of(key), message, help);
                }
            }
        }
        ClientAuth::Optional | ClientAuth::Required if !table.has("client_ca") => {
            let message = "`client_auth` needs `client_ca`";
            let help = "name the file of the authorities that issue the certificates of clients";
            table.context.error(table.span_of("client_auth"), message, help);
        }
        ClientAuth::Optional | ClientAuth::Required => {}
    }
    (tls.certificates.len() == pairs.len()).then_some(tls)
}

/// The table of an upstream, where it has one. That it cannot be used is reported.
pub(in crate::config) fn upstream(
    upstream: &TableReader<'_, '_>,
    endpoints: &[Endpoint],
) -> Option<UpstreamTls> {
    let table = upstream.has("tls").then(|| upstream.table("tls"))?;
    let ca = table.text("ca").and_then(|text| match text.value.as_str() {
        "system" => Some(Authorities::System),
        _ => read_path(&table, &text).map(Authorities::File),
    });
    let identity = match (table.has("certificate"), table.has("key")) {
        (false, false) => None,
        (true, true) => path(&table, "certificate")
            .zip(path(&table, "key"))
            .map(|(certificate, key)| KeyPair { certificate, key }),
        (has_certificate, _) => {
            let (key, other) =
                if has_certificate { ("certificate", "key") } else { ("key", "certificate") };
            let message = format!("`{key}` needs `{other}`");
            table.context.error(table.span_of(key), message, "name both files, or neither");
            None
        }
    };
    let verify_sans = patterns(&table, "verify_sans");
    let server_name = match table.text("server_name") {
        Some(text) => server_name(&table, &text),
        None => host_of_all(&table, endpoints),
    };
    let crl = path(&table, "crl");
    let versions = versions(&table);
    Some(UpstreamTls { server_name: server_name?, ca: ca?, identity, verify_sans, crl, versions })
}

fn path(table: &TableReader<'_, '_>, key: &str) -> Option<PathBuf> {
    table.text(key).and_then(|text| read_path(table, &text))
}

fn server_name(table: &TableReader<'_, '_>, text: &Text) -> Option<String> {
    let name = text.value.to_ascii_lowercase();
    let usable = name.parse::<IpAddr>().is_ok() || super::super::matches::is_host_name(&name);
    if !usable {
        let message = format!("`{}` is no name of a server", text.shown());
        let help = "write a host name or an address, without scheme and port";
        table.context.error(text.span.clone(), message, help);
    }
    usable.then_some(name)
}

/// The host that all endpoints have. Where the certificates are known by other names it does not
/// matter which one is asked for.
fn host_of_all(table: &TableReader<'_, '_>, endpoints: &[Endpoint]) -> Option<String> {
    let (first, rest) = endpoints.split_first()?;
    let differs = |other: &Endpoint| other.server_name() != first.server_name();
    if rest.iter().any(differs) && !table.has("verify_sans") {
        let message = "the endpoints have several hosts";
        let help = "say with `server_name` or `verify_sans` which name their certificates have";
        table.context.error(table.span.clone(), message, help);
        return None;
    }
    Some(first.server_name().to_owned())
}

fn patterns(table: &TableReader<'_, '_>, key: &str) -> Vec<PeerPattern> {
    let texts = table.texts(key);
    refuse_empty(table, key, texts.is_empty(), "name one, or leave it out");
    texts.iter().filter_map(|text| pattern(table, text)).collect()
}

/// A pattern of names of peers; also for routes.
pub(in crate::config) fn pattern(table: &TableReader<'_, '_>, text: &Text) -> Option<PeerPattern> {
    let pattern = PeerPattern::parse(&text.value);
    if pattern.is_none() {
        let message = format!("`{}` is no name of a peer", text.shown());
        let help = "write a URI such as `spiffe://trust/ns/x/sa/*`, where `*` is one whole segment, \
                    or a DNS name such as `dns:client.example.com`";
        table.context.error(text.span.clone(), message, help);
    }
    pattern
}

fn versions(table: &TableReader<'_, '_>) -> TlsVersions {
    let mut versions = TlsVersions { tls12: !table.has("versions"), tls13: !table.has("versions") };
    words(table, "versions", &mut [("1.2", &mut versions.tls12), ("1.3", &mut versions.tls13)]);
    versions
}

fn alpn(table: &TableReader<'_, '_>) -> AlpnOffer {
    let mut offer = AlpnOffer { http2: !table.has("alpn"), http1: !table.has("alpn") };
    words(table, "alpn", &mut [("h2", &mut offer.http2), ("http/1.1", &mut offer.http1)]);
    offer
}

/// Sets what belongs to each word of a list.
fn words(table: &TableReader<'_, '_>, key: &str, known: &mut [(&str, &mut bool)]) {
    let texts = table.texts(key);
    refuse_empty(table, key, texts.is_empty(), "leave it out to offer all of them");
    for text in texts {
        match known.iter_mut().find(|(word, _)| *word == text.value) {
            Some((_, flag)) => **flag = true,
            None => {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                let message = format!("`{key}` cannot have `{}`", text.shown());
                let help = format!("it is made of {}", super::super::words::quoted(&words));
                table.context.error(text.span.clone(), message, help);
            }
        }
    }
}

fn refuse_empty(table: &TableReader<'_, '_>, key: &str, is_empty: bool, help: &str) {
    let list = table.node(key).and_then(|node| node.get_ref().as_array());
    if is_empty && list.is_some_and(|list| list.is_empty()) {
        table.context.error(table.span_of(key), format!("`{key}` is empty"), help);
    }
}
