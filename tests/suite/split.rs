//! A split moved by editing the file under load: the shares are those of the weights at every step,
//! no request fails, and whoever is bound to an upstream stays there while it grows.

use pillion_tests::client::{empty, full};
use pillion_tests::{Client, Origin, Protocol, Sidecar};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

/// Percent of the requests for `v2`, step by step.
const STEPS: [u32; 4] = [0, 5, 50, 100];

fn weights(percent: u32) -> String {
    let v1 = 100 - percent;
    format!("[{{ upstream = \"v1\", weight = {v1} }}, {{ upstream = \"v2\", weight = {percent} }}]")
}

async fn origins() -> (Origin, Origin) {
    let answering =
        |text: &'static str| Origin::serve(move |_| async move { http::Response::new(full(text)) });
    (answering("v1").await, answering("v2").await)
}

async fn sidecar(v1: &Origin, v2: &Origin, sticky: &str) -> Sidecar {
    let file = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n\
         [runtime]\nworkers = 2\n\
         [[listener]]\nname = \"inbound\"\naddress = \"127.0.0.1:0\"\n\
         limits = {{ requests_per_connection = 1000000000 }}\n\
         [[listener.route]]\nsticky = \"{sticky}\"\nsplit = {}\n\
         [upstream.v1]\nendpoints = [\"{}\"]\n[upstream.v2]\nendpoints = [\"{}\"]\n",
        weights(STEPS[0]),
        v1.address,
        v2.address
    );
    Sidecar::with(&file).start().await
}

/// Edits the file, and waits until what it says is in force.
async fn move_to(sidecar: &Sidecar, step: usize) {
    sidecar.edit(&weights(STEPS[step - 1]), &weights(STEPS[step]));
    sidecar.generation(step as u64 + 1).await;
}

/// Five standard deviations of a binomial distribution around the share.
fn assert_share(got: usize, of: usize, percent: u32) {
    let share = f64::from(percent) / 100.0;
    let expected = of as f64 * share;
    let slack = 5.0 * (expected * (1.0 - share)).sqrt();
    assert!((got as f64 - expected).abs() <= slack, "{got} of {of} for {percent} %");
}

/// Asks until it is told to stop; panics at the first request that fails. The number of answers.
async fn ask_until(mut client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let reply = client.get("/load").await;
        assert_eq!(reply.status, 200);
        assert!(matches!(&*reply.body, b"v1" | b"v2"), "{}", reply.text());
        answers += 1;
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_is_moved_under_load_with_the_right_shares_and_no_failed_request() {
    const ASKED: usize = 500;
    let (v1, v2) = origins().await;
    let sidecar = sidecar(&v1, &v2, "random").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for protocol in [Protocol::Http1, Protocol::Http1, Protocol::Http2] {
        load.spawn(ask_until(sidecar.connect(protocol).await, Arc::clone(&stop)));
    }
    let mut clients = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http1, Protocol::Http1, Protocol::Http2] {
        clients.push(sidecar.connect(protocol).await);
    }
    for (step, percent) in STEPS.into_iter().enumerate() {
        if step > 0 {
            move_to(&sidecar, step).await;
        }
        let mut for_v2 = 0;
        for client in &mut clients {
            for _ in 0..ASKED {
                for_v2 += usize::from(&*client.get("/").await.body == b"v2");
            }
        }
        assert_share(for_v2, ASKED * clients.len(), percent);
    }
    assert!(clients.iter().all(Client::is_open));
    stop.store(true, Ordering::Relaxed);
    let answers = load.join_all().await;
    assert!(answers.iter().all(|answers| *answers > STEPS.len()), "{answers:?}");
    // The metrics tell the two apart.
    assert!(sidecar.metric("pillion_upstream_requests_total", &["upstream=\"v2\""]).await > 0.0);
}

/// The users whose requests `v2` gets.
async fn on_v2(client: &mut Client, users: usize) -> BTreeSet<usize> {
    let mut on_v2 = BTreeSet::new();
    for user in 0..users {
        let request = client.request(http::Method::GET, "/").header("x-user", format!("u-{user}"));
        let reply = client.fetch(request.body(empty()).expect("the request is valid")).await;
        assert_eq!(reply.status, 200);
        if &*reply.body == b"v2" {
            on_v2.insert(user);
        }
    }
    on_v2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_bound_by_a_field_stay_where_they_are_while_their_upstream_grows() {
    const USERS: usize = 1_000;
    let (v1, v2) = origins().await;
    let sidecar = sidecar(&v1, &v2, "header:x-user").await;
    let mut before = BTreeSet::new();
    for (step, percent) in STEPS.into_iter().enumerate() {
        if step > 0 {
            move_to(&sidecar, step).await;
        }
        // Over connections of both protocols, so of any worker.
        let mut one = sidecar.connect(Protocol::Http1).await;
        let mut other = sidecar.connect(Protocol::Http2).await;
        let now = on_v2(&mut one, USERS).await;
        assert_eq!(now, on_v2(&mut other, USERS).await, "{percent} %");
        assert_share(now.len(), USERS, percent);
        assert!(before.is_subset(&now), "{percent} %: users have left `v2`");
        before = now;
    }
}

#[tokio::test]
async fn a_client_gets_one_upstream_however_often_it_comes() {
    let (v1, v2) = origins().await;
    let sidecar = sidecar(&v1, &v2, "client").await;
    sidecar.edit(&weights(STEPS[0]), &weights(50));
    sidecar.generation(2).await;
    let mut answers = BTreeSet::new();
    for _ in 0..20 {
        let mut client = sidecar.connect(Protocol::Http1).await;
        answers.insert(client.get("/").await.text());
        answers.insert(client.get("/").await.text());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}
