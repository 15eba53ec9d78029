//! The shipped filters as compiled components, embedded.
//!
//! Each is a crate of its own beside this one, built by `build.rs`. In a configuration file they are
//! `source = "builtin:<name>"`. Knows nothing of how components are run.

/// A filter that comes with the sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// The name after `builtin:`.
    pub name: &'static str,
    /// The component.
    pub component: &'static [u8],
}

/// All of them.
pub const SHIPPED: &[Shipped] = &[
    Shipped { name: "trace", component: include_bytes!(env!("PILLION_TRACE")) },
    Shipped { name: "headers", component: include_bytes!(env!("PILLION_HEADERS")) },
    Shipped { name: "rate-limit", component: include_bytes!(env!("PILLION_RATE_LIMIT")) },
    Shipped { name: "cors", component: include_bytes!(env!("PILLION_CORS")) },
    Shipped { name: "jwt", component: include_bytes!(env!("PILLION_JWT")) },
    Shipped { name: "compress", component: include_bytes!(env!("PILLION_COMPRESS")) },
    Shipped { name: "validate-json", component: include_bytes!(env!("PILLION_VALIDATE_JSON")) },
];

/// The shipped filter of this name.
pub fn shipped(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_filter_is_a_component_under_its_own_name() {
        for name in SHIPPED.iter().map(|shipped| shipped.name) {
            let component = shipped(name).unwrap().component;
            // The preamble of the component model's binary format: magic, version 13, layer 1.
            assert!(component.starts_with(b"\0asm\x0d\0\x01\0"), "{name}");
        }
        assert!(shipped("other").is_none());
    }

    #[test]
    fn every_shipped_filter_exports_the_hooks_it_writes() {
        let exports = |name: &str, hook: &str| {
            let hook = format!("pillion:filter/{hook}@0.1.0");
            let component = shipped(name).unwrap().component;
            component.windows(hook.len()).any(|window| window == hook.as_bytes())
        };
        // The hooks of each, beside `configure`.
        for (name, written) in [
            ("trace", &["wanted-hooks", "on-request", "on-response"][..]),
            ("headers", &["wanted-hooks", "on-request", "on-response"]),
            ("rate-limit", &["wanted-hooks", "on-request", "on-response"]),
            ("cors", &["on-request", "on-response"]),
            ("jwt", &["on-request"]),
            ("compress", &["on-response", "on-response-body", "on-complete"]),
            ("validate-json", &["on-request", "on-request-body"]),
        ] {
            assert!(exports(name, "configure"), "{name}");
            for hook in [
                "wanted-hooks",
                "on-request",
                "on-request-body",
                "on-response",
                "on-response-body",
                "on-complete",
            ] {
                assert_eq!(exports(name, hook), written.contains(&hook), "{name}: {hook}");
            }
        }
    }
}
