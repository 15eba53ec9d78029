//! The keys of `[listener.tls]` and `[upstream.NAME.tls]`, as a user meets them.

use super::super::limits::{CERTIFICATES_MAX, PEER_PATTERNS_MAX};
use super::super::spec::Presence::{Optional, Required};
use super::super::spec::{Key, Kind, Presence, Table};

const fn key(name: &'static str, presence: Presence, kind: Kind, doc: &'static str) -> Key {
    Key { name, doc, presence, kind }
}

const VERSIONS: Key = key(
    "versions",
    Optional,
    Kind::Texts { max: 2 },
    "Versions of TLS, of `1.2` and `1.3`. Without it: both.",
);

/// `[listener.tls]`
pub(in crate::config) const LISTENER_TLS: Table = Table {
    doc: "The listener speaks TLS. Its files are PEM, relative to this file; a change of one of \
          them is a change of the configuration.",
    keys: &[
        key(
            "certificates",
            Required,
            Kind::Tables { table: &KEY_PAIR, max: CERTIFICATES_MAX },
            "Certificates and their keys. Which one a client is shown is decided by the name it \
             asks for and their DNS names; the first one where none has it.",
        ),
        key(
            "client_auth",
            Optional,
            Kind::Choice { values: &["none", "optional", "required"], default: Some("none") },
            "Whether clients are asked for a certificate, and refused without one.",
        ),
        key(
            "client_ca",
            Optional,
            Kind::Text { default: None },
            "Certificates of the authorities that those of clients are issued by.",
        ),
        key(
            "client_allow",
            Optional,
            Kind::Texts { max: PEER_PATTERNS_MAX },
            "Names of which a client's certificate has to have one: `spiffe://trust/ns/x/sa/*`, \
             where `*` is one segment, or `dns:client.example.com`. Without it: any.",
        ),
        key(
            "crl",
            Optional,
            Kind::Text { default: None },
            "Lists of certificates that are revoked, of one or several authorities.",
        ),
        VERSIONS,
        key(
            "alpn",
            Optional,
            Kind::Texts { max: 2 },
            "What clients may choose by ALPN, of `h2` and `http/1.1`. Without it: both.",
        ),
    ],
};

const KEY_PAIR: Table = Table {
    doc: "A certificate and its key.",
    keys: &[
        key(
            "certificate",
            Required,
            Kind::Text { default: None },
            "The certificate, then those that lead from it to an authority.",
        ),
        key("key", Required, Kind::Text { default: None }, "The private key of the first one."),
    ],
};

/// `[upstream.NAME.tls]`
pub(in crate::config) const UPSTREAM_TLS: Table = Table {
    doc: "The endpoints speak TLS. The files are PEM, relative to this file; a change of one of \
          them is a change of the configuration.",
    keys: &[
        key(
            "server_name",
            Optional,
            Kind::Text { default: None },
            "The name that is asked for, and that a certificate has to have unless there are \
             `verify_sans`. Without it: the host of the endpoints.",
        ),
        key(
            "ca",
            Optional,
            Kind::Text { default: Some("system") },
            "Certificates of the authorities that are believed: a path, or `system`.",
        ),
        key(
            "certificate",
            Optional,
            Kind::Text { default: None },
            "The certificate that is shown to an endpoint that asks for one, then those that lead \
             from it to an authority. Together with `key`.",
        ),
        key("key", Optional, Kind::Text { default: None }, "Its private key."),
        key(
            "verify_sans",
            Optional,
            Kind::Texts { max: PEER_PATTERNS_MAX },
            "Names of which an endpoint's certificate has to have one: `spiffe://trust/ns/x/sa/*`, \
             where `*` is one segment, or `dns:app.example.com`. Without it: `server_name`.",
        ),
        key(
            "crl",
            Optional,
            Kind::Text { default: None },
            "Lists of certificates that are revoked, of one or several authorities.",
        ),
        VERSIONS,
    ],
};
