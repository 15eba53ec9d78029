//! Faults behind two sidecars: what the inner one says of its app reaches the client of the outer one,
//! over TLS and in either protocol between the two.

use super::http1::{breaking, upstream};
use super::{End, exchange, file, is_counted, nothing_is_left, path, resting};
use pillion_tests::{Authority, Origin, Protocol, Sidecar};

const INNER: &str = "inner.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_behind_two_sidecars_is_told_as_it_is_behind_one() {
    let authority = Authority::new("mesh");
    let issued = authority.issue(&[INNER]);
    let good = Origin::echo().await;
    for between in ["http1", "h2"] {
        let table: Vec<_> = breaking().collect();
        let mut upstreams = Vec::new();
        for fault in &table {
            upstreams.push(upstream(fault.script).await);
        }
        let tls = "name = \"inbound\"\n\
                   tls = { certificates = [{ certificate = \"own.crt\", key = \"own.key\" }] }";
        let text = file("http1", &table, &upstreams).replace("name = \"inbound\"", tls);
        let inner = Sidecar::with(&text)
            .origin(&good)
            .file("own.crt", &issued.certificate)
            .file("own.key", &issued.key)
            .start()
            .await;
        let outer = Sidecar::new()
            .endpoint(inner.address())
            .upstream(&format!(
                "protocol = \"{between}\"\ntls = {{ ca = \"ca.crt\", server_name = \"{INNER}\" }}"
            ))
            .upstream_limits("keepalive_timeout = \"100ms\"")
            .file("ca.crt", &authority.pem)
            .start()
            .await;
        let before = (resting(&inner).await, resting(&outer).await);
        for (fault, upstream) in table.iter().zip(&upstreams) {
            for speaks in [Protocol::Http1, Protocol::Http2] {
                let what = format!("`{}` for {speaks:?} over {between}", fault.name);
                let mut client = outer.connect(speaks).await;
                let path = path(fault, speaks);
                let (end, reply) =
                    exchange(&mut client, fault.asks, &path, &upstream.head_seen).await;
                assert_eq!(end, fault.end, "{what}");
                let status = reply.as_ref().map(|reply| reply.header("proxy-status"));
                if let End::Reply(_) = end {
                    assert_eq!(status, Some(&*format!("pillion; error={}", fault.word)), "{what}");
                }
            }
            is_counted(&inner, fault).await;
        }
        // The inner one is at fault for nothing but what it broke off.
        let cut = table.iter().filter(|fault| matches!(fault.end, End::Cut(_))).count();
        let errors = ["error=\"http_response_incomplete\""];
        let count = (2 * cut) as f64;
        outer.metric_is("pillion_upstream_failures_total", &errors, |now| now == count).await;
        let all = outer.metric("pillion_upstream_failures_total", &[]).await;
        assert_eq!(all, count, "{between}");
        nothing_is_left(&outer, before.1).await;
        nothing_is_left(&inner, before.0).await;
    }
}
