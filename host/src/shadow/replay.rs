//! Plays a record through the chain of the next version, in the order of `proxy::service`, and looks
//! at what comes out.
//!
//! The recorded answer stands in for the upstream. Whatever the chain does ends here: nothing of it
//! goes anywhere. Belongs to one thread; knows no queue.

use super::compare::{Difference, compare};
use super::record::{Incoming, Record};
use crate::chain::{
    BodyPass, Chain, Direction, Exchange, LocalResponse, Members, Outcome, Passed, Progress,
    Verdict,
};
use crate::http::head::response_has_body;
use crate::http::{Fields, RequestHead, ResponseHead, forwarding};
use bytes::Bytes as Chunk;
use http::HeaderName;
use std::collections::VecDeque;
use std::time::Duration;

/// Beyond twice the time of the running version, so much more counts as slower.
pub(super) const SLOWER_MIN: Duration = Duration::from_micros(100);

/// A chain of the next version.
pub(super) struct Candidate {
    pub(super) chain: Chain,
    /// Those of its filters that the running version does not have.
    pub(super) differs: Members,
}

/// Plays records, one after the other.
pub(super) struct Player {
    pub(super) candidates: Vec<Candidate>,
    /// Fields that are not compared.
    pub(super) ignored: Vec<HeaderName>,
    exchange: Box<Exchange>,
}

/// What an exchange came to with the next version.
pub(super) struct Played {
    pub(super) difference: Option<Difference>,
    /// A filter that differs failed.
    pub(super) failed: bool,
    /// A filter answered.
    pub(super) local_reply: bool,
    /// The status was 500 to 599.
    pub(super) errored: bool,
    pub(super) time: Duration,
    pub(super) slower: bool,
}

/// How far the next version's exchange got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Course {
    /// To a response, made from the recorded answer.
    #[default]
    Forwarded,
    /// A filter answered before the upstream did.
    Answered,
    /// To the end of what was recorded: the running version answered there.
    UsedUp,
    /// A filter failed closed.
    Failed,
}

/// What came out of the next version's chain.
#[derive(Default)]
pub(super) struct Seen<'r> {
    pub(super) course: Course,
    /// The name of a filter that differs and failed.
    pub(super) failed: Option<String>,
    pub(super) forwarded: Option<RequestHead>,
    pub(super) delivered: ResponseHead,
    pub(super) sent: Bytes<'r>,
    pub(super) received: Bytes<'r>,
    local_reply: bool,
}

/// A body that is compared as it comes, and not kept.
#[derive(Default)]
pub(super) struct Bytes<'r> {
    /// None: there is nothing to compare it with.
    expected: Option<&'r [u8]>,
    length: u64,
    other: bool,
    /// It came to its end.
    whole: bool,
    pub(super) trailers: Option<Fields>,
}

impl<'r> Bytes<'r> {
    fn new(expected: Option<&'r [u8]>) -> Self {
        Bytes { expected, ..Bytes::default() }
    }

    fn push(&mut self, chunk: &[u8]) {
        let Some(expected) = self.expected else { return };
        let start = usize::try_from(self.length).unwrap_or(usize::MAX);
        let there = expected.get(start..).and_then(|rest| rest.get(..chunk.len()));
        self.other |= there != Some(chunk);
        self.length = self.length.saturating_add(chunk.len() as u64);
    }

    /// Are both there as a whole?
    pub(super) fn is_comparable(&self) -> bool {
        self.whole && self.expected.is_some()
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn differs(&self) -> bool {
        let expected = self.expected.map_or(0, <[u8]>::len) as u64;
        self.is_comparable() && (self.other || self.length != expected)
    }
}

/// Why an exchange does not go on as it was.
enum Stop {
    Respond(LocalResponse),
    Failed,
    UsedUp,
    /// What was recorded does not tell how it goes on.
    Unknown,
}

/// A response on its way: what is left of its body.
struct Source {
    has_body: bool,
    pieces: VecDeque<Chunk>,
    /// All of it is there.
    whole: bool,
    /// None of it is there, though there is one.
    given_up: bool,
    trailers: Option<Fields>,
}

impl Player {
    pub(super) fn new(candidates: Vec<Candidate>, ignored: Vec<HeaderName>) -> Self {
        Player { candidates, ignored, exchange: Box::default() }
    }

    /// Plays one record. None: what was recorded is not enough for that.
    pub(super) fn play(&mut self, record: &Record) -> Option<Played> {
        let candidate = self.candidates.get(record.chain)?;
        let exchange = &mut self.exchange;
        exchange.clear();
        exchange.begin_at(record.wall);
        exchange.client = record.client;
        exchange.listener = record.listener.clone();
        exchange.route = record.route.clone();
        exchange.request = record.request.head.clone();
        let mut replay = Replay {
            chain: &candidate.chain,
            exchange,
            record,
            progress: Progress::default(),
            seen: Seen::default(),
        };
        let ended = replay.run();
        let Replay { exchange, progress, mut seen, .. } = replay;
        let status = ended.is_ok().then_some(exchange.response.status);
        let outcome = Outcome { status, ..record.outcome.clone() };
        let failed = candidate.chain.complete(exchange, &progress, &outcome);
        let time = exchange.filter_time.iter().sum();
        seen.delivered = exchange.response.clone();
        exchange.clear();
        let failing = (0..candidate.chain.len())
            .find(|index| failed.has(*index) && candidate.differs.has(*index));
        seen.failed = failing.map(|index| candidate.chain.filter(index).name().to_owned());
        match ended {
            Ok(()) => {}
            Err(Stop::UsedUp) => seen.course = Course::UsedUp,
            // A filter that is in the running version too says nothing about the next one.
            Err(Stop::Failed) if failing.is_none() => return None,
            Err(Stop::Failed | Stop::Respond(_)) => seen.course = Course::Failed,
            Err(Stop::Unknown) => return None,
        }
        let slower = time > 2 * record.filter_time && time > record.filter_time + SLOWER_MIN;
        Some(Played {
            difference: compare(record, &seen, &self.ignored),
            failed: failing.is_some(),
            local_reply: seen.local_reply,
            errored: seen.course == Course::Failed || status.is_some_and(|it| it >= 500),
            time,
            slower,
        })
    }
}

/// An exchange in progress.
struct Replay<'r> {
    chain: &'r Chain,
    exchange: &'r mut Box<Exchange>,
    record: &'r Record,
    progress: Progress,
    seen: Seen<'r>,
}

impl<'r> Replay<'r> {
    fn run(&mut self) -> Result<(), Stop> {
        let sent = match self.chain.request_head(self.exchange, &mut self.progress) {
            Verdict::Proceed => self.send(),
            Verdict::Respond(response) => Err(Stop::Respond(response)),
            Verdict::Failed => Err(Stop::Failed),
        };
        let source = match sent {
            Ok(()) => self.answer()?,
            Err(Stop::Respond(response)) => {
                self.seen.course = Course::Answered;
                self.replace(response)
            }
            Err(stop) => return Err(stop),
        };
        self.deliver(source)
    }

    /// The request's body, through the chain.
    fn send(&mut self) -> Result<(), Stop> {
        let Incoming { has_body, body, .. } = &self.record.request;
        let expected = self.record.sent_body().whole();
        self.seen.sent = Bytes::new(expected.filter(|_| self.record.forwarded.is_some()));
        if !has_body {
            return Ok(());
        }
        let mut pass = BodyPass::new(self.chain, &self.progress, Direction::Request);
        if body.is_given_up() {
            // The body might decide what becomes of the head, or of the exchange.
            let decides = pass.as_ref().is_some_and(BodyPass::keeps_head);
            return if decides || self.record.answer.is_none() {
                Err(Stop::Unknown)
            } else {
                Ok(())
            };
        }
        for chunk in body.chunks() {
            self.push(Direction::Request, &mut pass, Chunk::copy_from_slice(chunk), false)?;
        }
        if body.whole().is_some() {
            self.push(Direction::Request, &mut pass, Chunk::new(), true)?;
            self.seen.sent.trailers = self.trailers(Direction::Request, body.trailers.clone())?;
        } else if self.record.answer.is_some() && pass.is_some_and(|pass| pass.keeps_head()) {
            return Err(Stop::Unknown);
        }
        Ok(())
    }

    /// The recorded answer goes into the exchange.
    fn answer(&mut self) -> Result<Source, Stop> {
        let Some(Incoming { head, has_body, body, .. }) = &self.record.answer else {
            return Err(Stop::UsedUp);
        };
        self.seen.forwarded = Some(self.exchange.request.clone());
        self.exchange.response = head.clone();
        let pieces = body.chunks().map(Chunk::copy_from_slice).collect();
        Ok(Source {
            has_body: *has_body,
            pieces,
            whole: body.whole().is_some(),
            given_up: body.is_given_up(),
            trailers: body.trailers.clone(),
        })
    }

    /// A filter's response goes into the exchange.
    fn replace(&mut self, response: LocalResponse) -> Source {
        self.seen.local_reply = true;
        let head = &mut self.exchange.response;
        let body = response.put_into(head);
        forwarding::ensure_date(head);
        let pieces = VecDeque::from([body]);
        Source { has_body: true, pieces, whole: true, given_up: false, trailers: None }
    }

    /// The response that stands in the exchange, through the chain.
    fn deliver(&mut self, mut source: Source) -> Result<(), Stop> {
        let mut pass = loop {
            self.seen.received = Bytes::new(self.expected_response());
            match self.response_head(&mut source) {
                Ok(pass) => break pass,
                Err(Stop::Respond(response)) => source = self.replace(response),
                Err(stop) => return Err(stop),
            }
        };
        while source.has_body {
            self.response_piece(&mut source, &mut pass)?;
        }
        self.seen.received.trailers = self.trailers(Direction::Response, source.trailers)?;
        Ok(())
    }

    /// The body that the client got, if it got one that is kept.
    fn expected_response(&self) -> Option<&'r [u8]> {
        let record = self.record;
        let has_body = response_has_body(&record.request.head.method, record.delivered.status);
        record.delivered_body().whole().filter(|_| has_body)
    }

    /// The response hooks, and the body hooks for as long as the head is kept back.
    fn response_head(&mut self, source: &mut Source) -> Result<Option<BodyPass>, Stop> {
        match self.chain.response_head(self.exchange, &mut self.progress) {
            Verdict::Proceed => {}
            Verdict::Respond(response) => return Err(Stop::Respond(response)),
            Verdict::Failed => return Err(Stop::Failed),
        }
        let Exchange { request, response, .. } = &**self.exchange;
        source.has_body &= response_has_body(&request.method, response.status);
        if !source.has_body {
            source.trailers = None;
            return Ok(None);
        }
        let mut pass = BodyPass::new(self.chain, &self.progress, Direction::Response);
        while pass.as_ref().is_some_and(BodyPass::keeps_head) {
            self.response_piece(source, &mut pass)?;
        }
        Ok(pass)
    }

    /// The next piece of the response, or its end.
    fn response_piece(
        &mut self,
        source: &mut Source,
        pass: &mut Option<BodyPass>,
    ) -> Result<(), Stop> {
        if let Some(piece) = source.pieces.pop_front() {
            return self.push(Direction::Response, pass, piece, false);
        }
        if source.whole {
            source.has_body = false;
            return self.push(Direction::Response, pass, Chunk::new(), true);
        }
        if pass.as_ref().is_some_and(BodyPass::keeps_head) {
            // The body might decide what becomes of the head. Where the running version put another
            // response in its place after this much, the next one has not.
            let used_up = self.record.replaced && !source.given_up;
            return Err(if used_up { Stop::UsedUp } else { Stop::Unknown });
        }
        source.has_body = false;
        Ok(())
    }

    /// One chunk through the body hooks.
    fn push(
        &mut self,
        direction: Direction,
        pass: &mut Option<BodyPass>,
        chunk: Chunk,
        last: bool,
    ) -> Result<(), Stop> {
        let seen = match direction {
            Direction::Request => &mut self.seen.sent,
            Direction::Response => &mut self.seen.received,
        };
        seen.whole = last;
        let Some(pass) = pass else {
            seen.push(&chunk);
            return Ok(());
        };
        let mut output = Vec::new();
        match pass.push(self.chain, self.exchange, &mut self.progress, chunk, last, &mut output) {
            Passed::Forward => {}
            Passed::Respond(response) => return Err(Stop::Respond(response)),
            Passed::Failed => return Err(Stop::Failed),
        }
        output.iter().for_each(|bytes| seen.push(bytes));
        Ok(())
    }

    fn trailers(
        &mut self,
        direction: Direction,
        trailers: Option<Fields>,
    ) -> Result<Option<Fields>, Stop> {
        let Some(trailers) = trailers else { return Ok(None) };
        let edited = match direction {
            Direction::Request => {
                self.chain.request_trailers(self.exchange, &mut self.progress, trailers)
            }
            Direction::Response => {
                self.chain.response_trailers(self.exchange, &mut self.progress, trailers)
            }
        };
        edited.map(Some).map_err(|_closed| Stop::Failed)
    }
}
