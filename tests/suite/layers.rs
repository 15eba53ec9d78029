//! Who may use whom inside the host: `ARCHITECTURE.md` draws it, this test holds the code to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module of the host, and the others it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("config", &["http", "rollout", "units"]),
    ("clock", &[]),
    ("http", &["clock"]),
    ("units", &[]),
    ("shutdown", &[]),
    ("capability", &[]),
    ("io", &[]),
    ("private", &[]),
    ("http1", &["http", "io"]),
    ("http2", &["http"]),
    ("chain", &["http"]),
    ("telemetry", &["capability", "chain", "http"]),
    ("wasm", &["capability", "chain", "clock", "http", "private", "telemetry"]),
    ("tls", &["config", "http", "telemetry"]),
    ("dns", &["config", "telemetry"]),
    ("upstream", &["clock", "config", "dns", "http", "http1", "http2", "io", "telemetry", "tls"]),
    ("overload", &["config", "telemetry"]),
    ("rollout", &["private", "telemetry", "units"]),
    ("shadow", &["capability", "chain", "http", "rollout", "telemetry", "wasm"]),
    (
        "snapshot",
        &[
            "chain",
            "config",
            "dns",
            "overload",
            "rollout",
            "shadow",
            "shutdown",
            "telemetry",
            "tls",
            "upstream",
            "wasm",
        ],
    ),
    (
        "proxy",
        &[
            "chain",
            "clock",
            "config",
            "dns",
            "http",
            "http1",
            "http2",
            "io",
            "overload",
            "rollout",
            "shadow",
            "telemetry",
            "tls",
            "upstream",
            "worker",
        ],
    ),
    ("listener", &["clock", "http1", "io", "proxy", "telemetry", "tls", "worker"]),
    (
        "worker",
        &[
            "chain",
            "config",
            "http1",
            "http2",
            "listener",
            "overload",
            "proxy",
            "rollout",
            "shutdown",
            "snapshot",
            "telemetry",
            "upstream",
            "wasm",
        ],
    ),
    ("admin", &["http", "http1", "io", "rollout", "telemetry"]),
    (
        "reload",
        &[
            "capability",
            "chain",
            "config",
            "dns",
            "overload",
            "rollout",
            "shadow",
            "shutdown",
            "snapshot",
            "telemetry",
            "tls",
            "wasm",
        ],
    ),
    ("cases", &["capability", "chain", "config", "http", "proxy", "reload", "telemetry", "wasm"]),
];

/// Modules at the top, which may use everything and are used by nothing but each other.
const TOP: &[&str] = &["app", "cli"];

#[test]
fn modules_use_only_what_is_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, allowed) in ALLOWED {
        for file in files(&source, module) {
            for used in uses(&file) {
                let is_known =
                    ALLOWED.iter().any(|(known, _)| *known == used) || TOP.contains(&used.as_str());
                if is_known && used != *module && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}: `{module}` uses `{used}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in declared {
        let placed = ALLOWED.iter().any(|(known, _)| *known == module) || TOP.contains(&module);
        assert!(placed, "say in tests/suite/layers.rs what `{module}` may use");
    }
}

fn files(source: &Path, module: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let single = source.join(format!("{module}.rs"));
    if single.exists() {
        found.push(single);
    }
    let mut folders = vec![source.join(module)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            // Tests may use more.
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.contains("test") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no source of `{module}`");
    found
}

/// The modules of the crate that a file names, its unit tests aside.
fn uses(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).expect("a readable source file");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let name: String = rest
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect();
        found.insert(name);
    }
    found
}
