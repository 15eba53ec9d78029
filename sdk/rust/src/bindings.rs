//! Generated bindings: one `generate!` for everything a filter may import, and one for each hook.
//!
//! Each hook has a world of its own, and its exported macro carries its half of the component type, so
//! that a hook nobody exports never links. The worlds are written here and not in `wit/`: only this
//! crate needs them. Types of the interface `types` are those of this crate.

#![allow(missing_docs, unreachable_pub, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit/v0.1.0",
    world: "pillion:filter/imports@0.1.0",
    // Lists of texts are lent, not copied.
    ownership: Borrowing { duplicate_if_necessary: true },
    with: { "pillion:filter/types@0.1.0": crate::types },
});

/// Standard error, for the text of a failure.
pub(crate) mod wasi {
    wit_bindgen::generate!({ path: "wit", generate_all });
}

/// A module with the bindings of one hook. The world's name keeps the exported macros apart.
macro_rules! hook {
    ($module:ident, $inline:literal, { $($with:tt)* }) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit/v0.1.0",
                inline: $inline,
                with: { $($with)* },
                pub_export_macro: true,
            });
        }
    };
}

hook!(
    configure,
    "package pillion:sdk; world configure { export pillion:filter/configure@0.1.0; }",
    {}
);
hook!(
    wanted_hooks,
    "package pillion:sdk; world wanted-hooks { export pillion:filter/wanted-hooks@0.1.0; }",
    { "pillion:filter/wanted-hooks@0.1.0/hook-set": crate::Hooks, }
);
hook!(state, "package pillion:sdk; world state { export pillion:filter/state@0.1.0; }", {});
hook!(
    on_request,
    "package pillion:sdk; world on-request { export pillion:filter/on-request@0.1.0; }",
    { "pillion:filter/types@0.1.0": crate::types, }
);
hook!(
    on_request_body,
    "package pillion:sdk; world on-request-body { export pillion:filter/on-request-body@0.1.0; }",
    { "pillion:filter/types@0.1.0": crate::types, }
);
hook!(
    on_request_trailers,
    "package pillion:sdk;
     world on-request-trailers { export pillion:filter/on-request-trailers@0.1.0; }",
    {}
);
hook!(
    on_response,
    "package pillion:sdk; world on-response { export pillion:filter/on-response@0.1.0; }",
    { "pillion:filter/types@0.1.0": crate::types, }
);
hook!(
    on_response_body,
    "package pillion:sdk; world on-response-body { export pillion:filter/on-response-body@0.1.0; }",
    { "pillion:filter/types@0.1.0": crate::types, }
);
hook!(
    on_response_trailers,
    "package pillion:sdk;
     world on-response-trailers { export pillion:filter/on-response-trailers@0.1.0; }",
    {}
);
hook!(
    on_complete,
    "package pillion:sdk; world on-complete { export pillion:filter/on-complete@0.1.0; }",
    {}
);
