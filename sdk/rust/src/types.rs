//! The WIT interface `types` as the bindings see it: its names for types of this crate.
//!
//! The generated code builds and takes apart these types directly, so their fields and cases are those
//! of `wit/v0.1.0/types.wit`, in any order.

pub(crate) use crate::{
    BodyDecision, Decision as HeadDecision, EditErrorKind as EditError, Field, LocalResponse,
};
