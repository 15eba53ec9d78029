//! Small guests for this module's tests, written as text, and what it takes to run them.
//!
//! Each is a component with `on-request`, whose core function is the test's; guests in real languages
//! are the suite's matter.

use super::cache::Compiler;
use super::component::{FilterCode, LoadError};
use super::filter::WasmFilter;
use super::prepared::{FilterSpec, Grants, Isolation, Limits, Prepared};
use crate::capability::State;
use crate::chain::{Exchange, FailPolicy, Failure, Filter, HeadDecision, Phase};
use crate::telemetry::Metrics;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// The types of the contract, as a component imports them.
pub(crate) const TYPES: &str = r#"
(import "pillion:filter/types@0.1.0" (instance $types
  (type $f' (record (field "name" string) (field "value" (list u8))))
  (export "field" (type $f (eq $f')))
  (type $e' (variant (case "invalid-name") (case "invalid-value") (case "host-owned")
    (case "limit-exceeded") (case "wrong-phase")))
  (export "edit-error" (type $e (eq $e')))
  (type $l' (record (field "status" u16) (field "headers" (list $f)) (field "body" (list u8))))
  (export "local-response" (type $l (eq $l')))
  (type $h' (variant (case "proceed") (case "skip-body") (case "wait-for-body") (case "respond" $l)))
  (export "head-decision" (type $h (eq $h')))
  (type $b' (variant (case "pass") (case "replace" (list u8)) (case "hold") (case "respond" $l)))
  (export "body-decision" (type $b (eq $b')))))
(alias export $types "edit-error" (type $edit-error))
(alias export $types "head-decision" (type $head-decision))
(alias export $types "body-decision" (type $body-decision))
"#;

/// A memory with an allocator that never frees and begins anew with every 32 KiB.
const MEMORY: &str = r#"
(core module $libc
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $next) (local.get 3)) (i32.const 131072))
      (then (global.set $next (i32.const 65536))))
    (local.set $at (global.get $next))
    (global.set $next (i32.and
      (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (local.get $at)))
(core instance $libc (instantiate $libc))
(alias core export $libc "memory" (core memory $memory))
(alias core export $libc "realloc" (core func $realloc))
"#;

const REQUEST: &str = r#"
(import "pillion:filter/request@0.1.0" (instance $request
  (alias outer 1 $edit-error (type $e'))
  (export "edit-error" (type $e (eq $e')))
  (export "method" (func (result string)))
  (export "header" (func (param "name" string) (result (option string))))
  (export "set-header" (func (param "name" string) (param "value" string)
    (result (result (error $e)))))))
(core func $header (canon lower (func $request "header")
  (memory $memory) (realloc $realloc)))
(core func $method (canon lower (func $request "method") (memory $memory) (realloc $realloc)))
(core func $set-header (canon lower (func $request "set-header") (memory $memory)))
"#;

const RESPONSE: &str = r#"
(import "pillion:filter/response@0.1.0" (instance $response
  (export "status" (func (result u16)))))
(core func $status (canon lower (func $response "status")))
"#;

const LOG: &str = r#"
(import "pillion:filter/log@0.1.0" (instance $log
  (type $l' (enum "error" "warn" "info" "debug" "trace"))
  (export "level" (type $l (eq $l')))
  (export "write" (func (param "level" $l) (param "message" string)))))
(core func $write (canon lower (func $log "write") (memory $memory)))
"#;

const STDERR: &str = r#"
(import "wasi:io/error@0.2.6" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $io-error-type))
(import "wasi:io/streams@0.2.6" (instance $streams
  (alias outer 1 $io-error-type (type $e'))
  (export "error" (type $e (eq $e')))
  (export "output-stream" (type $o (sub resource)))
  (type $s' (variant (case "last-operation-failed" (own $e)) (case "closed")))
  (export "stream-error" (type $s (eq $s')))
  (export "[method]output-stream.blocking-write-and-flush" (func
    (param "self" (borrow $o)) (param "contents" (list u8)) (result (result (error $s)))))))
(alias export $streams "output-stream" (type $output-stream))
(import "wasi:cli/stderr@0.2.6" (instance $stderr
  (alias outer 1 $output-stream (type $o'))
  (export "output-stream" (type $o (eq $o')))
  (export "get-stderr" (func (result (own $o))))))
(import "wasi:sockets/network@0.2.6" (instance $network
  (export "network" (type $n (sub resource)))
  (export "invented" (func (param "n" (borrow $n))))
  (export "instance" (func (result u32)))))
(import "wasi:http/types@0.2.6" (instance $http
  (alias outer 1 $io-error-type (type $e'))
  (export "io-error" (type $e (eq $e')))
  (export "fields" (type $f (sub resource)))
  (export "invented" (func (param "e" (borrow $e)) (param "f" (borrow $f))))))
(core func $get-stderr (canon lower (func $stderr "get-stderr")))
(core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
  (memory $memory)))
(core func $socket (canon lower (func $network "instance")))
"#;

const REQUEST_BODY: &str = r#"
(import "pillion:filter/request-body@0.1.0" (instance $request-body
  (export "held" (func (result (list u8))))
  (export "held-length" (func (result u64)))))
(core func $held (canon lower (func $request-body "held") (memory $memory) (realloc $realloc)))
(core func $held-length (canon lower (func $request-body "held-length")))
"#;

const TRAILERS: &str = r#"
(import "pillion:filter/trailers@0.1.0" (instance $trailers
  (alias outer 1 $edit-error (type $e'))
  (export "edit-error" (type $e (eq $e')))
  (export "header-bytes" (func (param "name" string) (result (option (list u8)))))
  (export "append-header" (func (param "name" string) (param "value" string)
    (result (result (error $e)))))))
(core func $trailer (canon lower (func $trailers "header-bytes")
  (memory $memory) (realloc $realloc)))
(core func $append-trailer (canon lower (func $trailers "append-header") (memory $memory)))
"#;

const KV: &str = r#"
(import "pillion:filter/kv@0.1.0" (instance $kv
  (type $e' (enum "full" "too-large" "not-a-number"))
  (export "kv-error" (type $e (eq $e')))
  (export "increment" (func (param "key" string) (param "by" s64) (param "ttl-ms" (option u64))
    (result (result s64 (error $e)))))))
(core func $increment (canon lower (func $kv "increment") (memory $memory)))
"#;

/// What a test guest imports besides the types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    Request,
    Response,
    RequestBody,
    Trailers,
    Log,
    Kv,
    Stderr,
}

/// A component whose `on-request` is `body`: core code that leaves the address of a decision. Data
/// stands at 1024; the decision may be at 512, where there are zeros, which say `proceed`.
pub(crate) fn on_request(imports: &[Import], data: &str, body: &str) -> Vec<u8> {
    component(imports, data, &format!(r#"(func (export "on-request") (result i32) {body})"#), LIFT)
}

pub(crate) const LIFT: &str = r#"
(func $on-request (result $head-decision)
  (canon lift (core func $guest "on-request") (memory $memory)))
(instance $hook (export "on-request" (func $on-request)))
(export "pillion:filter/on-request@0.1.0" (instance $hook))
"#;

/// Both body hooks, as the core function `on-body` of chunk and `last`.
pub(crate) const LIFT_BODIES: &str = r#"
(func $on-body (param "chunk" (list u8)) (param "last" bool) (result $body-decision)
  (canon lift (core func $guest "on-body") (memory $memory) (realloc $realloc)))
(instance $request-hook (export "on-request-body" (func $on-body)))
(export "pillion:filter/on-request-body@0.1.0" (instance $request-hook))
(instance $response-hook (export "on-response-body" (func $on-body)))
(export "pillion:filter/on-response-body@0.1.0" (instance $response-hook))
"#;

/// The trailer hooks and `on-complete`, of which the core function gets the flattened outcome.
pub(crate) const LIFT_ENDS: &str = r#"
(func $on-trailers (canon lift (core func $guest "on-trailers")))
(instance $request-end (export "on-request-trailers" (func $on-trailers)))
(export "pillion:filter/on-request-trailers@0.1.0" (instance $request-end))
(instance $response-end (export "on-response-trailers" (func $on-trailers)))
(export "pillion:filter/on-response-trailers@0.1.0" (instance $response-end))
(type $o' (record (field "status" (option u16)) (field "complete" bool)
  (field "error" (option string)) (field "request-bytes" u64) (field "response-bytes" u64)
  (field "duration-ns" u64) (field "upstream-ns" (option u64))))
(export $outcome "outcome" (type $o'))
(func $on-complete (param "outcome" $outcome)
  (canon lift (core func $guest "on-complete") (memory $memory) (realloc $realloc)))
(instance $complete-hook (export "on-complete" (func $on-complete)))
(export "pillion:filter/on-complete@0.1.0" (instance $complete-hook))
"#;

pub(crate) const LIFT_CONFIGURE: &str = r#"
(type $c' (record (field "key" string) (field "message" string)))
(export $config-error "config-error" (type $c'))
(func $configure (param "config" string) (result (result (error $config-error)))
  (canon lift (core func $guest "configure") (memory $memory) (realloc $realloc)))
(instance $configure-hook (export "configure" (func $configure)))
(export "pillion:filter/configure@0.1.0" (instance $configure-hook))
"#;

/// A component of these core functions and exports.
pub(crate) fn component(imports: &[Import], data: &str, functions: &str, exports: &str) -> Vec<u8> {
    let mut interfaces = String::new();
    let mut core_imports = String::new();
    let mut arguments = String::new();
    let mut import = |interface: &str, functions: &[(&str, &str)]| {
        interfaces.push_str(interface);
        for (name, signature) in functions {
            core_imports.push_str(&format!(r#"(import "" "{name}" (func ${name} {signature}))"#));
            arguments.push_str(&format!(r#"(export "{name}" (func ${name}))"#));
        }
    };
    for one in imports {
        match one {
            Import::Request => import(
                REQUEST,
                &[
                    ("header", "(param i32 i32 i32)"),
                    ("method", "(param i32)"),
                    ("set-header", "(param i32 i32 i32 i32 i32)"),
                ],
            ),
            Import::Response => import(RESPONSE, &[("status", "(result i32)")]),
            Import::RequestBody => {
                import(REQUEST_BODY, &[("held", "(param i32)"), ("held-length", "(result i64)")])
            }
            Import::Trailers => import(
                TRAILERS,
                &[
                    ("trailer", "(param i32 i32 i32)"),
                    ("append-trailer", "(param i32 i32 i32 i32 i32)"),
                ],
            ),
            Import::Log => import(LOG, &[("write", "(param i32 i32 i32)")]),
            Import::Kv => import(KV, &[("increment", "(param i32 i32 i64 i32 i64 i32)")]),
            Import::Stderr => import(
                STDERR,
                &[
                    ("get-stderr", "(result i32)"),
                    ("write", "(param i32 i32 i32 i32)"),
                    ("socket", "(result i32)"),
                ],
            ),
        }
    }
    let text = format!(
        r#"(component {TYPES} {MEMORY} {interfaces}
          (core module $guest
            (import "libc" "memory" (memory 2))
            (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
            {core_imports}
            (data (i32.const 1024) "{data}")
            {functions})
          (core instance $guest (instantiate $guest
            (with "libc" (instance $libc))
            (with "" (instance {arguments}))))
          {exports})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) const PROCEED: &str = "(i32.const 512)";

/// The spec of a filter `test` with no grants, and with default limits but for the time, of which a
/// busy machine may need much.
pub(crate) fn spec() -> FilterSpec {
    FilterSpec {
        name: Arc::from("test"),
        label: None,
        config_json: "{}".to_owned(),
        grants: Grants::default(),
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

pub(crate) fn load(component: &[u8]) -> Result<Arc<FilterCode>, LoadError> {
    Compiler::in_process().unwrap().load("test", component)
}

pub(crate) fn prepare(spec: FilterSpec, component: &[u8]) -> Result<Arc<Prepared>, LoadError> {
    Prepared::build(spec, load(component)?, &State::new(Instant::now()), &numbers())
}

pub(crate) fn filter(spec: FilterSpec, component: &[u8]) -> WasmFilter {
    prepare(spec, component).unwrap().instantiate_for_worker(0).unwrap()
}

/// Calls `on-request` as the chain does.
pub(crate) fn request(
    filter: &WasmFilter,
    exchange: &mut Box<Exchange>,
) -> Result<HeadDecision, Failure> {
    exchange.phase = Phase::RequestHead;
    let decision = filter.on_request(exchange);
    exchange.phase = Phase::Outside;
    decision
}

/// What `work` logs on this thread, from level info.
pub(crate) fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Sink {
        type Writer = Sink;

        fn make_writer(&'a self) -> Sink {
            self.clone()
        }
    }

    let sink = Sink::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(sink.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// The numbers of a process with one worker.
pub(crate) fn numbers() -> Arc<Metrics> {
    Metrics::new(1, std::time::SystemTime::UNIX_EPOCH)
}
