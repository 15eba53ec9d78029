//! The contract is no Rust contract: the same filter in four languages passes the same cases, and
//! all four serve in one chain. What each costs is told in a table, and asserted nowhere.
//!
//! C, JavaScript and Python are built by `tests/languages/build`; without it this is skipped.

use pillion::capability::State;
use pillion::chain::FailPolicy;
use pillion::telemetry::Metrics;
use pillion::wasm::{
    CompileLimits, Compiler, FilterCode, FilterSpec, Grants, Isolation, Limits, Prepared,
};
use pillion_tests::peer::{run, skip, tell};
use pillion_tests::process::{repository, target};
use pillion_tests::sidecar::{Setup, pillion};
use pillion_tests::{Origin, Protocol, Sidecar, guests};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// Exchanges that the time of a call is the mean of.
const EXCHANGES: usize = 300;

/// The filter in one language, and what it costs.
struct Language {
    name: &'static str,
    component: PathBuf,
    /// As `pillion compile` tells it.
    compiled: String,
    map: Duration,
    instance: Duration,
    memory_bytes: u64,
    /// Mean of a call, request and response.
    calls: [Duration; 2],
}

/// The filter in every language; nothing, after saying why, where one is missing.
fn languages() -> Option<Vec<Language>> {
    let built = target().join("languages");
    let components = [
        ("rust", guests::path("reference").to_owned()),
        ("c", built.join("c.wasm")),
        ("javascript", built.join("javascript.wasm")),
        ("python", built.join("python.wasm")),
    ];
    let missing = components.iter().find(|(_, component)| !component.is_file());
    if let Some((name, _)) = missing {
        skip(&format!("the filter in {name} is not built: run `tests/languages/build`"));
        return None;
    }
    let unmeasured = |(name, component)| Language {
        name,
        component,
        compiled: String::new(),
        map: Duration::ZERO,
        instance: Duration::ZERO,
        memory_bytes: 0,
        calls: [Duration::ZERO; 2],
    };
    Some(components.map(unmeasured).into())
}

#[tokio::test]
async fn four_languages_pass_the_same_cases_and_serve_in_one_chain() {
    let Some(mut languages) = languages() else { return };
    let origin = Origin::echo().await;
    let setup = languages.iter().fold(Sidecar::new().origin(&origin), in_chain);
    // An interpreter takes its time, and a busy machine more; the compiler's own limit is the bound.
    let setup = setup.runtime("workers = 1\ncompile = { time = \"600s\" }");
    let cache = compile(&setup, &mut languages).await;
    for language in &mut languages {
        language.map_and_start(&cache);
        language.play_cases().await;
    }
    serve(&setup.start().await, &mut languages).await;
    report(&languages);
}

/// At the end of the chain, refusing a path of its own.
fn in_chain(setup: Setup, language: &Language) -> Setup {
    let name = language.name;
    let keys = format!(
        "grants = {{ log = true, random = true }}\nconfig = {{ refuse = \"/{name}\" }}\n\
         limits = {{ time = \"5s\", exchange_time = \"20s\" }}"
    );
    setup.filter(name, &language.component.to_string_lossy(), &keys)
}

/// Compiles the filters of the file; the directory of the cache.
async fn compile(setup: &Setup, languages: &mut [Language]) -> PathBuf {
    let file = setup.directory().join("compile.toml");
    std::fs::write(&file, setup.text()).expect("files can be written");
    let mut command = pillion();
    command.arg("compile").arg("-c").arg(&file).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("nothing cancels it").expect("`pillion` can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    for language in languages {
        let mark = format!("] {}: version ", language.name);
        let line = told.lines().find_map(|line| line.split_once(&mark)).expect("it tells of each");
        let took = line.1.split_once("compiled in ").and_then(|(_, rest)| rest.split_once(','));
        language.compiled = took.map_or("earlier", |(took, _)| took).to_owned();
    }
    let cache = told.lines().find_map(|line| line.strip_prefix("cache: "));
    PathBuf::from(cache.expect("it tells of the cache"))
}

impl Language {
    /// Maps the compiled code as a reload does, and makes a second instance.
    fn map_and_start(&mut self, cache: &Path) {
        let compiler = Compiler::new(Some(cache.to_owned()), CompileLimits::default())
            .expect("the cache is there");
        let bytes = std::fs::read(&self.component).expect("the component can be read");
        let begun = Instant::now();
        let code = compiler.load(self.name, &bytes).expect("it is compiled");
        self.map = begun.elapsed();
        let prepared = prepare(self.name, code);
        // The first worker gets the instance that was the probe.
        let _first = prepared.instantiate_for_worker(0).expect("it starts");
        let begun = Instant::now();
        let _second = prepared.instantiate_for_worker(1).expect("it starts again");
        self.instance = begun.elapsed();
        let is_one_module = matches!(self.name, "rust" | "c");
        assert_eq!(prepared.runs_directly(), is_one_module, "{}", self.name);
    }

    /// Every case of the file passes.
    async fn play_cases(&mut self) {
        let mut command = pillion();
        command.args(["test", "--json", "--filter"]).arg(&self.component);
        command.arg(repository().join("tests/languages/cases.toml"));
        let (code, out, err) = run(command).await;
        assert_eq!(code, 0, "{}: {out}{err}", self.name);
        let told: Value = serde_json::from_str(&out).expect("it is JSON");
        let cases = told["files"][0]["cases"].as_array().expect("a list of cases");
        let memory = cases.iter().filter_map(|case| case["usage"]["memory_bytes"].as_u64()).max();
        self.memory_bytes = memory.expect("cases have a usage");
    }
}

/// As in a file that grants it what it needs.
fn prepare(name: &str, code: Arc<FilterCode>) -> Arc<Prepared> {
    let spec = FilterSpec {
        name: name.into(),
        label: None,
        config_json: "{}".to_owned(),
        grants: Grants { log: true, random: true, ..Grants::default() },
        limits: Limits::default(),
        fail_policy: FailPolicy::Closed,
        isolation: Isolation::default(),
    };
    let numbers = Metrics::new(2, UNIX_EPOCH);
    Prepared::build(spec, code, &State::new(Instant::now()), &numbers).expect("it is configured")
}

/// All of them do their work one after the other, and each refuses its own path.
async fn serve(sidecar: &Sidecar, languages: &mut [Language]) {
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..EXCHANGES {
        let request = client.request(http::Method::GET, "/").header("traceparent", &traceparent);
        let request = request.body(pillion_tests::client::empty()).expect("the request is valid");
        let reply = client.fetch(request).await;
        assert_eq!((reply.status, reply.header("x-trace-id")), (200, TRACE), "{}", reply.text());
        let seen = reply.seen();
        let (_, forwarded) = seen.headers.iter().find(|it| it.0 == "traceparent").expect("a trace");
        assert!(forwarded.starts_with(&format!("00-{TRACE}-")), "{forwarded}");
        assert!(!forwarded.contains(PARENT) && forwarded.ends_with("-01"), "{forwarded}");
    }
    for language in &mut *languages {
        let reply = client.get(&format!("/{}", language.name)).await;
        assert_eq!((reply.status, reply.text().as_str()), (403, "not for you\n"));
    }
    assert_eq!(sidecar.metric("pillion_filter_failures_total", &[]).await, 0.0);
    let name = "pillion_filter_call_duration_seconds";
    for language in languages {
        let filter = format!("filter=\"{}\"", language.name);
        for (hook, mean) in ["on-request", "on-response"].into_iter().zip(&mut language.calls) {
            let labels = [filter.as_str(), &format!("hook=\"{hook}\"")];
            let sum = sidecar.metric(&format!("{name}_sum"), &labels).await;
            let count = sidecar.metric(&format!("{name}_count"), &labels).await;
            *mean = Duration::from_secs_f64(sum / count);
        }
    }
}

/// The table, for whoever watches, and in `target/languages`.
fn report(languages: &[Language]) {
    let profile = if cfg!(debug_assertions) { ", unoptimised host" } else { "" };
    let mut table = format!(
        "| language{profile} | size | compile | map | new instance | memory | on-request | on-response |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for it in languages {
        let size = std::fs::metadata(&it.component).expect("the component is there").len() >> 10;
        let [request, response] = it.calls;
        table.push_str(&format!(
            "| {} | {size} KiB | {} | {:.1?} | {:.1?} | {} KiB | {request:.1?} | {response:.1?} |\n",
            it.name,
            it.compiled,
            it.map,
            it.instance,
            it.memory_bytes >> 10
        ));
    }
    tell(&table);
    std::fs::write(target().join("languages/report.md"), table).expect("files can be written");
}
