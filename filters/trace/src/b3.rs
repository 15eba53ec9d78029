//! B3, the older propagation format of Zipkin: one field `b3`, or several `x-b3-*`.
//!
//! Reads and writes both forms. Knows nothing of `traceparent`; `context` puts the two together.

use alloc::string::String;

use crate::ids::{SpanId, TraceId};

/// Every field of the format.
pub(crate) const SINGLE: &str = "b3";
pub(crate) const TRACE_ID: &str = "x-b3-traceid";
pub(crate) const SPAN_ID: &str = "x-b3-spanid";
pub(crate) const PARENT_SPAN_ID: &str = "x-b3-parentspanid";
pub(crate) const SAMPLED: &str = "x-b3-sampled";
pub(crate) const FLAGS: &str = "x-b3-flags";

/// What a sender says about recording the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// Nothing: whoever gets the request decides.
    Deferred,
    Denied,
    Accepted,
    /// Accepted with emphasis; the mark stays with the trace.
    Debug,
}

/// What a request carries. Without ids it is a decision for the trace that begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct B3 {
    pub(crate) ids: Option<(TraceId, SpanId)>,
    pub(crate) sampling: Sampling,
}

/// Values of the form with several fields, as far as they are there.
#[derive(Debug, Default)]
pub(crate) struct MultiValues<'a> {
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) span_id: Option<&'a str>,
    pub(crate) sampled: Option<&'a str>,
    pub(crate) flags: Option<&'a str>,
}

impl B3 {
    /// Read the value of the single field; none if it is invalid.
    pub(crate) fn parse_single(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let first = parts.next()?;
        let Some(span_id) = parts.next() else {
            return Some(Self { ids: None, sampling: Sampling::from_letter(first)? });
        };
        let ids = (TraceId::parse_padded(first.as_bytes())?, SpanId::parse(span_id.as_bytes())?);
        let sampling = match parts.next() {
            Some(letter) => Sampling::from_letter(letter)?,
            None => Sampling::Deferred,
        };
        if let Some(parent) = parts.next() {
            SpanId::parse(parent.as_bytes())?;
        }
        match parts.next() {
            Some(_) => None,
            None => Some(Self { ids: Some(ids), sampling }),
        }
    }

    /// Read the form with several fields; none if it says nothing that is valid. Ids count as a
    /// pair; an invalid decision counts as none.
    pub(crate) fn parse_multi(values: &MultiValues<'_>) -> Option<Self> {
        let sampling = match (values.flags, values.sampled) {
            (Some("1"), _) => Sampling::Debug,
            (_, Some("1" | "true")) => Sampling::Accepted,
            (_, Some("0" | "false")) => Sampling::Denied,
            _ => Sampling::Deferred,
        };
        let trace_id = values.trace_id.and_then(|value| TraceId::parse_padded(value.as_bytes()));
        let span_id = values.span_id.and_then(|value| SpanId::parse(value.as_bytes()));
        let ids = trace_id.zip(span_id);
        (ids.is_some() || sampling != Sampling::Deferred).then_some(Self { ids, sampling })
    }
}

impl Sampling {
    fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "0" => Some(Self::Denied),
            "1" => Some(Self::Accepted),
            "d" => Some(Self::Debug),
            _ => None,
        }
    }
}

/// The value of the single field to send. `sampling` is never `Deferred` here: the filter decides.
pub(crate) fn single_value(
    trace_id: &TraceId,
    span_id: &SpanId,
    sampling: Sampling,
    parent_id: Option<&SpanId>,
) -> String {
    let mut value = String::with_capacity(68);
    value.push_str(trace_id.as_str());
    value.push('-');
    value.push_str(span_id.as_str());
    value.push_str(match sampling {
        Sampling::Deferred => "",
        Sampling::Denied => "-0",
        Sampling::Accepted => "-1",
        Sampling::Debug => "-d",
    });
    if let Some(parent_id) = parent_id {
        value.push('-');
        value.push_str(parent_id.as_str());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    fn ids() -> (TraceId, SpanId) {
        (TraceId::parse(TRACE.as_bytes()).unwrap(), SpanId::parse(SPAN.as_bytes()).unwrap())
    }

    #[test]
    fn the_single_field_holds_ids_a_decision_and_a_parent() {
        for (value, sampling) in [
            (format!("{TRACE}-{SPAN}"), Sampling::Deferred),
            (format!("{TRACE}-{SPAN}-0"), Sampling::Denied),
            (format!("{TRACE}-{SPAN}-1"), Sampling::Accepted),
            (format!("{TRACE}-{SPAN}-d"), Sampling::Debug),
            (format!("{TRACE}-{SPAN}-1-{PARENT}"), Sampling::Accepted),
        ] {
            let expected = B3 { ids: Some(ids()), sampling };
            assert_eq!(B3::parse_single(&value), Some(expected), "{value}");
        }
    }

    #[test]
    fn the_single_field_may_be_a_decision_alone() {
        for (value, sampling) in
            [("0", Sampling::Denied), ("1", Sampling::Accepted), ("d", Sampling::Debug)]
        {
            assert_eq!(B3::parse_single(value), Some(B3 { ids: None, sampling }), "{value}");
        }
    }

    #[test]
    fn an_invalid_single_field_says_nothing() {
        for value in [
            String::new(),
            "x".into(),
            "-".into(),
            TRACE.into(),
            format!("{TRACE}-{SPAN}-"),
            format!("{TRACE}-{SPAN}-2"),
            format!("{TRACE}-{SPAN}-1-"),
            format!("{TRACE}-{SPAN}-1-{PARENT}-"),
            format!("{TRACE}-{SPAN}-{PARENT}"),
            format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            format!("{TRACE}-{}-1", "0".repeat(16)),
        ] {
            assert_eq!(B3::parse_single(&value), None, "{value}");
        }
    }

    #[test]
    fn several_fields_say_the_same() {
        let values = MultiValues { trace_id: Some(TRACE), span_id: Some(SPAN), ..<_>::default() };
        let parsed = B3::parse_multi(&values);
        assert_eq!(parsed, Some(B3 { ids: Some(ids()), sampling: Sampling::Deferred }));
        for (sampled, flags, sampling) in [
            (Some("1"), None, Sampling::Accepted),
            (Some("true"), None, Sampling::Accepted),
            (Some("0"), None, Sampling::Denied),
            (Some("false"), Some("0"), Sampling::Denied),
            (Some("0"), Some("1"), Sampling::Debug),
        ] {
            let values = MultiValues { sampled, flags, ..<_>::default() };
            assert_eq!(B3::parse_multi(&values), Some(B3 { ids: None, sampling }));
        }
    }

    #[test]
    fn half_a_pair_of_ids_is_none() {
        let short = MultiValues { trace_id: Some(TRACE), ..<_>::default() };
        let bad = MultiValues { trace_id: Some(TRACE), span_id: Some("1"), ..<_>::default() };
        let nothing = MultiValues { sampled: Some("maybe"), ..<_>::default() };
        for values in [short, bad, nothing, MultiValues::default()] {
            assert_eq!(B3::parse_multi(&values), None, "{values:?}");
        }
    }

    #[test]
    fn short_trace_ids_are_accepted_and_sent_long() {
        let parsed = B3::parse_single("64fe8b2a57d3eff7-e457b5a2e4d86bd1-1").unwrap();
        let (trace_id, span_id) = parsed.ids.unwrap();
        assert_eq!(
            single_value(&trace_id, &span_id, parsed.sampling, None),
            "000000000000000064fe8b2a57d3eff7-e457b5a2e4d86bd1-1"
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (trace_id, span_id) = ids();
        let parent = SpanId::parse(PARENT.as_bytes()).unwrap();
        for sampling in [Sampling::Denied, Sampling::Accepted, Sampling::Debug] {
            let value = single_value(&trace_id, &span_id, sampling, Some(&parent));
            assert!(value.len() <= 68 && value.ends_with(PARENT), "{value}");
            assert_eq!(B3::parse_single(&value), Some(B3 { ids: Some(ids()), sampling }));
        }
    }
}
