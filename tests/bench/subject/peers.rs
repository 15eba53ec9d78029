//! nginx and haproxy as they are measured: plain, and with what they have for the three jobs.

use super::{Ends, file_name, place, write_file};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Whether a peer does the three jobs: ids of request and trace, fields, a rate limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Jobs {
    None,
    All,
}

/// The directives of the jobs: for the server, and for the location.
const LIMIT: &str = "limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;";
const JOBS: &str = "proxy_set_header x-request-id $request_id;
proxy_set_header traceparent 00-$request_id-$span_id-01;
proxy_set_header x-client $remote_addr;
add_header x-served-by nginx;
limit_req zone=clients burst=1000000 nodelay;";
/// Eight bytes of the id are the span's, as nginx has no other random text.
const SPAN: &str =
    "map $request_id $span_id { default 0000000000000001; \"~^(?<span>.{16})\" $span; }";

/// Forwards over kept-alive connections. Bodies stream through, without files.
pub(super) fn nginx_proxy(binary: &Path, ends: Ends, jobs: Jobs) -> Command {
    let Ends { address, origin } = ends;
    let (zone, work) = match jobs {
        Jobs::None => (String::new(), ""),
        Jobs::All => (format!("{LIMIT}\n{SPAN}\n"), JOBS),
    };
    let http = format!(
        "{zone}upstream app {{\nserver {origin};\nkeepalive 1024;\n\
         keepalive_requests 1000000000;\n}}\nserver {{\nlisten {address};\nlocation / {{\n\
         proxy_pass http://app;\nproxy_http_version 1.1;\nproxy_set_header connection \"\";\n\
         proxy_set_header host $host;\nproxy_set_header x-forwarded-for $remote_addr;\n\
         proxy_request_buffering off;\nproxy_max_temp_file_size 0;\n{work}\n}}\n}}"
    );
    nginx(binary, address, 4096, &http)
}

/// Answers 33 bytes to everything.
pub(super) fn nginx_origin(binary: &Path, address: SocketAddr) -> Command {
    let http = format!(
        "server {{\nlisten {address};\nlocation / {{\ndefault_type text/plain;\n\
         return 200 \"hello, hello, hello, hello, hello\";\n}}\n}}"
    );
    nginx(binary, address, 65536, &http)
}

/// nginx reserves memory for every connection that it might have.
fn nginx(binary: &Path, address: SocketAddr, connections_max: u32, http: &str) -> Command {
    let name = file_name(&format!("nginx {address}"));
    let place = place();
    let directory = place.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        kinds.iter().map(|kind| format!("{kind}_temp_path {directory}/{kind};\n")).collect();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/{name}.pid;\n\
         error_log stderr crit;\nevents {{\nworker_connections {connections_max};\n}}\nhttp {{\n\
         access_log off;\nclient_max_body_size 0;\nlarge_client_header_buffers 8 32k;\n\
         keepalive_requests 1000000000;\n{temporary}{http}\n}}\n"
    );
    let file = write_file(&format!("{name}.conf"), &text);
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).arg("-p").arg(place);
    command
}

/// Forwards over kept-alive connections.
pub(super) fn haproxy(binary: &Path, ends: Ends) -> Command {
    let Ends { address, origin } = ends;
    let text = format!(
        "global\n    nbthread 1\n    maxconn 4000\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    \
         timeout server 60s\n    option http-keep-alive\n    http-reuse always\n    \
         option forwardfor\n\
         frontend inbound\n    bind {address}\n    default_backend app\n\
         backend app\n    server app {origin}\n"
    );
    let file = write_file(&format!("haproxy {address}.cfg"), &text);
    let mut command = Command::new(binary);
    command.arg("-db").arg("-f").arg(file);
    command
}
