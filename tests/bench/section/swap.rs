//! From a saved filter to the first answer of its new version.

use pillion_tests::client::Protocol;
use pillion_tests::{Sidecar, guests, within};
use std::net::SocketAddr;
use tokio::time::Instant;

const FILTER: &str = "./version.wasm";

/// Milliseconds of each of `count` swaps between two versions, both compiled before.
pub(crate) async fn run(count: usize, origin: SocketAddr) -> Vec<f64> {
    let versions = ["a", "b"];
    let components = versions.map(|version| {
        let name = if version == "a" { "version-a" } else { "version-b" };
        std::fs::read(guests::path(name)).expect("the guests are built")
    });
    let setup = Sidecar::new().endpoint(origin).file("version.wasm", &components[0]);
    let sidecar = setup.filter("version", FILTER, "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let mut took = Vec::new();
    // The first two compile each version.
    for turn in 1..count + 2 {
        let next = turn % 2;
        let saved = Instant::now();
        sidecar.write(FILTER, &components[next]);
        within("the first answer of the new version", async {
            while client.get("/").await.header("x-version") != versions[next] {}
        })
        .await;
        if turn > 1 {
            took.push(saved.elapsed().as_secs_f64() * 1e3);
        }
        sidecar.generation(turn as u64 + 1).await;
    }
    took
}
