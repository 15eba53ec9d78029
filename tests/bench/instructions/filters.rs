//! Chains of compiled filters, as a reload builds them.

use crate::callgrind::this_program;
use pillion::capability::State;
use pillion::capability::rate_limit::Policy;
use pillion::chain::{Chain, FailPolicy, Filter};
use pillion::telemetry::Metrics;
use pillion::wasm::compile::{ChildCommand, SUBCOMMAND};
use pillion::wasm::{CompileLimits, Compiler, FilterSpec, Grants, Isolation, Limits, Prepared};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The shipped three, in the order of a chain.
pub(crate) const THREE: [&str; 3] = ["trace", "headers", "rate-limit"];
/// The configuration of `headers`: one field each way.
const HEADERS: &str = r#"{"request":[{"set":{"name":"x-client","value":"${client.address}"}}],"response":[{"set":{"name":"x-served-by","value":"pillion"}}]}"#;

/// Compiles every filter into a cache below `place`, and tells where that is. The compiler runs under
/// valgrind too: its processor has fewer instructions than the real one, and code is made for it.
pub(crate) fn compile(valgrind: &Path, place: &Path) -> Result<PathBuf, String> {
    let cache = place.join("cache");
    // Entries of another processor; what is not there need not be removed.
    let _ = std::fs::remove_dir_all(&cache);
    let child = ChildCommand {
        program: valgrind.to_owned(),
        arguments: vec![
            "--tool=none".into(),
            "--quiet".into(),
            this_program()?.into(),
            SUBCOMMAND.into(),
        ],
        // valgrind's own address space comes on top.
        limits: CompileLimits { time: Duration::from_secs(300), memory_bytes: 1 << 40 },
    };
    let compiler = Compiler::with_child(Some(cache.clone()), child).map_err(text)?;
    for name in THREE.iter().chain(&["noop"]) {
        compiler.load(name, &component(name)?).map_err(text)?;
    }
    Ok(cache)
}

/// A chain of these filters, out of the cache.
pub(crate) fn chain(names: &[&str], cache: &Path) -> Result<Chain, String> {
    let nothing = ChildCommand {
        program: PathBuf::from("/bin/false"),
        arguments: Vec::new(),
        limits: CompileLimits::default(),
    };
    let compiler = Compiler::with_child(Some(cache.to_owned()), nothing).map_err(text)?;
    let state = State::new(Instant::now());
    let metrics = Metrics::new(1, SystemTime::now());
    let filter = |name: &&str| -> Result<Rc<dyn Filter>, String> {
        let code = compiler.load(name, &component(name)?).map_err(text)?;
        let prepared = Prepared::build(spec(name), code, &state, &metrics).map_err(text)?;
        Ok(Rc::new(prepared.instantiate_for_worker(0).map_err(text)?))
    };
    Ok(Chain::new(names.iter().map(filter).collect::<Result<Vec<_>, _>>()?))
}

fn spec(name: &str) -> FilterSpec {
    let rate_limit = Policy {
        requests: 1_000_000_000,
        per: Duration::from_secs(1),
        burst: 1_000_000_000,
        keys: 1,
    };
    FilterSpec {
        name: Arc::from(name),
        label: None,
        config_json: if name == "headers" { HEADERS } else { "{}" }.to_owned(),
        grants: Grants {
            log: true,
            clock: true,
            random: true,
            metrics: true,
            kv: None,
            rate_limit: Some(rate_limit),
        },
        // Everything takes fifty times as long as it does without valgrind.
        limits: Limits {
            time: Duration::from_secs(10),
            exchange_time: Duration::from_secs(30),
            configure_time: Duration::from_secs(10),
            ..Limits::default()
        },
        fail_policy: FailPolicy::Closed,
        isolation: Isolation::PerWorker,
    }
}

fn component(name: &str) -> Result<Vec<u8>, String> {
    match pillion_filters::shipped(name) {
        Some(shipped) => Ok(shipped.component.to_vec()),
        None => {
            let path = pillion_tests::guests::path(name);
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
