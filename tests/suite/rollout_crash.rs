//! `kill -9` at any point of a rollout: the next process serves the last full generation, never what
//! was only being tried, and says that a rollout was cut short.
//!
//! The points are counted in answered requests since the rollout was asked for, and follow from a
//! seed: `PILLION_CRASH_SEED=N` plays others.

use crate::parity::dice::Dice;
use pillion_tests::log::Event;
use pillion_tests::{Client, Origin, Protocol, Sidecar, guests, until};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const SEED: u64 = 5;
const KILLS: usize = 50;
const STEPS: [&str; 4] = ["shadow 200ms", "canary 5% 200ms", "canary 50% 200ms", "full"];
/// Of the requests; the rollout goes on meanwhile.
const PAUSE: Duration = Duration::from_millis(2);
/// About as many requests as a rollout takes that goes by itself.
const REQUESTS: usize = 450;
/// About as many as one takes that somebody hurries.
const REQUESTS_HURRIED: usize = 60;
/// Requests that look who serves.
const CHECKS: usize = 20;
const JSON: &str = "application/json";

/// How a rollout is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By `next` in the file.
    File,
    /// By the admin interface: a configuration, or a component.
    Config,
    Upload,
    /// The same, and somebody promotes each step at once.
    Promoted,
    /// The same, and somebody rolls it back at once.
    RolledBack,
}

const WAYS: [Way; 5] = [Way::File, Way::Config, Way::Promoted, Way::Upload, Way::RolledBack];

/// A version of the filter: component and configuration. Its place in the list is its name.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    component: u32,
    config: u32,
}

impl Version {
    /// What it puts into `x-version`.
    fn shown(&self) -> String {
        format!("{:06}/v{}/good", self.component, self.config)
    }

    fn bytes(&self) -> Vec<u8> {
        guests::marked("good", self.component)
    }

    fn file(&self) -> String {
        format!("component-{}.wasm", self.component)
    }

    fn config(&self) -> Value {
        json!({ "version": format!("v{}", self.config) })
    }

    fn keys(&self, name: usize) -> String {
        let (file, config) = (self.file(), self.config);
        format!(
            "source = \"./{file}\"\nversion = \"n{name}\"\nconfig = {{ version = \"v{config}\" }}"
        )
    }
}

/// A sidecar that is killed again and again.
struct Scene {
    sidecar: Sidecar,
    origin: Origin,
    /// All that there were.
    versions: Vec<Version>,
    /// Which of them serves.
    running: usize,
}

/// How far the killed process came.
#[derive(Debug)]
struct Past {
    way: Way,
    /// The version before, and the one that was tried.
    versions: [usize; 2],
    /// The last step that it told of, counted from 1.
    step: u64,
    promoted: bool,
    /// It was about to be rolled back, if not more.
    going_back: bool,
    ended: bool,
}

#[tokio::test]
async fn a_process_killed_at_any_point_of_a_rollout_comes_back_with_a_full_generation() {
    let seed = std::env::var("PILLION_CRASH_SEED").ok();
    let seed = seed.map_or(SEED, |text| text.parse().expect("a number"));
    let (mut dice, mut scene) = (Dice::new(seed), Scene::start().await);
    let mut reached = [0; STEPS.len()];
    let mut cut_short = 0;
    for kill in 0..KILLS {
        let way = WAYS[kill % WAYS.len()];
        let hurried = matches!(way, Way::Promoted | Way::RolledBack);
        let requests = dice.below(if hurried { REQUESTS_HURRIED } else { REQUESTS });
        let past = scene.killed_in(way, requests).await;
        reached[(past.step as usize).min(STEPS.len() - 1)] += 1;
        cut_short += usize::from(scene.comes_back(&past).await);
    }
    pillion_tests::peer::tell(&format!(
        "{KILLS} kills: {} before the first step, {} in shadow, {} in a canary of 5 %, {} in one of \
         50 % or later; {cut_short} rollouts were cut short",
        reached[0], reached[1], reached[2], reached[3]
    ));
    assert!(cut_short > 0, "no kill met a rollout");
}

impl Scene {
    async fn start() -> Scene {
        let origin = Origin::echo().await;
        let first = Version { component: 0, config: 0 };
        let setup = Sidecar::with(&text(&origin, &first.keys(0), None));
        let sidecar = setup.file(&first.file(), first.bytes()).start().await;
        Scene { sidecar, origin, versions: vec![first], running: 0 }
    }

    /// Starts a rollout and kills the process when so many requests were answered since.
    async fn killed_in(&mut self, way: Way, requests: usize) -> Past {
        let next = self.candidate(way);
        self.versions.push(next);
        let versions = [self.running, self.versions.len() - 1];
        let log = self.sidecar.log.clone();
        let earlier = log.events().len();
        let client = self.sidecar.connect(Protocol::Http1).await;
        tokio::select! {
            never = self.drive(way, versions) => match never {},
            () = ask(client, requests) => {}
        }
        self.sidecar.kill_and_restart().await;
        log.ended().await;

        let events: Vec<Event> = log.events().into_iter().skip(earlier).collect();
        let told = |message: &str| events.iter().filter(|it| it.message() == message).count();
        let steps = events.iter().filter(|it| it.message() == "rollout step");
        let mut published = events.iter().filter(|it| it.message() == "generation published");
        Past {
            way,
            versions,
            step: steps.filter_map(|it| it.field("step").parse().ok()).max().unwrap_or(0),
            promoted: told("rollout promoted: the candidate is the running version") > 0,
            going_back: published.any(|it| it.field("cause") == "rollback"),
            ended: told("rollout ended without being promoted") > 0,
        }
    }

    fn candidate(&self, way: Way) -> Version {
        let (running, number) = (&self.versions[self.running], self.versions.len() as u32);
        match way {
            Way::File => Version { component: number, config: number },
            Way::Upload => Version { component: number, config: running.config },
            Way::Config | Way::Promoted | Way::RolledBack => {
                Version { component: running.component, config: number }
            }
        }
    }

    async fn drive(&self, way: Way, [running, next]: [usize; 2]) -> Infallible {
        let version = &self.versions[next];
        match way {
            Way::File => {
                for version in [&self.versions[running], version] {
                    if !self.sidecar.directory().join(version.file()).exists() {
                        self.sidecar.write(&version.file(), version.bytes());
                    }
                }
                let before = self.versions[running].keys(running);
                let after = version.keys(next);
                self.sidecar.save(&text(&self.origin, &before, Some(&after)));
            }
            Way::Upload => {
                let target = format!("/filters/version/next?version=n{next}");
                self.post(&target, "application/wasm", version.bytes()).await;
            }
            Way::Config | Way::Promoted | Way::RolledBack => {
                let filter = json!({ "config": version.config(), "version": format!("n{next}") });
                let body = json!({ "filters": { "version": filter } });
                self.post("/rollout", JSON, body.to_string()).await;
            }
        }
        if way == Way::RolledBack {
            self.post("/rollback", JSON, "").await;
        }
        while way == Way::Promoted && self.state().await == "stepping" {
            self.post("/rollout/promote", JSON, "").await;
        }
        std::future::pending().await
    }

    /// What the process after a kill serves is what it has to be. Was a rollout cut short?
    async fn comes_back(&mut self, past: &Past) -> bool {
        const CUT_SHORT: &str = "the process ended in the middle of a rollout; the last full \
                                 generation is served";
        let [before, next] = past.versions;
        let by_hand = past.way == Way::Promoted;
        let served = self.in_force().await;
        let may_be: &[usize] = match past {
            Past { promoted: true, .. } => &[next],
            Past { ended: true, .. } => &[before],
            Past { step: 3.., .. } => &[before, next],
            Past { .. } if by_hand => &[before, next],
            Past { .. } => &[before],
        };
        assert!(may_be.contains(&served), "{served} is in force after {past:?}");
        self.serves(served, past).await;
        // Told before the line `ready`.
        let cut_short = !self.sidecar.log.messages(CUT_SHORT).is_empty();
        let has_to_be = past.step > 0 && !past.going_back && served == before;
        let may_be = !past.ended && served == before;
        assert!(cut_short || !has_to_be, "not told of {past:?}");
        assert!(!cut_short || may_be, "told of {past:?}");
        self.settle(served, past).await;
        cut_short
    }

    /// Every answer is that of the full generation; or of `next` in the file, once its rollout has
    /// begun again and come to a canary.
    async fn serves(&self, served: usize, past: &Past) {
        let [before, next] = past.versions;
        let begins_again = past.way == Way::File && served == before;
        let shown = self.versions[served].shown();
        let mut client = self.sidecar.connect(Protocol::Http1).await;
        for _ in 0..CHECKS {
            let reply = client.get("/").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            if begins_again && reply.header("x-version") == self.versions[next].shown() {
                self.step(2).await;
                continue;
            }
            assert_eq!(reply.header("x-version"), shown, "after {past:?}");
        }
        let status = self.sidecar.status().await;
        assert_eq!(status["kept"]["fault"], Value::Null, "{status}");
        if begins_again {
            self.step(1).await;
        } else {
            let all = self.generations().await;
            assert_eq!(status["generation"], all[0]["generation"], "{status}");
            let told = !self.sidecar.log.messages("rollout step").is_empty();
            assert!(!told, "a rollout began after {past:?}");
        }
    }

    /// Waits until a rollout has come so far, counted from 1.
    async fn step(&self, step: u64) {
        let is_it = |event: &Event| {
            event.message() == "rollout step" && event.field("step") == step.to_string()
        };
        self.sidecar.log.event("a step of the rollout", is_it).await;
    }

    /// Ends what the file has begun again, if that has not come to its end.
    async fn settle(&mut self, served: usize, past: &Past) {
        self.running = served;
        if self.state().await == "stepping" {
            self.post("/rollback", JSON, "").await;
            self.running = self.in_force().await;
            assert!(past.versions.contains(&self.running), "{past:?}");
        }
    }

    /// The version of the full generation in force.
    async fn in_force(&self) -> usize {
        let all = self.generations().await;
        assert_eq!(all[0]["in_force"], true, "{all}");
        let version = all[0]["filters"][0]["version"].as_str().expect("it has a version");
        let name = version.split_once("(n").and_then(|(_, rest)| rest.strip_suffix(')'));
        name.and_then(|name| name.parse().ok()).unwrap_or_else(|| panic!("{version}"))
    }

    async fn generations(&self) -> Value {
        until("a generation to be kept", async || {
            let reply = self.sidecar.admin("/generations").await;
            let mut told: Value = serde_json::from_slice(&reply.body).ok()?;
            Some(told["generations"].take()).filter(|all| all[0].is_object())
        })
        .await
    }

    async fn state(&self) -> Value {
        let reply = self.sidecar.admin("/rollout").await;
        let told: Value = serde_json::from_slice(&reply.body).expect("it is JSON");
        told["rollout"]["state"].clone()
    }

    /// 409: it has ended meanwhile.
    async fn post(&self, target: &str, kind: &str, body: impl Into<bytes::Bytes>) {
        let reply = self.sidecar.admin_post(target, kind, body).await;
        assert!([200, 409].contains(&reply.status), "{target}: {} {}", reply.status, reply.text());
    }
}

/// Asks so many times; a version answers each.
async fn ask(mut client: Client, requests: usize) {
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..requests {
        pace.tick().await;
        let reply = client.get("/").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

fn text(origin: &Origin, keys: &str, next: Option<&str>) -> String {
    let next = next.map(|keys| format!("[filter.version.next]\n{keys}")).unwrap_or_default();
    format!(
        r#"
[admin]
address = "127.0.0.1:0"

[rollout]
steps = {STEPS:?}
sticky = "random"
judge = {{ samples_min = 1 }}

[[listener]]
name = "inbound"
address = "127.0.0.1:0"

[[listener.route]]
chain = ["version"]
upstream = "app"

[upstream.app]
endpoints = ["{}"]

[filter.version]
{keys}
{next}
"#,
        origin.address
    )
}
