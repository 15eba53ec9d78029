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

/// The component of the guest `mood` with a mark of its own: another mood, of four letters, and
/// another number of up to six digits.
///
/// # Panics
/// When the mark does not fit, or is not in the component exactly once.
pub fn marked(mood: &str, number: u32) -> Vec<u8> {
    const BEFORE: &[u8] = b"mark of this guest:";
    let mark = format!("{mood}-{number:06}");
    assert_eq!(mark.len(), 11, "{mark}");
    let mut component = std::fs::read(path("mood")).expect("the guests are built");
    let windows = component.windows(BEFORE.len()).enumerate();
    let found: Vec<usize> = windows.filter(|it| it.1 == BEFORE).map(|it| it.0).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let at = found[0] + BEFORE.len();
    component[at..at + mark.len()].copy_from_slice(mark.as_bytes());
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(guest: &str, text: &str) -> bool {
        let component = std::fs::read(path(guest)).unwrap();
        component.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn a_component_has_exactly_the_hooks_that_are_written() {
        for (guest, written) in [
            ("hello", &["on-request"][..]),
            ("body-upper", &["on-request-body", "on-response-body"]),
            ("trailers", &["on-request-trailers", "on-response-trailers"]),
            ("metrics", &["configure", "on-request"]),
            ("complete", &["on-complete"]),
        ] {
            for hook in [
                "configure",
                "wanted-hooks",
                "on-request",
                "on-request-body",
                "on-request-trailers",
                "on-response",
                "on-response-body",
                "on-response-trailers",
                "on-complete",
            ] {
                let interface = format!("pillion:filter/{hook}@0.1.0");
                assert_eq!(mentions(guest, &interface), written.contains(&hook), "{guest}: {hook}");
            }
        }
    }

    #[test]
    fn a_filter_imports_only_what_it_uses() {
        assert!(!mentions("noop", "wasi:"), "a filter that cannot fail needs no WASI");
        assert!(!mentions("noop", "pillion:filter/request@"));
        assert!(mentions("hello", "pillion:filter/request@"));
        assert!(!mentions("hello", "pillion:filter/log@"));
    }
}
