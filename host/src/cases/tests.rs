//! Exchanges as `play` carries them out, with filters of a few lines; expectations, one by one; and
//! whole runs over a shipped filter.

use super::check::{Mismatch, check};
use super::exchange::play;
use super::play::{Forwarded, OUTPUT_BYTES_MAX, Observed};
use super::*;
use crate::capability::Script;
use crate::capability::metrics::{Kind, Registry};
use crate::chain::{
    BodyDecision, Chain, Exchange, FailPolicy, Failure, FailureKind, Filter, HeadDecision, Hook,
    Hooks, LocalResponse, Outcome,
};
use crate::config::case::{Expect, LogLevel, parse};
use crate::wasm::Compiler;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

type Head = Box<dyn Fn(&mut Exchange) -> Result<HeadDecision, Failure>>;
type Body = Box<dyn Fn(&[u8], bool) -> Result<BodyDecision, Failure>>;

/// A filter made of closures.
#[derive(Default)]
struct Native {
    open: bool,
    request: Option<Head>,
    request_body: Option<Body>,
    response: Option<Head>,
    response_body: Option<Body>,
    outcome: Rc<RefCell<Option<Outcome>>>,
}

const PIECE: usize = 1 << 20;

impl Filter for Native {
    fn name(&self) -> &str {
        "native"
    }

    fn hooks(&self) -> Hooks {
        let present = [
            (Hook::OnRequest, self.request.is_some()),
            (Hook::OnRequestBody, self.request_body.is_some()),
            (Hook::OnResponse, self.response.is_some()),
            (Hook::OnResponseBody, self.response_body.is_some()),
            (Hook::OnComplete, true),
        ];
        let mut present = present.into_iter().filter(|(_, is)| *is);
        present.by_ref().fold(Hooks::default(), |all, (hook, _)| all.with(hook))
    }

    fn fail_policy(&self) -> FailPolicy {
        if self.open { FailPolicy::Open } else { FailPolicy::Closed }
    }

    fn body_bytes_max(&self) -> usize {
        PIECE
    }

    fn body_overflow(&self) -> Failure {
        trap()
    }

    fn on_request(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.request.as_ref().expect("it is among the hooks")(exchange)
    }

    fn on_request_body(
        &self,
        _: &mut Box<Exchange>,
        _: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.request_body.as_ref().expect("it is among the hooks")(chunk, last)
    }

    fn on_request_trailers(&self, _: &mut Box<Exchange>) -> Result<(), Failure> {
        Ok(())
    }

    fn on_response(&self, exchange: &mut Box<Exchange>) -> Result<HeadDecision, Failure> {
        self.response.as_ref().expect("it is among the hooks")(exchange)
    }

    fn on_response_body(
        &self,
        _: &mut Box<Exchange>,
        _: &[u8],
        chunk: &[u8],
        last: bool,
    ) -> Result<BodyDecision, Failure> {
        self.response_body.as_ref().expect("it is among the hooks")(chunk, last)
    }

    fn on_response_trailers(&self, _: &mut Box<Exchange>) -> Result<(), Failure> {
        Ok(())
    }

    fn on_complete(&self, _: &mut Box<Exchange>, outcome: &Outcome) -> Result<(), Failure> {
        *self.outcome.borrow_mut() = Some(outcome.clone());
        Ok(())
    }
}

fn trap() -> Failure {
    Failure { kind: FailureKind::Trap, message: "boom".to_owned() }
}

fn reply(status: u16) -> LocalResponse {
    LocalResponse { status, headers: Vec::new(), body: b"local".to_vec() }
}

/// The only step of a case with these keys.
fn step(keys: &str) -> Step {
    let text = format!("filter = \"builtin:trace\"\n[[case]]\nname = \"a\"\n{keys}\n");
    let read = parse(&text, "a.toml", Path::new("/"), &|_| None);
    read.unwrap_or_else(|problems| panic!("{problems}")).cases.remove(0).steps.remove(0)
}

/// What comes of a case with these keys, and how the exchange ended.
fn played(filter: Native, keys: &str) -> (Observed, Outcome) {
    let step = step(keys);
    let outcome = filter.outcome.clone();
    let chain = Chain::new(vec![Rc::new(filter)]);
    let observed = play(&chain, &Script::new(UNIX_EPOCH, 0), &step.request, &step.upstream);
    let outcome = outcome.take().expect("every filter that saw the request hears of its end");
    (observed, outcome)
}

const POST: &str = "request = { method = \"POST\", path = \"/a\", headers = { x-a = \"1\" }, body = { text \
                    = \"abc\", chunks = 1 }, trailers = { x-t = \"2\" } }\nupstream = { status = 201, \
                    headers = { x-b = \"3\" }, body = \"made\", trailers = { x-u = \"4\" }, delay = \"2s\" }";

fn line<'l>(lines: &'l play::Lines, name: &str) -> Option<&'l str> {
    let found = lines.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

#[test]
fn what_no_filter_touches_goes_through_whole() {
    let (seen, outcome) = played(Native::default(), POST);
    let forwarded = seen.forwarded.unwrap();
    assert_eq!((forwarded.method.as_str(), forwarded.path.as_str()), ("POST", "/a"));
    assert_eq!(forwarded.authority, "app.example");
    assert_eq!(line(&forwarded.headers, "x-a"), Some("1"));
    assert_eq!(line(&forwarded.headers, "x-forwarded-for"), Some("192.0.2.1"));
    assert_eq!((&*forwarded.body, line(&forwarded.trailers, "x-t")), (&b"abc"[..], Some("2")));
    assert_eq!((seen.status, &*seen.body, seen.complete), (201, &b"made"[..], true));
    assert_eq!(line(&seen.headers, "x-b"), Some("3"));
    assert_eq!(line(&seen.headers, "date"), Some("Thu, 01 Jan 1970 00:00:02 GMT"));
    assert_eq!(line(&seen.trailers, "x-u"), Some("4"));
    assert_eq!((outcome.status, outcome.complete, outcome.error), (Some(201), true, None));
    assert_eq!((outcome.request_bytes, outcome.response_bytes), (3, 4));
    assert_eq!(outcome.upstream, Some(Duration::from_secs(2)));
    assert_eq!(outcome.duration, Duration::from_secs(2));
}

#[test]
fn a_local_reply_takes_the_place_of_the_upstream() {
    let head: Head = Box::new(|_| Ok(HeadDecision::Respond(Box::new(reply(403)))));
    let (seen, outcome) = played(Native { request: Some(head), ..Native::default() }, POST);
    assert_eq!((seen.status, &*seen.body), (403, &b"local"[..]));
    assert!(seen.forwarded.is_none() && outcome.upstream.is_none());

    let body: Body = Box::new(|chunk, _| match chunk {
        b"b" => Ok(BodyDecision::Respond(reply(413))),
        _ => Ok(BodyDecision::Pass),
    });
    let (seen, outcome) = played(Native { request_body: Some(body), ..Native::default() }, POST);
    assert_eq!(seen.status, 413);
    assert!(seen.forwarded.is_none(), "the upstream got no whole request");
    assert_eq!(outcome.request_bytes, 2);

    let head: Head = Box::new(|_| Ok(HeadDecision::Respond(Box::new(reply(502)))));
    let (seen, _) = played(Native { response: Some(head), ..Native::default() }, POST);
    assert_eq!((seen.status, &*seen.body), (502, &b"local"[..]));
    assert!(seen.forwarded.is_some() && line(&seen.headers, "x-b").is_none());
    assert!(seen.trailers.is_empty());
}

#[test]
fn a_failure_follows_the_policy() {
    let fails = |open| {
        let head: Head = Box::new(|_| Err(trap()));
        Native { open, request: Some(head), ..Native::default() }
    };
    let (seen, outcome) = played(fails(false), POST);
    assert_eq!((seen.status, seen.complete), (500, true));
    assert_eq!(outcome.error, Some("proxy_internal_error"));
    assert_eq!(line(&seen.headers, "proxy-status"), Some("pillion; error=proxy_internal_error"));
    assert!(seen.forwarded.is_none());
    let step = step(POST);
    let chain = Chain::new(vec![Rc::new(fails(true))]);
    let seen = play(&chain, &Script::new(UNIX_EPOCH, 0), &step.request, &step.upstream);
    assert_eq!((seen.status, seen.forwarded.is_some()), (201, true));
}

#[test]
fn what_fails_behind_the_head_breaks_the_response_off() {
    let body: Body = Box::new(|chunk, _| match chunk {
        b"de" => Err(trap()),
        _ => Ok(BodyDecision::Pass),
    });
    let keys = "upstream = { status = 201, body = { text = \"abcdef\", chunks = [3, 2] } }";
    let (seen, outcome) = played(Native { response_body: Some(body), ..Native::default() }, keys);
    assert_eq!((seen.status, &*seen.body, seen.complete), (201, &b"abc"[..], false));
    assert!(!outcome.complete);
    assert_eq!(outcome.error, Some("proxy_internal_error"));
}

#[test]
fn a_head_that_is_kept_back_can_still_be_replaced() {
    let head: Head = Box::new(|_| Ok(HeadDecision::WaitForBody));
    let body: Body = Box::new(|chunk, last| match (chunk, last) {
        (b"def", _) => Ok(BodyDecision::Respond(reply(422))),
        (_, true) => Ok(BodyDecision::Replace(b"whole".to_vec())),
        _ => Ok(BodyDecision::Hold),
    });
    let filter = || Native {
        response: Some(Box::new(|_| Ok(HeadDecision::WaitForBody))),
        ..Native::default()
    };
    let keys = |text: &str| {
        format!("upstream = {{ status = 201, body = {{ text = {text:?}, chunks = [3] }} }}")
    };
    let native = Native { response: Some(head), response_body: Some(body), ..Native::default() };
    let (seen, _) = played(native, &keys("abcdef"));
    assert_eq!((seen.status, &*seen.body, seen.complete), (422, &b"local"[..], true));
    let body: Body = Box::new(|_, last| match last {
        true => Ok(BodyDecision::Replace(b"whole".to_vec())),
        false => Ok(BodyDecision::Hold),
    });
    let (seen, _) = played(Native { response_body: Some(body), ..filter() }, &keys("abcxyz"));
    assert_eq!((seen.status, &*seen.body), (201, &b"whole"[..]));
}

#[test]
fn a_response_without_a_body_has_no_body_hooks() {
    let never = || -> Body { Box::new(|_, _| panic!("there is no body")) };
    let native = || Native { response_body: Some(never()), ..Native::default() };
    for keys in [
        "request.method = \"HEAD\"\nupstream.body = \"made\"",
        "upstream = { status = 204 }",
        "upstream = { status = 304, body = \"made\" }",
    ] {
        let (seen, _) = played(native(), keys);
        assert!(seen.body.is_empty() && seen.complete, "{keys}");
    }
    let calls = Rc::new(RefCell::new(Vec::new()));
    let heard = calls.clone();
    let body: Body = Box::new(move |chunk, last| {
        heard.borrow_mut().push((chunk.len(), last));
        Ok(BodyDecision::Pass)
    });
    played(Native { response_body: Some(body), ..Native::default() }, "");
    assert_eq!(*calls.borrow(), [(0, true)], "an empty body has an end");
}

#[test]
fn a_body_that_grows_without_end_is_broken_off() {
    let grows: fn() -> Body = || {
        Box::new(|chunk, _| match chunk.is_empty() {
            true => Ok(BodyDecision::Pass),
            false => Ok(BodyDecision::Replace(vec![b'x'; PIECE])),
        })
    };
    let pieces = OUTPUT_BYTES_MAX / PIECE;
    for (count, fits) in [(pieces - 1, true), (pieces, true), (pieces + 1, false)] {
        let body = format!("{{ text = {:?}, chunks = 1 }}", "b".repeat(count));
        let native = Native { response_body: Some(grows()), ..Native::default() };
        let (seen, _) = played(native, &format!("upstream.body = {body}"));
        assert_eq!((seen.outgrown, seen.complete), (!fits, fits), "{count}");
        let native = Native { request_body: Some(grows()), ..Native::default() };
        let (seen, _) = played(native, &format!("request = {{ method = \"PUT\", body = {body} }}"));
        assert_eq!((seen.outgrown, seen.forwarded.is_some()), (!fits, fits), "{count}");
    }
}

#[test]
fn notes_of_earlier_filters_are_there() {
    let (seen, _) = played(Native::default(), "request.notes = { a = \"1\", b = \"2\" }");
    let note = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    assert_eq!(seen.notes, Some(vec![note("a", "1"), note("b", "2")]));
}

fn lines(all: &[(&str, &str)]) -> play::Lines {
    all.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// An exchange of which there is something to say.
fn observed() -> Observed {
    let registry = Registry::new("f".into(), "v".into());
    let define = |kind, name, labels: &[&str]| registry.define(kind, name, "", labels).unwrap();
    let hits = define(Kind::Counter, "hits", &["kind", "of"]);
    for (labels, value) in [(["a", "x"], 1.0), (["a", "y"], 2.0), (["b", "x"], 4.5)] {
        registry.report(hits, &labels, value).unwrap();
    }
    define(Kind::Gauge, "idle", &[]);
    let seconds = define(Kind::Histogram, "took_seconds", &[]);
    [0.5, 0.25].iter().for_each(|value| registry.report(seconds, &[], *value).unwrap());
    let line = |level, text: &str| LogLine { level, text: text.to_owned() };
    let forwarded = Forwarded {
        method: "PUT".to_owned(),
        path: "/up".to_owned(),
        scheme: Some("http".to_owned()),
        authority: "app.example".to_owned(),
        headers: lines(&[("x-up", "1")]),
        body: b"sent".to_vec(),
        trailers: lines(&[("x-end", "2")]),
    };
    Observed {
        status: 200,
        headers: lines(&[("x-a", "1"), ("x-b", "2"), ("x-b", "3 \"four\"")]),
        body: b"{\"a\":[1,2.0],\"b\":null}\n".to_vec(),
        trailers: lines(&[("x-t", "end")]),
        complete: true,
        forwarded: Some(forwarded),
        log: Some(vec![line(LogLevel::Warn, "slow"), line(LogLevel::Info, "done")]),
        notes: Some(vec![("n".to_owned(), "noted".to_owned())]),
        metrics: Some(registry.snapshot()),
        failures: Some(Vec::new()),
        outgrown: false,
    }
}

/// What differs, in words; and with what it would be rewritten.
fn differs(expect: &str, observed: &Observed) -> Vec<String> {
    let expect: Expect = step(&format!("[case.expect]\n{expect}")).expect;
    let shown = |Mismatch { what, expected, got, rewrite, .. }: Mismatch| {
        let rewrite = rewrite.map_or_else(String::new, |it| format!(" => {it}"));
        format!("{what}: {expected} | {got}{rewrite}")
    };
    check(&expect, observed).into_iter().map(shown).collect()
}

#[test]
fn what_holds_is_not_mentioned() {
    let observed = observed();
    for expect in [
        "status = 200",
        "headers = { x-a = \"1\", X-B = [\"2\", '3 \"four\"'], x-c = false }",
        "headers = { x-a = true, x-b = { count = 2, contains = \"four\" } }",
        "headers = { x-b = { matches = '^\\d$' }, x-a = { is = \"1\", count = 1 } }",
        "body = \"{\\\"a\\\":[1,2.0],\\\"b\\\":null}\\n\"",
        "body = { contains = [\"a\", \"b\"], matches = 'null' }",
        "body = { bytes = 23 }",
        "body = { contains = \"a\", lacks = [\"z\", \"y\"] }",
        "headers = { x-b = { lacks = \"four\" }, x-a = { lacks = \"2\" } }",
        "trailers = { x-t = \"end\", x-u = false }",
        "complete = true",
        "forwarded = true",
        "forwarded = { method = \"PUT\", path = \"/up\", scheme = \"http\", authority = \"app.example\" }",
        "forwarded = { headers = { x-up = \"1\" }, body = \"sent\", trailers = { x-end = \"2\" } }",
        "log = [\"slow\", { level = \"info\", matches = 'ne$' }]",
        "notes = { n = \"noted\", m = false }",
        "metrics = { hits = 7.5, \"hits{kind=a}\" = 3, \"hits{kind=b,of=x}\" = 4.5 }",
        "metrics = { idle = false, other = false, \"hits{kind=c}\" = false, \"hits{no=a}\" = false }",
        "metrics = { took_seconds = { count = 2, sum = 0.75 } }",
        "failure = []",
        "",
    ] {
        assert_eq!(differs(expect, &observed), Vec::<String>::new(), "{expect}");
    }
}

#[test]
fn what_does_not_hold_is_told_with_both_sides_and_what_would() {
    let observed = observed();
    for (expect, told) in [
        ("status = 404", "status: 404 | 200 => 200"),
        ("headers = { x-a = \"2\" }", "headers.x-a: \"2\" | \"1\" => \"1\""),
        ("headers = { x-a = false }", "headers.x-a: no such field | \"1\" => \"1\""),
        ("headers = { x-c = true }", "headers.x-c: any value | no such field => false"),
        (
            "headers = { x-b = \"2\" }",
            "headers.x-b: \"2\" | \"2\"\n\"3 \"four\"\" => [\"2\", \"3 \\\"four\\\"\"]",
        ),
        ("headers = { x-a = { count = 2 } }", "headers.x-a: 2 lines | \"1\""),
        ("headers = { x-a = { contains = \"z\" } }", "headers.x-a: a line: contains \"z\" | \"1\""),
        ("headers = { x-a = { lacks = \"1\" } }", "headers.x-a: a line: lacks \"1\" | \"1\""),
        ("headers = { x-c = { count = 1 } }", "headers.x-c: 1 line | no such field"),
        ("body = { bytes = 1 }", "body: 1 bytes | 23 bytes => { bytes = 23 }"),
        ("body = { matches = '^b' }", "body: matches '^b' | \"{\"a\":[1,2.0],\"b\":null}\\n\""),
        ("complete = false", "complete: a response that is broken off | a whole response => true"),
        (
            "forwarded = false",
            "forwarded: nothing: the upstream got no whole request | PUT \"/up\" => true",
        ),
        ("forwarded.method = \"GET\"", "forwarded.method: \"GET\" | \"PUT\" => \"PUT\""),
        ("forwarded.path = \"/\"", "forwarded.path: \"/\" | \"/up\" => \"/up\""),
        ("forwarded.scheme = \"https\"", "forwarded.scheme: \"https\" | \"http\" => \"http\""),
        ("forwarded.body = \"\"", "forwarded.body: \"\" | \"sent\" => \"sent\""),
        ("log = []", "log: nothing | warn: \"slow\"\ninfo: \"done\" => [\"slow\", \"done\"]"),
        (
            "log = [{ level = \"warn\", is = \"slow\" }]",
            "log: warn: \"slow\" | warn: \"slow\"\ninfo: \"done\" => [{ level = \"warn\", is = \
             \"slow\" }, { level = \"info\", is = \"done\" }]",
        ),
        (
            "log = [{ matches = 'x' }, \"done\"]",
            "log: matches 'x'\n\"done\" | warn: \"slow\"\ninfo: \"done\"",
        ),
        ("notes = { n = \"x\" }", "notes.n: \"x\" | \"noted\" => \"noted\""),
        ("notes = { n = false }", "notes.n: no such note | \"noted\" => \"noted\""),
        ("notes = { m = \"x\" }", "notes.m: \"x\" | no such note => false"),
        ("metrics = { hits = 1 }", "metrics.hits: 1 | 7.5 => 7.5"),
        ("metrics = { \"hits{kind=c}\" = 1 }", "metrics.hits{kind=c}: 1 | no such series => false"),
        ("metrics = { hits = false }", "metrics.hits: no such series | 7.5 => 7.5"),
        (
            "metrics = { took_seconds = { count = 3 } }",
            "metrics.took_seconds: 3 observations | 2 observations, 0.75 in sum => { count = 2, \
             sum = 0.75 }",
        ),
        ("failure = \"trap\"", "failure: trap | no failure of the filter => []"),
    ] {
        assert_eq!(differs(expect, &observed), [told], "{expect}");
    }
}

#[test]
fn bodies_are_compared_as_json_and_rewritten_where_toml_can() {
    let mut seen = observed();
    seen.body = b"{\"b\": [1.0, \"x\"], \"a\": true}".to_vec();
    assert!(differs("body = { json = { a = true, b = [1, \"x\"] } }", &seen).is_empty());
    let told = differs("body = { json = { a = false } }", &seen);
    assert!(told[0].ends_with("=> { json = { \"a\" = true, \"b\" = [1.0, \"x\"] } }"), "{told:?}");
    let told = differs("body = { json = { a = false } }", &observed());
    assert!(!told[0].contains(" => "), "TOML has no null: {told:?}");
    seen.body = b"{".to_vec();
    assert!(differs("body = { json = {} }", &seen)[0].contains("no JSON: \"{\""));
    seen.body = vec![0xff, 0];
    let told = differs("body = \"\"", &seen);
    assert_eq!(told, ["body: \"\" | base64 /wA= (2 bytes) => { base64 = \"/wA=\" }"]);
}

#[test]
fn a_body_in_a_file_of_its_own_is_not_rewritten_in_the_case() {
    let directory = Directory::new();
    let file = directory.write("body.txt", "other");
    let told =
        differs(&format!("body = {{ file = {:?} }}", file.display().to_string()), &observed());
    assert!(told.len() == 1 && !told[0].contains(" => "), "{told:?}");
}

#[test]
fn failures_and_broken_off_responses_are_told_unasked() {
    let mut seen = observed();
    let failure = FailureSeen {
        kind: "trap".to_owned(),
        hook: "on-request".to_owned(),
        message: "boom\u{1b}".to_owned(),
    };
    seen.failures = Some(vec![failure]);
    seen.complete = false;
    assert_eq!(
        differs("", &seen),
        [
            "complete: a whole response | a response that is broken off",
            "failure: no failure of the filter | trap in on-request: boom\\u{1b}",
        ]
    );
    let all = "complete = false\nfailure = ";
    for holds in [
        "\"trap\"",
        "[{ kind = \"trap\", hook = \"on-request\", message = { contains = \"boom\" } }]",
    ] {
        assert!(differs(&format!("{all}{holds}"), &seen).is_empty(), "{holds}");
    }
    for fails in [
        "\"deadline\"",
        "[\"trap\", \"trap\"]",
        "{ kind = \"trap\", hook = \"on-response\" }",
        "{ kind = \"trap\", message = \"bang\" }",
    ] {
        assert_eq!(differs(&format!("{all}{fails}"), &seen).len(), 1, "{fails}");
    }
    seen.outgrown = true;
    assert!(differs(&format!("{all}\"trap\""), &seen)[0].contains("more than the runner keeps"));
}

#[test]
fn what_cannot_be_seen_is_not_looked_at() {
    let seen = Observed { log: None, notes: None, metrics: None, failures: None, ..observed() };
    let expect = "log = []\nnotes = { n = \"x\" }\nmetrics = { hits = 1 }\nfailure = \"trap\"";
    assert_eq!(differs(expect, &seen), Vec::<String>::new());
}

#[test]
fn the_words_of_case_files_are_those_of_the_chain() {
    use crate::config::case::{FAILURES, HOOKS};
    assert_eq!(FAILURES, FailureKind::ALL.map(FailureKind::name));
    let hooks = Hook::ALL.into_iter().filter(|hook| hook.is_of_exchange()).map(Hook::name);
    assert_eq!(HOOKS[..], hooks.collect::<Vec<_>>(), "those of an exchange");
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-cases-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run_all(paths: &[PathBuf], options: &Options) -> Report {
    run(paths, &Components::new(Compiler::in_process().unwrap(), None), options)
}

const LIMIT: &str = "filter = \"builtin:rate-limit\"\ngrants = { rate-limit = { requests = 2, per = \
                     \"1s\" } }\n";

#[test]
fn a_run_counts_what_passed_failed_and_could_not_be_played() {
    let directory = Directory::new();
    let cases = "[[case]]\nname = \"passes\"\nrepeat = 3\nexpect = { status = 429 }\n\
                 [[case]]\nname = \"fails\"\nexpect = { status = 429 }\n\
                 [[case]]\nname = \"has no grant\"\ngrants = {}\n\
                 [[case]]\nname = \"has no grant either\"\ngrants = {}\n";
    let good = directory.write("good.toml", &format!("{LIMIT}{cases}"));
    let bad = directory.write("bad.toml", "filter = 1");
    let missing = directory.0.join("missing.toml");
    let report = run_all(&[good, bad, missing], &Options::default());
    assert_eq!(report.counts(), Counts { passed: 1, failed: 1, broken: 4 });
    let [good, bad, missing] = report.files.as_slice() else { panic!() };
    let lines: Vec<usize> = good.cases.iter().map(|case| case.line).collect();
    assert_eq!(lines, [3, 7, 10, 13]);
    assert_eq!(good.cases[0].exchanges, 3);
    assert!(good.cases[0].usage.host_calls > 0 && good.cases[0].usage.memory_bytes > 0);
    assert_eq!(good.problems.len(), 2, "the same at two places");
    assert!(bad.problems.len() == 2 && missing.problems.len() == 1);
    assert_eq!(report.depends_on().len(), 1, "a shipped filter is no file");

    let only = Options { only: Some("pass".to_owned()), threads: Some(1) };
    let path = directory.0.join("good.toml");
    let counts = run_all(&[path], &only).counts();
    assert_eq!(counts, Counts { passed: 1, failed: 0, broken: 0 });
}

#[test]
fn a_failure_nobody_expects_in_an_earlier_request_is_told() {
    let directory = Directory::new();
    // The third doubling does not fit into a head.
    let half = "x".repeat(20_000);
    let text = format!(
        "filter = \"builtin:headers\"\nconfig = {{ request = [{{ set = {{ name = \"x-b\", value = \
         \"${{header.x-a}}\" }} }}] }}\n[[case]]\nname = \"fails\"\nrepeat = 2\n\
         request.headers = {{ x-a = \"{half}\" }}\nexpect = {{ status = 500 }}\n"
    );
    let report = run_all(&[directory.write("a.toml", &text)], &Options::default());
    let Verdict::Failed(findings) = &report.files[0].cases[0].verdict else { panic!() };
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let message = &finding.diagnostic.message;
    assert!(message.starts_with("request 1 of 2: failure"), "{message}");
}

#[test]
fn budgets_hold_below_at_and_above_what_is_used() {
    let directory = Directory::new();
    let played = |budgets: &[String]| {
        let cases = budgets
            .iter()
            .enumerate()
            .map(|(nth, budget)| format!("[[case]]\nname = \"{nth}\"\nbudget = {{ {budget} }}\n"));
        let text = format!("{LIMIT}{}", cases.collect::<String>());
        run_all(&[directory.write("a.toml", &text)], &Options::default()).files.remove(0).cases
    };
    let used = played(&[String::new()])[0].usage;
    // Under a microsecond no guest comes back: it is over in each of its plays.
    let mut budgets = vec![("time = \"1m\"".to_owned(), None)];
    budgets.push(("time = \"1us\"".to_owned(), Some("budget.time")));
    for (name, what, used) in [
        ("memory", "budget.memory", used.memory_bytes as u64),
        ("host_calls", "budget.host_calls", used.host_calls),
    ] {
        for (budget, over) in [(used + 1, None), (used, None), (used - 1, Some(what))] {
            budgets.push((format!("{name} = {budget}"), over));
        }
    }
    let texts: Vec<String> = budgets.iter().map(|(budget, _)| budget.clone()).collect();
    for (case, (budget, over)) in played(&texts).iter().zip(&budgets) {
        let what = match &case.verdict {
            Verdict::Failed(findings) => Some(findings[0].mismatch.what.as_str()),
            Verdict::Passed | Verdict::Broken => None,
        };
        assert_eq!(what, *over, "{budget}");
    }
}

#[test]
fn reports_say_the_same_in_every_form() {
    let directory = Directory::new();
    let cases = "[[case]]\nname = \"passes\"\n[[case]]\nname = \"<fails>\"\nexpect = { status = \
                 429, body = \"one\\ntwo\\n\" }\n[[case]]\nname = \"is not played\"\ngrants = {}\n";
    let path = directory.write("a.toml", &format!("{LIMIT}{cases}"));
    let report = run_all(&[path], &Options::default());
    let text = report::text(&report, report::Detail::Results);
    let shown = directory.0.display().to_string();
    let text = text.replace(&shown, "");
    let expected = "\
/a.toml
  ok    passes
  FAIL  <fails>

    /a.toml:7:21: error: status: expected 429, got 200
    7 | expect = { status = 429, body = \"one\\ntwo\\n\" }
                            ^^^

    /a.toml:7:33: error: body differs
    7 | expect = { status = 429, body = \"one\\ntwo\\n\" }
                                        ^^^^^^^^^^^^
    - one
    - two
    + \"\"

  ----  is not played

    /a.toml:10:1: error: filter `rate-limit` imports the capability `rate-limit`, which it is not \
                    granted; to grant it, add `grants = { rate-limit = { requests = 100, per = \
                    \"1s\", burst = 20 } }` to its table
    10 | grants = {}
         ^^^^^^

1 passed, 1 failed, 1 not played";
    assert_eq!(text, expected);
    let usage = report::text(&report, report::Detail::Usage);
    assert!(usage.contains(" host calls)\n"), "{usage}");

    let json = report::json(&report);
    assert_eq!(
        (&json["passed"], &json["failed"], &json["broken"]),
        (&1.into(), &1.into(), &1.into())
    );
    let file = &json["files"][0];
    assert_eq!(file["cases"][0]["result"], "passed");
    let finding = &file["cases"][1]["findings"][0];
    assert_eq!((&finding["line"], &finding["column"]), (&7.into(), &21.into()));
    assert_eq!((&finding["expected"], &finding["got"]), (&"429".into(), &"200".into()));
    assert_eq!(file["problems"][0]["line"], 10);

    let junit = report::junit(&report).replace(&shown, "");
    for part in [
        "<testsuites tests=\"3\" failures=\"1\" errors=\"1\">",
        "<testsuite name=\"/a.toml\" tests=\"3\" failures=\"1\" errors=\"1\">",
        "<testcase name=\"passes\" classname=\"/a.toml\" time=\"0.00",
        "<testcase name=\"&lt;fails&gt;\"",
        "<failure message=\"status: expected 429, got 200\">/a.toml:7:21: error: status",
        "<error>/a.toml:10:1: error: filter `rate-limit` imports",
        "</testcase>\n  </testsuite>\n</testsuites>\n",
    ] {
        assert!(junit.contains(part), "{part} is not in:\n{junit}");
    }
}

#[test]
fn an_update_makes_the_cases_pass_and_leaves_the_rest_of_the_file_alone() {
    let directory = Directory::new();
    let cases = "[[case]]\nname = \"a\" # kept\nexpect = { status = 429, headers = { x-a = \"1\", \
                 retry-after = { matches = '1' } }, forwarded = false }\n\
                 [[case]]\nname = \"b\"\nexpect.body = \"\"\"\nsome\ntext\"\"\"\n\
                 [[case]]\nname = \"c\"\nconfig = { key = \"Client\" }\n\
                 load_error = { key = \"other\", line = 1 }\n";
    let path = directory.write("a.toml", &format!("{LIMIT}{cases}"));
    let report = run_all(std::slice::from_ref(&path), &Options::default());
    let updates = update::updates(&report);
    let [update] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!((update.changes.len(), update.left), (6, 1));
    assert!(update.changes[0].ends_with("a.toml:5: status: 429 → 200"), "{}", update.changes[0]);
    update::write(update).unwrap();
    let expected = "[[case]]\nname = \"a\" # kept\nexpect = { status = 200, headers = { x-a = false, \
                    retry-after = { matches = '1' } }, forwarded = true }\n\
                    [[case]]\nname = \"b\"\nexpect.body = \"\"\n\
                    [[case]]\nname = \"c\"\nconfig = { key = \"Client\" }\n\
                    load_error = { key = \"key\", line = 13 }\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{LIMIT}{expected}"));
    let again = run_all(&[path], &Options::default());
    let left: Vec<usize> = again.files[0]
        .cases
        .iter()
        .map(|case| match &case.verdict {
            Verdict::Failed(findings) => findings.len(),
            Verdict::Passed | Verdict::Broken => 0,
        })
        .collect();
    // The line of the last one has moved with the text above it.
    assert_eq!(left, [1, 0, 1]);
    assert!(std::fs::read_dir(&directory.0).unwrap().count() == 1, "nothing is left behind");
}

#[test]
fn a_file_that_has_changed_since_is_not_rewritten() {
    let directory = Directory::new();
    let path = directory
        .write("a.toml", &format!("{LIMIT}[[case]]\nname = \"a\"\nexpect = {{ status = 429 }}\n"));
    let report = run_all(std::slice::from_ref(&path), &Options::default());
    let updates = update::updates(&report);
    std::fs::write(&path, "changed").unwrap();
    let refused = update::write(&updates[0]).unwrap_err().to_string();
    assert!(refused.contains("it has changed since it was played"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "changed");
}
