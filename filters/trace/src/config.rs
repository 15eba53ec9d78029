//! The filter's configuration: as it is written, and checked.
//!
//! Every key has a default, so an empty table is a complete configuration. A mistake names the path
//! of its key.

use alloc::format;
use alloc::vec::Vec;

use core::fmt;

use pillion_sdk::ConfigError;
use serde::Deserialize;
use serde::de::{self, Unexpected, Visitor};

use crate::context::SampleRatio;

/// Characters of `tracestate` passed on by default.
const TRACESTATE_MAX: u64 = 4_096;
/// What the specification wants at least.
const TRACESTATE_MAX_LEAST: u64 = 512;
/// All that 32 entries can hold is a little more; a head holds 32 KiB.
const TRACESTATE_MAX_MOST: u64 = 16_384;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    incoming: Incoming,
    sample_ratio: SampleRatio,
    tracestate_max: u64,
    b3_in: bool,
    b3_out: B3Out,
    request_id: RequestId,
    response: Vec<ResponseField>,
}

/// What becomes of the caller's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Incoming {
    Continue,
    /// A trace of its own begins here, as at the edge of a trusted network.
    Restart,
}

/// Which forms of B3 are sent beside `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum B3Out {
    None,
    Single,
    Multi,
    Both,
}

/// Where `x-request-id` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RequestId {
    /// From the caller where it is fit, else from here.
    Keep,
    /// Always from here.
    Replace,
    /// The field is left alone.
    Off,
}

/// A field that responses get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ResponseField {
    TraceId,
    RequestId,
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) incoming: Incoming,
    pub(crate) sample_ratio: SampleRatio,
    pub(crate) tracestate_max: usize,
    pub(crate) b3_in: bool,
    pub(crate) b3_out: B3Out,
    pub(crate) request_id: RequestId,
    /// Responses get `x-trace-id`.
    pub(crate) show_trace_id: bool,
    /// Responses get `x-request-id`.
    pub(crate) show_request_id: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            incoming: Incoming::Continue,
            sample_ratio: SampleRatio::ALL,
            tracestate_max: TRACESTATE_MAX,
            b3_in: false,
            b3_out: B3Out::None,
            request_id: RequestId::Keep,
            response: Vec::new(),
        }
    }
}

impl Config {
    /// Check what the types do not; the first mistake is reported.
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let Self { incoming, sample_ratio, tracestate_max, b3_in, b3_out, request_id, response } =
            self;
        if !(TRACESTATE_MAX_LEAST..=TRACESTATE_MAX_MOST).contains(&tracestate_max) {
            let message = format!(
                "`{tracestate_max}` is not a length from {TRACESTATE_MAX_LEAST} to \
                 {TRACESTATE_MAX_MOST}"
            );
            return Err(ConfigError::at("tracestate_max", message));
        }
        let show_request_id = response.contains(&ResponseField::RequestId);
        if show_request_id && request_id == RequestId::Off {
            let message = "asks for the request id, which `request_id` turns off";
            return Err(ConfigError::at("response", message));
        }
        Ok(Settings {
            incoming,
            sample_ratio,
            tracestate_max: usize::try_from(tracestate_max).expect("at most 16,384"),
            b3_in,
            b3_out,
            request_id,
            show_trace_id: response.contains(&ResponseField::TraceId),
            show_request_id,
        })
    }
}

impl<'de> Deserialize<'de> for SampleRatio {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(SampleRatioVisitor)
    }
}

struct SampleRatioVisitor;

impl Visitor<'_> for SampleRatioVisitor {
    type Value = SampleRatio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ratio from 0 to 1")
    }

    fn visit_f64<E: de::Error>(self, ratio: f64) -> Result<SampleRatio, E> {
        let found = Unexpected::Float(ratio);
        SampleRatio::new(ratio).ok_or_else(|| E::invalid_value(found, &self))
    }

    fn visit_u64<E: de::Error>(self, ratio: u64) -> Result<SampleRatio, E> {
        let found = Unexpected::Unsigned(ratio);
        SampleRatio::new(ratio as f64).ok_or_else(|| E::invalid_value(found, &self))
    }

    fn visit_i64<E: de::Error>(self, ratio: i64) -> Result<SampleRatio, E> {
        let found = Unexpected::Signed(ratio);
        SampleRatio::new(ratio as f64).ok_or_else(|| E::invalid_value(found, &self))
    }
}
