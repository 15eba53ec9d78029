//! One exchange: the steps of `proxy::service`, one after another, with a client and an upstream that
//! are written in a case.
//!
//! The chain is that of service; only what moves bytes is missing. Knows no wasm: filters of a few
//! lines test it.

use super::play::{Forwarded, Lines, OUTPUT_BYTES_MAX, Observed};
use crate::capability::Script;
use crate::chain::{
    BodyPass, Chain, Direction, Exchange, LocalResponse, Outcome, Passed, Phase, Progress, Verdict,
};
use crate::config::case::{Answer, Payload, Request};
use crate::http::head::response_has_body;
use crate::http::{Fields, Name, Protocol, ResponseHead, Scheme, forwarding};
use crate::proxy::reply::Fault;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// One exchange through `chain`, of which logs, metrics and failures are not looked at.
pub(super) fn play(
    chain: &Chain,
    script: &Script,
    request: &Request,
    upstream: &Answer,
) -> Observed {
    Playing::new(chain, script, request).run(upstream)
}

/// Why an exchange does not go on as it was.
enum Stop {
    Respond(LocalResponse),
    Failed,
    Outgrown,
}

/// A response on its way: what is left of its body.
struct Source {
    has_body: bool,
    chunks: VecDeque<Bytes>,
    trailers: Option<Fields>,
}

/// An exchange in progress.
struct Playing<'p> {
    chain: &'p Chain,
    script: &'p Script,
    request: &'p Request,
    exchange: Box<Exchange>,
    progress: Progress,
    observed: Observed,
    outcome: Outcome,
}

impl<'p> Playing<'p> {
    fn new(chain: &'p Chain, script: &'p Script, request: &'p Request) -> Self {
        let mut exchange = Box::<Exchange>::default();
        exchange.begin_at(script.wall());
        let head = &mut exchange.request;
        head.method = request.method.clone();
        head.scheme = if request.secure { Scheme::Https } else { Scheme::Http };
        head.authority.push_str(&request.authority);
        head.target.push_str(&request.path);
        head.protocol = match request.protocol {
            "HTTP/1.0" => Protocol::Http10,
            "HTTP/2" => Protocol::Http2,
            _ => Protocol::Http11,
        };
        head.fields = fields_of(&request.headers);
        forwarding::mark_request(head, request.client, None, &[]);
        exchange.client = request.client;
        exchange.listener = Arc::from(request.listener.as_str());
        exchange.phase = Phase::RequestHead;
        for (key, text) in &request.notes {
            // The case file was checked.
            let _ = exchange.set_note(key, text);
        }
        exchange.phase = Phase::Outside;
        let (progress, observed, outcome) = Default::default();
        Playing { chain, script, request, exchange, progress, observed, outcome }
    }

    fn run(mut self, upstream: &Answer) -> Observed {
        let began = self.script.instant();
        let sent = match self.chain.request_head(&mut self.exchange, &mut self.progress) {
            Verdict::Proceed => self.send(),
            Verdict::Respond(response) => Err(Stop::Respond(response)),
            Verdict::Failed => Err(Stop::Failed),
        };
        let source = match sent {
            Ok(()) => {
                self.script.advance(upstream.delay);
                self.outcome.upstream =
                    Some(self.script.instant().saturating_duration_since(began));
                self.answer(upstream)
            }
            Err(stop) => self.replace(stop),
        };
        self.deliver(source);
        let Playing { chain, script, mut exchange, progress, mut observed, mut outcome, .. } = self;
        outcome.status = Some(observed.status);
        outcome.complete = observed.complete;
        outcome.response_bytes = observed.body.len() as u64;
        outcome.duration = script.instant().saturating_duration_since(began);
        chain.complete(&mut exchange, &progress, &outcome);
        let notes = exchange.notes().map(|(key, text)| (key.to_owned(), text.to_owned()));
        observed.notes = Some(notes.collect());
        observed
    }

    /// The request body and its trailers, through the filter and on to the upstream.
    fn send(&mut self) -> Result<(), Stop> {
        let Payload { chunks, trailers } = &self.request.payload;
        let (mut body, mut sent_trailers) = (Vec::new(), Fields::default());
        if let Some(chunks) = chunks {
            let mut pass = BodyPass::new(self.chain, &self.progress, Direction::Request);
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                self.outcome.request_bytes += chunk.len() as u64;
                self.push(&mut pass, Bytes::from(chunk.clone()), false, &mut body)?;
            }
            self.push(&mut pass, Bytes::new(), true, &mut body)?;
            if !trailers.is_empty() {
                let chain = self.chain;
                let trailers = fields_of(trailers);
                sent_trailers = chain
                    .request_trailers(&mut self.exchange, &mut self.progress, trailers)
                    .map_err(|_closed| Stop::Failed)?;
            }
        }
        let head = &self.exchange.request;
        self.observed.forwarded = Some(Forwarded {
            method: head.method.to_string(),
            path: head.target.clone(),
            scheme: Some(head.scheme.name().to_owned()),
            authority: head.authority.clone(),
            headers: lines_of(&head.fields),
            body: body.concat(),
            trailers: lines_of(&sent_trailers),
        });
        Ok(())
    }

    /// One chunk through the body hooks.
    fn push(
        &mut self,
        pass: &mut Option<BodyPass>,
        chunk: Bytes,
        last: bool,
        output: &mut Vec<Bytes>,
    ) -> Result<(), Stop> {
        let Some(pass) = pass else {
            output.push(chunk);
            return Ok(());
        };
        let chain = self.chain;
        match pass.push(chain, &mut self.exchange, &mut self.progress, chunk, last, output) {
            Passed::Forward => {}
            Passed::Respond(response) => return Err(Stop::Respond(response)),
            Passed::Failed => return Err(Stop::Failed),
        }
        match output.iter().map(Bytes::len).sum::<usize>() > OUTPUT_BYTES_MAX {
            true => Err(Stop::Outgrown),
            false => Ok(()),
        }
    }

    /// The upstream's answer goes into the exchange.
    fn answer(&mut self, upstream: &Answer) -> Source {
        let head = &mut self.exchange.response;
        head.clear();
        head.status = upstream.status;
        head.fields = fields_of(&upstream.headers);
        ensure_date(head, self.script);
        forwarding::mark_response(head, Protocol::Http11);
        let Payload { chunks, trailers } = &upstream.payload;
        let chunks = chunks.iter().flatten().filter(|chunk| !chunk.is_empty());
        Source {
            has_body: response_has_body(&self.exchange.request.method, upstream.status),
            chunks: chunks.cloned().map(Bytes::from).collect(),
            trailers: (!trailers.is_empty()).then(|| fields_of(trailers)),
        }
    }

    /// A response of the filter, or the reply to its failure, goes into the exchange.
    fn replace(&mut self, stop: Stop) -> Source {
        let head = &mut self.exchange.response;
        let body = match stop {
            Stop::Respond(response) => response.put_into(head),
            Stop::Failed | Stop::Outgrown => {
                self.observed.outgrown |= matches!(stop, Stop::Outgrown);
                self.outcome.error = Some(Fault::FilterFailed.row().error);
                Fault::FilterFailed.reply(head)
            }
        };
        ensure_date(head, self.script);
        Source { has_body: true, chunks: VecDeque::from([body]), trailers: None }
    }

    /// The response that stands in the exchange, through the filter and on to the client.
    fn deliver(&mut self, mut source: Source) {
        let mut body = Vec::new();
        let mut pass = loop {
            body.clear();
            match self.response_head(&mut source, &mut body) {
                Ok(pass) => break pass,
                Err(stop) => source = self.replace(stop),
            }
        };
        let head = &self.exchange.response;
        self.observed.status = head.status;
        self.observed.headers = lines_of(&head.fields);
        let delivered = self.response_rest(&mut source, &mut pass, &mut body);
        self.observed.complete = delivered.is_ok();
        if let Err(stop) = delivered {
            // Its head is on its way: it is broken off.
            self.observed.outgrown |= matches!(stop, Stop::Outgrown);
            self.outcome.error = Some(Fault::FilterFailed.row().error);
        }
        let head = &self.exchange.response;
        if response_has_body(&self.exchange.request.method, head.status) {
            self.observed.body = body.concat();
        } else {
            self.observed.trailers.clear();
        }
    }

    /// The response hooks, and the body hooks for as long as the head is kept back.
    fn response_head(
        &mut self,
        source: &mut Source,
        body: &mut Vec<Bytes>,
    ) -> Result<Option<BodyPass>, Stop> {
        match self.chain.response_head(&mut self.exchange, &mut self.progress) {
            Verdict::Proceed => {}
            Verdict::Respond(response) => return Err(Stop::Respond(response)),
            Verdict::Failed => return Err(Stop::Failed),
        }
        let status = self.exchange.response.status;
        source.has_body &= response_has_body(&self.exchange.request.method, status);
        if !source.has_body {
            source.trailers = None;
            return Ok(None);
        }
        let mut pass = BodyPass::new(self.chain, &self.progress, Direction::Response);
        while pass.as_ref().is_some_and(BodyPass::keeps_head) {
            self.response_chunk(source, &mut pass, body)?;
        }
        Ok(pass)
    }

    /// What follows once the head is on its way: the rest of the body, and the trailers.
    fn response_rest(
        &mut self,
        source: &mut Source,
        pass: &mut Option<BodyPass>,
        body: &mut Vec<Bytes>,
    ) -> Result<(), Stop> {
        while source.has_body {
            self.response_chunk(source, pass, body)?;
        }
        if let Some(trailers) = source.trailers.take() {
            let chain = self.chain;
            let trailers = chain
                .response_trailers(&mut self.exchange, &mut self.progress, trailers)
                .map_err(|_closed| Stop::Failed)?;
            self.observed.trailers = lines_of(&trailers);
        }
        Ok(())
    }

    /// The next chunk of the response, or its end.
    fn response_chunk(
        &mut self,
        source: &mut Source,
        pass: &mut Option<BodyPass>,
        body: &mut Vec<Bytes>,
    ) -> Result<(), Stop> {
        if let Some(chunk) = source.chunks.pop_front() {
            return self.push(pass, chunk, false, body);
        }
        source.has_body = false;
        self.push(pass, Bytes::new(), true, body)
    }
}

/// `Date` by the clock of the case.
fn ensure_date(head: &mut ResponseHead, script: &Script) {
    const DATE: Name<'static> = Name::known("date");
    // The format ends with the year 9999.
    let expressible = script.wall() < UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    if !head.fields.contains(DATE) && expressible {
        head.fields.append(DATE, httpdate::fmt_http_date(script.wall()).as_bytes());
    }
}

fn fields_of(lines: &[(String, Vec<u8>)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        // The case file was checked.
        if let Ok(name) = Name::parse(name.as_bytes()) {
            fields.append(name, value);
        }
    }
    fields
}

fn lines_of(fields: &Fields) -> Lines {
    let line = |(name, value): (&[u8], &[u8])| {
        (String::from_utf8_lossy(name).into_owned(), value.to_vec())
    };
    fields.iter().map(line).collect()
}
