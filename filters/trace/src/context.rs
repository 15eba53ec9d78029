//! The trace context a request goes on with: the caller's trace with a new parent id, or a trace of
//! its own.
//!
//! Puts `traceparent` and `b3` together and holds the sampling decision. Pure: the random bytes are
//! handed in.

use crate::b3::{B3, Sampling};
use crate::ids::{SpanId, TraceId};
use crate::traceparent::TraceParent;

/// What the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A trace to continue.
    Trace {
        trace_id: TraceId,
        parent_id: SpanId,
        /// The low seven bytes of the trace id are random.
        random: bool,
        sampling: Sampling,
    },
    /// No trace that could be continued, at most a decision for the one that begins here.
    Nothing(Sampling),
}

/// The context that is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace_id: TraceId,
    /// This hop's operation; the next hop's parent.
    pub(crate) span_id: SpanId,
    /// The caller's operation, where the trace is continued.
    pub(crate) parent_id: Option<SpanId>,
    pub(crate) random: bool,
    /// The decision; never `Deferred`.
    pub(crate) sampling: Sampling,
}

/// Which part of the traces that begin here is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SampleRatio {
    /// Traces whose low seven bytes are at least this are sampled.
    threshold: u64,
}

impl From<TraceParent> for Caller {
    fn from(parent: TraceParent) -> Self {
        let sampling = if parent.sampled { Sampling::Accepted } else { Sampling::Denied };
        Self::Trace {
            trace_id: parent.trace_id,
            parent_id: parent.parent_id,
            random: parent.random,
            sampling,
        }
    }
}

impl From<B3> for Caller {
    fn from(b3: B3) -> Self {
        match b3.ids {
            Some((trace_id, parent_id)) => {
                Self::Trace { trace_id, parent_id, random: false, sampling: b3.sampling }
            }
            None => Self::Nothing(b3.sampling),
        }
    }
}

impl Context {
    /// Continue the caller's trace or begin one. `random` fills the given array with random bytes.
    pub(crate) fn new(caller: Caller, ratio: SampleRatio, random: &mut impl Entropy) -> Self {
        let span_id = SpanId::from_random(random.take());
        let mut context = match caller {
            Caller::Trace { trace_id, parent_id, random, sampling } => {
                Self { trace_id, span_id, parent_id: Some(parent_id), random, sampling }
            }
            Caller::Nothing(sampling) => {
                let trace_id = TraceId::from_random(random.take());
                Self { trace_id, span_id, parent_id: None, random: true, sampling }
            }
        };
        if context.sampling == Sampling::Deferred {
            context.sampling = ratio.decide(&context.trace_id);
        }
        context
    }

    /// The `traceparent` to send.
    pub(crate) fn traceparent(&self) -> TraceParent {
        TraceParent {
            trace_id: self.trace_id,
            parent_id: self.span_id,
            sampled: self.sampling != Sampling::Denied,
            random: self.random,
        }
    }
}

impl SampleRatio {
    pub(crate) const ALL: Self = Self { threshold: 0 };

    /// `ratio` from 0 (none) to 1 (all); none for anything else.
    pub(crate) fn new(ratio: f64) -> Option<Self> {
        const ALL: f64 = (1_u64 << 56) as f64;
        // The product is at most 2^56, which `u64` and `f64` both hold exactly.
        (0.0..=1.0).contains(&ratio).then_some(Self { threshold: ((1.0 - ratio) * ALL) as u64 })
    }

    /// The same trace gets the same answer everywhere, and one that is sampled at some ratio is
    /// sampled at every higher one.
    fn decide(self, trace_id: &TraceId) -> Sampling {
        match self.threshold == 0 || trace_id.low_56_bits() >= self.threshold {
            true => Sampling::Accepted,
            false => Sampling::Denied,
        }
    }
}

/// Where random bytes come from.
pub(crate) trait Entropy {
    /// The next `N` bytes.
    fn take<const N: usize>(&mut self) -> [u8; N];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up, and counts what was taken.
    struct Counting(u8);

    impl Entropy for Counting {
        fn take<const N: usize>(&mut self) -> [u8; N] {
            core::array::from_fn(|_| {
                self.0 += 1;
                self.0
            })
        }
    }

    fn all() -> SampleRatio {
        SampleRatio::new(1.0).unwrap()
    }

    fn trace(low: u64) -> TraceId {
        TraceId::parse(format!("ffffffffffffffffff{low:014x}").as_bytes()).unwrap()
    }

    fn caller(trace_id: TraceId, sampling: Sampling) -> Caller {
        let parent_id = SpanId::parse(b"b7ad6b7169203331").unwrap();
        Caller::Trace { trace_id, parent_id, random: false, sampling }
    }

    #[test]
    fn a_trace_goes_on_with_its_id_and_flags_and_a_new_parent() {
        for flags in ["00", "01", "02", "03"] {
            let value = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            let caller = Caller::from(TraceParent::parse(&value).unwrap());
            let none = SampleRatio::new(0.0).unwrap();
            for ratio in [all(), none] {
                let context = Context::new(caller, ratio, &mut Counting(0));
                assert_eq!(
                    context.traceparent().to_value(),
                    format!("00-0af7651916cd43dd8448eb211c80319c-0102030405060708-{flags}")
                        .as_bytes()
                );
                assert_eq!(context.parent_id.unwrap().as_str(), "b7ad6b7169203331");
            }
        }
    }

    #[test]
    fn a_new_trace_has_random_ids_and_says_so() {
        let caller = Caller::Nothing(Sampling::Deferred);
        let context = Context::new(caller, all(), &mut Counting(0));
        assert_eq!(
            context.traceparent().to_value(),
            *b"00-090a0b0c0d0e0f101112131415161718-0102030405060708-03"
        );
        assert_eq!(context.parent_id, None);
    }

    #[test]
    fn a_decision_without_ids_holds_for_the_new_trace() {
        for (sampling, flags) in
            [(Sampling::Denied, b"-02"), (Sampling::Accepted, b"-03"), (Sampling::Debug, b"-03")]
        {
            let caller = Caller::from(B3 { ids: None, sampling });
            let context = Context::new(caller, all(), &mut Counting(0));
            assert!(context.traceparent().to_value().ends_with(flags));
            assert_eq!(context.sampling, sampling);
        }
    }

    #[test]
    fn the_ratio_decides_by_the_low_seven_bytes() {
        let decide = |ratio: f64, low: u64| {
            let ratio = SampleRatio::new(ratio).unwrap();
            let caller = caller(trace(low), Sampling::Deferred);
            Context::new(caller, ratio, &mut Counting(0)).sampling == Sampling::Accepted
        };
        let top = (1 << 56) - 1;
        assert!(decide(1.0, 0) && decide(1.0, top));
        assert!(!decide(0.0, 0) && !decide(0.0, top));
        let half = 1 << 55;
        assert!(!decide(0.5, half - 1));
        assert!(decide(0.5, half) && decide(0.5, half + 1));
        assert!(!decide(0.25, half + (half >> 1) - 1) && decide(0.25, half + (half >> 1)));
    }

    #[test]
    fn a_ratio_lies_between_0_and_1() {
        for (ratio, valid) in [
            (-0.001, false),
            (0.0, true),
            (0.5, true),
            (1.0, true),
            (1.001, false),
            (f64::NAN, false),
            (f64::INFINITY, false),
        ] {
            assert_eq!(SampleRatio::new(ratio).is_some(), valid, "{ratio}");
        }
    }
}
