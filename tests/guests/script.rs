//! Makes the calls that its configuration lists, hook by hook, and notes down what came of each.
//!
//! A call is a list of texts: its name, and what it is called with. The property test that compares
//! the fake host with the real one writes such lists at random, and runs this file on both.

use pillion_sdk::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A name, and what it is called with.
type Call = Vec<String>;

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Script {
    /// Kind, name and labels of each metric.
    metrics: Vec<Call>,
    /// Hooks that are not to be called.
    unwanted: Vec<String>,
    /// By hook.
    calls: BTreeMap<String, Vec<Call>>,
    /// By hook; of several the chunk decides.
    answers: BTreeMap<String, Vec<Call>>,
}

pub(crate) struct Guest {
    script: Script,
    metrics: Vec<Result<Metric, pillion_sdk::MetricError>>,
}

#[derive(Clone, Copy)]
enum Metric {
    Counter(metrics::Counter),
    Gauge(metrics::Gauge),
    Histogram(metrics::Histogram),
}

/// Bytes of a result that are noted.
const RESULT_BYTES: usize = 900;

#[filter]
impl Filter for Guest {
    type Config = Script;

    fn new(script: Script) -> Result<Self, ConfigError> {
        let metrics = script.metrics.iter().map(|metric| define(&words(metric))).collect();
        Ok(Self { script, metrics })
    }

    fn wants(&self) -> Hooks {
        self.script.unwanted.iter().fold(Hooks::ALL, |hooks, name| hooks.without(hook(name)))
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        let results = self.play("on-request", |call| edit_request(request, call));
        note_down(request, "on-request", results);
        self.answer_head("on-request")
    }

    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        let results = self.play("on-request-body", |call| {
            held(&chunk, call).or_else(|| edit_request(request, call))
        });
        note_down(request, "on-request-body", results);
        self.answer_body("on-request-body", &chunk)
    }

    fn on_request_trailers(&mut self, request: &Request, trailers: &mut Trailers) -> Result<()> {
        let results = self.play("on-request-trailers", |call| {
            trailers.edit(call).or_else(|| read_request(request, call))
        });
        note_down(request, "on-request-trailers", results);
        self.answer_nothing("on-request-trailers")
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let results = self.play("on-response", |call| {
            edit_response(response, call).or_else(|| read_request(request, call))
        });
        note_down(request, "on-response", results);
        self.answer_head("on-response")
    }

    fn on_response_body(
        &mut self,
        request: &Request,
        response: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        let results = self.play("on-response-body", |call| {
            held(&chunk, call)
                .or_else(|| edit_response(response, call))
                .or_else(|| read_request(request, call))
        });
        note_down(request, "on-response-body", results);
        self.answer_body("on-response-body", &chunk)
    }

    fn on_response_trailers(
        &mut self,
        request: &Request,
        response: &Response,
        trailers: &mut Trailers,
    ) -> Result<()> {
        let results = self.play("on-response-trailers", |call| {
            let status = || (call == ["status"]).then(|| response.status().to_string());
            status().or_else(|| trailers.edit(call)).or_else(|| read_request(request, call))
        });
        note_down(request, "on-response-trailers", results);
        self.answer_nothing("on-response-trailers")
    }

    fn on_complete(&mut self, request: &Request, outcome: &Outcome) -> Result<()> {
        let _may_be_one_too_many = request.set_note("outcome", &format!("{outcome:?}"));
        let results = self.play("on-complete", |call| read_request(request, call));
        note_down(request, "on-complete", results);
        self.answer_nothing("on-complete")
    }
}

impl Guest {
    /// Makes the calls of a hook: those of the messages, which `exchange` knows, and those of the host.
    fn play(&self, hook: &str, mut exchange: impl FnMut(&[&str]) -> Option<String>) -> Vec<String> {
        let mut results = Vec::new();
        for call in self.script.calls.get(hook).into_iter().flatten() {
            let call = words(call);
            let (times, call) = match call.as_slice() {
                ["repeat", times, call @ ..] => (number(times), call),
                call => (1, call),
            };
            let mut result = String::new();
            for _ in 0..times {
                let known = exchange(call).or_else(|| service(call)).or_else(|| self.report(call));
                result = known.unwrap_or_else(|| panic!("{call:?} is no call of `{hook}`"));
            }
            results.push(result);
        }
        results
    }

    fn report(&self, call: &[&str]) -> Option<String> {
        let ["report", metric, value, labels @ ..] = call else { return None };
        let value = value.parse().unwrap_or(f64::NAN);
        Some(match self.metrics.get(number::<usize>(metric)) {
            None => "no such metric".to_owned(),
            Some(Err(error)) => format!("{error:?}"),
            Some(Ok(Metric::Counter(counter))) => format!("{:?}", counter.add(value, labels)),
            Some(Ok(Metric::Gauge(gauge))) => format!("{:?}", gauge.set(value, labels)),
            Some(Ok(Metric::Histogram(histogram))) => {
                format!("{:?}", histogram.observe(value, labels))
            }
        })
    }

    fn answer_head(&self, hook: &str) -> Result<Decision> {
        Ok(match self.answer(hook, 0)?.as_slice() {
            ["skip"] => Decision::SkipBody,
            ["wait"] => Decision::WaitForBody,
            ["respond", response @ ..] => local_response(response).into(),
            _ => Decision::Proceed,
        })
    }

    fn answer_body(&self, hook: &str, chunk: &Chunk<'_>) -> Result<BodyDecision> {
        let first = chunk.bytes().first().copied().map_or(0, usize::from);
        Ok(match self.answer(hook, first + chunk.bytes().len())?.as_slice() {
            ["hold"] => BodyDecision::Hold,
            ["replace", text] => BodyDecision::Replace([text.as_bytes(), &chunk.held()].concat()),
            ["grow", length] => BodyDecision::Replace(vec![b'g'; number(length)]),
            ["respond", response @ ..] => local_response(response).into(),
            _ => BodyDecision::Pass,
        })
    }

    fn answer_nothing(&self, hook: &str) -> Result<()> {
        self.answer(hook, 0).map(drop)
    }

    /// The answer of a hook, or the failure that it is to be.
    fn answer(&self, hook: &str, which: usize) -> Result<Vec<&str>> {
        let answers = self.script.answers.get(hook).map_or(&[][..], Vec::as_slice);
        let answer =
            answers.get(which % answers.len().max(1)).map_or_else(Vec::new, |it| words(it));
        match answer.as_slice() {
            ["fail", text] => Err(Error::new(*text)),
            ["panic", text] => panic!("{text}"),
            _ => Ok(answer),
        }
    }
}

fn words(call: &Call) -> Vec<&str> {
    call.iter().map(String::as_str).collect()
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

/// Each character is a byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| character as u8).collect()
}

fn hook(name: &str) -> Hooks {
    match name {
        "on-request" => Hooks::ON_REQUEST,
        "on-request-body" => Hooks::ON_REQUEST_BODY,
        "on-request-trailers" => Hooks::ON_REQUEST_TRAILERS,
        "on-response" => Hooks::ON_RESPONSE,
        "on-response-body" => Hooks::ON_RESPONSE_BODY,
        "on-response-trailers" => Hooks::ON_RESPONSE_TRAILERS,
        "on-complete" => Hooks::ON_COMPLETE,
        _ => Hooks::NONE,
    }
}

fn define(metric: &[&str]) -> Result<Metric, pillion_sdk::MetricError> {
    let [kind, name, labels @ ..] = metric else { panic!("{metric:?} is no metric") };
    match *kind {
        "counter" => metrics::Counter::define(name, "Counts.", labels).map(Metric::Counter),
        "gauge" => metrics::Gauge::define(name, "Is set.", labels).map(Metric::Gauge),
        _ => metrics::Histogram::define(name, "Sorts.", labels).map(Metric::Histogram),
    }
}

/// Status, body, then names and values of fields.
fn local_response(parts: &[&str]) -> LocalResponse {
    let [status, body, fields @ ..] = parts else { panic!("{parts:?} is no response") };
    let response = LocalResponse::new(number(status)).body(*body);
    fields
        .chunks_exact(2)
        .fold(response, |response, field| response.header(field[0], bytes(field[1])))
}

/// What came of a hook's calls, cut to fit.
fn note_down(request: &Request, hook: &str, results: Vec<String>) {
    for (at, result) in results.iter().enumerate() {
        let kept = &result[..result.floor_char_boundary(RESULT_BYTES)];
        let _may_be_one_too_many = request.set_note(&format!("{hook}.{at}"), kept);
    }
}

/// The calls that every message has.
trait Message {
    fn edit(&mut self, call: &[&str]) -> Option<String>;
}

macro_rules! message {
    ($($message:ident)+) => {$(
        impl Message for $message {
            fn edit(&mut self, call: &[&str]) -> Option<String> {
                Some(match call {
                    ["header", name] => format!("{:?}", self.header(name)),
                    ["header-bytes", name] => format!("{:?}", self.header_bytes(name)),
                    ["headers"] => format!("{:?}", self.headers()),
                    ["set-header", name, value] => format!("{:?}", self.set_header(name, value)),
                    ["append-header", name, value] => {
                        format!("{:?}", self.append_header(name, value))
                    }
                    ["remove-header", name] => format!("{:?}", self.remove_header(name)),
                    _ => return None,
                })
            }
        }
    )+};
}

message!(Request Response Trailers);

fn edit_request(request: &mut Request, call: &[&str]) -> Option<String> {
    Some(match call {
        ["header-all", name] => format!("{:?}", request.header_all(name)),
        ["set-header-bytes", name, value] => {
            format!("{:?}", request.set_header_bytes(name, &bytes(value)))
        }
        ["set-method", text] => format!("{:?}", request.set_method(text)),
        ["set-scheme", text] => format!("{:?}", request.set_scheme(text)),
        ["set-authority", text] => format!("{:?}", request.set_authority(text)),
        ["set-path-with-query", text] => format!("{:?}", request.set_path_with_query(text)),
        call => return request.edit(call).or_else(|| read_request(request, call)),
    })
}

/// The calls of a request that cannot be edited, and notes.
fn read_request(request: &Request, call: &[&str]) -> Option<String> {
    Some(match call {
        ["line"] => format!(
            "{} {} {} {} {} {:?} {} {} {}",
            request.method(),
            request.scheme(),
            request.authority(),
            request.path_with_query(),
            request.path(),
            request.query(),
            request.protocol(),
            request.client_address(),
            request.listener(),
        ),
        ["request-header", name] => {
            format!("{:?} {:?}", request.header(name), request.header_bytes(name))
        }
        ["request-headers"] => format!("{:?}", request.headers()),
        ["note", key] => format!("{:?}", request.note(key)),
        ["set-note", key, text] => format!("{:?}", request.set_note(key, text)),
        _ => return None,
    })
}

fn edit_response(response: &mut Response, call: &[&str]) -> Option<String> {
    Some(match call {
        ["header-all", name] => format!("{:?}", response.header_all(name)),
        ["set-header-bytes", name, value] => {
            format!("{:?}", response.set_header_bytes(name, &bytes(value)))
        }
        ["status"] => response.status().to_string(),
        ["set-status", status] => format!("{:?}", response.set_status(number(status))),
        call => return response.edit(call),
    })
}

fn held(chunk: &Chunk<'_>, call: &[&str]) -> Option<String> {
    (call == ["held"]).then(|| {
        format!("{} {} {:?}", chunk.is_last(), chunk.held_len(), chunk.held().last_chunk::<8>())
    })
}

/// The calls that need no message.
fn service(call: &[&str]) -> Option<String> {
    Some(match call {
        ["log", level, text] => {
            log::write(LEVELS[number::<usize>(level)], format_args!("{text}"));
            String::new()
        }
        ["enabled"] => format!("{:?}", LEVELS.map(log::enabled)),
        ["now"] => format!("{:?}", clock::now()),
        ["monotonic"] => format!("{:?}", clock::monotonic()),
        ["bytes", length] => format!("{:?}", random::bytes(number(length))),
        ["number"] => random::number().to_string(),
        ["get", key] => format!("{:?}", kv::get(key)),
        ["set", key, value, ttl] => format!("{:?}", kv::set(key, value.as_bytes(), time(ttl))),
        ["delete", key] => kv::delete(key).to_string(),
        ["increment", key, by, ttl] => format!("{:?}", kv::increment(key, number(by), time(ttl))),
        ["compare-and-set", key, expected, value, ttl] => {
            let expected = (*expected != "-").then_some(expected.as_bytes());
            format!("{:?}", kv::compare_and_set(key, expected, value.as_bytes(), time(ttl)))
        }
        ["take", key, tokens] => format!("{:?}", rate_limit::take(key, number(tokens))),
        ["policy"] => format!("{:?}", rate_limit::policy()),
        _ => return None,
    })
}

/// In order of importance.
const LEVELS: [log::Level; 5] =
    [log::Level::Error, log::Level::Warn, log::Level::Info, log::Level::Debug, log::Level::Trace];

/// Milliseconds; `-`: none.
fn time(text: &str) -> Option<Duration> {
    (text != "-").then(|| Duration::from_millis(number(text)))
}
