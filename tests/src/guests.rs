//! The test guests as compiled components: small filters, most of them misbehaving.
//!
//! They are the examples of `tests/guests`, built by `build.rs`. What each does stands at its top.

use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The component of a guest.
///
/// # Panics
/// If there is no guest of that name.
pub fn path(name: &str) -> &'static Path {
    let at = NAMES.iter().position(|guest| *guest == name);
    let at = at.unwrap_or_else(|| panic!("no guest `{name}`: there are {}", NAMES.join(", ")));
    Path::new(PATHS[at])
}
