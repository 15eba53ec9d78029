//! Guarded swap: a next version gets a share of the requests, and is promoted or gone, without a
//! request that fails for it.

use http::Method;
use pillion_tests::client::{empty, full};
use pillion_tests::sidecar::Setup;
use pillion_tests::{Origin, Protocol, Reply, Sidecar, until, within};
use serde_json::Value;

const REQUESTS: u32 = 1_000;

fn guest(name: &str) -> String {
    pillion_tests::guests::path(name).display().to_string()
}

/// A sidecar whose filter `version` has a next version.
fn versions(origin: &Origin, rollout: &str) -> Setup {
    let next = format!("next = {{ source = {:?}, version = \"v2\" }}", guest("version-b"));
    Sidecar::new()
        .origin(origin)
        .filter("version", &guest("version-a"), &next)
        .tables(&format!("[rollout]\n{rollout}"))
}

async fn ask(client: &mut pillion_tests::Client, user: u32) -> Reply {
    let request = client.request(Method::GET, "/").header("x-user", user.to_string());
    client.fetch(request.body(empty()).expect("the request is valid")).await
}

async fn state(sidecar: &Sidecar) -> Value {
    sidecar.status().await["rollout"]["state"].clone()
}

/// Waits for the line that tells that step `step`, counted from 1, has begun.
pub(crate) async fn step(sidecar: &Sidecar, step: u32) {
    let wanted = step.to_string();
    let is_it = |event: &pillion_tests::log::Event| {
        event.message() == "rollout step" && event.field("step") == wanted
    };
    sidecar.log.event("a step of the rollout", is_it).await;
}

#[tokio::test]
async fn a_canary_gets_its_share_and_every_user_stays_on_one_side() {
    let origin = Origin::echo().await;
    let rollout = "steps = [\"canary 30%\", \"full\"]\nsticky = \"header:x-user\"\n\
                   version_header = \"x-filters\"";
    let sidecar = versions(&origin, rollout).start().await;
    step(&sidecar, 1).await;
    let (mut one, mut other) =
        (sidecar.connect(Protocol::Http1).await, sidecar.connect(Protocol::Http2).await);
    let mut next = 0;
    for user in 0..REQUESTS {
        let reply = ask(&mut one, user).await;
        let version = reply.header("x-version").to_owned();
        next += u32::from(version == "b");
        assert_eq!(ask(&mut other, user).await.header("x-version"), version, "user {user}");
        let shown = reply.header("x-filters");
        assert!(shown.starts_with("version="), "{shown}");
        assert_eq!(shown.ends_with("(v2)"), version == "b", "{shown}");
    }
    // Five standard deviations of 30 % of 1,000.
    assert!(next.abs_diff(300) <= 73, "{next} of {REQUESTS}");
    let counted = "pillion_rollout_exchanges_total";
    sidecar.metric_is(counted, &["side=\"next\""], |count| count == f64::from(2 * next)).await;
}

#[tokio::test]
async fn a_version_that_is_as_good_takes_over_step_by_step() {
    let origin = Origin::echo().await;
    let rollout = "steps = [\"canary 20% 100ms\", \"canary 60% 100ms\", \"full\"]\n\
                   sticky = \"random\"\njudge = { samples_min = 20 }";
    let sidecar = versions(&origin, rollout).start().await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    until("the next version to be the running one", async || {
        let reply = client.get("/").await;
        assert_eq!(reply.status, 200);
        let promoted = state(&sidecar).await == "promoted";
        for _ in 0..20 {
            let reply = client.get("/").await;
            assert!(!promoted || reply.header("x-version") == "b");
        }
        promoted.then_some(())
    })
    .await;
    step(&sidecar, 2).await;
    assert_eq!(sidecar.status().await["in_force"], "file: its next is promoted");
    assert!(client.is_open(), "no connection is closed for a rollout");
    let ended = "pillion_rollouts_total";
    sidecar.metric_is(ended, &["result=\"promoted\""], |count| count == 1.0).await;
    let series = sidecar.metric("pillion_rollout_exchanges_total", &[]).await;
    assert!(series == 0.0, "the series of a rollout end with it: {series}");
}

#[tokio::test]
async fn a_version_that_traps_hurts_its_share_only_and_is_gone_by_itself() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .filter("version", &guest("version-a"), "")
        .tables(&format!("[filter.panic]\nsource = {:?}", guest("panic")))
        .route("next = { chain = [\"version\", \"panic\"] }")
        .tables("[rollout]\nsteps = [\"canary 20%\", \"full\"]\nsticky = \"header:x-user\"")
        .start()
        .await;
    step(&sidecar, 1).await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    let (mut failed, mut asked) = (0_u32, 0_u32);
    let poisoned = |client: &pillion_tests::Client, user: u32| {
        let request = client.request(Method::GET, "/").header("x-poison", "1");
        request.header("x-user", user.to_string()).body(empty()).expect("the request is valid")
    };
    until("the end of the rollout", async || {
        for _ in 0..50 {
            asked += 1;
            let reply = client.fetch(poisoned(&client, asked)).await;
            match reply.status {
                200 => assert_eq!(reply.header("x-version"), "a"),
                500 => failed += 1,
                other => panic!("{other}"),
            }
        }
        (state(&sidecar).await == "rolled_back").then_some(())
    })
    .await;
    assert!(failed > 0 && failed * 2 < asked, "{failed} of {asked}");
    for user in 0..200 {
        assert_eq!(client.fetch(poisoned(&client, user)).await.status, 200);
    }
    let status = sidecar.status().await;
    let reason = status["rollout"]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("failed"), "{reason}");
    assert_eq!((&status["in_force"], &status["kept"]["pinned"]), (&"file".into(), &1.into()));

    // What was found bad is not tried again, and still known after the process was killed.
    let mut sidecar = sidecar;
    sidecar.kill_and_restart().await;
    let left_out = "`next` was found bad and is left out until its content changes or it is \
                    unpinned";
    sidecar.log.line(left_out).await;
    assert_eq!(sidecar.get_with("/", &[("x-poison", "1")]).await.status, 200);
}

#[tokio::test]
async fn a_rollout_that_is_killed_is_told_and_begins_again() {
    let origin = Origin::echo().await;
    let rollout = "steps = [\"canary 50%\", \"full\"]";
    let mut sidecar = versions(&origin, rollout).start().await;
    step(&sidecar, 1).await;
    sidecar.kill_and_restart().await;
    sidecar.log.line("the process ended in the middle of a rollout").await;
    step(&sidecar, 1).await;
    assert_eq!(sidecar.status().await["rollout"]["id"], 2);
    assert_eq!(sidecar.get("/").await.status, 200);
}

#[tokio::test]
async fn a_stream_outlives_every_step() {
    let (sender, body) = pillion_tests::origin::streamed();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let origin = Origin::serve(move |request| {
        let streams = request.uri().path() == "/stream";
        let stream = if streams { body.lock().expect("nobody panics").take() } else { None };
        async move { http::Response::new(stream.unwrap_or_else(|| full("x"))) }
    })
    .await;
    let rollout = "steps = [\"canary 50% 100ms\", \"full\"]\nsticky = \"random\"\n\
                   judge = { samples_min = 10 }";
    let sidecar = versions(&origin, rollout).start().await;
    let mut streaming = sidecar.connect(Protocol::Http1).await;
    let request = streaming.request(Method::GET, "/stream").body(empty()).unwrap();
    let mut answer = streaming.send(request).await.expect("the head comes first");
    let mut client = sidecar.connect(Protocol::Http1).await;
    until("the next version to be the running one", async || {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.status, 200);
        }
        (state(&sidecar).await == "promoted").then_some(())
    })
    .await;
    let mut sender = sender;
    sender.send_data("still".into()).await.expect("the stream goes on");
    let frame = within("a piece", pillion_tests::BodyExt::frame(answer.body_mut())).await;
    let data = frame.expect("there is more").expect("it is whole").into_data();
    assert_eq!(data.expect("it is data"), "still");
}

#[tokio::test]
async fn a_shadow_sees_copies_and_nobody_sees_it() {
    let origin = Origin::echo().await;
    let rollout = "steps = [\"shadow\", \"full\"]\nversion_header = \"x-filters\"";
    let sidecar = versions(&origin, rollout).start().await;
    step(&sidecar, 1).await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    for _ in 0..50 {
        assert_eq!(client.get("/shown?secret=1").await.header("x-version"), "a");
    }
    let copies = "pillion_rollout_shadow_total";
    sidecar.metric_is(copies, &["result=\"headers\""], |count| count == 50.0).await;
    let reply = sidecar.admin("/rollout").await.text();
    assert!(reply.contains("x-version") && reply.contains("/shown"), "{reply}");
    assert!(!reply.contains("secret"), "{reply}");
    assert!(!reply.contains("x-filters"), "the host's own field is not compared: {reply}");
}

#[tokio::test]
async fn a_shadow_that_traps_is_rolled_back_and_no_request_has_failed() {
    let origin = Origin::echo().await;
    let sidecar = Sidecar::new()
        .origin(&origin)
        .filter("version", &guest("version-a"), "")
        .tables(&format!("[filter.panic]\nsource = {:?}", guest("panic")))
        .route("next = { chain = [\"version\", \"panic\"] }")
        .tables("[rollout]\nsteps = [\"shadow\", \"full\"]")
        .start()
        .await;
    step(&sidecar, 1).await;
    let mut client = sidecar.connect(Protocol::Http1).await;
    until("the end of the rollout", async || {
        for _ in 0..20 {
            let request = client.request(Method::GET, "/").header("x-poison", "1");
            let reply = client.fetch(request.body(empty()).expect("it is valid")).await;
            assert_eq!((reply.status, reply.header("x-version")), (200, "a"));
        }
        (state(&sidecar).await == "rolled_back").then_some(())
    })
    .await;
}

/// Runs a verb against a sidecar; what it printed.
pub(crate) async fn verb(sidecar: &Sidecar, arguments: &[&str]) -> String {
    let mut command = pillion_tests::sidecar::pillion();
    command.args(arguments).arg("--admin").arg(sidecar.admin.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("nobody panics").expect("`pillion` can be started");
    let [out, err] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out
}

#[tokio::test]
async fn a_version_from_the_command_line_stays_until_the_file_changes() {
    let origin = Origin::echo().await;
    let mut sidecar =
        Sidecar::new().origin(&origin).filter("version", &guest("version-a"), "").start().await;
    let version = async |sidecar: &Sidecar| sidecar.get("/").await.header("x-version").to_owned();
    let next = guest("version-b");
    let steps = ["--steps", "canary 50%, full", "--version-name", "v2"];
    let swap: Vec<&str> = ["swap", "version", &next].into_iter().chain(steps).collect();
    verb(&sidecar, &swap).await;
    step(&sidecar, 1).await;
    verb(&sidecar, &["promote"]).await;
    assert_eq!(version(&sidecar).await, "b");
    assert_eq!(sidecar.admin_as("POST", "/reload").await.status, 200);
    assert_eq!(version(&sidecar).await, "b", "the file is as it was");
    assert_eq!(
        sidecar.status().await["filters"][0]["version"].as_str().unwrap_or("")[12..],
        *"(v2)"
    );

    sidecar.kill_and_restart().await;
    assert_eq!(version(&sidecar).await, "b", "over a restart, too");
    let status = sidecar.status().await;
    let in_force = status["in_force"].as_str().unwrap_or_default().to_owned();
    assert!(in_force.starts_with("admin: generation"), "{in_force}");
    let generation = status["generation"].to_string();

    sidecar.edit("[runtime]", "[runtime]\ndrain_timeout = \"29s\"");
    until("the file to be in force", async || (version(&sidecar).await == "a").then_some(())).await;
    let in_force = async || sidecar.status().await["in_force"].clone();
    until("that to be shown", async || (in_force().await == "file").then_some(())).await;
    sidecar.log.line("the configuration file has changed and takes the place of this").await;
    verb(&sidecar, &["rollback", "--generation", &generation]).await;
    assert_eq!(version(&sidecar).await, "b");
    verb(&sidecar, &["rollback", "version"]).await;
    assert_eq!(version(&sidecar).await, "a");
}
