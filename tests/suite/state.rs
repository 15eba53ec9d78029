//! State over a swap: what a filter keeps in `kv` is migrated for a version that wants it in another
//! form, and there unchanged for the version before; exchanges under way keep their notes.

use pillion_tests::client::full;
use pillion_tests::{Origin, Sidecar, guests};
use std::sync::Arc;
use tokio::sync::Notify;

const FILTER: &str = "./filter.wasm";

fn component(guest: &str) -> Vec<u8> {
    std::fs::read(guests::path(guest)).expect("the guests are built")
}

/// How many requests the filter has counted, this one among them.
async fn count(sidecar: &Sidecar) -> u64 {
    let reply = sidecar.get("/").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-count").parse().expect("a number")
}

/// A sidecar whose filter `count` keeps numbers in `kv`.
async fn counting(origin: &Origin) -> Sidecar {
    let keys = "grants = { kv = true, log = true }";
    let setup = Sidecar::new().origin(origin).file("filter.wasm", component("kv-counter"));
    setup.filter("count", FILTER, keys).start().await
}

#[tokio::test]
async fn a_version_of_another_form_counts_on_and_the_one_before_finds_its_own() {
    let origin = Origin::echo().await;
    let sidecar = counting(&origin).await;
    assert_eq!((count(&sidecar).await, count(&sidecar).await), (1, 2));

    sidecar.write(FILTER, component("kv-migrate"));
    sidecar.generation(2).await;
    assert_eq!((count(&sidecar).await, count(&sidecar).await), (3, 4));
    let told = sidecar.log.messages("state migrated");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].field("from"), told[0].field("state_version")), ("0".into(), "1".into()));

    // The same version under another configuration goes on with the same map.
    sidecar.edit("log = true }", "log = true }\nlimits = { time = \"20ms\" }");
    sidecar.generation(3).await;
    assert_eq!(count(&sidecar).await, 5);

    sidecar.write(FILTER, component("kv-counter"));
    sidecar.generation(4).await;
    assert_eq!(count(&sidecar).await, 3, "as it was when the other one took over");
}

#[tokio::test]
async fn a_version_that_cannot_migrate_is_refused_and_the_running_one_counts_on() {
    let origin = Origin::echo().await;
    let sidecar = counting(&origin).await;
    assert_eq!(count(&sidecar).await, 1);
    sidecar.edit("log = true }", "log = true }\nconfig = { migrate = \"fail\" }");
    sidecar.generation(2).await;
    sidecar.write(FILTER, component("kv-migrate"));
    let problems = sidecar.reload_failed().await.field("problems");
    for told in ["pillion.toml:", "source = ", "`count` refuses to take over", "told to fail"] {
        assert!(problems.contains(told), "{told}: {problems}");
    }
    assert_eq!(count(&sidecar).await, 2);

    sidecar.edit("migrate = \"fail\"", "migrate = \"work\"");
    sidecar.generation(3).await;
    assert_eq!(count(&sidecar).await, 3);
}

#[tokio::test]
async fn an_exchange_under_way_keeps_its_notes_and_its_version() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asked_too, answer_too) = (Arc::clone(&asked), Arc::clone(&answer));
    let origin = Origin::serve(move |_| {
        let (asked, answer) = (Arc::clone(&asked_too), Arc::clone(&answer_too));
        async move {
            asked.notify_one();
            answer.notified().await;
            http::Response::new(full("x"))
        }
    })
    .await;
    let setup = Sidecar::new().origin(&origin).file("filter.wasm", component("notes"));
    let sidecar = setup.filter("notes", FILTER, "").start().await;
    let swap = async {
        asked.notified().await;
        sidecar.write(FILTER, component("hello"));
        sidecar.generation(2).await;
        answer.notify_one();
    };
    let (reply, ()) = tokio::join!(sidecar.get("/under-way"), swap);
    assert_eq!(reply.header("x-note"), "/under-way");
    answer.notify_one();
    assert_eq!(sidecar.get("/after").await.header("x-note"), "");
}
