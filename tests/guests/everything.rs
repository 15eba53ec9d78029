//! Calls every function of the contract that an exchange may call, in every phase it has, and notes
//! down what came of it.

use pillion_sdk::prelude::*;
use std::time::Duration;

pub(crate) struct Guest {
    counter: metrics::Counter,
    gauge: metrics::Gauge,
    histogram: metrics::Histogram,
    calls: u32,
}

#[filter]
impl Filter for Guest {
    fn new(_: NoConfig) -> Result<Self, ConfigError> {
        assert!(metrics::Counter::define("not a name", "Refused.", &[]).is_err());
        Ok(Self {
            counter: metrics::Counter::define("calls", "Hooks called.", &["hook"])?,
            gauge: metrics::Gauge::define("level", "A level.", &[])?,
            histogram: metrics::Histogram::define("sizes", "Sizes.", &[])?,
            calls: 0,
        })
    }

    fn wants(&self) -> Hooks {
        Hooks::ALL
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Decision> {
        self.calls += 1;
        self.counter.increment(&["on-request"])?;
        self.gauge.set(0.5, &[])?;
        self.histogram.observe(3.0, &[])?;
        let wrong_labels = self.counter.increment(&[]);
        let texts = format!(
            "{} {} {} {} {} {:?} {} {} {} {:?}",
            request.method(),
            request.scheme(),
            request.authority(),
            request.path_with_query(),
            request.path(),
            request.query(),
            request.protocol(),
            request.client_address(),
            request.listener(),
            wrong_labels,
        );
        request.set_note("texts", &texts)?;
        let fields: Vec<String> = request
            .headers()
            .iter()
            .map(|field| format!("{}={:?}", field.name, field.value))
            .collect();
        request.set_note("fields", &fields.join(";"))?;
        let found = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            request.header("x-many"),
            request.header_all("X-Many"),
            request.header_bytes("x-bytes"),
            request.header("x-absent"),
            request.header("no name"),
        );
        request.set_note("found", &found)?;
        let edits = [
            request.set_header("x-set", "ä"),
            request.set_header_bytes("x-set-bytes", b"\xff\x00"),
            request.set_header_bytes("x-raw", b"\xff"),
            request.append_header("x-many", "last"),
            request.set_header("no name", "x"),
            request.set_header("x-line", "a\r\nb"),
            request.set_header("content-length", "1"),
            request.set_header("x-large", &"x".repeat(40_000)),
            request.set_method("PATCH"),
            request.set_method("no method"),
            request.set_scheme("https"),
            request.set_authority("other.example:8443"),
            request.set_authority("no authority"),
            request.set_path_with_query("/other?x=y"),
            request.set_path_with_query("other"),
        ];
        request.set_note("edits", &format!("{edits:?}"))?;
        let removed = [request.remove_header("x-remove"), request.remove_header("x-remove")];
        let long = request.set_note("long", &"x".repeat(1024));
        request.set_note("removed", &format!("{removed:?} {long:?}"))?;
        request.set_note("store", &store())?;
        request.set_note("limit", &limit())?;
        let drawn = format!("{} {}", random::bytes(33).len(), random::number() != random::number());
        let time =
            format!("{} {}", clock::now() > Duration::ZERO, clock::monotonic() > Duration::ZERO);
        request.set_note("drawn", &format!("{drawn} {time}"))?;
        log::info!("request {} of {}", self.calls, request.path());
        let levels = (log::enabled(log::Level::Error), log::enabled(log::Level::Trace));
        // Natively nothing turns it into a log line.
        if cfg!(target_arch = "wasm32") {
            println!("levels {levels:?}");
        }
        match request.header("x-answer").as_deref() {
            Some("respond") => Ok(Decision::Respond(
                LocalResponse::text(418, "short and stout").header("x-why", "asked"),
            )),
            Some("skip") => Ok(Decision::SkipBody),
            Some("wait") => Ok(Decision::WaitForBody),
            _ => Ok(Decision::Proceed),
        }
    }

    fn on_request_body(&mut self, request: &mut Request, chunk: Chunk<'_>) -> Result<BodyDecision> {
        let _too_late = request.set_header("x-body", &chunk.held_len().to_string());
        decide(&chunk)
    }

    fn on_request_trailers(&mut self, request: &Request, trailers: &mut Trailers) -> Result<()> {
        note_trailers(request, trailers, "request-trailers")
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Decision> {
        let seen =
            format!("{} {:?} {:?}", response.status(), response.headers(), request.headers());
        request.set_note("response", &seen[..seen.len().min(900)])?;
        let edits = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            response.set_status(203),
            response.set_status(99),
            response.set_header("x-set", "response"),
            response.append_header("x-set", "twice"),
            response.remove_header("x-remove"),
            response.header_all("x-set"),
        );
        request.set_note("response-edits", &edits)?;
        Ok(Decision::Proceed)
    }

    fn on_response_body(
        &mut self,
        _: &Request,
        _: &mut Response,
        chunk: Chunk<'_>,
    ) -> Result<BodyDecision> {
        decide(&chunk)
    }

    fn on_response_trailers(
        &mut self,
        request: &Request,
        _: &Response,
        trailers: &mut Trailers,
    ) -> Result<()> {
        note_trailers(request, trailers, "response-trailers")
    }

    fn on_complete(&mut self, request: &Request, outcome: &Outcome) -> Result<()> {
        request.set_note("outcome", &format!("{outcome:?}"))?;
        Ok(())
    }
}

/// By its first byte, a chunk is passed, held, replaced, answered, or panicked over.
fn decide(chunk: &Chunk<'_>) -> Result<BodyDecision> {
    Ok(match chunk.bytes().first() {
        Some(b'h') if !chunk.is_last() => BodyDecision::Hold,
        Some(b'r') => BodyDecision::Replace([&chunk.held()[..], b"|", chunk.bytes()].concat()),
        Some(b'!') => BodyDecision::Respond(LocalResponse::new(413).body("too much")),
        Some(b'p') => panic!("asked to"),
        _ => BodyDecision::Pass,
    })
}

fn note_trailers(request: &Request, trailers: &mut Trailers, note: &str) -> Result<()> {
    let seen = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        trailers.headers(),
        trailers.header("x-sum"),
        trailers.header_bytes("x-sum"),
        trailers.set_header("x-set", "trailer"),
        trailers.append_header("x-set", "again"),
        trailers.remove_header("x-remove"),
    );
    request.set_note(note, &seen)?;
    Ok(())
}

fn store() -> String {
    let minute = Some(Duration::from_secs(60));
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        kv::get("key"),
        kv::set("key", b"value", minute),
        kv::get("key"),
        kv::compare_and_set("key", Some(b"other"), b"new", None),
        kv::compare_and_set("key", Some(b"value"), b"new", minute),
        kv::compare_and_set("fresh", None, b"", None),
        kv::increment("key", 1, None),
        kv::increment("number", -3, minute),
        kv::set("large", &[0; 100_000], None),
        kv::delete("key"),
        kv::delete("key"),
    )
}

fn limit() -> String {
    let taken = [rate_limit::take("one", 1), rate_limit::take("one", 1000)];
    let told: Vec<(bool, u64)> =
        taken.iter().map(|taken| (taken.allowed, taken.remaining)).collect();
    format!("{:?} {told:?}", rate_limit::policy())
}
