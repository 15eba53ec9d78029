//! What operators and scrapers see on the admin listener.

use pillion_tests::peer::run;
use pillion_tests::sidecar::pillion;
use pillion_tests::wire::Wire;
use pillion_tests::{Origin, Sidecar};
use std::os::unix::fs::MetadataExt;

#[tokio::test]
async fn health_readiness_metrics_and_status_are_there() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("version-a", "").start().await;
    assert_eq!(sidecar.admin("/livez").await.status, 200);
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
    assert_eq!(sidecar.get("/").await.status, 200);

    let metrics = sidecar.admin("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    for (name, labels) in [
        ("pillion_requests_total", vec!["listener=\"inbound\"", "status=\"2xx\""]),
        ("pillion_request_duration_seconds_count", vec!["listener=\"inbound\""]),
        ("pillion_upstream_requests_total", vec!["upstream=\"app\""]),
        ("pillion_filter_call_duration_seconds_count", vec!["filter=\"version-a\""]),
        ("pillion_filter_decisions_total", vec!["decision=\"proceed\""]),
        ("pillion_filter_instances", vec!["filter=\"version-a\""]),
        ("pillion_generation", vec![]),
    ] {
        sidecar.metric_is(name, &labels, |value| value >= 1.0).await;
    }

    let status = sidecar.status().await;
    assert_eq!(status["generation"], 1, "{status}");
    let text = status.to_string();
    for part in ["version-a", "inbound", "uptime", "workers"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn the_running_configuration_is_shown_without_secrets() {
    let origin = Origin::echo().await;
    let rule = "config = { request = [{ set = { name = \"x-key\", value = \"${API_KEY}\" } }] }";
    let sidecar = Sidecar::new()
        .origin(&origin)
        .builtin("headers", rule)
        .environment("API_KEY", "tr0ub4dor")
        .start()
        .await;
    assert_eq!(sidecar.get("/").await.seen().header("x-key"), Some("tr0ub4dor"));
    let config = sidecar.admin("/config").await;
    assert_eq!(config.status, 200);
    assert!(!config.text().contains("tr0ub4dor"));
    assert!(config.text().contains("<redacted>"), "{}", config.text());
    assert!(config.text().contains("head_timeout"), "defaults are shown");
    assert!(!sidecar.log.lines().join("\n").contains("tr0ub4dor"));
}

#[tokio::test]
async fn browsers_are_turned_away() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    for fields in ["Host: evil.test\r\n", "Host: localhost\r\nOrigin: http://evil.test\r\n"] {
        let mut wire = Wire::connect(sidecar.admin).await;
        wire.send(format!("POST /drain HTTP/1.1\r\n{fields}\r\n")).await;
        assert_eq!(wire.response().await.status(), 403, "{fields}");
    }
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn a_socket_and_a_token_keep_others_out() {
    let origin = Origin::echo().await;
    let door = "socket = \"./admin.sock\"\ntoken = \"${file:./token.key}\"";
    let address = "[admin]\naddress = \"127.0.0.1:0\"";
    let text = Sidecar::new().origin(&origin).text();
    let text = text.replacen(address, &format!("{address}\n{door}"), 1);
    let sidecar = Sidecar::with(&text).file("token.key", "correct-horse-battery\n").start().await;
    assert_eq!(sidecar.admin("/status").await.status, 401);
    assert_eq!(sidecar.admin_as("POST", "/drain").await.status, 401);
    assert_eq!(sidecar.admin("/readyz").await.status, 200);

    let socket = sidecar.directory().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    let status = async |more: &[&str]| {
        let mut command = pillion();
        command.args(["status", "--admin", "unix:admin.sock"]).args(more);
        command.current_dir(sidecar.directory());
        run(command).await
    };
    let (code, _, err) = status(&[]).await;
    assert!(code == 1 && err.contains("name its file with `--token-file`"), "{err}");
    let (code, out, err) = status(&["--token-file", "token.key"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("inbound"), "{out}");
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_told_plainly() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let unknown = sidecar.admin("/metric").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("/metrics"), "{}", unknown.text());
    assert_eq!(sidecar.admin_as("GET", "/reload").await.status, 405);
    assert_eq!(sidecar.admin_as("POST", "/metrics").await.status, 405);
}

#[tokio::test]
async fn every_family_of_metrics_is_documented() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("panic", "").start().await;
    assert_eq!(sidecar.get_with("/", &[("x-poison", "1")]).await.status, 500);
    let documented = pillion_tests::process::repository().join("host/METRICS.md");
    let documented = std::fs::read_to_string(documented).expect("the documentation is there");
    let text = sidecar.admin("/metrics").await.text();
    let families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(families.len() > 15, "{families:?}");
    for family in families {
        let name = family.split(' ').next().unwrap_or_default();
        assert!(documented.contains(&format!("`{name}")), "{name} is not in host/METRICS.md");
    }
}
