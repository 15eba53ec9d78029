//! Swap on save: a new generation for new requests, no connection closed, nothing failed, and a
//! broken file changes nothing.

use http::Method;
use pillion_tests::client::{empty, full};
use pillion_tests::{Client, Origin, Protocol, Sidecar, until, within};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

const SWAPS: u64 = 200;
const FILTER: &str = "./version.wasm";

fn version(generation: u64) -> &'static str {
    if generation % 2 == 1 { "a" } else { "b" }
}

/// The component of the version that answers in this generation.
fn component(generation: u64) -> Vec<u8> {
    let path = pillion_tests::guests::path(if version(generation) == "a" {
        "version-a"
    } else {
        "version-b"
    });
    std::fs::read(path).expect("the guests are built")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_under_load_fail_nothing_and_close_nothing() {
    let origin = Origin::serve(|_| async { http::Response::new(full("x")) }).await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .file("version.wasm", component(1))
        .filter("version", FILTER, "")
        .listener_limits("requests_per_connection = 1000000000")
        .tables("[access_log]\ndestination = \"./access.log\"")
        .start()
        .await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for connection in 0..6 {
        let protocol = if connection < 4 { Protocol::Http1 } else { Protocol::Http2 };
        let client = sidecar.connect(protocol).await;
        load.spawn(ask_until(client, connection, Arc::clone(&stop)));
    }

    let mut probe = sidecar.connect(Protocol::Http1).await;
    let mut waits = Vec::new();
    for generation in 2..=SWAPS + 1 {
        let content = component(generation);
        let saved = Instant::now();
        sidecar.write(FILTER, content);
        within("the first answer of the new version", async {
            while probe.get("/probe").await.header("x-version") != version(generation) {}
        })
        .await;
        waits.push(saved.elapsed());
        sidecar.generation(generation).await;
    }
    stop.store(true, Ordering::Relaxed);
    // Each asker panics at a failed request and at a closed connection; joining tells.
    let answers: HashMap<String, String> = load.join_all().await.into_iter().flatten().collect();

    let asked = answers.len();
    assert!(asked as u64 > SWAPS, "the load was constant: {asked}");
    let of_generation = generations(&sidecar, asked).await;
    for (path, answered) in &answers {
        let generation = of_generation[path];
        assert_eq!(answered, version(generation), "{path} in generation {generation}");
    }
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    let (asked, best, worst) = (answers.len(), waits[0], waits[waits.len() - 1]);
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "from save to first answer of the new version: median {median:.1?} (best {best:.1?}, worst \
         {worst:.1?}) over {SWAPS} swaps, {asked} other requests meanwhile, none failed"
    );
}

/// Asks over one connection, paced, until told to stop; which path got which version.
async fn ask_until(
    mut client: Client,
    number: usize,
    stop: Arc<AtomicBool>,
) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let path = format!("/{number}/{}", answers.len());
        let reply = client.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(client.is_open(), "the connection of {path} was closed");
        answers.push((path, reply.header("x-version").to_owned()));
    }
    answers
}

/// Which generation served which path, by the access log.
async fn generations(sidecar: &Sidecar, count: usize) -> HashMap<String, u64> {
    let file = sidecar.directory().join("access.log");
    until("every exchange to be in the access log", async || {
        let text = std::fs::read_to_string(&file).ok()?;
        let whole = text.rsplit_once('\n')?.0;
        let lines = whole.lines().filter_map(|line| serde_json::from_str(line).ok());
        let pairs = lines.map(|line: serde_json::Value| {
            let path = line["path"].as_str().unwrap_or_default().to_owned();
            (path, line["generation"].as_u64().unwrap_or_default())
        });
        let served: HashMap<String, u64> = pairs.filter(|(path, _)| path != "/probe").collect();
        (served.len() >= count).then_some(served)
    })
    .await
}

#[tokio::test]
async fn a_stream_finishes_on_the_generation_it_began_on_and_then_that_one_is_freed() {
    let origin = Origin::serve(|_| async {
        let (sender, body) = pillion_tests::origin::streamed();
        SENDERS.lock().expect("nobody panics with it").push(sender);
        http::Response::new(body)
    })
    .await;
    let sidecar = Sidecar::new().origin(&origin).guest("body-upper", "").start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let request = client.request(Method::GET, "/").body(empty()).unwrap();
    let mut answer = client.send(request).await.expect("the head comes first");
    let mut sender = SENDERS.lock().expect("nobody panics with it").pop().expect("it was asked");
    let mut piece = async |text: &'static str| {
        sender.send_data(text.into()).await.expect("the stream goes on");
        let frame = within("a piece", pillion_tests::BodyExt::frame(answer.body_mut())).await;
        frame.expect("there is more").expect("it is whole").into_data().expect("it is data")
    };
    assert_eq!(piece("old").await, "OLD");
    sidecar.edit("chain = [\"body-upper\"]", "chain = []");
    sidecar.generation(2).await;
    assert_eq!(piece("still").await, "STILL");
    let instances = "pillion_filter_instances";
    assert!(sidecar.metric(instances, &["filter=\"body-upper\""]).await >= 1.0);
    drop(client);
    drop(sender);
    sidecar.metric_is(instances, &["filter=\"body-upper\""], |count| count == 0.0).await;
}

static SENDERS: std::sync::Mutex<Vec<pillion_tests::origin::BodySender>> =
    std::sync::Mutex::new(Vec::new());

#[tokio::test]
async fn an_upgraded_connection_outlives_a_swap() {
    let origin = super::upgrade::echoing().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let mut wire = sidecar.wire().await;
    super::upgrade::switch(&mut wire).await;
    sidecar.edit("[runtime]", "[runtime]\n# saved");
    sidecar.hang_up();
    sidecar.generation(2).await;
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await, b"ping");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_why_and_a_repaired_one_is_published() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("version-a", "").start().await;
    let good = std::fs::read_to_string(&sidecar.file).unwrap();
    let mut client = sidecar.connect(Protocol::Http1).await;
    assert_eq!(client.get("/").await.header("x-version"), "a");

    sidecar.save(&good.replace("upstream = \"app\"", "upstream = \"ap\"\nchian = []"));
    let problems = sidecar.reload_failed().await.field("problems");
    for part in ["pillion.toml:", "`ap`", "did you mean", "`chian`", "^"] {
        assert!(problems.contains(part), "{part} is not in: {problems}");
    }
    assert_eq!(client.get("/").await.header("x-version"), "a");
    let labels = ["result=\"failed\""];
    sidecar.metric_is("pillion_reloads_total", &labels, |count| count >= 1.0).await;
    assert_eq!(sidecar.status().await["generation"], 1);
    assert_eq!(sidecar.admin("/readyz").await.status, 200);

    sidecar.save(&good.replace("chain = [\"version-a\"]", "chain = []"));
    sidecar.generation(2).await;
    assert_eq!(client.get("/").await.header("x-version"), "");
    assert!(client.is_open());
}

#[tokio::test]
async fn a_broken_filter_changes_nothing_and_says_why() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .file("version.wasm", component(1))
        .filter("version", FILTER, "")
        .start()
        .await;
    sidecar.write(FILTER, "this is no component");
    let problems = sidecar.reload_failed().await.field("problems");
    assert!(problems.contains("version"), "{problems}");
    assert_eq!(sidecar.get("/").await.header("x-version"), "a");
    sidecar.write(FILTER, component(2));
    sidecar.generation(2).await;
    assert_eq!(sidecar.get("/").await.header("x-version"), "b");
}

#[tokio::test]
async fn buckets_and_kv_survive_a_swap() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .guest("kv-counter", "grants = { kv = true }")
        .builtin(
            "rate-limit",
            "grants = { rate-limit = { requests = 1, per = \"1h\", burst = 3 } }",
        )
        .start()
        .await;
    let first = sidecar.get("/").await;
    let second = sidecar.get("/").await;
    assert_eq!((first.status, second.status), (200, 200));
    let count = |reply: &pillion_tests::Reply| reply.header("x-count").parse::<u64>().unwrap();
    assert_eq!(count(&second), count(&first) + 1);
    sidecar.edit("[runtime]", "[runtime]\ndrain_timeout = \"29s\"");
    sidecar.generation(2).await;
    let third = sidecar.get("/").await;
    assert_eq!((third.status, count(&third)), (200, count(&second) + 1));
    assert_eq!(sidecar.get("/").await.status, 429, "three tokens were three tokens");
}

#[tokio::test]
async fn a_file_behind_symlinks_is_swapped_as_config_maps_are() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).guest("version-a", "").mounted();
    let text = setup.text();
    let sidecar = setup.start().await;
    assert_eq!(sidecar.get("/").await.header("x-version"), "a");
    for generation in 2..5 {
        let other = if generation % 2 == 0 { "chain = []" } else { "chain = [\"version-a\"]" };
        sidecar.remount(&text.replace("chain = [\"version-a\"]", other));
        sidecar.generation(generation).await;
        let expected = if generation % 2 == 0 { "" } else { "a" };
        assert_eq!(sidecar.get("/").await.header("x-version"), expected);
    }
}

#[tokio::test]
async fn without_watching_a_signal_or_the_admin_publishes() {
    let origin = Origin::echo().await;
    let setup = Sidecar::new().origin(&origin).guest("version-a", "").runtime("watch = false");
    let sidecar = setup.start().await;
    sidecar.edit("chain = [\"version-a\"]", "chain = []");
    sidecar.hang_up();
    sidecar.generation(2).await;
    assert_eq!(sidecar.get("/").await.header("x-version"), "");

    sidecar.edit("chain = []", "chain = [\"version-a\"]");
    let reply = sidecar.admin_as("POST", "/reload").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains('3'), "{}", reply.text());
    assert_eq!(sidecar.get("/").await.header("x-version"), "a");

    sidecar.save("nonsense");
    let reply = sidecar.admin_as("POST", "/reload").await;
    assert_eq!(reply.status, 422);
    assert!(reply.text().contains("pillion.toml:1:"), "{}", reply.text());
    assert_eq!(sidecar.get("/").await.header("x-version"), "a");
}

#[tokio::test]
async fn a_new_upstream_serves_new_requests_over_old_connections() {
    let (old, new) = (Origin::echo().await, Origin::echo().await);
    let sidecar = Sidecar::new().origin(&old).start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    assert_eq!(client.get("/").await.status, 200);
    sidecar.edit(&old.address.to_string(), &new.address.to_string());
    sidecar.generation(2).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!((old.requests(), new.requests()), (1, 1));
}

#[tokio::test]
async fn a_missing_file_changes_nothing() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("watch = false").start().await;
    std::fs::remove_file(&sidecar.file).unwrap();
    sidecar.hang_up();
    let problems = sidecar.reload_failed().await.field("problems");
    assert!(problems.contains("pillion.toml"), "{problems}");
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn listeners_come_and_go_with_the_file() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).start().await;
    let good = std::fs::read_to_string(&sidecar.file).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let second = format!(
        "[[listener]]\nname = \"second\"\naddress = \"{address}\"\n\
         [[listener.route]]\nupstream = \"app\"\n[upstream.app]"
    );
    sidecar.save(&good.replacen("[upstream.app]", &second, 1));
    sidecar.generation(2).await;
    let mut client = until("the new listener to accept", async || {
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        drop(stream);
        Some(Client::connect(address, Protocol::Http1).await)
    })
    .await;
    assert_eq!(client.get("/").await.status, 200);

    sidecar.save(&good);
    sidecar.generation(3).await;
    client.closed().await;
    until("the old listener to be closed", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_refused_and_says_so() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).runtime("workers = 1").start().await;
    sidecar.edit("workers = 1", "workers = 2");
    let problems = sidecar.reload_failed().await.field("problems");
    assert!(problems.contains("workers") && problems.contains("restart"), "{problems}");
    assert_eq!(sidecar.status().await["generation"], 1);
}

#[tokio::test]
async fn a_half_written_file_is_not_taken_for_a_broken_one() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new().origin(&origin).guest("version-a", "").start().await;
    let text = std::fs::read_to_string(&sidecar.file).unwrap();
    let text = text.replace("chain = [\"version-a\"]", "chain = []");
    let (first, rest) = text.split_at(text.len() / 2);
    // As an editor that writes in place does, in two steps.
    std::fs::write(&sidecar.file, first).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&sidecar.file).unwrap();
    std::io::Write::write_all(&mut file, rest.as_bytes()).unwrap();
    drop(file);
    sidecar
        .log
        .event("a generation of the whole file", |event| {
            event.message() == "generation published" && event.field("generation") != "1"
        })
        .await;
    assert_eq!(sidecar.get("/").await.header("x-version"), "");
}
