//! What the paths of rollouts answer: hands on what is asked to `rollout::control::Control`, and
//! shows what that says.

use super::answer::{Answer, RELOAD_TIMEOUT, json_answer, refusal};
use super::asked;
use super::paths::Verb;
use super::shape::{
    self, Done, Generation, Generations, PinnedVersions, Returned, Rollout, Started,
};
use crate::rollout::Plan;
use crate::rollout::control::{self, Change, Control, Progress, Refusal, RolloutId};
use bytes::Bytes;
use serde::Serialize;
use std::time::SystemTime;
use tokio::time::timeout;

/// The answer to a request of a path of rollouts. `name` is what its pattern leaves open.
pub(super) async fn answer(
    control: &dyn Control,
    verb: Verb,
    name: String,
    query: Option<&str>,
    body: Bytes,
) -> Answer {
    match verb {
        Verb::Show => json_answer(200, &shown(control)),
        Verb::Start => start(control, asked::start(&body, control.plan())).await,
        Verb::StartFilter => {
            start(control, asked::start_filter(name, query, body, control.plan())).await
        }
        Verb::Promote => promote(control, &body).await,
        Verb::Back => match asked::back(&body) {
            Ok(back) => waited_for(control.back(back), |generation| Returned { generation }).await,
            Err(message) => malformed(&message),
        },
        Verb::Generations => {
            let generations = control.generations();
            let generations = generations.iter().map(Generation::from).collect();
            json_answer(200, &Generations { generations })
        }
        Verb::Pinned => {
            let pinned = control.pinned().into_iter().map(shape::Pinned::from).collect();
            json_answer(200, &PinnedVersions { pinned })
        }
        Verb::Unpin => waited_for(control.unpin(name), |()| Done { done: true }).await,
    }
}

fn shown(control: &dyn Control) -> shape::Rollouts {
    let rollout = control.rollout();
    let rollout = rollout.map(|status| Rollout::of(&status, SystemTime::now()));
    shape::Rollouts { in_force: control.in_force(), rollout }
}

async fn start(control: &dyn Control, asked: Result<(Change, Plan), String>) -> Answer {
    match asked {
        Ok((change, plan)) => {
            let shown = |RolloutId(rollout)| Started { rollout };
            waited_for(control.start(change, plan), shown).await
        }
        Err(message) => malformed(&message),
    }
}

/// Promotes the rollout that the body names, or the one in progress.
async fn promote(control: &dyn Control, body: &[u8]) -> Answer {
    let in_progress = || {
        let status = control.rollout()?;
        matches!(status.progress, Progress::Stepping).then_some(status.id)
    };
    let named = match asked::promote(body) {
        Ok(named) => named,
        Err(message) => return malformed(&message),
    };
    let Some(id) = named.or_else(in_progress) else {
        let message = "no rollout is in progress: there is nothing to promote".to_owned();
        return refused(&Refusal::Conflict(message));
    };
    let shown = |status| Rollout::of(&status, SystemTime::now());
    waited_for(control.promote(id), shown).await
}

/// What came of it; what takes too long goes on.
async fn waited_for<T, S: Serialize>(
    under_way: control::Answer<T>,
    shown: impl FnOnce(T) -> S,
) -> Answer {
    match timeout(RELOAD_TIMEOUT, under_way).await {
        Ok(Ok(done)) => json_answer(200, &shown(done)),
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => {
            let seconds = RELOAD_TIMEOUT.as_secs();
            let message =
                format!("it is not done after {seconds} s and goes on: see `GET /rollout`");
            refusal(true, 504, &message, Vec::new())
        }
    }
}

fn malformed(message: &str) -> Answer {
    refusal(true, 400, message, Vec::new())
}

fn refused(reason: &Refusal) -> Answer {
    match reason {
        Refusal::Unusable(diagnostics) => {
            let message = "this cannot be used; nothing has changed";
            refusal(true, 422, message, diagnostics.clone())
        }
        Refusal::Conflict(message) => refusal(true, 409, message, Vec::new()),
        Refusal::Unknown(message) => refusal(true, 404, message, Vec::new()),
        Refusal::Busy(message) => refusal(true, 429, message, Vec::new()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::answer::tests::{Target, answered};
    use super::*;
    use crate::rollout::control::{
        Answer as UnderWay, Back, GenerationStatus, Origin, Pinned, RolloutStatus,
    };
    use crate::rollout::judge::{Counts, Differences};
    use serde_json::{Value, json};
    use std::future::ready;
    use std::sync::Mutex;
    use std::time::{Duration, UNIX_EPOCH};

    /// Rollouts that remember what was asked of them, and refuse if there is a refusal.
    #[derive(Default)]
    pub(in super::super) struct Rollouts {
        pub(in super::super) asked: Mutex<Vec<String>>,
        pub(in super::super) components: Mutex<Vec<Bytes>>,
        pub(in super::super) refusal: Option<Refusal>,
        pub(in super::super) takes: Duration,
        pub(in super::super) rollout: Option<RolloutStatus>,
    }

    impl Rollouts {
        fn done<T: Send + 'static>(&self, asked: String, done: T) -> UnderWay<T> {
            self.asked.lock().unwrap().push(asked);
            match self.refusal.clone() {
                Some(refusal) => Box::pin(ready(Err(refusal))),
                None => {
                    let takes = self.takes;
                    Box::pin(async move {
                        tokio::time::sleep(takes).await;
                        Ok(done)
                    })
                }
            }
        }
    }

    impl Control for Rollouts {
        fn start(&self, change: Change, plan: Plan) -> UnderWay<RolloutId> {
            let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
            for component in change.filters.iter().filter_map(|it| it.component.clone()) {
                self.components.lock().unwrap().push(component);
            }
            let filters = change.filters.iter().map(|it| it.filter.clone());
            let chains = change.chains.iter().map(|it| format!("{}/{}", it.listener, it.route));
            let what: Vec<String> = filters.chain(chains).collect();
            let asked = format!("start {}: {}", what.join(" "), steps.join(", "));
            self.done(asked, RolloutId(3))
        }

        fn promote(&self, id: RolloutId) -> UnderWay<RolloutStatus> {
            self.done(format!("promote {}", id.0), status(Progress::Stepping))
        }

        fn back(&self, back: Back) -> UnderWay<u64> {
            self.done(format!("back {back:?}"), 7)
        }

        fn unpin(&self, identity: String) -> UnderWay<()> {
            self.done(format!("unpin {identity}"), ())
        }

        fn plan(&self) -> Plan {
            Plan::default()
        }

        fn in_force(&self) -> String {
            "file".to_owned()
        }

        fn rollout(&self) -> Option<RolloutStatus> {
            self.rollout.clone()
        }

        fn generations(&self) -> Vec<GenerationStatus> {
            vec![GenerationStatus {
                generation: 7,
                published: UNIX_EPOCH + Duration::from_secs(5),
                cause: "rollout".to_owned(),
                filters: vec![("limit".to_owned(), "0123456789ab (v2)".to_owned())],
                in_force: true,
            }]
        }

        fn pinned(&self) -> Vec<Pinned> {
            vec![Pinned {
                identity: "abc".to_owned(),
                what: "filter limit".to_owned(),
                reason: "worse: 37 of 412 requests failed".to_owned(),
                at: UNIX_EPOCH + Duration::from_secs(6),
            }]
        }
    }

    pub(in super::super) fn status(progress: Progress) -> RolloutStatus {
        RolloutStatus {
            id: RolloutId(3),
            origin: Origin::Admin,
            changes: vec!["filter limit: 0123456789ab -> ba9876543210 (v2)".to_owned()],
            plan: Plan::default(),
            step: 1,
            step_began: UNIX_EPOCH + Duration::from_secs(4),
            began: UNIX_EPOCH + Duration::from_secs(3),
            progress,
            running: Counts { exchanges: 900, ..Counts::default() },
            next: Counts { exchanges: 100, failures: 2, ..Counts::default() },
            shadow: Some(Differences { compared: 9, same: 8, status: 1, ..Default::default() }),
            samples: vec!["GET /a: status 200, next 500".to_owned()],
            verdict: "too few: 100 of 1,000".to_owned(),
        }
    }

    pub(in super::super) fn with(rollouts: Rollouts) -> Target {
        Target { rollouts: Some(rollouts), ..Target::default() }
    }

    async fn json_of(target: &Target, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = answered(target, method, path, body).await;
        assert_eq!(answer.content_type, "application/json");
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    #[tokio::test]
    async fn what_is_asked_is_handed_on() {
        let rollout = Some(status(Progress::Stepping));
        let target = with(Rollouts { rollout, ..Rollouts::default() });
        let config = r#"{"filters": {"limit": {"config": {}}}, "steps": ["full"]}"#;
        for (method, path, body, said) in [
            ("POST", "/filters/limit/next?steps=full", "wasm", json!({ "rollout": 3 })),
            ("POST", "/rollout", config, json!({ "rollout": 3 })),
            ("POST", "/rollback", "", json!({ "generation": 7 })),
            ("POST", "/rollback", r#"{"generation": 5}"#, json!({ "generation": 7 })),
            ("DELETE", "/pinned/a%20b", "", json!({ "done": true })),
        ] {
            assert_eq!(json_of(&target, method, path, body).await, (200, said), "{path}");
        }
        for body in ["", r#"{"rollout": 2}"#] {
            let (status, said) = json_of(&target, "POST", "/rollout/promote", body).await;
            assert_eq!((status, &said["id"]), (200, &json!(3)));
        }
        let rollouts = target.rollouts.unwrap();
        assert_eq!(*rollouts.components.lock().unwrap(), ["wasm"]);
        let expected = [
            "start limit: full",
            "start limit: full",
            "back Previous",
            "back Generation(5)",
            "unpin a b",
            "promote 3",
            "promote 2",
        ];
        assert_eq!(*rollouts.asked.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_rollout_is_shown_as_it_stands() {
        let target = with(Rollouts::default());
        let (_, shown) = json_of(&target, "GET", "/rollout", "").await;
        assert_eq!(shown, json!({ "in_force": "file", "rollout": null }));
        let reason = || "worse".to_owned();
        for (progress, state, generation, by_judge) in [
            (Progress::Stepping, "stepping", json!(null), json!(null)),
            (Progress::Promoted { generation: 8 }, "promoted", json!(8), json!(null)),
            (
                Progress::RolledBack { generation: 7, reason: reason(), by_judge: true },
                "rolled_back",
                json!(7),
                json!(true),
            ),
            (Progress::CutShort { reason: reason() }, "cut_short", json!(null), json!(null)),
        ] {
            let rollout = Some(status(progress));
            let target = with(Rollouts { rollout, ..Rollouts::default() });
            let (_, shown) = json_of(&target, "GET", "/rollout", "").await;
            let shown = &shown["rollout"];
            assert_eq!(shown["state"], state);
            assert_eq!((&shown["generation"], &shown["by_judge"]), (&generation, &by_judge));
            assert_eq!(shown["steps"][1], "canary 5% 5m");
            assert_eq!((&shown["step"], &shown["sticky"]), (&json!(1), &json!("random")));
            assert_eq!(shown["next"]["failures"], 2);
            assert_eq!(shown["shadow"]["status"], 1);
            assert!(shown["step_elapsed_ms"].as_u64().unwrap() > 1_000, "{shown}");
        }
    }

    #[tokio::test]
    async fn a_refusal_has_a_status_of_its_own() {
        let words = || "In words.".to_owned();
        for (refusal, status, diagnostics) in [
            (Refusal::Unusable(vec![words()]), 422, json!(["In words."])),
            (Refusal::Conflict(words()), 409, json!([])),
            (Refusal::Unknown(words()), 404, json!([])),
            (Refusal::Busy(words()), 429, json!([])),
        ] {
            let refusal = Some(refusal);
            let target = with(Rollouts { refusal, ..Rollouts::default() });
            for (method, path, body) in [
                ("POST", "/filters/limit/next", "wasm"),
                ("POST", "/rollout/promote", r#"{"rollout": 3}"#),
                ("POST", "/rollback", ""),
                ("DELETE", "/pinned/x", ""),
            ] {
                let (told, said) = json_of(&target, method, path, body).await;
                assert_eq!((told, &said["diagnostics"]), (status, &diagnostics), "{path}");
                assert!(said["error"].is_string());
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_not_handed_on() {
        let target = with(Rollouts::default());
        for (method, path, body, status) in [
            ("POST", "/filters/limit/next?stesp=full", "wasm", 400),
            ("POST", "/filters/limit/next", "", 400),
            ("POST", "/rollout", "{}", 400),
            ("POST", "/rollout/promote", "{", 400),
            ("POST", "/rollout/promote", "", 409),
            ("POST", "/rollback", r#"{"generation": "x"}"#, 400),
        ] {
            assert_eq!(json_of(&target, method, path, body).await.0, status, "{path}");
        }
        assert!(target.rollouts.unwrap().asked.lock().unwrap().is_empty());
        let (status, said) = json_of(&Target::default(), "GET", "/rollout", "").await;
        assert_eq!(status, 503);
        assert!(said["error"].as_str().unwrap().contains("`GET /readyz`"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_goes_on() {
        const MILLISECOND: Duration = Duration::from_millis(1);
        for (takes, status) in [
            (RELOAD_TIMEOUT - MILLISECOND, 200),
            (RELOAD_TIMEOUT, 200),
            (RELOAD_TIMEOUT + MILLISECOND, 504),
        ] {
            let target = with(Rollouts { takes, ..Rollouts::default() });
            let (told, _) = json_of(&target, "POST", "/rollback", "").await;
            assert_eq!(told, status, "{takes:?}");
        }
    }
}
