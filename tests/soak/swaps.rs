//! One swap after the other: good versions take over, bad ones are rolled back by the judge, some
//! by hand; each is waited for and written down.

use crate::ledger::Ledger;
use crate::load::{CLIENTS, PER_SECOND};
use crate::site::{Mood, Site, Version};
use pillion_tests::{Protocol, until};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

/// One kind of swap.
#[derive(Debug)]
pub(crate) struct Swap {
    by: By,
    mood: Mood,
    steps: &'static [&'static str],
    end: End,
}

/// Who asks for it, and what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The file, at once: component and configuration.
    Save,
    /// `next` in the file: component and configuration.
    Next,
    /// The admin interface: a configuration.
    Config,
    /// The admin interface: a component.
    Upload,
    /// The admin interface: another chain.
    Chain,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By itself: the judge decides.
    Judged,
    /// Somebody promotes it, as soon as there is something to see.
    Promoted,
    /// Somebody rolls it back, as soon as there is something to see.
    RolledBack,
    /// Somebody returns to the generation before when it is in force.
    Returned,
}

const fn swap(by: By, mood: Mood, steps: &'static [&'static str], end: End) -> Swap {
    Swap { by, mood, steps, end }
}

/// Exchanges of a candidate after which somebody decides by hand.
const SEEN_ENOUGH: u64 = 20;
/// Requests that look who serves when a swap has ended.
const CHECKS: usize = 10;
/// Far more exchanges of a bad version than the judge needs here, its next look included.
const SAMPLES_NEEDED: f64 = 100.0;

const ALL_STAGES: &[&str] = &["shadow 100ms", "canary 20% 100ms", "canary 60% 100ms", "full"];
const AT_ONCE: &[&str] = &["full"];

/// What is done again and again.
pub(crate) const ROUND: &[Swap] = &[
    swap(By::Save, Mood::Good, &[], End::Judged),
    swap(By::Config, Mood::Good, ALL_STAGES, End::Judged),
    swap(By::Upload, Mood::Trap, &["canary 20%", "full"], End::Judged),
    swap(By::Next, Mood::Good, ALL_STAGES, End::Judged),
    swap(By::Config, Mood::Reply, &["canary 10%", "full"], End::Judged),
    swap(By::Chain, Mood::Good, &["canary 30% 100ms", "full"], End::Judged),
    swap(By::Upload, Mood::Spin, &["canary 20%", "full"], End::Judged),
    swap(By::Upload, Mood::Good, ALL_STAGES, End::Judged),
    swap(By::Next, Mood::Trap, &["shadow", "canary 50%", "full"], End::Judged),
    swap(By::Config, Mood::Slow, &["canary 30%", "full"], End::Judged),
    swap(By::Config, Mood::Good, AT_ONCE, End::Judged),
    swap(By::Upload, Mood::Leak, &["canary 30%", "full"], End::Judged),
    swap(By::Upload, Mood::Good, &["canary 50%", "full"], End::Promoted),
    swap(By::Config, Mood::Good, &["canary 40%", "full"], End::RolledBack),
    swap(By::Chain, Mood::Good, AT_ONCE, End::Returned),
    swap(By::Next, Mood::Leak, &["canary 30%", "full"], End::Judged),
    swap(By::Config, Mood::Spin, &["shadow", "canary 50%", "full"], End::Judged),
    swap(By::Next, Mood::Reply, &["canary 20%", "full"], End::Judged),
];

impl Swap {
    fn is_bad(&self) -> bool {
        self.mood != Mood::Good
    }

    /// The share of the requests that its first step gets.
    fn share(&self) -> f64 {
        let share = self.steps.first().and_then(|step| step.strip_prefix("canary "));
        let percent = share.and_then(|share| share.split_once('%'));
        percent.map_or(0.0, |(percent, _)| percent.parse::<f64>().expect("a number") / 100.0)
    }

    fn name(&self) -> String {
        let Swap { by, mood, steps, end } = self;
        let first = steps.first().copied().unwrap_or("at once");
        format!("{by:?} | {mood:?} | {first} | {end:?}")
    }
}

/// What came of one.
pub(crate) struct Outcome {
    swap: &'static Swap,
    /// `promoted`, `rolled_back`.
    state: String,
    by_judge: bool,
    /// Index of the step it ended in.
    step: u64,
    /// Exchanges of the candidate in that step, and of both sides.
    exchanges: (u64, u64),
    /// When it was bad and got a share.
    epoch: Option<u64>,
    /// From its beginning to its end, as seen from outside.
    took: Duration,
    /// What the judge said.
    reason: String,
}

/// Does them.
pub(crate) struct Swapper<'s> {
    site: &'s Site,
    ledger: &'s Ledger,
    running: Version,
    number: u32,
    /// The latest rollout.
    rollout: u64,
    /// Of all so far.
    pub(crate) outcomes: Vec<Outcome>,
}

impl<'s> Swapper<'s> {
    pub(crate) fn new(site: &'s Site, ledger: &'s Ledger) -> Self {
        let (running, outcomes) = (Version::FIRST, Vec::new());
        Swapper { site, ledger, running, number: 0, rollout: 0, outcomes }
    }

    /// Does one, and waits until it has ended and every request is served as it should be then.
    pub(crate) async fn swap(&mut self, swap: &'static Swap) {
        self.number += 1;
        let (before, version) = (self.running.clone(), self.candidate(swap));
        let epoch = (swap.is_bad() && swap.share() > 0.0).then(|| self.ledger.open());
        self.begin(swap, &version).await;
        let began = Instant::now();
        let shown = if swap.by == By::Save { json!({}) } else { self.ended(swap).await };
        let took = began.elapsed();
        if epoch.is_some() {
            self.ledger.close();
        }
        let outcome = Outcome::of(swap, epoch, took, &shown);
        if outcome.state == "promoted" {
            self.running = version;
        }
        self.outcomes.push(outcome);
        self.check_in_force().await;
        if swap.end == End::Returned {
            self.post("/rollback", "application/json", "").await;
            self.running = before;
            self.check_in_force().await;
        }
    }

    fn candidate(&self, swap: &Swap) -> Version {
        let (new, mut version) = ((swap.mood, self.number), self.running.clone());
        match swap.by {
            By::Save | By::Next => {
                version.component = new;
                version.config = (Mood::Good, self.number);
            }
            By::Upload => version.component = new,
            By::Config => version.config = new,
            By::Chain => version.second = !version.second,
        }
        version
    }
    /// Asks for it, and waits until it has begun.
    async fn begin(&mut self, swap: &Swap, version: &Version) {
        const JSON: &str = "application/json";
        let label = format!("s{}", self.number);
        match swap.by {
            By::Save => {
                self.site.save(version, None);
                self.running = version.clone();
                let mut client = self.site.sidecar.connect(Protocol::Http1).await;
                let wanted = version.shown();
                until("the saved version", async || {
                    (client.get("/").await.header("x-version") == wanted).then_some(())
                })
                .await;
            }
            By::Next => {
                self.site.save(&self.running, Some((version, swap.steps)));
                let latest = self.rollout;
                let begun = async || self.shown().await["id"].as_u64().filter(|id| *id > latest);
                self.rollout = until("the rollout of the file to begin", begun).await;
            }
            By::Config => {
                let filter = json!({ "config": version.config(), "version": label });
                let body = json!({ "filters": { "version": filter }, "steps": swap.steps });
                self.rollout = self.post("/rollout", JSON, body.to_string()).await;
            }
            By::Upload => {
                let steps = swap.steps.join(",").replace('%', "%25").replace(' ', "%20");
                let target = format!("/filters/version/next?steps={steps}&version={label}");
                self.rollout = self.post(&target, "application/wasm", version.bytes()).await;
            }
            By::Chain => {
                let chain =
                    json!({ "listener": "inbound", "route": "all", "chain": version.chain() });
                let body = json!({ "chains": [chain], "steps": swap.steps });
                self.rollout = self.post("/rollout", JSON, body.to_string()).await;
            }
        }
    }

    /// Waits until the rollout has ended, and ends it where that is asked for.
    async fn ended(&self, swap: &Swap) -> Value {
        let mut asked = false;
        until(&format!("the end of: {}", swap.name()), async || {
            let shown = self.shown().await;
            assert_eq!(shown["id"], self.rollout, "another rollout: {shown}");
            if shown["state"] != "stepping" {
                return Some(shown);
            }
            if !asked && shown["next"]["exchanges"].as_u64() >= Some(SEEN_ENOUGH) {
                let ending = match swap.end {
                    End::Promoted => Some("/rollout/promote"),
                    End::RolledBack => Some("/rollback"),
                    End::Judged | End::Returned => None,
                };
                if let Some(target) = ending {
                    self.post(target, "application/json", "").await;
                }
                asked = true;
            }
            None
        })
        .await
    }

    /// From now on every request meets the running version.
    async fn check_in_force(&self) {
        let mut client = self.site.sidecar.connect(Protocol::Http1).await;
        let wanted = self.running.shown();
        for _ in 0..CHECKS {
            let reply = client.get("/").await;
            let second = reply.header("x-second") == "1";
            let is = (reply.status, reply.header("x-version"), second);
            assert_eq!(is, (200, &*wanted, self.running.second), "after {}", self.latest());
        }
    }

    fn latest(&self) -> String {
        self.outcomes.last().map_or_else(String::new, |it| it.swap.name())
    }

    async fn shown(&self) -> Value {
        let reply = self.site.sidecar.admin("/rollout").await;
        let mut shown: Value = serde_json::from_slice(&reply.body).expect("it is JSON");
        shown["rollout"].take()
    }

    /// The number of the rollout that it began, else 0.
    async fn post(&self, target: &str, kind: &str, body: impl Into<bytes::Bytes>) -> u64 {
        let reply = self.site.sidecar.admin_post(target, kind, body).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        let told: Value = serde_json::from_slice(&reply.body).expect("it is JSON");
        told["rollout"].as_u64().unwrap_or(0)
    }
}

impl Outcome {
    fn of(swap: &'static Swap, epoch: Option<u64>, took: Duration, shown: &Value) -> Outcome {
        let count = |side: &str| shown[side]["exchanges"].as_u64().unwrap_or(0);
        let next = count("next");
        Outcome {
            swap,
            state: shown["state"].as_str().unwrap_or("promoted").to_owned(),
            by_judge: shown["by_judge"] == true,
            step: shown["step"].as_u64().unwrap_or(0),
            exchanges: (next, next + count("running")),
            epoch,
            took,
            reason: shown["reason"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// A bad version that got a share: it hurt nobody else, and was gone when it had shown enough.
    fn check_bad(&self, ledger: &Ledger) {
        let Outcome { swap, exchanges: (next, all), .. } = self;
        let name = swap.name();
        assert_eq!((&*self.state, self.by_judge), ("rolled_back", true), "{name}: {}", self.reason);
        assert_eq!(self.step, 0, "{name} got beyond its first step");
        let Some(epoch) = self.epoch else { return };
        // Counted when they end, and some of them may end after the verdict.
        let (next, under_way) = (*next as f64, CLIENTS as f64);
        let hurt = ledger.hurt_in(epoch) as f64;
        assert!(hurt <= next + under_way, "{name} hurt {hurt}, and {next} were its share");
        let most = expected_at_most(*all as f64, swap.share()) + under_way;
        assert!(next <= most, "{name} got {next} of {all}");
        let in_a_second = expected_at_most(PER_SECOND, swap.share());
        let most = SAMPLES_NEEDED + in_a_second + under_way;
        assert!(next <= most, "{name} was not gone after {next}");
    }
}

/// Five standard deviations above what `share` of `count` is in the mean.
fn expected_at_most(count: f64, share: f64) -> f64 {
    count * share + 5.0 * (count * share * (1.0 - share)).sqrt()
}

/// Bad versions only ever hurt their share, and good ones stay.
pub(crate) fn check(outcomes: &[Outcome], ledger: &Ledger) {
    outcomes.iter().filter(|it| it.swap.is_bad()).for_each(|it| it.check_bad(ledger));
    let good = || outcomes.iter().filter(|it| !it.swap.is_bad());
    for outcome in good().filter(|it| it.swap.end == End::RolledBack) {
        assert_eq!((&*outcome.state, outcome.by_judge), ("rolled_back", false));
    }
    let meant = good().filter(|it| it.swap.end != End::RolledBack);
    let (count, wrong) = meant.fold((0, 0), |(count, wrong), outcome| {
        (count + 1, wrong + usize::from(outcome.state != "promoted"))
    });
    // A chance of 1 % a step is what the judge promises.
    assert!(wrong <= 1 + count / 20, "{wrong} of {count} good versions were rolled back");
}

/// What was done, and what came of it.
pub(crate) fn table(outcomes: &[Outcome], ledger: &Ledger) -> String {
    let mut text =
        "\n| by | version | first step | decided | times | promoted | rolled back | its \
                    requests in the last step | hurt | seconds |\n\
                    |---|---|---|---|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for swap in ROUND {
        let name = swap.name();
        let done: Vec<&Outcome> = outcomes.iter().filter(|it| it.swap.name() == name).collect();
        let count = |state: &str| done.iter().filter(|it| it.state == state).count();
        let requests = done.iter().map(|it| it.exchanges.0).max().unwrap_or(0);
        let hurt = done.iter().filter_map(|it| it.epoch).map(|it| ledger.hurt_in(it)).max();
        let longest = done.iter().map(|it| it.took).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {requests} | {} | {:.2} |",
            done.len(),
            count("promoted"),
            count("rolled_back"),
            hurt.unwrap_or(0),
            longest.as_secs_f64()
        );
    }
    let bad = || outcomes.iter().filter(|it| it.swap.is_bad());
    let longest = bad().max_by_key(|it| it.took);
    let _ = writeln!(
        text,
        "(of several times the most)\n{} swaps; {} bad versions, the longest there for {:.2} s, its \
         time to get samples included: {}",
        outcomes.len(),
        bad().count(),
        longest.map_or(0.0, |it| it.took.as_secs_f64()),
        longest.map_or("", |it| &it.reason)
    );
    for outcome in outcomes.iter().filter(|it| !it.swap.is_bad() && it.by_judge) {
        let _ =
            writeln!(text, "rolled back without need: {}: {}", outcome.swap.name(), outcome.reason);
    }
    text
}
