//! The `tls` tables in effect as JSON, in the layout of the file.

use super::{AlpnOffer, Authorities, ClientAuth, KeyPair, ListenerTls, TlsVersions, UpstreamTls};
use crate::http::PeerPattern;
use serde_json::{Value, json};
use std::path::Path;

pub(in crate::config) fn dump_listener(tls: &ListenerTls) -> Value {
    let ListenerTls { certificates, client_auth, client_ca, client_allow, crl, versions, alpn } =
        tls;
    let pairs: Vec<Value> = certificates
        .iter()
        .map(|KeyPair { certificate, key }| {
            json!({ "certificate": shown(certificate), "key": shown(key) })
        })
        .collect();
    let client_auth = match client_auth {
        ClientAuth::None => "none",
        ClientAuth::Optional => "optional",
        ClientAuth::Required => "required",
    };
    let AlpnOffer { http2, http1 } = alpn;
    let mut value = json!({
        "certificates": pairs,
        "client_auth": client_auth,
        "versions": dump_versions(*versions),
        "alpn": chosen([(*http2, "h2"), (*http1, "http/1.1")]),
    });
    if let Some(path) = client_ca {
        value["client_ca"] = shown(path);
    }
    if !client_allow.is_empty() {
        value["client_allow"] = dump_patterns(client_allow);
    }
    if let Some(path) = crl {
        value["crl"] = shown(path);
    }
    value
}

pub(in crate::config) fn dump_upstream(tls: &UpstreamTls) -> Value {
    let UpstreamTls { server_name, ca, identity, verify_sans, crl, versions } = tls;
    let mut value = json!({
        "server_name": server_name,
        "ca": match ca {
            Authorities::System => "system".into(),
            Authorities::File(path) => shown(path),
        },
        "versions": dump_versions(*versions),
    });
    if let Some(KeyPair { certificate, key }) = identity {
        value["certificate"] = shown(certificate);
        value["key"] = shown(key);
    }
    if !verify_sans.is_empty() {
        value["verify_sans"] = dump_patterns(verify_sans);
    }
    if let Some(path) = crl {
        value["crl"] = shown(path);
    }
    value
}

fn dump_versions(TlsVersions { tls12, tls13 }: TlsVersions) -> Value {
    chosen([(tls12, "1.2"), (tls13, "1.3")])
}

fn chosen(words: [(bool, &str); 2]) -> Value {
    words
        .into_iter()
        .filter(|(is_chosen, _)| *is_chosen)
        .map(|(_, word)| Value::from(word))
        .collect()
}

pub(in crate::config) fn dump_patterns(patterns: &[PeerPattern]) -> Value {
    patterns.iter().map(|pattern| Value::from(pattern.to_string())).collect()
}

fn shown(path: &Path) -> Value {
    path.display().to_string().into()
}
