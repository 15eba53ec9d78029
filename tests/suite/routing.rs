//! The first route that matches takes the request: by host, path, method and field.

use pillion_tests::client::empty;
use pillion_tests::{Origin, Protocol, Reply, Sidecar};

const FILE: &str = r#"
[admin]
address = "127.0.0.1:0"

[[listener]]
name = "inbound"
address = "127.0.0.1:0"

[[listener.route]]
match = { path = "/exact" }
chain = ["exact"]
upstream = "app"

[[listener.route]]
match = { path_prefix = "/api", method = ["GET", "HEAD"] }
chain = ["read"]
upstream = "app"

[[listener.route]]
match = { path_prefix = "/api" }
chain = ["write"]
upstream = "app"

[[listener.route]]
match = { host = ["one.test", "*.many.test"] }
chain = ["host"]
upstream = "app"

[[listener.route]]
match = { headers = { x-tenant = "blue", x-any = true, x-begins = { prefix = "ab" } } }
chain = ["field"]
upstream = "app"

[upstream.app]
endpoints = ["@APP@"]
"#;

/// The file above, with a filter for each chain that tells which one it was.
fn file() -> String {
    let filter = |name: &str| {
        format!(
            "[filter.{name}]\nsource = \"builtin:headers\"\n\
             config = {{ response = [{{ set = {{ name = \"x-route\", value = \"{name}\" }} }}] }}\n"
        )
    };
    ["exact", "read", "write", "host", "field"]
        .iter()
        .fold(FILE.to_owned(), |file, name| file + &filter(name))
}

async fn ask(sidecar: &Sidecar, method: &str, host: &str, target: &str, fields: &str) -> String {
    let mut wire = sidecar.wire().await;
    wire.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
    let answer = wire.response().await;
    match answer.status() {
        200 => answer.head.field("x-route").unwrap_or("no filter").to_owned(),
        status => status.to_string(),
    }
}

#[tokio::test]
async fn each_request_takes_the_first_route_that_matches() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::with(&file()).origin(&origin).start().await;
    let fields = "x-tenant: blue\r\nx-any: whatever\r\nx-begins: abc\r\n";
    for (method, host, target, fields, route) in [
        ("GET", "a", "/exact", "", "exact"),
        ("GET", "a", "/exact?query", "", "exact"),
        ("GET", "a", "/exact/", "", "404"),
        ("GET", "a", "/exactly", "", "404"),
        ("GET", "a", "/api", "", "read"),
        ("GET", "a", "/api/x", "", "read"),
        ("GET", "a", "/apix", "", "404"),
        ("DELETE", "a", "/api/x", "", "write"),
        ("GET", "one.test", "/", "", "host"),
        ("GET", "ONE.test:8080", "/", "", "host"),
        ("GET", "a.many.test", "/", "", "host"),
        ("GET", "a.b.many.test", "/", "", "host"),
        ("GET", "many.test", "/", "", "404"),
        ("GET", "notmany.test", "/", "", "404"),
        ("GET", "one.test", "/exact", "", "exact"),
        ("GET", "a", "/", fields, "field"),
        ("GET", "a", "/", "x-tenant: blue\r\nx-any: 1\r\n", "404"),
        ("GET", "a", "/", "x-tenant: bluer\r\nx-any: 1\r\nx-begins: ab\r\n", "404"),
        ("GET", "a", "/", "", "404"),
    ] {
        let got = ask(&sidecar, method, host, target, fields).await;
        assert_eq!(got, route, "{method} {host} {target} {fields:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_route_is_told_so_and_keeps_its_connection() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::with(&file()).origin(&origin).start().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut client = sidecar.connect(protocol).await;
        let reply: Reply = client.get("/nowhere").await;
        assert_eq!(reply.status, 404);
        assert_eq!(reply.header("proxy-status"), "pillion; error=destination_not_found");
        let request = client.request(http::Method::GET, "/api").body(empty()).unwrap();
        assert_eq!(client.fetch(request).await.header("x-route"), "read");
    }
}
