//! Why a head was refused. Every case is one rule, with the status that answers it.

/// A head that breaks a rule. The connection cannot be used any further: where the message ends is
/// not known, and guessing it is how requests are smuggled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// RFC 9112 section 3.
    #[error("the request line is not a method, a target and a version with one blank between them")]
    RequestLine,
    /// RFC 9112 section 4.
    #[error("the status line is not a version and a status from 100 to 599")]
    StatusLine,
    /// Only HTTP/1.0 and HTTP/1.1 are spoken here.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// A sidecar is no forward proxy.
    #[error("the method `CONNECT` is not supported")]
    Connect,
    /// RFC 9112 section 3.2.
    #[error("the target is neither a path without a fragment nor an absolute `http` address")]
    Target,
    /// `HeadLimits::target`, or a first line that alone exceeds `HeadLimits::bytes`.
    #[error("the target exceeds `target_bytes`")]
    TargetTooLong,
    /// `HeadLimits::bytes`.
    #[error("the head exceeds `head_bytes`")]
    TooLarge,
    /// `HeadLimits::fields`.
    #[error("the head has more field lines or `connection` options than `head_fields`")]
    TooManyFields,
    /// RFC 9112 section 2.2.
    #[error("a line does not end in CR LF, or holds a CR elsewhere")]
    LineEnd,
    /// RFC 9110 section 5.5.
    #[error("the head holds a control byte")]
    ControlByte,
    /// RFC 9112 section 5.2.
    #[error("a field line is folded")]
    Folded,
    /// RFC 9110 section 5.1.
    #[error("a field line has no valid name")]
    FieldName,
    /// RFC 9112 section 5.1.
    #[error("a field name is followed by a blank")]
    BlankBeforeColon,
    /// RFC 9112 section 3.2.
    #[error("`host` is missing")]
    HostMissing,
    /// RFC 9112 section 3.2.
    #[error("there is more than one `host`")]
    HostRepeated,
    /// RFC 9110 section 7.2.
    #[error("`host` is not a host and an optional port")]
    HostInvalid,
    /// RFC 9110 section 8.6: digits, and a number below 2^64.
    #[error("`content-length` is not a number")]
    LengthInvalid,
    /// RFC 9112 section 6.3, without the leave to accept equal ones.
    #[error("there is more than one `content-length`")]
    LengthRepeated,
    /// RFC 9110 section 8.6: a response of this status cannot have one.
    #[error("a response without a body frames one")]
    LengthForbidden,
    /// RFC 9112 section 6.1.
    #[error("`transfer-encoding` is not exactly `chunked`")]
    CodingInvalid,
    /// RFC 9112 section 6.1.
    #[error("there is more than one `transfer-encoding`")]
    CodingRepeated,
    /// RFC 9112 section 6.1.
    #[error("there is a `transfer-encoding` in HTTP/1.0")]
    CodingInHttp10,
    /// RFC 9112 section 6.3.
    #[error("there are both `content-length` and `transfer-encoding`")]
    LengthAndCoding,
    /// RFC 9110 section 7.6.1.
    #[error("`connection` is not a list of names")]
    ConnectionInvalid,
    /// RFC 9110 section 7.8.
    #[error("`upgrade` is not a list of protocols")]
    UpgradeInvalid,
    /// RFC 9110 section 10.1.1.
    #[error("`expect` asks for something other than `100-continue`")]
    Expectation,
}

impl HeadError {
    /// The status that answers a refused request. A refused response is answered with 502, whatever
    /// the case.
    pub fn status(self) -> u16 {
        match self {
            HeadError::RequestLine
            | HeadError::Target
            | HeadError::LineEnd
            | HeadError::ControlByte
            | HeadError::Folded
            | HeadError::FieldName
            | HeadError::BlankBeforeColon
            | HeadError::HostMissing
            | HeadError::HostRepeated
            | HeadError::HostInvalid
            | HeadError::LengthInvalid
            | HeadError::LengthRepeated
            | HeadError::CodingInvalid
            | HeadError::CodingRepeated
            | HeadError::CodingInHttp10
            | HeadError::LengthAndCoding
            | HeadError::ConnectionInvalid
            | HeadError::UpgradeInvalid => 400,
            HeadError::TargetTooLong => 414,
            HeadError::Expectation => 417,
            HeadError::TooLarge | HeadError::TooManyFields => 431,
            HeadError::Connect => 501,
            HeadError::StatusLine | HeadError::LengthForbidden => 502,
            HeadError::Version => 505,
        }
    }
}
