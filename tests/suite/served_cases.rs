//! The case files that `pillion test` plays, played through the whole sidecar over real sockets: what
//! passes there works here.
//!
//! What only the runner can hold still is left out: the time, random bytes, clients with another
//! address, notes of filters that are not there. Logs and notes are not looked at.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pillion::cases::check::check;
use pillion::cases::play::{Forwarded, Lines, Observed};
use pillion::config::case::{self, Answer, Case, CaseFile, Expect, FAILURES, Payload, Step};
use pillion_tests::client::{empty, full};
use pillion_tests::origin::{Body, streamed};
use pillion_tests::peer::run;
use pillion_tests::process::repository;
use pillion_tests::sidecar::{pillion, sum};
use pillion_tests::{BodyExt, Client, Origin, Protocol, Sidecar, guests, within};
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn the_cases_of_the_shipped_filters_hold_in_the_sidecar() {
    let mut served = 0;
    for path in super::cases::shipped_cases() {
        served += serve(&path, None).await;
    }
    assert!(served > 80, "only {served} cases were served");
}

#[tokio::test]
async fn the_cases_of_the_guests_hold_in_the_sidecar() {
    let mut served = 0;
    for path in super::cases::files(&repository().join("tests/cases/guests")) {
        let guest = path.file_stem().expect("a case file has a name").to_string_lossy();
        served += serve(&path, Some(guests::path(&guest))).await;
    }
    assert!(served > 25, "only {served} cases were served");
}

/// Plays the cases of a file that can be played here; their number.
async fn serve(path: &Path, component: Option<&Path>) -> usize {
    let file = case::load(path).unwrap_or_else(|problems| panic!("{problems}"));
    let raw: toml::Table = file.text().parse().expect("it was read");
    let cases: Vec<(usize, &Case)> =
        file.cases.iter().enumerate().filter(|(_, case)| is_played(case)).collect();
    refused(&file, &raw, component).await;
    if cases.is_empty() {
        return 0;
    }
    let mut text = String::from("[admin]\naddress = \"127.0.0.1:0\"\n");
    let mut upstreams = Vec::new();
    for (index, case) in &cases {
        let upstream = Upstream::start().await;
        let protocol = if has_trailers(case) { "h2c" } else { "http1" };
        let address = upstream.origin.address;
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "[[listener]]\nname = \"l{index}\"\naddress = \"127.0.0.1:0\"\n\
             [[listener.route]]\nchain = [\"f{index}\"]\nupstream = \"u{index}\"\n\
             [upstream.u{index}]\nendpoints = [\"{address}\"]\nprotocol = \"{protocol}\"\n{}",
            filter_table(&file, &raw, *index, component)
        );
        upstreams.push(upstream);
    }
    let sidecar = Sidecar::with(&text).start().await;
    for ((index, case), upstream) in cases.iter().zip(&upstreams) {
        let at = format!("{}: {}", path.display(), case.name);
        let protocol = match case.steps.iter().any(|step| step.request.protocol == "HTTP/2") {
            true => Protocol::Http2,
            false if has_trailers(case) => Protocol::Http2,
            false => Protocol::Http1,
        };
        let place = Place { sidecar: &sidecar, index: *index, protocol, upstream };
        for (nth, step) in case.steps.iter().enumerate() {
            place.step(step, &format!("{at}, step {}", nth + 1)).await;
        }
    }
    cases.len()
}

/// Does it need nothing that only the runner has?
fn is_played(case: &Case) -> bool {
    let world = case.seed == 0 && case.now == std::time::UNIX_EPOCH + case::NOW_DEFAULT;
    let defaults = ("192.0.2.1", "inbound");
    world
        && case.load_error.is_none()
        && case.steps.iter().all(|step| {
            let Step { advance, request, upstream, .. } = step;
            advance.is_zero()
                && upstream.delay.is_zero()
                && (&*request.client.to_string(), &*request.listener) == defaults
                && !request.secure
                && request.protocol != "HTTP/1.0"
                && request.notes.is_empty()
        })
}

fn has_trailers(case: &Case) -> bool {
    let with = |payload: &Payload| !payload.trailers.is_empty();
    case.steps.iter().any(|step| with(&step.request.payload) || with(&step.upstream.payload))
}

/// `[filter.fN]` as the case file has it for its Nth case.
fn filter_table(
    file: &CaseFile,
    raw: &toml::Table,
    index: usize,
    component: Option<&Path>,
) -> String {
    let own = raw["case"][index].as_table().expect("a case is a table");
    let source = match (component, raw["filter"].as_str()) {
        (Some(path), _) => path.display().to_string(),
        (None, source) => source.expect("a shipped filter").to_owned(),
    };
    let mut filter = toml::Table::from_iter([("source".to_owned(), source.into())]);
    for key in ["config", "grants", "limits", "fail_policy", "isolation"] {
        if let Some(value) = own.get(key).or_else(|| raw.get(key)) {
            filter.insert(key.to_owned(), value.clone());
        }
    }
    // A busy machine keeps threads waiting, and here that counts: the runner measures otherwise.
    let limits = filter.entry("limits").or_insert_with(|| toml::Table::new().into());
    let limits = limits.as_table_mut().expect("limits are a table");
    for (key, patient) in [("time", "5s"), ("exchange_time", "30s")] {
        limits.entry(key).or_insert_with(|| patient.into());
    }
    let named = toml::Table::from_iter([(format!("f{index}"), filter.into())]);
    let whole = toml::Table::from_iter([("filter".to_owned(), named.into())]);
    assert!(!file.cases.is_empty());
    toml::to_string(&whole).expect("what was TOML can be TOML again")
}

/// Filters that must not load are refused by the sidecar with the same message.
async fn refused(file: &CaseFile, raw: &toml::Table, component: Option<&Path>) {
    let refused = file.cases.iter().enumerate();
    let refused: Vec<_> =
        refused.filter_map(|(index, case)| Some((index, case.load_error.as_ref()?))).collect();
    if refused.is_empty() {
        return;
    }
    let mut text = String::from(
        "[admin]\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"a\"\naddress = \
         \"127.0.0.1:0\"\n[[listener.route]]\nupstream = \"u\"\n[upstream.u]\nendpoints = \
         [\"127.0.0.1:9\"]\n",
    );
    for (index, _) in &refused {
        text.push_str(&filter_table(file, raw, *index, component));
    }
    let setup = Sidecar::with(&text);
    let path = setup.directory().join("pillion.toml");
    std::fs::write(&path, &text).expect("the directory is there");
    let mut command = pillion();
    command.arg("validate").arg(&path);
    let (code, out, err) = run(command).await;
    assert_eq!(code, 1, "{out}{err}");
    let messages: Vec<&str> = out.split("\n\n").filter(|it| it.contains(": error: ")).collect();
    for (index, wanted) in refused {
        let name = format!("`f{index}`");
        let about: Vec<&&str> = messages.iter().filter(|it| it.contains(&name)).collect();
        let [message] = about.as_slice() else { panic!("{name}: {about:?} in:\n{out}") };
        if let Some(key) = &wanted.key {
            assert!(message.contains(&format!("`{}`: ", key.value)), "{message}");
        }
        for part in
            wanted.message.iter().flat_map(|it| it.value.contains.iter().chain(&it.value.is))
        {
            assert!(message.contains(part.as_str()), "`{part}` is not in: {message}");
        }
    }
}

/// Where the steps of one case go.
struct Place<'s> {
    sidecar: &'s Sidecar,
    index: usize,
    protocol: Protocol,
    upstream: &'s Upstream,
}

impl Place<'_> {
    async fn step(&self, step: &Step, at: &str) {
        self.upstream.answers(&step.upstream);
        for _ in 1..step.repeat {
            self.exchange(step, at).await;
        }
        let before = self.failures().await;
        let observed = self.exchange(step, at).await;
        let failed: Vec<&str> = FAILURES
            .into_iter()
            .zip(before.iter().zip(self.failures().await))
            .flat_map(|(kind, (before, after))| vec![kind; (after - before) as usize])
            .collect();
        let wanted = step.expect.failure.iter().flat_map(|wanted| &wanted.value);
        let wanted: Vec<&str> = wanted.map(|wanted| wanted.kind).collect();
        assert_eq!(failed, wanted, "{at}: failures");
        self.metrics(&step.expect, at).await;
        let differs = check(&step.expect, &observed);
        assert!(differs.is_empty(), "{at}: {differs:#?}\n{observed:#?}");
    }

    async fn exchange(&self, step: &Step, at: &str) -> Observed {
        self.upstream.forget();
        let address = self.sidecar.listener(&format!("l{}", self.index));
        let mut client = Client::connect(address, self.protocol).await;
        let request = &step.request;
        let builder = match self.protocol {
            Protocol::Http1 => {
                Request::builder().uri(&request.path).header("host", &request.authority)
            }
            Protocol::Http2 => {
                Request::builder().uri(format!("http://{}{}", request.authority, request.path))
            }
        };
        let mut builder = builder.method(request.method.clone());
        for (name, value) in fields(&request.headers).iter() {
            builder = builder.header(name, value);
        }
        let sent = builder.body(body(&request.payload)).expect("the case file was checked");
        let answer = client.send(sent).await;
        let answer = answer.unwrap_or_else(|error| panic!("{at}: no answer: {error}"));
        let (head, body) = answer.into_parts();
        let collected = within("the end of an answer", body.collect()).await;
        let complete = collected.is_ok();
        let collected = collected.unwrap_or_default();
        let trailers = collected.trailers().map(lines).unwrap_or_default();
        Observed {
            status: head.status.as_u16(),
            headers: lines(&head.headers),
            trailers,
            body: collected.to_bytes().to_vec(),
            complete,
            forwarded: self.upstream.seen(),
            ..Observed::default()
        }
    }

    async fn failures(&self) -> Vec<f64> {
        let text = self.sidecar.admin("/metrics").await.text();
        let filter = format!("filter=\"f{}\"", self.index);
        let of = |kind: &str| {
            let labels = [filter.as_str(), &format!("kind=\"{kind}\"")];
            sum(&text, "pillion_filter_failures_total", &labels)
        };
        FAILURES.into_iter().map(of).collect()
    }

    async fn metrics(&self, expect: &Expect, at: &str) {
        let text = self.sidecar.admin("/metrics").await.text();
        for wanted in &expect.metrics {
            let wanted = &wanted.value;
            let mut labels = vec![format!("filter=\"f{}\"", self.index)];
            let own = wanted.labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
            labels.extend(own);
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let name = format!("pillion_filter_custom_{}", wanted.name);
            let value = |suffix: &str| sum(&text, &format!("{name}{suffix}"), &labels);
            match (wanted.value, wanted.count) {
                (value_wanted, Some(count)) => {
                    assert_eq!(value("_count"), count as f64, "{at}: {name}");
                    if let Some(sum) = value_wanted {
                        assert_eq!(value("_sum"), sum, "{at}: {name}");
                    }
                }
                // The exposition adds `_total` to a counter that does not end so.
                (wanted, None) => {
                    let shown = if name.ends_with("_total") { 0.0 } else { value("_total") };
                    assert_eq!(value("") + shown, wanted.unwrap_or(0.0), "{at}: {name}");
                }
            }
        }
    }
}

/// A server that answers as the step says, and tells what it got.
struct Upstream {
    origin: Origin,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Option<Forwarded>>>,
}

impl Upstream {
    async fn start() -> Upstream {
        let answer = Arc::new(Mutex::new(Answer::default()));
        let seen = Arc::new(Mutex::new(None));
        let (answers, sees) = (Arc::clone(&answer), Arc::clone(&seen));
        let origin = Origin::serve(move |request| {
            let (answers, sees) = (Arc::clone(&answers), Arc::clone(&sees));
            async move {
                let (head, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    let host = head.headers.get("host").map(|it| it.to_str().unwrap_or_default());
                    let authority = head.uri.authority().map_or(host, |it| Some(it.as_str()));
                    let trailers = body.trailers().map(lines).unwrap_or_default();
                    *sees.lock().expect("nobody panics with it") = Some(Forwarded {
                        method: head.method.to_string(),
                        path: head.uri.path_and_query().map_or("", |it| it.as_str()).to_owned(),
                        scheme: None,
                        authority: authority.unwrap_or_default().to_owned(),
                        headers: lines(&head.headers),
                        body: body.to_bytes().to_vec(),
                        trailers,
                    });
                }
                let answer = answers.lock().expect("nobody panics with it").clone();
                let mut response = Response::builder().status(answer.status);
                for (name, value) in fields(&answer.headers).iter() {
                    response = response.header(name, value);
                }
                response.body(body_of(&answer.payload)).expect("the case file was checked")
            }
        });
        Upstream { origin: origin.await, answer, seen }
    }

    fn answers(&self, answer: &Answer) {
        *self.answer.lock().expect("nobody panics with it") = answer.clone();
    }

    fn forget(&self) {
        *self.seen.lock().expect("nobody panics with it") = None;
    }

    fn seen(&self) -> Option<Forwarded> {
        self.seen.lock().expect("nobody panics with it").clone()
    }
}

fn body(payload: &Payload) -> Body {
    if payload.chunks.is_none() { empty() } else { body_of(payload) }
}

/// In one piece with its length where it is one, streamed otherwise.
fn body_of(payload: &Payload) -> Body {
    let chunks = payload.chunks.clone().unwrap_or_default();
    if chunks.len() <= 1 && payload.trailers.is_empty() {
        return full(chunks.concat());
    }
    let (mut sender, body) = streamed();
    let trailers = fields(&payload.trailers);
    tokio::spawn(async move {
        for chunk in chunks {
            // Whoever answers before the end of a request takes no more of it.
            if sender.send_data(chunk.into()).await.is_err() {
                return;
            }
        }
        if !trailers.is_empty() {
            let _ = sender.send_trailers(trailers).await;
        }
    });
    body
}

fn fields(lines: &[(String, Vec<u8>)]) -> HeaderMap {
    let field = |(name, value): &(String, Vec<u8>)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the case file was checked");
        (name, HeaderValue::from_bytes(value).expect("the case file was checked"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in lines.iter().map(field) {
        map.append(name, value);
    }
    map
}

fn lines(fields: &HeaderMap) -> Lines {
    fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}
