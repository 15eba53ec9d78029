//! What the client gets when something fails: one table from fault to response.
//!
//! Client text and log detail are separate: the body of a reply says what the class of the fault is,
//! never which filter, endpoint or file was involved; that stands in the log and the metrics. The
//! words of `Proxy-Status`, logs and metrics are those of RFC 9209 section 2.3.

use crate::http::{Name, ResponseHead};
use bytes::Bytes;

/// Everything that can end an exchange without an upstream's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// The request broke a rule of its wire format (RFC 9112, RFC 9113).
    RequestMalformed,
    /// The request target is longer than `target_bytes`.
    TargetTooLong,
    /// The request head exceeds `head_bytes` or `head_fields`.
    RequestHeadTooLarge,
    /// The request trailers exceed `trailer_bytes` or `trailer_fields`.
    RequestTrailersTooLarge,
    /// The head was not complete within `head_timeout`.
    RequestHeadTimeout,
    /// The body stood still for `body_idle_timeout`, or came slower than `body_rate_min`.
    RequestBodyTimeout,
    /// The client closed or reset before its request was complete.
    RequestIncomplete,
    /// An expectation other than `100-continue`.
    ExpectationUnknown,
    /// `CONNECT`, which a sidecar does not offer.
    MethodNotOffered,
    /// A version of HTTP other than 1.0, 1.1 and 2.
    VersionNotOffered,
    /// No route of the listener matches.
    NoRoute,
    /// The host that a request is passed on to was not looked up within `resolve_timeout`.
    DnsTimeout,
    /// The host that a request is passed on to has no address.
    DnsError,
    /// The host that a request is passed on to has an address that it may not go to.
    AddressProhibited,
    /// The request has come through too many sidecars to be passed on.
    Loop,
    /// Every endpoint of the upstream is out of use.
    NoEndpoint,
    /// The names of the upstream's endpoints have no address, and never had one.
    UpstreamDnsError,
    /// The names of the upstream's endpoints were never answered.
    UpstreamDnsTimeout,
    /// The upstream has as much to do as `pending_max` or `requests_max` allow.
    UpstreamLimit,
    /// The upstream refused the connection.
    UpstreamRefused,
    /// The upstream did not accept a connection within `connect_timeout`.
    UpstreamConnectTimeout,
    /// The endpoint's address could not be reached.
    UpstreamUnreachable,
    /// The upstream's certificate is not to be believed.
    UpstreamCertificate,
    /// No TLS session with the upstream could be begun.
    UpstreamTls,
    /// The upstream refused the TLS session with an alert.
    UpstreamAlert,
    /// The upstream closed or reset before the first byte of its answer.
    UpstreamReset,
    /// No answer head within `response_timeout`.
    UpstreamResponseTimeout,
    /// The answer stood still for `idle_timeout`.
    UpstreamIdleTimeout,
    /// The upstream took no more of the request for `idle_timeout`.
    UpstreamWriteTimeout,
    /// The answer broke a rule of its wire format.
    UpstreamMalformed,
    /// The answer's head exceeds `head_bytes` or `head_fields`.
    UpstreamHeadTooLarge,
    /// The answer ended within its head or its body.
    UpstreamIncomplete,
    /// The upstream switched protocols without being asked, or to another one.
    UpgradeFailed,
    /// A filter failed, and its policy is `closed`.
    FilterFailed,
    /// `overload` is reached, and no place became free in time.
    Overload,
    /// The time that the request says it has is over.
    DeadlineExceeded,
    /// The client took nothing of the answer for `body_idle_timeout`, or too slowly.
    ResponseWriteTimeout,
    /// The client closed or reset before it had the whole answer.
    ClientGone,
    /// The sidecar is stopping, and the time to finish is over.
    Stopping,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Status of the reply.
    pub status: u16,
    /// The RFC 9209 word.
    pub error: &'static str,
    /// Body of the reply, one sentence.
    pub text: &'static str,
    /// HTTP/1: the connection closes behind the reply, since what follows on it cannot be trusted.
    pub closes: bool,
    /// `retry-after`, in seconds.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 39] = [
        Fault::RequestMalformed,
        Fault::TargetTooLong,
        Fault::RequestHeadTooLarge,
        Fault::RequestTrailersTooLarge,
        Fault::RequestHeadTimeout,
        Fault::RequestBodyTimeout,
        Fault::RequestIncomplete,
        Fault::ExpectationUnknown,
        Fault::MethodNotOffered,
        Fault::VersionNotOffered,
        Fault::NoRoute,
        Fault::DnsTimeout,
        Fault::DnsError,
        Fault::AddressProhibited,
        Fault::Loop,
        Fault::NoEndpoint,
        Fault::UpstreamDnsError,
        Fault::UpstreamDnsTimeout,
        Fault::UpstreamLimit,
        Fault::UpstreamRefused,
        Fault::UpstreamConnectTimeout,
        Fault::UpstreamUnreachable,
        Fault::UpstreamCertificate,
        Fault::UpstreamTls,
        Fault::UpstreamAlert,
        Fault::UpstreamReset,
        Fault::UpstreamResponseTimeout,
        Fault::UpstreamIdleTimeout,
        Fault::UpstreamWriteTimeout,
        Fault::UpstreamMalformed,
        Fault::UpstreamHeadTooLarge,
        Fault::UpstreamIncomplete,
        Fault::UpgradeFailed,
        Fault::FilterFailed,
        Fault::Overload,
        Fault::DeadlineExceeded,
        Fault::ResponseWriteTimeout,
        Fault::ClientGone,
        Fault::Stopping,
    ];

    /// The row of the table.
    pub fn row(self) -> Row {
        let keeps =
            |status, error, text| Row { status, error, text, closes: false, retry_after: None };
        let closes = |status, error, text| Row { closes: true, ..keeps(status, error, text) };
        match self {
            Fault::RequestMalformed => {
                closes(400, "http_request_error", "The request is malformed.")
            }
            Fault::TargetTooLong => {
                closes(414, "http_request_error", "The request target is too long.")
            }
            Fault::RequestHeadTooLarge => {
                closes(431, "http_request_error", "The request head is too large.")
            }
            Fault::RequestTrailersTooLarge => {
                closes(431, "http_request_error", "The request trailers are too large.")
            }
            Fault::RequestHeadTimeout => {
                closes(408, "http_request_error", "The request head did not arrive in time.")
            }
            Fault::RequestBodyTimeout => {
                closes(408, "http_request_error", "The request body did not arrive in time.")
            }
            Fault::RequestIncomplete => {
                closes(400, "http_request_error", "The request ended before it was complete.")
            }
            Fault::ExpectationUnknown => {
                closes(417, "http_request_error", "The expectation is not known here.")
            }
            Fault::MethodNotOffered => {
                closes(501, "http_request_error", "The method is not offered here.")
            }
            Fault::VersionNotOffered => {
                closes(505, "http_request_error", "The HTTP version is not offered here.")
            }
            Fault::NoRoute => keeps(404, "destination_not_found", "No route matches the request."),
            Fault::DnsTimeout => keeps(504, "dns_timeout", "The host was not looked up in time."),
            Fault::DnsError => keeps(502, "dns_error", "The host was not found."),
            Fault::AddressProhibited => {
                keeps(502, "destination_ip_prohibited", "The host is not to be reached from here.")
            }
            Fault::Loop => keeps(502, "proxy_loop_detected", "The request goes in circles."),
            Fault::NoEndpoint => Row {
                retry_after: Some(1),
                ..keeps(503, "destination_unavailable", "No endpoint is available.")
            },
            Fault::UpstreamDnsError => Row {
                retry_after: Some(1),
                ..keeps(503, "dns_error", "The upstream's address is not known.")
            },
            Fault::UpstreamDnsTimeout => Row {
                retry_after: Some(1),
                ..keeps(503, "dns_timeout", "The upstream's address is not known yet.")
            },
            Fault::UpstreamLimit => Row {
                retry_after: Some(1),
                ..keeps(503, "connection_limit_reached", "The upstream has too much to do.")
            },
            Fault::UpstreamRefused => {
                keeps(502, "connection_refused", "The upstream refused the connection.")
            }
            Fault::UpstreamConnectTimeout => keeps(
                504,
                "connection_timeout",
                "The upstream did not accept a connection in time.",
            ),
            Fault::UpstreamUnreachable => {
                keeps(502, "destination_ip_unroutable", "The upstream cannot be reached.")
            }
            Fault::UpstreamCertificate => {
                keeps(502, "tls_certificate_error", "The upstream's certificate is not accepted.")
            }
            Fault::UpstreamTls => {
                keeps(502, "tls_protocol_error", "The upstream does not speak TLS as expected.")
            }
            Fault::UpstreamAlert => {
                keeps(502, "tls_alert_received", "The upstream refused the TLS session.")
            }
            Fault::UpstreamReset => {
                keeps(502, "connection_terminated", "The upstream closed the connection.")
            }
            Fault::UpstreamResponseTimeout => {
                keeps(504, "http_response_timeout", "The upstream did not answer in time.")
            }
            Fault::UpstreamIdleTimeout => {
                keeps(504, "connection_read_timeout", "The upstream's answer stood still.")
            }
            Fault::UpstreamWriteTimeout => keeps(
                504,
                "connection_write_timeout",
                "The upstream did not take the request in time.",
            ),
            Fault::UpstreamMalformed => {
                keeps(502, "http_protocol_error", "The upstream's answer is malformed.")
            }
            Fault::UpstreamHeadTooLarge => keeps(
                502,
                "http_response_header_section_size",
                "The upstream's answer head is too large.",
            ),
            Fault::UpstreamIncomplete => {
                keeps(502, "http_response_incomplete", "The upstream's answer is incomplete.")
            }
            Fault::UpgradeFailed => {
                keeps(502, "http_upgrade_failed", "The upstream did not switch protocols as asked.")
            }
            Fault::FilterFailed => {
                keeps(500, "proxy_internal_error", "The request could not be processed.")
            }
            Fault::Overload => Row {
                retry_after: Some(1),
                ..keeps(503, "connection_limit_reached", "The sidecar is at its limit.")
            },
            Fault::DeadlineExceeded => {
                keeps(504, "http_response_timeout", "The time that the request has is over.")
            }
            Fault::ResponseWriteTimeout => {
                closes(408, "connection_write_timeout", "The answer was not taken in time.")
            }
            Fault::ClientGone => closes(499, "connection_terminated", "The client is gone."),
            Fault::Stopping => Row {
                retry_after: Some(1),
                ..closes(503, "proxy_internal_response", "The sidecar is stopping.")
            },
        }
    }

    /// The status that a call of gRPC gets for it. None: the reply, whose HTTP status its client takes
    /// for one of gRPC (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>);
    /// only that there is no more time cannot be said so.
    pub fn grpc_status(self) -> Option<u8> {
        (self == Fault::DeadlineExceeded).then_some(GRPC_DEADLINE_EXCEEDED)
    }

    /// Fills `head` with the reply to a call of gRPC, which has no body: fields and nothing more, which
    /// the protocol calls Trailers-Only. `kind` is the content type of the call.
    pub fn reply_grpc(self, status: u8, kind: &[u8], head: &mut ResponseHead) {
        let row = self.row();
        head.clear();
        head.status = 200;
        head.fields.append(Name::known("content-type"), kind);
        head.fields.append(Name::known("grpc-status"), status.to_string().as_bytes());
        head.fields.append(Name::known("grpc-message"), row.text.as_bytes());
        head.fields.append(Name::known("proxy-status"), proxy_status(row).as_bytes());
    }

    /// Fills `head` with the reply and gives its body.
    pub fn reply(self, head: &mut ResponseHead) -> Bytes {
        let row = self.row();
        head.clear();
        head.status = row.status;
        head.fields.append(Name::known("content-type"), b"text/plain; charset=utf-8");
        head.fields.append(Name::known("proxy-status"), proxy_status(row).as_bytes());
        if let Some(seconds) = row.retry_after {
            head.fields.append(Name::known("retry-after"), seconds.to_string().as_bytes());
        }
        Bytes::from(format!("{}\n", row.text))
    }
}

/// DEADLINE_EXCEEDED.
const GRPC_DEADLINE_EXCEEDED: u8 = 4;

fn proxy_status(row: Row) -> String {
    format!("pillion; error={}", row.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table again, as the documentation states it.
    #[test]
    fn every_fault_has_its_documented_reply() {
        let documented = include_str!("../../ERRORS.md");
        for fault in Fault::ALL {
            let row = fault.row();
            let line = format!("| `{fault:?}` | {} | `{}` |", row.status, row.error);
            assert!(documented.contains(&line), "host/ERRORS.md lacks: {line}");
        }
        let lines = documented.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(lines, Fault::ALL.len(), "host/ERRORS.md has a line too many");
    }

    #[test]
    fn a_reply_names_the_error_and_nothing_of_the_inside() {
        let mut head = ResponseHead::default();
        for fault in Fault::ALL {
            let body = fault.reply(&mut head);
            let row = fault.row();
            assert_eq!(head.status, row.status);
            let status = head.fields.get(Name::known("proxy-status")).unwrap();
            assert_eq!(status, format!("pillion; error={}", row.error).as_bytes());
            assert_eq!(head.fields.contains(Name::known("retry-after")), row.retry_after.is_some());
            assert_eq!(&body[..body.len() - 1], row.text.as_bytes());
        }
    }

    #[test]
    fn a_call_of_grpc_is_told_by_a_status_of_its_own_that_its_time_is_over() {
        let mut head = ResponseHead::default();
        for fault in Fault::ALL {
            let Some(status) = fault.grpc_status() else { continue };
            fault.reply_grpc(status, b"application/grpc+proto", &mut head);
            let field = |name| head.fields.get(Name::known(name)).unwrap();
            assert_eq!((head.status, field("grpc-status")), (200, &b"4"[..]));
            assert_eq!(field("content-type"), b"application/grpc+proto");
            assert!(field("proxy-status").starts_with(b"pillion; error="));
        }
        assert_eq!(Fault::ALL.iter().filter_map(|fault| fault.grpc_status()).count(), 1);
    }
}
