//! The paths of the admin interface, and what each answers. No sockets: a request head in, an
//! answer out.

use super::{AdminTarget, ReloadRefused, Reloaded, guard};
use crate::http::{Name, RequestHead};
use crate::telemetry::exposition;
use serde_json::{Value, json};
use std::time::Duration;

/// Text that every 404 shows.
const PATHS: &str = "\
GET  /livez    200 while the process runs
GET  /readyz   200 when traffic may be sent here, else 503 and why
GET  /metrics  OpenMetrics text
GET  /config   the running configuration, without secrets
GET  /status   generation, workers, listeners, filters, last reload
POST /reload   read the configuration again; 200, or 422 and why
POST /drain    finish what is in flight, then end
";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A response, all but its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// For 405.
    pub(super) allow: Option<&'static str>,
    pub(super) body: String,
}

/// What a request wants.
pub(super) enum Wanted {
    /// It is answered.
    Answer(Answer),
    /// A reload; the answer comes from [`reloaded`].
    Reload,
}

/// Answers everything that does not have to be waited for.
pub(super) fn answer(target: &dyn AdminTarget, request: &RequestHead) -> Wanted {
    if let Some(reason) = guard::refusal(request) {
        return Wanted::Answer(text(403, format!("{reason}\n")));
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD");
    let posts = request.method == "POST";
    let answer = match request.path() {
        "/livez" | "/readyz" | "/metrics" | "/config" | "/status" if !reads => {
            not_allowed(request, "GET, HEAD")
        }
        "/reload" | "/drain" if !posts => not_allowed(request, "POST"),
        "/livez" => text(200, "live\n".to_owned()),
        "/readyz" => readiness(target),
        "/metrics" => {
            Answer { content_type: exposition::CONTENT_TYPE, ..text(200, target.metrics()) }
        }
        "/config" => json_answer(200, &target.config()),
        "/status" => json_answer(200, &target.status()),
        "/reload" => return Wanted::Reload,
        "/drain" => {
            target.drain();
            text(
                202,
                "Draining: what is in flight is finished, then the process ends.\n".to_owned(),
            )
        }
        _ => text(404, format!("There is nothing here. The paths are:\n\n{PATHS}")),
    };
    Wanted::Answer(answer)
}

/// The answer to `POST /reload`; as JSON where the client asked for it.
pub(super) fn reloaded(request: &RequestHead, result: Result<Reloaded, ReloadRefused>) -> Answer {
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

/// The answer to `POST /reload` when the reload takes longer than `waited`.
pub(super) fn reload_goes_on(request: &RequestHead, waited: Duration) -> Answer {
    let seconds = waited.as_secs();
    let message =
        format!("the reload is not done after {seconds} s and goes on; see its result in /status");
    if accepts_json(request) {
        json_answer(504, &json!({ "result": "unknown", "diagnostics": [message] }))
    } else {
        text(504, format!("{message}\n"))
    }
}

/// A plain text answer.
pub(super) fn text(status: u16, body: String) -> Answer {
    Answer { status, content_type: TEXT, allow: None, body }
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

fn not_allowed(request: &RequestHead, allow: &'static str) -> Answer {
    let body = format!("`{}` takes {allow}, not {}.\n", request.path(), request.method);
    Answer { allow: Some(allow), ..text(405, body) }
}

fn json_answer(status: u16, value: &Value) -> Answer {
    Answer { content_type: JSON, ..text(status, format!("{value:#}\n")) }
}

fn accepts_json(request: &RequestHead) -> bool {
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
    use http::Method;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Ready unless there are reasons; reloads unless there are diagnostics.
    #[derive(Default)]
    pub(in super::super) struct Target {
        pub(in super::super) unready: Vec<String>,
        pub(in super::super) diagnostics: Vec<String>,
        pub(in super::super) drains: AtomicUsize,
        pub(in super::super) reload_takes: Duration,
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
    }

    fn request(method: &str, target: &str) -> RequestHead {
        RequestHead {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            target: target.into(),
            authority: "127.0.0.1:9901".into(),
            ..RequestHead::default()
        }
    }

    fn answered(target: &Target, method: &str, path: &str) -> Answer {
        match answer(target, &request(method, path)) {
            Wanted::Answer(answer) => answer,
            Wanted::Reload => panic!("a reload"),
        }
    }

    #[test]
    fn views_are_text_metrics_and_json() {
        let target = Target::default();
        for (path, content_type, body) in [
            ("/livez", TEXT, "live\n"),
            ("/readyz", TEXT, "ready\n"),
            ("/readyz?verbose", TEXT, "ready\n"),
            ("/metrics", exposition::CONTENT_TYPE, "# EOF\n"),
            ("/config", JSON, "{\n  \"admin\": {}\n}\n"),
            ("/status", JSON, "{\n  \"generation\": 7\n}\n"),
        ] {
            let expected = Answer { content_type, ..text(200, body.to_owned()) };
            assert_eq!(answered(&target, "GET", path), expected, "{path}");
            assert_eq!(answered(&target, "HEAD", path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_ready_says_why() {
        let unready = vec!["filter `auth` is not loaded".to_owned(), "draining".to_owned()];
        let target = Target { unready, ..Target::default() };
        let expected = "not ready\nfilter `auth` is not loaded\ndraining\n";
        assert_eq!(answered(&target, "GET", "/readyz"), text(503, expected.to_owned()));
        assert_eq!(answered(&target, "GET", "/livez").status, 200);
    }

    #[test]
    fn drain_is_handed_on() {
        let target = Target::default();
        assert_eq!(answered(&target, "POST", "/drain").status, 202);
        assert_eq!(target.drains.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        let target = Target::default();
        for (method, path, allow) in [
            ("GET", "/drain", "POST"),
            ("HEAD", "/reload", "POST"),
            ("POST", "/metrics", "GET, HEAD"),
            ("DELETE", "/livez", "GET, HEAD"),
        ] {
            let answer = answered(&target, method, path);
            assert_eq!((answer.status, answer.allow), (405, Some(allow)));
            assert_eq!(answer.body, format!("`{path}` takes {allow}, not {method}.\n"));
        }
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_unknown_path_shows_the_known_ones() {
        for path in ["/", "/livez/", "/metricsx", "*"] {
            let answer = answered(&Target::default(), "GET", path);
            assert_eq!(answer.status, 404);
            assert!(answer.body.contains("POST /reload"));
        }
    }

    #[test]
    fn pages_from_elsewhere_set_nothing_in_motion() {
        let target = Target::default();
        let mut foreign = request("POST", "/drain");
        foreign.authority = "evil.example".into();
        let Wanted::Answer(answer) = answer(&target, &foreign) else { panic!("a reload") };
        assert_eq!(answer.status, 403);
        assert_eq!(target.drains.load(Ordering::Relaxed), 0);
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
        let waited = Duration::from_secs(300);
        let plain = reload_goes_on(&request("POST", "/reload"), waited);
        let expected =
            "the reload is not done after 300 s and goes on; see its result in /status\n";
        assert_eq!((plain.status, plain.body.as_str()), (504, expected));
        let mut json = request("POST", "/reload");
        json.fields.append(Name::known("accept"), b"application/json");
        assert!(reload_goes_on(&json, waited).body.contains(r#""result": "unknown""#));
    }
}
