//! A mistake in a configuration while it is read: serde's words, and the path as far as it is known.
//!
//! Knows nothing of JSON.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};
use core::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::ConfigError;

/// A mistake and its path, which grows from the inside out.
#[derive(Debug)]
pub(super) struct Mistake(pub(super) Box<ConfigError>);

impl Mistake {
    #[cold]
    pub(super) fn new(message: String) -> Self {
        Self(Box::new(ConfigError::whole(message)))
    }

    #[cold]
    pub(super) fn under(self, prefix: &str) -> Self {
        Self(Box::new(self.0.under(prefix)))
    }

    #[cold]
    pub(super) fn under_index(self, index: usize) -> Self {
        self.under(&format!("[{index}]"))
    }

    /// Puts a floating-point number, as it was written, into the message.
    #[cold]
    pub(super) fn with_float(mut self, written: &str) -> Self {
        self.0.message = self.0.message.replacen(FLOAT, &format!("floating point `{written}`"), 1);
        self
    }
}

/// Stands in a message for a number that only its reader can show: serde has its value, the printing
/// of which is larger than all of this file.
pub(super) const FLOAT: &str = "floating point number";

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for Mistake {}

impl de::Error for Mistake {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {}, expected {expected}", Found(found)))
    }

    #[cold]
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid value: {}, expected {expected}", Found(found)))
    }
}

/// What was found, in serde's words.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "boolean `{value}`"),
            Unexpected::Unsigned(value) => write!(f, "integer `{value}`"),
            Unexpected::Signed(value) => write!(f, "integer `{value}`"),
            Unexpected::Float(_) => f.write_str(FLOAT),
            Unexpected::Str(text) => write!(f, "string {text:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("sequence"),
            Unexpected::Map => f.write_str("map"),
            Unexpected::UnitVariant => f.write_str("unit variant"),
            Unexpected::NewtypeVariant => f.write_str("newtype variant"),
            Unexpected::TupleVariant => f.write_str("tuple variant"),
            Unexpected::StructVariant => f.write_str("struct variant"),
            Unexpected::Other(other) => f.write_str(other),
            _ => f.write_str("another value"),
        }
    }
}
