//! A set of hooks, with which a filter says what it wants.

/// The hooks of an exchange that a filter wants called, for [`Filter::wants`](crate::Filter::wants).
///
/// A hook that the filter does not write is never called, wanted or not: take away from
/// [`ALL`](Self::ALL) what has nothing to do.
///
/// ```
/// use pillion_sdk::Hooks;
///
/// let hooks = Hooks::ALL.without(Hooks::ON_RESPONSE);
/// assert!(hooks.has(Hooks::ON_REQUEST) && !hooks.has(Hooks::ON_RESPONSE));
/// assert_eq!(Hooks::NONE.with(Hooks::ON_RESPONSE).with(hooks), Hooks::ALL);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks(u8);

// The bits are those of the flags in `wit/v0.1.0/hooks.wit`.
impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Every hook.
    pub const ALL: Self = Self(0b0111_1111);
    /// [`on_request`](crate::Filter::on_request).
    pub const ON_REQUEST: Self = Self(1 << 0);
    /// [`on_request_body`](crate::Filter::on_request_body).
    pub const ON_REQUEST_BODY: Self = Self(1 << 1);
    /// [`on_request_trailers`](crate::Filter::on_request_trailers).
    pub const ON_REQUEST_TRAILERS: Self = Self(1 << 2);
    /// [`on_response`](crate::Filter::on_response).
    pub const ON_RESPONSE: Self = Self(1 << 3);
    /// [`on_response_body`](crate::Filter::on_response_body).
    pub const ON_RESPONSE_BODY: Self = Self(1 << 4);
    /// [`on_response_trailers`](crate::Filter::on_response_trailers).
    pub const ON_RESPONSE_TRAILERS: Self = Self(1 << 5);
    /// [`on_complete`](crate::Filter::on_complete).
    pub const ON_COMPLETE: Self = Self(1 << 6);

    /// These and the others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These but for the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Are the others all among these?
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// As they cross the boundary.
    #[cfg(target_arch = "wasm32")]
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_contract() {
        let contract = include_str!("../../../wit/v0.1.0/hooks.wit");
        let (_, flags) = contract.split_once("flags hook-set {").unwrap();
        let (flags, _) = flags.split_once('}').unwrap();
        let names = flags.lines().filter_map(|line| line.trim().strip_suffix(','));
        let names: Vec<&str> = names.filter(|line| !line.starts_with("///")).collect();
        let hooks = [
            ("on-request", Hooks::ON_REQUEST),
            ("on-request-body", Hooks::ON_REQUEST_BODY),
            ("on-request-trailers", Hooks::ON_REQUEST_TRAILERS),
            ("on-response", Hooks::ON_RESPONSE),
            ("on-response-body", Hooks::ON_RESPONSE_BODY),
            ("on-response-trailers", Hooks::ON_RESPONSE_TRAILERS),
            ("on-complete", Hooks::ON_COMPLETE),
        ];
        assert_eq!(names, hooks.map(|(name, _)| name));
        let mut all = Hooks::NONE;
        for (at, (name, hook)) in hooks.into_iter().enumerate() {
            assert_eq!(hook, Hooks(1 << at), "{name}");
            all = all.with(hook);
        }
        assert_eq!(all, Hooks::ALL);
    }
}
