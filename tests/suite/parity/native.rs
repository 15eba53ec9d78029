//! A filter on the fake host of the SDK: an exchange, and what came of it.

use super::Session;
use super::seen::{self, Seen};
use httpdate::fmt_http_date;
use pillion::capability::log::printable;
use pillion::config::case::{LogLevel, Payload, Request, Step};
use pillion::http::{Fields, Name, Protocol, RequestHead, ResponseHead, Scheme, forwarding};
use pillion::proxy::reply::Fault;
use pillion_sdk::log::Level;
use pillion_sdk::testing::{self, Host, Loaded, Reply};
use pillion_sdk::{ConfigError, Field, Filter};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of the levels, by how important they are.
const LEVELS: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

/// A filter that is loaded.
pub(super) trait Native {
    /// Sends a request, answers it, and looks at what came of it. `Err`: a hook panicked with this.
    fn exchange(&mut self, step: &Step) -> Result<Seen, String>;
}

struct Player<F> {
    host: Host,
    filter: Loaded<F>,
    wall: SystemTime,
    lines_seen: usize,
}

/// Loads it as the session says.
pub(super) fn load<F: Filter>(session: &Session) -> Result<Box<dyn Native>, ConfigError> {
    let (limit, kv) = (session.limit, session.kv);
    let since_epoch = session.now.duration_since(UNIX_EPOCH).expect("it is later");
    let host = Host::new()
        .at(since_epoch)
        .seed(session.seed)
        .log_level(LEVELS[session.level as usize])
        .kv_limits(kv.entries, kv.value_bytes)
        .rate_limit(limit.requests, limit.per, limit.burst);
    let filter = host.load::<F>(session.config.clone())?;
    let lines_seen = host.logs().len();
    Ok(Box::new(Player { host, filter, wall: session.now, lines_seen }))
}

impl<F: Filter> Native for Player<F> {
    fn exchange(&mut self, step: &Step) -> Result<Seen, String> {
        self.advance(step.advance);
        let mut seen = Seen::default();
        let played = quietly(|| catch_unwind(AssertUnwindSafe(|| self.play(step, &mut seen))));
        played.map_err(|panic| text_of(&*panic))?;
        let lines = self.host.logs();
        for line in &lines[self.lines_seen..] {
            let level = LEVELS.iter().position(|level| *level == line.level);
            seen.log(LogLevel::ALL[level.expect("every level is listed")], &line.text);
        }
        self.lines_seen = lines.len();
        for testing::Series { name, labels, value, observations } in self.host.series() {
            seen.series(&name, labels.iter().map(String::as_str), value, observations);
        }
        Ok(seen)
    }
}

impl<F: Filter> Player<F> {
    fn advance(&mut self, by: std::time::Duration) {
        self.host.advance(by);
        self.wall += by;
    }

    fn play(&mut self, step: &Step, seen: &mut Seen) {
        let mut exchange = self.filter.request(request(&step.request));
        let is_forwarded = exchange.failure().is_none() && exchange.local_response().is_none();
        if !is_forwarded {
            match exchange.failure() {
                Some(failure) => self.failed(failure, step, seen),
                None => self.replied(exchange.local_response().expect("it is"), seen),
            }
            let outcome = exchange.outcome();
            completed(exchange.complete(&outcome).map_err(|error| error.to_string()), seen);
            return exchange.notes().for_each(|(key, text)| seen.note(key, text));
        }
        let sent = exchange.forwarded();
        let line = [&sent.method, &sent.scheme, &sent.authority, &sent.path_with_query];
        seen.forwarded(
            &line.map(String::as_str),
            &lines(&sent.headers),
            &sent.body,
            &lines(&sent.trailers),
        );
        self.advance(step.upstream.delay);
        let answer = self.answer(step);
        let mut answered = exchange.answer(answer);
        let failure = answered.failure().map(str::to_owned);
        match &failure {
            Some(failure) if answered.is_broken_off() => {
                seen.failure(words(failure));
                seen.broken_off();
            }
            Some(failure) => self.failed(failure, step, seen),
            None => match answered.local_response() {
                Some(reply) => self.replied(reply, seen),
                None => reply(answered.response(), lines(&answered.response().headers), seen),
            },
        }
        completed(answered.complete().map(drop).map_err(|error| error.to_string()), seen);
        answered.notes().for_each(|(key, text)| seen.note(key, text));
    }

    fn failed(&self, failure: &str, step: &Step, seen: &mut Seen) {
        seen.failure(words(failure));
        let mut head = ResponseHead::default();
        let body = Fault::FilterFailed.reply(&mut head);
        let body = if step.request.method == "HEAD" { &[][..] } else { &body };
        seen.reply(head.status, &self.dated(seen::lines_of(&head.fields)), body, &[]);
    }

    fn replied(&self, local: &Reply, seen: &mut Seen) {
        reply(local, self.dated(lines(&local.headers)), seen);
    }

    /// With the `Date` that the host adds.
    fn dated(&self, mut lines: seen::Lines) -> seen::Lines {
        if !lines.iter().any(|(name, _)| name == "date") {
            lines.push(("date".to_owned(), fmt_http_date(self.wall).into_bytes()));
        }
        lines
    }

    /// The upstream's answer as the host shows it to filters.
    fn answer(&self, step: &Step) -> testing::Response {
        let fields = fields(&self.dated(step.upstream.headers.clone()));
        let mut head = ResponseHead { fields, ..ResponseHead::default() };
        forwarding::mark_response(&mut head, Protocol::Http11);
        let mut response = testing::Response::new(step.upstream.status);
        for (name, value) in seen::lines_of(&head.fields) {
            response = response.header(&name, value);
        }
        for (name, value) in &step.upstream.payload.trailers {
            response = response.trailer(name, value.clone());
        }
        // Without a body too, the host tells the hook of the end.
        response.chunks(chunks(&step.upstream.payload))
    }
}

/// The request as the host shows it to filters.
fn request(request: &Request) -> testing::Request {
    let mut head = RequestHead {
        method: request.method.clone(),
        scheme: if request.secure { Scheme::Https } else { Scheme::Http },
        authority: request.authority.clone(),
        target: request.path.clone(),
        protocol: match request.protocol {
            "HTTP/1.0" => Protocol::Http10,
            "HTTP/2" => Protocol::Http2,
            _ => Protocol::Http11,
        },
        fields: fields(&request.headers),
        ..RequestHead::default()
    };
    forwarding::mark_request(&mut head, request.client, None, &[]);
    let mut native = testing::Request::new(request.method.as_str(), &request.path)
        .scheme(head.scheme.name())
        .authority(&request.authority)
        .protocol(request.protocol)
        .client_address(&request.client.to_string())
        .listener(&request.listener);
    for (name, value) in seen::lines_of(&head.fields) {
        native = native.header(&name, value);
    }
    for (key, text) in &request.notes {
        native = native.note(key, text);
    }
    if request.payload.chunks.is_some() {
        native = native.chunks(chunks(&request.payload));
        for (name, value) in &request.payload.trailers {
            native = native.trailer(name, value.clone());
        }
    }
    native
}

/// The pieces of a body, and its end.
fn chunks(payload: &Payload) -> impl Iterator<Item = &[u8]> {
    let chunks = payload.chunks.iter().flatten().map(Vec::as_slice);
    chunks.filter(|chunk| !chunk.is_empty()).chain([&[][..]])
}

fn fields(lines: &[(String, Vec<u8>)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(Name::parse(name.as_bytes()).expect("the names are good"), value);
    }
    fields
}

fn lines(fields: &[Field]) -> seen::Lines {
    fields.iter().map(|field| (field.name.clone(), field.value.clone())).collect()
}

fn reply(reply: &Reply, headers: seen::Lines, seen: &mut Seen) {
    seen.reply(reply.status, &headers, &reply.body, &lines(&reply.trailers));
}

fn completed(done: Result<(), String>, seen: &mut Seen) {
    if let Err(error) = done {
        seen.failure(words(&format!("hook `on-complete` failed: {error}")));
    }
}

/// As the host's log writes the last words of a component.
fn words(failure: &str) -> String {
    printable(failure.trim(), usize::MAX).into_owned()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` without a word about panics on this thread: the guests are asked for them.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    done
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}
