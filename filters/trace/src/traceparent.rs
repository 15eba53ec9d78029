//! The `traceparent` field of W3C Trace Context, level 2.
//!
//! Reads versions 00 to fe and writes version 00. Knows neither `tracestate` nor when a trace is
//! continued: `context` decides that.

use alloc::string::String;

use crate::hex;
use crate::ids::{SpanId, TraceId};

/// Length of version 00; higher versions are at least as long.
const LENGTH: usize = 55;

const SAMPLED: u64 = 0x01;
const RANDOM: u64 = 0x02;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    pub(crate) trace_id: TraceId,
    pub(crate) parent_id: SpanId,
    /// The sender may have recorded the trace.
    pub(crate) sampled: bool,
    /// The low seven bytes of the trace id are random.
    pub(crate) random: bool,
}

impl TraceParent {
    /// The context that the request's field lines carry: none unless there is exactly one line and
    /// it is valid.
    pub(crate) fn from_lines(lines: &[String]) -> Option<Self> {
        match lines {
            [line] => Self::parse(line),
            _ => None,
        }
    }

    /// Read one value. Of a version higher than 00 the four fields of version 00 are read and what
    /// follows them is ignored; flags that level 2 does not define are dropped.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let value = value.as_bytes();
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
        let whole = match &known[..2] {
            b"00" => rest.is_empty(),
            b"ff" => false,
            version => hex::is_lower(version) && matches!(rest.first(), None | Some(b'-')),
        };
        if !dashes || !whole {
            return None;
        }
        let flags = hex::number(&known[53..])?;
        Some(Self {
            trace_id: TraceId::parse(&known[3..35])?,
            parent_id: SpanId::parse(&known[36..52])?,
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
        })
    }

    /// The value to send, in version 00.
    pub(crate) fn to_value(self) -> [u8; LENGTH] {
        let mut value = [b'-'; LENGTH];
        value[..2].copy_from_slice(b"00");
        value[3..35].copy_from_slice(self.trace_id.as_bytes());
        value[36..52].copy_from_slice(self.parent_id.as_bytes());
        value[53..].copy_from_slice(match (self.random, self.sampled) {
            (false, false) => b"00",
            (false, true) => b"01",
            (true, false) => b"02",
            (true, true) => b"03",
        });
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn parse(value: &str) -> Option<TraceParent> {
        TraceParent::parse(value)
    }

    #[test]
    fn version_00_is_read_and_written_as_it_was() {
        for flags in ["00", "01", "02", "03"] {
            let value = format!("00-{TRACE}-{PARENT}-{flags}");
            assert_eq!(parse(&value).unwrap().to_value(), value.as_bytes());
        }
    }

    #[test]
    fn unknown_flags_are_dropped() {
        let parsed = parse(&format!("00-{TRACE}-{PARENT}-ff")).unwrap();
        assert_eq!(parsed.to_value(), format!("00-{TRACE}-{PARENT}-03").as_bytes());
        let parsed = parse(&format!("00-{TRACE}-{PARENT}-fc")).unwrap();
        assert_eq!(parsed.to_value(), format!("00-{TRACE}-{PARENT}-00").as_bytes());
    }

    #[test]
    fn higher_versions_are_read_by_their_first_four_fields() {
        for value in [
            format!("01-{TRACE}-{PARENT}-01"),
            format!("cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like"),
            format!("fe-{TRACE}-{PARENT}-01-"),
        ] {
            let parsed = parse(&value).unwrap_or_else(|| panic!("{value}"));
            assert_eq!(parsed.to_value(), format!("00-{TRACE}-{PARENT}-01").as_bytes());
        }
        assert_eq!(parse(&format!("cc-{TRACE}-{PARENT}-01.what")), None);
        assert_eq!(parse(&format!("cc-{TRACE}-{PARENT}-012")), None);
    }

    #[test]
    fn anything_else_is_invalid() {
        let upper = TRACE.to_uppercase();
        for value in [
            String::new(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("0x-{TRACE}-{PARENT}-01"),
            format!("0A-{TRACE}-{PARENT}-01"),
            format!("00-{upper}-{PARENT}-01"),
            format!("00-{TRACE}-B7AD6B7169203331-01"),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-0G"),
            format!("00-{TRACE}-{PARENT}-0F"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("00-{TRACE}-{PARENT}-01-extra"),
            format!("00-{TRACE}-{PARENT}-011"),
            format!(" 00-{TRACE}-{PARENT}-01"),
            format!("00_{TRACE}_{PARENT}_01"),
            format!("00_{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}_{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}_01"),
            format!("00-{TRACE}{PARENT}-01"),
            "\u{e9}".repeat(28),
        ] {
            assert_eq!(parse(&value), None, "{value}");
        }
    }

    #[test]
    fn exactly_one_line_counts() {
        let line = format!("00-{TRACE}-{PARENT}-01");
        assert!(TraceParent::from_lines(std::slice::from_ref(&line)).is_some());
        assert!(TraceParent::from_lines(&[]).is_none());
        assert!(TraceParent::from_lines(&[line.clone(), line]).is_none());
    }
}
