//! Which variables of a build script's environment a nested cargo must not see.
//!
//! The outer cargo describes its own build in them (target, profile, flags, the crate being built);
//! inherited, they would change the nested build or make it start anew each time.

use std::{env, process::Command};

/// What cargo sets for a build script and what is no business of another cargo.
const OF_BUILD_SCRIPTS: [&str; 8] =
    ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "OUT_DIR", "NUM_JOBS", "RUSTC_LINKER"];

/// Settings of the user's cargo, and the job server that keeps both cargos within one count of jobs.
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "RUSTUP_",
];

/// Removes from a command what it must not inherit.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            command.env_remove(name);
        }
    }
}

fn is_foreign(name: &str) -> bool {
    let described = ["CARGO", "RUST", "DEP_"].iter().any(|prefix| name.starts_with(prefix));
    let kept = KEPT.iter().any(|prefix| name.starts_with(prefix));
    OF_BUILD_SCRIPTS.contains(&name) || (described && !kept)
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn a_nested_cargo_keeps_the_users_settings_and_nothing_of_the_outer_build() {
        for name in ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"] {
            assert!(!is_foreign(name), "{name}");
        }
        for name in ["PATH", "HOME", "CARGO_REGISTRIES_X_INDEX", "HTTPS_PROXY", "CC"] {
            assert!(!is_foreign(name), "{name}");
        }
        for name in ["CARGO", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC", "RUST_LOG"] {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["CARGO_PROFILE_RELEASE_LTO", "DEP_Z", "TARGET", "OUT_DIR", "DEBUG"] {
            assert!(is_foreign(name), "{name}");
        }
    }
}
