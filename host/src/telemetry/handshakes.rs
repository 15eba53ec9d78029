//! TLS handshakes by how they ended and what version they agreed on.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! results {
    ($($(#[doc = $doc:literal])+ $case:ident = $name:literal,)*) => {
        /// How a handshake ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum HandshakeResult {
            $($(#[doc = $doc])+ $case,)*
        }

        impl HandshakeResult {
            /// Every result.
            pub const ALL: &[HandshakeResult] = &[$(HandshakeResult::$case),*];

            /// The word in logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(HandshakeResult::$case => $name,)*
                }
            }
        }
    };
}

results! {
    /// Well.
    Ok = "ok",
    /// Well, with the secret of an earlier connection.
    Resumed = "resumed",
    /// Not within `handshake_timeout`.
    Timeout = "timeout",
    /// It was given up for later ones, `handshakes_max` being reached.
    CrowdedOut = "crowded_out",
    /// The peer closed the connection.
    Closed = "closed",
    /// The client speaks HTTP without TLS.
    PlainHttp = "plain_http",
    /// The client has shown no certificate.
    NoCertificate = "no_certificate",
    /// The peer's certificate is expired or not valid yet.
    Expired = "certificate_expired",
    /// The peer's certificate is revoked.
    Revoked = "certificate_revoked",
    /// The peer's certificate is of an authority that is not believed.
    UnknownAuthority = "unknown_ca",
    /// The peer's certificate has another name.
    WrongName = "wrong_name",
    /// The peer's certificate is no good for another reason.
    BadCertificate = "bad_certificate",
    /// The peer refused with an alert.
    Alert = "alert",
    /// The two have no version, cipher suite or protocol in common.
    Incompatible = "incompatible",
    /// The peer broke the protocol.
    Protocol = "protocol",
}

impl HandshakeResult {
    /// Is there a connection?
    pub fn is_good(self) -> bool {
        matches!(self, HandshakeResult::Ok | HandshakeResult::Resumed)
    }
}

/// What a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HandshakeVersion {
    /// It did not come so far.
    None,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl HandshakeVersion {
    /// Every version.
    pub const ALL: [HandshakeVersion; 3] =
        [HandshakeVersion::None, HandshakeVersion::Tls12, HandshakeVersion::Tls13];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            HandshakeVersion::None => "none",
            HandshakeVersion::Tls12 => "1.2",
            HandshakeVersion::Tls13 => "1.3",
        }
    }
}

const VERSIONS: usize = HandshakeVersion::ALL.len();
const RESULTS: usize = HandshakeResult::ALL.len();

/// Handshakes that are over.
#[derive(Debug, Default)]
pub(super) struct HandshakeCounts([[AtomicU64; VERSIONS]; RESULTS]);

impl HandshakeCounts {
    pub(super) fn count(&self, result: HandshakeResult, version: HandshakeVersion) {
        self.0[result as usize][version as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, result: HandshakeResult, version: HandshakeVersion) -> u64 {
        self.0[result as usize][version as usize].load(Ordering::Relaxed)
    }
}
