//! What each path answers. No sockets: a request that `guard` has let through in, an answer out.
//! Rollouts are in `rollouts`.

use super::guard::Asked;
use super::paths::Action;
use super::shape::Failed;
use super::{AdminTarget, ReloadRefused, Reloaded, rollouts};
use crate::http::{Name, RequestHead};
use crate::telemetry::exposition;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer waits for what was set in motion, before it says that this goes on.
pub const RELOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// What `GET /openapi.json` answers.
const OPENAPI: &str = include_str!("openapi.json");

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A response, all but its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// One that only this answer has.
    pub(super) field: Option<(&'static str, String)>,
    pub(super) body: String,
}

impl Answer {
    /// The same with a field of its own.
    pub(super) fn with(self, name: &'static str, value: String) -> Self {
        Answer { field: Some((name, value)), ..self }
    }
}

/// Does what was asked for, and answers.
pub(super) async fn answer(
    target: &dyn AdminTarget,
    request: &RequestHead,
    asked: Asked,
    body: Bytes,
) -> Answer {
    let Asked { path, name } = asked;
    match path.action {
        Action::Live => text(200, "live\n".to_owned()),
        Action::Ready => readiness(target),
        Action::Metrics => {
            Answer { content_type: exposition::CONTENT_TYPE, ..text(200, target.metrics()) }
        }
        Action::Config => json_answer(200, &target.config()),
        Action::Status => json_answer(200, &target.status()),
        Action::OpenApi => Answer { content_type: JSON, ..text(200, OPENAPI.to_owned()) },
        Action::Reload => match timeout(RELOAD_TIMEOUT, target.reload()).await {
            Ok(result) => reloaded(request, result),
            Err(_) => reload_goes_on(request),
        },
        Action::Drain => {
            target.drain();
            text(
                202,
                "Draining: what is in flight is finished, then the process ends.\n".to_owned(),
            )
        }
        Action::Rollouts(verb) => match target.control() {
            Some(control) => {
                let name = name.unwrap_or_default();
                rollouts::answer(control, verb, name, request.query(), body).await
            }
            None => {
                let message = "The first generation is not published yet: ask again once \
                               `GET /readyz` answers 200.";
                refusal(true, 503, message, Vec::new())
            }
        },
    }
}

/// The answer to `POST /reload`; as JSON where the client asked for it.
fn reloaded(request: &RequestHead, result: Result<Reloaded, ReloadRefused>) -> Answer {
    match (result, accepts_json(request)) {
        (Ok(Reloaded { generation }), true) => {
            json_answer(200, &json!({ "result": "ok", "generation": generation }))
        }
        (Ok(Reloaded { generation }), false) => text(200, format!("generation {generation}\n")),
        (Err(ReloadRefused { diagnostics }), true) => {
            json_answer(422, &json!({ "result": "failed", "diagnostics": diagnostics }))
        }
        (Err(ReloadRefused { diagnostics }), false) => {
            let diagnostics = diagnostics.join("\n");
            text(422, format!("{diagnostics}\nThe reload has changed nothing.\n"))
        }
    }
}

/// The answer to `POST /reload` when the reload takes longer than it is waited for.
fn reload_goes_on(request: &RequestHead) -> Answer {
    let seconds = RELOAD_TIMEOUT.as_secs();
    let message =
        format!("the reload is not done after {seconds} s and goes on; see its result in /status");
    if accepts_json(request) {
        json_answer(504, &json!({ "result": "unknown", "diagnostics": [message] }))
    } else {
        text(504, format!("{message}\n"))
    }
}

fn readiness(target: &dyn AdminTarget) -> Answer {
    match target.ready() {
        Ok(()) => text(200, "ready\n".to_owned()),
        Err(reasons) => {
            let lines = reasons.iter().map(|reason| format!("{reason}\n"));
            text(503, format!("not ready\n{}", lines.collect::<String>()))
        }
    }
}

/// A plain text answer.
pub(super) fn text(status: u16, body: String) -> Answer {
    Answer { status, content_type: TEXT, field: None, body }
}

/// An answer in JSON.
pub(super) fn json_answer(status: u16, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string_pretty(value);
    let body = body.expect("the keys of what is shown are strings, and its values are plain");
    Answer { content_type: JSON, ..text(status, body + "\n") }
}

/// An answer that says why not, in JSON or text.
pub(super) fn refusal(json: bool, status: u16, error: &str, diagnostics: Vec<String>) -> Answer {
    let error = error.trim_end().to_owned();
    if json {
        return json_answer(status, &Failed { error, diagnostics });
    }
    let lines = std::iter::once(error).chain(diagnostics);
    text(status, lines.map(|line| line + "\n").collect())
}

/// Does the client say that it takes JSON?
pub(super) fn accepts_json(request: &RequestHead) -> bool {
    let is_json = |item: &[u8]| {
        let media_type = item.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(JSON.as_bytes())
    };
    let mut accepts = request.fields.get_all(Name::known("accept"));
    accepts.any(|value| value.split(|byte| *byte == b',').any(is_json))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::Reloading;
    use crate::admin::guard::{Peer, admit};
    use crate::admin::rollouts::tests::Rollouts;
    use crate::http::BodyLength;
    use crate::rollout::control::Control;
    use http::Method;
    use serde_json::Value;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Ready unless there are reasons; reloads unless there are diagnostics.
    #[derive(Default)]
    pub(in super::super) struct Target {
        pub(in super::super) unready: Vec<String>,
        pub(in super::super) diagnostics: Vec<String>,
        pub(in super::super) drains: AtomicUsize,
        pub(in super::super) reload_takes: Duration,
        pub(in super::super) rollouts: Option<Rollouts>,
    }

    impl AdminTarget for Target {
        fn ready(&self) -> Result<(), Vec<String>> {
            if self.unready.is_empty() { Ok(()) } else { Err(self.unready.clone()) }
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }

        fn config(&self) -> Value {
            json!({ "admin": {} })
        }

        fn status(&self) -> Value {
            json!({ "generation": 7 })
        }

        fn reload(&self) -> Reloading {
            let (diagnostics, takes) = (self.diagnostics.clone(), self.reload_takes);
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                if diagnostics.is_empty() {
                    Ok(Reloaded { generation: 8 })
                } else {
                    Err(ReloadRefused { diagnostics })
                }
            })
        }

        fn drain(&self) {
            self.drains.fetch_add(1, Ordering::Relaxed);
        }

        fn control(&self) -> Option<&dyn Control> {
            self.rollouts.as_ref().map(|rollouts| rollouts as &dyn Control)
        }
    }

    fn request(method: &str, target: &str) -> RequestHead {
        RequestHead {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            target: target.into(),
            authority: "127.0.0.1:9901".into(),
            ..RequestHead::default()
        }
    }

    /// What a request of the owner is answered.
    pub(in super::super) async fn answered(
        target: &Target,
        method: &str,
        path: &str,
        body: &str,
    ) -> Answer {
        let request = request(method, path);
        let asked = admit(&request, BodyLength::None, Peer::Owner, None).unwrap();
        answer(target, &request, asked, Bytes::copy_from_slice(body.as_bytes())).await
    }

    #[tokio::test]
    async fn views_are_text_metrics_and_json() {
        let target = Target::default();
        for (path, content_type, body) in [
            ("/livez", TEXT, "live\n"),
            ("/readyz", TEXT, "ready\n"),
            ("/readyz?verbose", TEXT, "ready\n"),
            ("/metrics", exposition::CONTENT_TYPE, "# EOF\n"),
            ("/config", JSON, "{\n  \"admin\": {}\n}\n"),
            ("/status", JSON, "{\n  \"generation\": 7\n}\n"),
            ("/openapi.json", JSON, OPENAPI),
        ] {
            let expected = Answer { content_type, ..text(200, body.to_owned()) };
            assert_eq!(answered(&target, "GET", path, "").await, expected, "{path}");
            assert_eq!(answered(&target, "HEAD", path, "").await, expected, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_ready_says_why() {
        let unready = vec!["filter `auth` is not loaded".to_owned(), "draining".to_owned()];
        let target = Target { unready, ..Target::default() };
        let expected = "not ready\nfilter `auth` is not loaded\ndraining\n";
        let answer = answered(&target, "GET", "/readyz", "").await;
        assert_eq!(answer, text(503, expected.to_owned()));
        assert_eq!(answered(&target, "GET", "/livez", "").await.status, 200);
    }

    #[tokio::test]
    async fn drain_is_handed_on() {
        let target = Target::default();
        assert_eq!(answered(&target, "POST", "/drain", "").await.status, 202);
        assert_eq!(target.drains.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_reload_answers_in_text_or_json() {
        let plain = request("POST", "/reload");
        let mut json = plain.clone();
        json.fields.append(Name::known("accept"), b"text/html;q=0.1, Application/JSON; q=0.9");
        let ok = Ok(Reloaded { generation: 8 });
        assert_eq!(reloaded(&plain, ok.clone()), text(200, "generation 8\n".to_owned()));
        assert_eq!(reloaded(&json, ok).body, "{\n  \"generation\": 8,\n  \"result\": \"ok\"\n}\n");
        let refused = Err(ReloadRefused { diagnostics: vec!["a:1:2: b\n".to_owned()] });
        let answer = reloaded(&plain, refused.clone());
        let expected = "a:1:2: b\n\nThe reload has changed nothing.\n";
        assert_eq!((answer.status, answer.body.as_str()), (422, expected));
        let answer = reloaded(&json, refused);
        let expected = json!({ "result": "failed", "diagnostics": ["a:1:2: b\n"] });
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected);
    }

    #[test]
    fn a_reload_that_takes_long_is_not_called_a_failure() {
        let plain = reload_goes_on(&request("POST", "/reload"));
        let expected =
            "the reload is not done after 300 s and goes on; see its result in /status\n";
        assert_eq!((plain.status, plain.body.as_str()), (504, expected));
        let mut json = request("POST", "/reload");
        json.fields.append(Name::known("accept"), b"application/json");
        assert!(reload_goes_on(&json).body.contains(r#""result": "unknown""#));
    }
}
