//! One JSON line for every exchange, with the documented fields and nothing else.

use pillion_tests::{Origin, Sidecar, until};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "time",
    "listener",
    "route",
    "client",
    "peer",
    "method",
    "authority",
    "path",
    "protocol",
    "status",
    "complete",
    "error",
    "request_bytes",
    "response_bytes",
    "duration_ms",
    "upstream_ms",
    "upstream",
    "endpoint",
    "endpoint_peer",
    "generation",
];

#[tokio::test]
async fn an_exchange_is_one_line_with_the_documented_fields() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).tables("[access_log]").start().await;
    let reply = sidecar.post("/a?b=%22c", "hello").await;
    let line: Value = serde_json::from_str(&sidecar.output.line("/a?b=").await).unwrap();
    let mut names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented = FIELDS.to_vec();
    names.sort_unstable();
    documented.sort_unstable();
    assert_eq!(names, documented);
    let documentation = pillion_tests::process::repository().join("host/ACCESS_LOG.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    for name in FIELDS {
        assert!(documentation.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
    assert_eq!(line["listener"], "inbound");
    assert_eq!(line["route"], "inbound/1");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["authority"], "app.test");
    assert_eq!(line["path"], "/a?b=%22c");
    assert_eq!(line["protocol"], "HTTP/1.1");
    assert_eq!((&line["status"], &line["complete"]), (&Value::from(200), &Value::Bool(true)));
    assert_eq!(line["error"], Value::Null);
    assert_eq!((&line["request_bytes"], &line["generation"]), (&5.into(), &1.into()));
    assert_eq!(line["response_bytes"], reply.body.len());
    assert_eq!(line["endpoint"], origin.address.to_string());
    assert_eq!(line["endpoint_peer"], serde_json::Value::Null);
}

#[tokio::test]
async fn failures_are_lines_too() {
    let refusing = Origin::refusing().await;
    let sidecar = Sidecar::new().endpoint(refusing).tables("[access_log]").start().await;
    assert_eq!(sidecar.get("/refused").await.status, 502);
    let line: Value = serde_json::from_str(&sidecar.output.line("/refused").await).unwrap();
    assert_eq!((&line["status"], &line["error"]), (&502.into(), &"connection_refused".into()));
    let mut wire = sidecar.wire().await;
    wire.send("GET /\0malformed HTTP/1.1\r\n\r\n").await;
    wire.rest().await;
    assert_eq!(sidecar.get("/after").await.status, 502);
    sidecar.output.line("/after").await;
    for line in sidecar.output.lines() {
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_file_that_was_rotated_is_opened_anew_at_a_signal() {
    let origin = Origin::echo().await;
    let table = "[access_log]\ndestination = \"./access.log\"";
    let sidecar = Sidecar::new().origin(&origin).tables(table).start().await;
    let file = sidecar.directory().join("access.log");
    let holds = async |text: &str| {
        until("the line in the file", async || {
            std::fs::read_to_string(&file).ok()?.contains(text).then_some(())
        })
        .await;
    };
    sidecar.get("/before").await;
    holds("/before").await;
    std::fs::rename(&file, sidecar.directory().join("access.log.1")).unwrap();
    sidecar.hang_up();
    until("the new file", async || file.exists().then_some(())).await;
    sidecar.get("/after").await;
    holds("/after").await;
}

#[tokio::test]
async fn without_the_table_there_is_no_line() {
    let origin = Origin::echo().await;
    let mut sidecar = Sidecar::new().origin(&origin).start().await;
    sidecar.get("/").await;
    sidecar.terminate();
    sidecar.exit_code().await;
    sidecar.output.ended().await;
    assert_eq!(sidecar.output.lines(), Vec::<String>::new());
}
